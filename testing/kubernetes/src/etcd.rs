//! One member of etcd under the flags of kubeadm's static pod, and the command line that looks into it.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use crate::failure::{During, Failure, Outcome};
use crate::pki::{NODE_NAME, Pki};
use crate::process::{Process, Ran, run};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where the programs of one etcd are.
#[derive(Clone)]
pub struct Programs {
    pub etcd: PathBuf,
    /// The one that belongs to this etcd.
    pub etcdctl: PathBuf,
    /// Go's, which must see the same in it.
    pub reference_etcdctl: PathBuf,
}

/// Ports of loopback that were free a moment ago.
pub fn free_ports<const N: usize>() -> Outcome<[u16; N]> {
    // All are held at once, so that they differ.
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0").during("find a free port")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

pub struct Etcd {
    programs: Programs,
    pki: PathBuf,
    logs: PathBuf,
    pub data_dir: PathBuf,
    client_port: u16,
    peer_port: u16,
    metrics_port: u16,
    process: Option<Process>,
}

/// One key as it is in etcd.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    pub value: Vec<u8>,
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub lease: i64,
}

impl Etcd {
    pub fn new(programs: &Programs, pki: &Pki, folder: &Path) -> Outcome<Etcd> {
        let [client_port, peer_port, metrics_port] = free_ports()?;
        Ok(Etcd {
            programs: programs.clone(),
            pki: pki.path(""),
            logs: folder.join("logs"),
            data_dir: folder.join("etcd"),
            client_port,
            peer_port,
            metrics_port,
            process: None,
        })
    }

    pub fn client_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.client_port)
    }

    /// Starts the program on its data and waits until it is ready.
    pub fn start(&mut self) -> Outcome {
        let pki = |file: &str| self.pki.join("etcd").join(file).display().to_string();
        let (client, peer) = (self.client_url(), format!("https://127.0.0.1:{}", self.peer_port));
        let mut command = Command::new(&self.programs.etcd);
        // The flags of kubeadm's manifest, in its order.
        command.args([
            format!("--advertise-client-urls={client}"),
            format!("--cert-file={}", pki("server.crt")),
            "--client-cert-auth=true".to_owned(),
            format!("--data-dir={}", self.data_dir.display()),
            "--feature-gates=InitialCorruptCheck=true".to_owned(),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={NODE_NAME}={peer}"),
            format!("--key-file={}", pki("server.key")),
            format!("--listen-client-urls={client}"),
            format!("--listen-metrics-urls=http://127.0.0.1:{}", self.metrics_port),
            format!("--listen-peer-urls={peer}"),
            format!("--name={NODE_NAME}"),
            format!("--peer-cert-file={}", pki("peer.crt")),
            "--peer-client-cert-auth=true".to_owned(),
            format!("--peer-key-file={}", pki("peer.key")),
            format!("--peer-trusted-ca-file={}", pki("ca.crt")),
            "--snapshot-count=10000".to_owned(),
            format!("--trusted-ca-file={}", pki("ca.crt")),
            "--watch-progress-notify-interval=5s".to_owned(),
        ]);
        let mut process = Process::start("etcd", &self.logs, &mut command)?;
        let url = format!("http://127.0.0.1:{}/readyz", self.metrics_port);
        let ready = wait::until("etcd is ready", START_LIMIT, || {
            process.still_running()?;
            plain_get(self.metrics_port, "/readyz").map_err(|error| format!("{url}: {error}"))
        });
        self.process = Some(process);
        ready.map(|_| ())
    }

    pub fn kill(&mut self) -> Outcome {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    pub fn stop(&mut self) -> Outcome<String> {
        self.process.take().map_or(Ok("not running".to_owned()), Process::stop)
    }

    pub fn process(&self) -> Outcome<&Process> {
        self.process.as_ref().ok_or_else(|| Failure("etcd is not running".to_owned()))
    }

    /// Runs its own etcdctl, told by the environment where the server is.
    pub fn ctl(&self, arguments: &[&str], input: Option<&[u8]>) -> Outcome<Ran> {
        self.ctl_of(&self.programs.etcdctl, arguments, input)
    }

    /// The same command by Go's etcdctl.
    pub fn reference_ctl(&self, arguments: &[&str]) -> Outcome<Ran> {
        self.ctl_of(&self.programs.reference_etcdctl, arguments, None)
    }

    fn ctl_of(&self, program: &Path, arguments: &[&str], input: Option<&[u8]>) -> Outcome<Ran> {
        let pki = |file: &str| self.pki.join("etcd").join(file);
        let mut command = Command::new(program);
        command.args(arguments);
        command.env("ETCDCTL_ENDPOINTS", self.client_url()).env("ETCDCTL_CACERT", pki("ca.crt"));
        command.env("ETCDCTL_CERT", pki("healthcheck-client.crt"));
        command.env("ETCDCTL_KEY", pki("healthcheck-client.key"));
        run(&mut command, input, COMMAND_LIMIT)
    }

    /// All keys with this prefix.
    pub fn stored(&self, prefix: &str) -> Outcome<BTreeMap<String, Stored>> {
        let answer = self.ctl(&["get", prefix, "--prefix", "-w", "json"], None)?.must("etcdctl get")?;
        let answer: Value = serde_json::from_slice(&answer)?;
        let mut all = BTreeMap::new();
        for kv in answer["kvs"].as_array().into_iter().flatten() {
            let bytes = |name: &str| {
                let text = kv[name].as_str().unwrap_or_default();
                base64::engine::general_purpose::STANDARD.decode(text).during(name)
            };
            let number = |name: &str| kv[name].as_i64().unwrap_or(0);
            let stored = Stored {
                value: bytes("value")?,
                create_revision: number("create_revision"),
                mod_revision: number("mod_revision"),
                version: number("version"),
                lease: number("lease"),
            };
            all.insert(String::from_utf8_lossy(&bytes("key")?).into_owned(), stored);
        }
        Ok(all)
    }

    /// Most memory that the running program has held, in MiB.
    pub fn peak_memory_mib(&self) -> Outcome<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process()?.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        Ok(kib.unwrap_or(0) / 1024)
    }

    /// Calls of a gRPC method that ended well, as the server counts them.
    pub fn handled(&self, method: &str) -> Outcome<u64> {
        let metrics = plain_get(self.metrics_port, "/metrics").map_err(Failure)?;
        let wanted = format!("grpc_method=\"{method}\"");
        let lines = metrics.lines().filter(|line| line.starts_with("grpc_server_handled_total{"));
        let counts = lines
            .filter(|line| line.contains(&wanted) && line.contains("grpc_code=\"OK\""))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.sum::<f64>() as u64)
    }
}

/// The body of a plain GET on loopback when its status is 200.
fn plain_get(port: u16, path: &str) -> Result<String, String> {
    use std::io::{Read, Write};
    let limit = Some(Duration::from_secs(10));
    let get = || -> std::io::Result<String> {
        let mut tcp = std::net::TcpStream::connect(("127.0.0.1", port))?;
        tcp.set_read_timeout(limit)?;
        write!(tcp, "GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
        let mut answer = Vec::new();
        tcp.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = get().map_err(|error| error.to_string())?;
    let status = answer.lines().next().unwrap_or_default().to_owned();
    if status.split(' ').nth(1) != Some("200") {
        return Err(status);
    }
    Ok(answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
}
