//! One etcd on loopback, with its data in a folder that goes away with it.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

const START_TIMEOUT: Duration = Duration::from_secs(20);

/// Addresses that both servers use in turn: ids are made from them.
pub struct Ports {
    pub client: u16,
    pub peer: u16,
    /// Nobody listens here.
    pub dead: u16,
}

impl Ports {
    pub fn free() -> io::Result<Ports> {
        let listeners = [bind()?, bind()?, bind()?];
        let [client, peer, dead] = listeners.each_ref().map(|listener| listener.local_addr());
        Ok(Ports { client: client?.port(), peer: peer?.port(), dead: dead?.port() })
    }
}

fn bind() -> io::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0")
}

pub struct Server {
    child: Child,
    pub folder: TempDir,
    pub endpoint: String,
    pub dead_endpoint: String,
}

impl Server {
    pub fn start(etcd: &Path, ports: &Ports) -> Result<Server, String> {
        let folder = TempDir::new().map_err(|error| error.to_string())?;
        let log = std::fs::File::create(folder.path().join("log")).map_err(|error| error.to_string())?;
        let client_url = format!("http://127.0.0.1:{}", ports.client);
        let peer_url = format!("http://127.0.0.1:{}", ports.peer);
        let child = Command::new(etcd)
            .args(["--name", "m0", "--log-level", "warn", "--data-dir"])
            .arg(folder.path().join("data"))
            .args(["--listen-client-urls", &client_url, "--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url, "--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("m0={peer_url}"), "--initial-cluster-token", "interop"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| format!("start {}: {error}", etcd.display()))?;
        let endpoint = format!("127.0.0.1:{}", ports.client);
        let dead_endpoint = format!("127.0.0.1:{}", ports.dead);
        let server = Server { child, folder, endpoint, dead_endpoint };
        server.wait_until_healthy()?;
        Ok(server)
    }

    fn wait_until_healthy(&self) -> Result<(), String> {
        let start = Instant::now();
        while start.elapsed() < START_TIMEOUT {
            if self.is_healthy().unwrap_or(false) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        let log = std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
        Err(format!("the server did not become healthy; its log:\n{log}"))
    }

    fn is_healthy(&self) -> io::Result<bool> {
        let mut stream = TcpStream::connect(&self.endpoint)?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.contains("\"health\":\"true\""))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _reaped = self.child.wait();
    }
}
