//! A member as a process.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A machine under load may take its time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Where a member lives, whether it runs or not.
#[derive(Clone, Debug)]
pub struct Place {
    pub name: String,
    pub etcd: PathBuf,
    pub folder: PathBuf,
    pub client_port: u16,
    pub peer_port: u16,
    pub peer_scheme: &'static str,
    pub more: Vec<String>,
}

impl Place {
    pub fn new(name: &str, etcd: &Path, root: &Path) -> Result<Place, String> {
        let [client_port, peer_port] = ports::free_array().map_err(|error| error.to_string())?;
        Ok(Place {
            name: name.to_owned(),
            etcd: etcd.to_owned(),
            folder: root.join(name),
            client_port,
            peer_port,
            peer_scheme: "http",
            more: Vec::new(),
        })
    }

    pub fn client_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.client_port)
    }

    pub fn peer_url(&self) -> String {
        format!("{}://127.0.0.1:{}", self.peer_scheme, self.peer_port)
    }

    pub fn named_url(&self) -> String {
        format!("{}={}", self.name, self.peer_url())
    }

    /// Starts it in that cluster (`name=url,…`). What it has already counts more.
    pub fn start(&self, cluster: &str, state: &str) -> Result<Process, String> {
        std::fs::create_dir_all(&self.folder).map_err(|error| error.to_string())?;
        let log = self.folder.join("log");
        let output =
            File::options().create(true).append(true).open(&log).map_err(|error| error.to_string())?;
        let child = Command::new(&self.etcd)
            .args(["--name", &self.name, "--data-dir"])
            .arg(self.folder.join("data"))
            .arg(format!("--listen-client-urls={}", self.client_url()))
            .arg(format!("--advertise-client-urls={}", self.client_url()))
            .arg(format!("--listen-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-advertise-peer-urls={}", self.peer_url()))
            .arg(format!("--initial-cluster={cluster}"))
            .arg(format!("--initial-cluster-state={state}"))
            .args(&self.more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("start {}: {error}", self.etcd.display()))?;
        Ok(Process { child, log, name: self.name.clone() })
    }
}

pub struct Process {
    child: Child,
    log: PathBuf,
    name: String,
}

impl Process {
    /// Waits for its word that it serves clients.
    pub fn ready(&mut self) -> Result<(), String> {
        let since = self.starts_in_log();
        wait("it is ready", || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended with {status}; its log:\n{}", self.name, self.last_lines()));
            }
            Ok(self.log_text().matches("ready to serve client requests").count() >= since)
        })
        .map_err(|error| format!("{}: {error}; its log:\n{}", self.name, self.last_lines()))
    }

    fn starts_in_log(&self) -> usize {
        wait("it begins", || Ok(self.log_text().contains("starting an etcd server"))).ok();
        self.log_text().matches("\"starting an etcd server\"").count().max(1)
    }

    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn last_lines(&self) -> String {
        let text = self.log_text();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    /// Waits for a word in its log.
    pub fn says(&self, text: &str) -> Result<(), String> {
        wait(&format!("{} says {text:?}", self.name), || Ok(self.log_text().contains(text)))
            .map_err(|error| format!("{error}; its log:\n{}", self.last_lines()))
    }

    /// SIGKILL.
    pub fn kill(mut self) -> Result<(), String> {
        self.child.kill().map_err(|error| error.to_string())?;
        self.child.wait().map(drop).map_err(|error| error.to_string())
    }

    /// Whether it ended by itself, and how.
    pub fn ended(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// Until it holds, or fails for good.
pub fn wait(what: &str, mut holds: impl FnMut() -> Result<bool, String>) -> Result<(), String> {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if holds()? {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Err(format!("not in time: {what}"))
}
