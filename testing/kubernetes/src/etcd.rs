//! One member of etcd under the flags of kubeadm's static pod, and the command line that looks into it.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use base64::Engine;
use serde_json::Value;

use crate::failure::{During, Failure, Outcome, fail};
use crate::host::Host;
use crate::pki::Pki;
use crate::process::{Process, Ran, run};
use crate::wait;

const START_LIMIT: Duration = Duration::from_secs(60);
const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// Where the programs of one etcd are.
#[derive(Clone)]
pub struct Programs {
    pub etcd: PathBuf,
    /// Go's, which takes its place for a while.
    pub reference_etcd: PathBuf,
    /// The one that belongs to this etcd.
    pub etcdctl: PathBuf,
    /// Go's, which must see the same in it.
    pub reference_etcdctl: PathBuf,
    /// What makes a data directory of a snapshot.
    pub etcdutl: PathBuf,
}

/// What a member is told of its cluster when it starts.
#[derive(Clone)]
pub struct Bootstrap {
    /// `--initial-cluster`: name=peer URL of each member.
    pub cluster: String,
    /// Whether it joins a cluster that lives already.
    pub joins: bool,
}

pub struct Etcd {
    pub host: Host,
    pub data_dir: PathBuf,
    pub bootstrap: Bootstrap,
    /// Flags beside kubeadm's.
    pub extra_flags: Vec<String>,
    pub programs: Programs,
    /// Arguments of a manifest that somebody else wrote, instead of all the above.
    pub manifest_arguments: Option<Vec<String>>,
    pki: PathBuf,
    logs: PathBuf,
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
    /// A member that is a cluster of its own unless [`Self::bootstrap`] is changed.
    pub fn new(programs: &Programs, pki: &Pki, host: &Host, folder: &Path) -> Outcome<Etcd> {
        let [client_port, peer_port, metrics_port] = host.ports([2379, 2380, 2381])?;
        let mut etcd = Etcd {
            host: host.clone(),
            data_dir: folder.join("etcd"),
            bootstrap: Bootstrap { cluster: String::new(), joins: false },
            extra_flags: Vec::new(),
            programs: programs.clone(),
            manifest_arguments: None,
            pki: pki.path(""),
            logs: folder.join("logs"),
            client_port,
            peer_port,
            metrics_port,
            process: None,
        };
        etcd.bootstrap.cluster = format!("{}={}", host.name, etcd.peer_url());
        Ok(etcd)
    }

    /// Where others reach it.
    pub fn client_url(&self) -> String {
        format!("https://{}:{}", self.host.address, self.client_port)
    }

    /// Where programs of its own machine reach it, whatever happens to the network.
    pub fn local_client_url(&self) -> String {
        format!("https://127.0.0.1:{}", self.client_port)
    }

    pub fn peer_url(&self) -> String {
        format!("https://{}:{}", self.host.address, self.peer_port)
    }

    /// Starts the program on its data and waits until it is ready.
    pub fn start(&mut self) -> Outcome {
        self.spawn()?;
        self.wait_ready()
    }

    /// Starts the program on its data.
    pub fn spawn(&mut self) -> Outcome {
        let arguments = self.manifest_arguments.clone().unwrap_or_else(|| self.arguments());
        let mut command = self.host.command(&self.programs.etcd);
        command.args(arguments);
        let log =
            if self.host.is_loopback() { "etcd".to_owned() } else { format!("{}-etcd", self.host.name) };
        self.process = Some(Process::start(&log, &self.logs, &mut command)?);
        Ok(())
    }

    /// The flags of kubeadm's manifest, in its order, and ours.
    fn arguments(&self) -> Vec<String> {
        let pki = |file: &str| self.pki.join("etcd").join(file).display().to_string();
        let (client, peer, name) = (self.client_url(), self.peer_url(), &self.host.name);
        let metrics = |address: &str| format!("http://{address}:{}", self.metrics_port);
        let (mut listen, mut metrics_urls) = (self.local_client_url(), metrics("127.0.0.1"));
        if !self.host.is_loopback() {
            listen = format!("{listen},{client}");
            // kubeadm's probes come from the same machine; ours do not.
            metrics_urls = format!("{metrics_urls},{}", metrics(&self.host.address.to_string()));
        }
        let mut all = vec![
            format!("--advertise-client-urls={client}"),
            format!("--cert-file={}", pki("server.crt")),
            "--client-cert-auth=true".to_owned(),
            format!("--data-dir={}", self.data_dir.display()),
            "--feature-gates=InitialCorruptCheck=true".to_owned(),
            format!("--initial-advertise-peer-urls={peer}"),
            format!("--initial-cluster={}", self.bootstrap.cluster),
        ];
        if self.bootstrap.joins {
            all.push("--initial-cluster-state=existing".to_owned());
        }
        all.extend([
            format!("--key-file={}", pki("server.key")),
            format!("--listen-client-urls={listen}"),
            format!("--listen-metrics-urls={metrics_urls}"),
            format!("--listen-peer-urls={peer}"),
            format!("--name={name}"),
            format!("--peer-cert-file={}", pki("peer.crt")),
            "--peer-client-cert-auth=true".to_owned(),
            format!("--peer-key-file={}", pki("peer.key")),
            format!("--peer-trusted-ca-file={}", pki("ca.crt")),
        ]);
        if !self.extra_flags.iter().any(|flag| flag.starts_with("--snapshot-count=")) {
            all.push("--snapshot-count=10000".to_owned());
        }
        all.extend([
            format!("--trusted-ca-file={}", pki("ca.crt")),
            "--watch-progress-notify-interval=5s".to_owned(),
        ]);
        all.extend(self.extra_flags.iter().cloned());
        all
    }

    /// Waits until the running program answers that it is ready.
    pub fn wait_ready(&mut self) -> Outcome {
        let address = self.metrics_address();
        let Some(process) = &mut self.process else { return fail("etcd is not running") };
        wait::until(&format!("{} is ready", process.name), START_LIMIT, || {
            process.still_running()?;
            plain_get(address, "/readyz").map_err(|error| format!("http://{address}/readyz: {error}"))
        })?;
        Ok(())
    }

    fn metrics_address(&self) -> SocketAddr {
        SocketAddr::from((self.host.address, self.metrics_port))
    }

    pub fn kill(&mut self) -> Outcome {
        self.process.take().map_or(Ok(()), |mut process| process.kill())
    }

    pub fn stop(&mut self) -> Outcome<String> {
        self.process.take().map_or(Ok("not running".to_owned()), Process::stop)
    }

    /// The status of a program that has ended by itself.
    pub fn ended(&mut self) -> Result<String, String> {
        let Some(process) = &mut self.process else { return Err("it was ended".to_owned()) };
        let status = process.ended()?;
        self.process = None;
        Ok(status)
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

    /// Sum of a metric's lines that contain every one of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Outcome<f64> {
        let metrics = plain_get(self.metrics_address(), "/metrics").map_err(Failure)?;
        let lines = metrics.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']))
                && labels.iter().all(|label| line.contains(label))
        });
        let counts = lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        Ok(counts.fold(0.0, |sum, count| sum + count))
    }

    /// Calls of a gRPC method that ended well, as the server counts them.
    pub fn handled(&self, method: &str) -> Outcome<u64> {
        let method = format!("grpc_method=\"{method}\"");
        let handled = self.metric("grpc_server_handled_total", &[&method, "grpc_code=\"OK\""])?;
        Ok(handled as u64)
    }
}

/// The body of a plain GET when its status is 200.
fn plain_get(address: SocketAddr, path: &str) -> Result<String, String> {
    use std::io::{Read, Write};
    let limit = Duration::from_secs(10);
    let get = || -> std::io::Result<String> {
        let mut tcp = std::net::TcpStream::connect_timeout(&address, limit)?;
        tcp.set_read_timeout(Some(limit))?;
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
