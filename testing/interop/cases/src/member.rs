//! A member as a process, in a folder of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine under load may take its time.
const PATIENCE: Duration = Duration::from_secs(60);

/// Addresses of one member. All servers use the same in turn, as ids are made from them.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub client: u16,
    pub peer: u16,
}

impl Ports {
    /// So many members' ports, and one where nobody listens.
    pub fn free(members: usize) -> Result<(Vec<Ports>, u16), String> {
        let ports = ports::free(2 * members + 1).map_err(|error| error.to_string())?;
        let pairs = ports[1..].chunks_exact(2).map(|pair| Ports { client: pair[0], peer: pair[1] });
        Ok((pairs.collect(), ports[0]))
    }

    pub fn endpoint(self) -> String {
        format!("127.0.0.1:{}", self.client)
    }

    pub fn client_url(self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub fn peer_url(self) -> String {
        format!("http://127.0.0.1:{}", self.peer)
    }
}

/// What a member is started with, and its process while it runs. Dropped, the process ends.
pub struct Member {
    pub name: String,
    pub ports: Ports,
    pub data_dir: PathBuf,
    /// Further flags.
    pub more: Vec<String>,
    etcd: PathBuf,
    log: PathBuf,
    process: Option<Child>,
    /// How much of the log earlier starts wrote.
    log_before: usize,
}

impl Member {
    /// Its data lies in `<name>.etcd` in the folder, its log beside it.
    pub fn new(etcd: &Path, name: &str, ports: Ports, folder: &Path) -> Member {
        Member {
            name: name.to_owned(),
            ports,
            data_dir: folder.join(format!("{name}.etcd")),
            more: Vec::new(),
            etcd: etcd.to_owned(),
            log: folder.join(format!("{name}.log")),
            process: None,
            log_before: 0,
        }
    }

    pub fn named_url(&self) -> String {
        format!("{}={}", self.name, self.ports.peer_url())
    }

    /// Starts it in that cluster (`name=url,…`), which is `new` or `existing`. What it has already counts more.
    pub fn start(&mut self, cluster: &str, state: &str) -> Result<(), String> {
        self.log_before = self.log_text().len();
        let log = File::options().create(true).append(true).open(&self.log);
        let child = Command::new(&self.etcd)
            .args(["--name", &self.name, "--data-dir"])
            .arg(&self.data_dir)
            .arg(format!("--listen-client-urls={}", self.ports.client_url()))
            .arg(format!("--advertise-client-urls={}", self.ports.client_url()))
            .arg(format!("--listen-peer-urls={}", self.ports.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.ports.peer_url()))
            .arg(format!("--initial-cluster={cluster}"))
            .arg(format!("--initial-cluster-state={state}"))
            .arg("--initial-cluster-token=interop")
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log.map_err(|error| error.to_string())?)
            .spawn()
            .map_err(|error| format!("start {}: {error}", self.etcd.display()))?;
        self.process = Some(child);
        Ok(())
    }

    /// Waits for its word that it serves clients.
    pub fn ready(&mut self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            let text = self.log_text();
            if text.get(self.log_before..).is_some_and(|new| new.contains("ready to serve client requests")) {
                return Ok(());
            }
            if let Some(status) = self.process.as_mut().and_then(|it| it.try_wait().ok().flatten()) {
                return Err(self.with_log(&format!("ended with {status}")));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(self.with_log("was not ready in time"))
    }

    pub fn is_running(&self) -> bool {
        self.process.is_some()
    }

    /// SIGTERM, and waits for its end.
    pub fn stop(&mut self) -> Result<(), String> {
        let Some(mut child) = self.process.take() else { return Ok(()) };
        let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or("a process has an id")?;
        rustix::process::kill_process(pid, rustix::process::Signal::TERM)
            .map_err(|error| format!("stop {}: {error}", self.name))?;
        child.wait().map(drop).map_err(|error| error.to_string())
    }

    /// What went wrong, with the end of the log.
    pub fn with_log(&self, what: &str) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        format!("{} {what}; its log:\n{}", self.name, lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.take() {
            let _ended = child.kill();
            let _reaped = child.wait();
        }
    }
}
