//! Members on loopback, and what the kernel says about their processes.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use prost::Message;
use proto::etcdserverpb::{StatusRequest, StatusResponse};
use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::http2::Keep;
use crate::load::{Pool, Work};
use crate::work::{Get, STATUS};

const START_PATIENCE: Duration = Duration::from_secs(300);

/// Longer than etcd's second: on a busy machine with six members an election is the machine's doing.
const ELECTION_TIMEOUT_MS: u32 = 5_000;

pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    pub address: SocketAddr,
    peer: SocketAddr,
    name: String,
    /// `--initial-cluster`.
    cluster: String,
    child: Child,
}

/// Resident memory in MiB.
#[derive(Clone, Copy, Default)]
pub struct Memory {
    /// The most since [`Server::forget_peak`], mapped files included.
    pub peak: f64,
    /// Now, without mapped files.
    pub anonymous: f64,
}

impl Server {
    /// A new member with an empty data directory, answering.
    pub fn start(program: &Path, folder: &Path) -> Result<Server, Failure> {
        let mut servers = Server::start_cluster(program, folder, 1)?;
        servers.pop().ok_or_else(|| Failure("no member".to_owned()))
    }

    /// A new cluster of so many members, all of them answering.
    pub fn start_cluster(program: &Path, folder: &Path, count: usize) -> Result<Vec<Server>, Failure> {
        let addresses = free_addresses(2 * count)?;
        let members = || addresses.chunks(2).enumerate().map(|(at, pair)| (format!("bench{at}"), pair));
        let all: Vec<String> = members().map(|(name, pair)| format!("{name}=http://{}", pair[1])).collect();
        let cluster = all.join(",");
        let mut servers = Vec::new();
        for (name, pair) in members() {
            let folder = folder.join(&name);
            fs::create_dir_all(&folder)?;
            let child = spawn(program, &folder, pair[0], pair[1], &name, &cluster)?;
            servers.push(Server {
                program: program.to_owned(),
                folder,
                address: pair[0],
                peer: pair[1],
                name,
                cluster: cluster.clone(),
                child,
            });
        }
        servers.iter_mut().try_for_each(Server::wait_until_serving)?;
        Ok(servers)
    }

    /// Ends the process by SIGTERM, starts it again, and returns how long the start took until the first
    /// linearizable answer.
    pub fn restart(&mut self) -> Result<f64, Failure> {
        self.stop()?;
        let started = Instant::now();
        self.start_again()?;
        self.wait_until_serving()?;
        Ok(started.elapsed().as_secs_f64())
    }

    /// Starts the stopped process again, without waiting for it.
    pub fn start_again(&mut self) -> Result<(), Failure> {
        self.child = spawn(&self.program, &self.folder, self.address, self.peer, &self.name, &self.cluster)?;
        Ok(())
    }

    fn wait_until_serving(&mut self) -> Result<(), Failure> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.folder.join("log")).unwrap_or_default();
                return Err(Failure(format!("{} ended with {status}\n{log}", self.program.display())));
            }
            let mut get = Get::LINEARIZABLE;
            let answer = Pool::open(self.address, 1).and_then(|mut pool| pool.run(1, 1, &mut get));
            if answer.is_ok() {
                return Ok(());
            }
            if started.elapsed() > START_PATIENCE {
                return Err(Failure(format!("{} does not serve", self.program.display())));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// What the member says of itself; an error while it does not answer.
    pub fn status(&self) -> Result<StatusResponse, Failure> {
        struct Status(StatusResponse);
        impl Work for Status {
            const KEEP: Keep = Keep::Messages;

            fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
                message.extend(StatusRequest::default().encode_to_vec());
                STATUS
            }

            fn answer(&mut self, _client: usize, message: &[u8]) {
                self.0 = StatusResponse::decode(message).unwrap_or_default();
            }
        }
        let mut status = Status(StatusResponse::default());
        Pool::open(self.address, 1)?.run(1, 1, &mut status)?;
        Ok(status.0)
    }

    /// The sum of a metric over its labels; zero when there is none.
    pub fn metric(&self, name: &str) -> Result<f64, Failure> {
        let mut socket = TcpStream::connect(self.address)?;
        socket.write_all(b"GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            let is_whole = rest.starts_with('{') || rest.starts_with(' ');
            if is_whole { rest.rsplit(' ').next()?.trim().parse::<f64>().ok() } else { None }
        });
        Ok(values.sum())
    }

    /// User and system time of the process so far, in seconds.
    pub fn cpu_seconds(&self) -> Result<f64, Failure> {
        let stat = self.proc("stat")?;
        // The name in parentheses may hold anything, so count from its end.
        let after_name = stat.rsplit(')').next().unwrap_or_default();
        let ticks =
            after_name.split_whitespace().skip(11).take(2).filter_map(|text| text.parse::<u64>().ok());
        Ok(ticks.sum::<u64>() as f64 / rustix::param::clock_ticks_per_second() as f64)
    }

    pub fn memory(&self) -> Result<Memory, Failure> {
        let status = self.proc("status")?;
        let mib = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
            line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).unwrap_or_default()
                / 1024.0
        };
        Ok(Memory { peak: mib("VmHWM"), anonymous: mib("RssAnon") })
    }

    pub fn forget_peak(&self) -> Result<(), Failure> {
        Ok(fs::write(format!("/proc/{}/clear_refs", self.child.id()), "5")?)
    }

    /// Size of the backend file in MiB.
    pub fn file_mib(&self) -> f64 {
        let file = self.folder.join("data").join("member").join("snap").join("db");
        fs::metadata(file).map_or(0.0, |metadata| metadata.len() as f64 / (1024.0 * 1024.0))
    }

    fn proc(&self, name: &str) -> Result<String, Failure> {
        Ok(fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))?)
    }

    pub fn stop(&mut self) -> Result<(), Failure> {
        if self.child.try_wait()?.is_none() {
            kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        }
        self.child.wait()?;
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(
    program: &Path,
    folder: &Path,
    address: SocketAddr,
    peer: SocketAddr,
    name: &str,
    cluster: &str,
) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    Command::new(program)
        .arg(format!("--name={name}"))
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .arg(format!("--listen-client-urls=http://{address}"))
        .arg(format!("--advertise-client-urls=http://{address}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .arg(format!("--initial-cluster={cluster}"))
        .arg(format!("--election-timeout={ELECTION_TIMEOUT_MS}"))
        .arg("--quota-backend-bytes=8589934592")
        .arg("--log-level=error")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| Failure(format!("start {}: {error}", program.display())))
}

fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Failure> {
    Ok(ports::free(count)?.into_iter().map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port))).collect())
}
