//! One etcd on loopback, and what the kernel says about its process.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::Failure;
use crate::load::Pool;
use crate::work::Get;

const START_PATIENCE: Duration = Duration::from_secs(300);

pub struct Server {
    program: PathBuf,
    folder: PathBuf,
    pub address: SocketAddr,
    peer: SocketAddr,
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
        fs::create_dir_all(folder)?;
        let (address, peer) = (free_address()?, free_address()?);
        let child = spawn(program, folder, address, peer)?;
        let mut server =
            Server { program: program.to_owned(), folder: folder.to_owned(), address, peer, child };
        server.wait_until_serving()?;
        Ok(server)
    }

    /// Ends the process by SIGTERM, starts it again, and returns how long the start took until the first
    /// linearizable answer.
    pub fn restart(&mut self) -> Result<f64, Failure> {
        self.stop()?;
        let started = Instant::now();
        self.child = spawn(&self.program, &self.folder, self.address, self.peer)?;
        self.wait_until_serving()?;
        Ok(started.elapsed().as_secs_f64())
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

    fn stop(&mut self) -> Result<(), Failure> {
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

fn spawn(program: &Path, folder: &Path, address: SocketAddr, peer: SocketAddr) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(folder.join("log"))?;
    Command::new(program)
        .arg("--name=bench")
        .arg(format!("--data-dir={}", folder.join("data").display()))
        .arg(format!("--listen-client-urls=http://{address}"))
        .arg(format!("--advertise-client-urls=http://{address}"))
        .arg(format!("--listen-peer-urls=http://{peer}"))
        .arg(format!("--initial-advertise-peer-urls=http://{peer}"))
        .arg(format!("--initial-cluster=bench=http://{peer}"))
        .arg("--quota-backend-bytes=8589934592")
        .arg("--log-level=error")
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .map_err(|error| Failure(format!("start {}: {error}", program.display())))
}

fn free_address() -> Result<SocketAddr, Failure> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
