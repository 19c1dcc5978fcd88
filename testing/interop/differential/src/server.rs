//! One etcd on loopback: where it listens is free, what its ids are made from is the same for all.

use std::fs::File;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const START_TIMEOUT: Duration = Duration::from_secs(60);
const STOP_TIMEOUT: Duration = Duration::from_secs(30);

pub struct Server {
    child: Child,
    pub port: u16,
    pub log: PathBuf,
}

/// How to end a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM, and time to leave in order.
    Term,
    /// SIGKILL.
    Kill,
}

impl Server {
    /// Starts with its data in `folder`, which may have some already, and waits until it is healthy.
    pub fn start(etcd: &Path, folder: &Path, more: &[&str]) -> Result<Server, String> {
        std::fs::create_dir_all(folder).map_err(|error| error.to_string())?;
        let log = folder.join("log");
        let output = File::create(&log).map_err(|error| error.to_string())?;
        let [port, peer_port] = ports::free_array().map_err(|error| error.to_string())?;
        let child = Command::new(etcd)
            .args(["--name", "m0", "--log-level", "warn", "--data-dir"])
            .arg(folder.join("data"))
            .arg(format!("--listen-client-urls=http://127.0.0.1:{port}"))
            .arg("--advertise-client-urls=http://127.0.0.1:23790")
            .arg(format!("--listen-peer-urls=http://127.0.0.1:{peer_port}"))
            .arg("--initial-advertise-peer-urls=http://127.0.0.1:23800")
            .args(["--initial-cluster", "m0=http://127.0.0.1:23800", "--initial-cluster-token", "interop"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(output)
            .spawn()
            .map_err(|error| format!("start {}: {error}", etcd.display()))?;
        let mut server = Server { child, port, log };
        server.wait_until_healthy(etcd)?;
        Ok(server)
    }

    fn wait_until_healthy(&mut self, etcd: &Path) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if get(self.port, "/health?exclude=NOSPACE")
                .is_ok_and(|page| page.contains("\"health\":\"true\""))
            {
                return Ok(());
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("{} ended with {status}; its log:\n{}", etcd.display(), self.log_text()));
            }
            std::thread::sleep(Duration::from_millis(30));
        }
        Err(format!("{} did not become healthy; its log:\n{}", etcd.display(), self.log_text()))
    }

    pub fn log_text(&self) -> String {
        let text = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    pub fn stop(mut self, stop: Stop) -> Result<(), String> {
        match stop {
            Stop::Kill => self.child.kill().map_err(|error| error.to_string())?,
            Stop::Term => {
                let id = self.child.id().to_string();
                let status = Command::new("kill").args(["-TERM", &id]).status();
                status.map_err(|error| format!("kill: {error}"))?;
            }
        }
        let start = Instant::now();
        while start.elapsed() < STOP_TIMEOUT {
            if self.child.try_wait().map_err(|error| error.to_string())?.is_some() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err(format!("no end {STOP_TIMEOUT:?} after {stop:?}; the log:\n{}", self.log_text()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}

/// A page with its status line and headers.
pub fn get(port: u16, path: &str) -> std::io::Result<String> {
    ask(port, "GET", path)
}

pub fn ask(port: u16, method: &str, path: &str) -> std::io::Result<String> {
    // HTTP 1.0: no chunks in the answer.
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    write!(stream, "{method} {path} HTTP/1.0\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
