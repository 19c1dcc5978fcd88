//! kube-apiserver, kube-controller-manager and kube-scheduler: the real ones, over one etcd.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;

use crate::etcd::Etcd;
use crate::failure::{During, Outcome};
use crate::host::Host;
use crate::http::{Client, Identity};
use crate::pki::Pki;
use crate::process::Process;
use crate::wait;

const READY_LIMIT: Duration = Duration::from_secs(120);

/// Pause before a program that has ended is started again: the first of a kubelet's.
const RESTART_PAUSE: Duration = Duration::from_secs(10);

/// Interval of compactions: short, so that some fall into a run.
const COMPACTION_INTERVAL: &str = "20s";

/// Name of the key in the encryption configuration, and so in the prefix of each encrypted value.
pub const ENCRYPTION_KEY_NAME: &str = "key1";

/// The two that work on what the API server holds. One of each leads; they ask it who.
#[derive(Clone, Copy)]
enum Kind {
    ControllerManager,
    Scheduler,
}

struct Controller {
    kind: Kind,
    process: Process,
    started: Instant,
}

pub struct ControlPlane {
    pub address: SocketAddr,
    pub kubeconfig: PathBuf,
    admin: Identity,
    apiserver: Process,
    controllers: Vec<Controller>,
    host: Host,
    /// Distinguishes the logs of one control plane from those of the next.
    name: String,
    programs: PathBuf,
    folder: PathBuf,
    pki: PathBuf,
    controller_manager_config: PathBuf,
    scheduler_config: PathBuf,
}

/// How the API server's own comparison of its caches with etcd went.
pub struct Consistency {
    /// Comparisons that found no difference.
    pub equal: f64,
    /// Lines of its log that must not be there, and failed comparisons.
    pub problems: Vec<String>,
    pub summary: String,
}

impl ControlPlane {
    /// Starts an API server and waits until it is ready. The others follow with [`Self::start_controllers`].
    pub fn start(
        name: &str,
        programs: &Path,
        pki: &Pki,
        etcd: &Etcd,
        folder: &Path,
    ) -> Outcome<ControlPlane> {
        let mut plane = ControlPlane::spawn(name, programs, pki, etcd, folder, &[])?;
        plane.wait_ready()?;
        Ok(plane)
    }

    /// Starts an API server on the machine of this etcd, which is the only one that it asks.
    pub fn spawn(
        name: &str,
        programs: &Path,
        pki: &Pki,
        etcd: &Etcd,
        folder: &Path,
        extra_flags: &[&str],
    ) -> Outcome<ControlPlane> {
        let host = &etcd.host;
        let [port] = host.ports([6443])?;
        let encryption = folder.join("encryption.yaml");
        write_encryption_config(&encryption)?;
        let file = |name: &str| pki.path(name).display().to_string();
        // Must not be loopback; nothing ever connects to this one.
        let advertised = if host.is_loopback() { "10.255.0.1".to_owned() } else { host.address.to_string() };
        let mut command = host.command(&programs.join("kube-apiserver"));
        command.args([
            format!("--etcd-servers={}", etcd.local_client_url()),
            format!("--etcd-cafile={}", file("etcd/ca.crt")),
            format!("--etcd-certfile={}", file("apiserver-etcd-client.crt")),
            format!("--etcd-keyfile={}", file("apiserver-etcd-client.key")),
            format!("--etcd-compaction-interval={COMPACTION_INTERVAL}"),
            format!("--encryption-provider-config={}", encryption.display()),
            format!("--bind-address={}", host.address),
            format!("--secure-port={port}"),
            format!("--advertise-address={advertised}"),
            format!("--cert-dir={}", folder.join("apiserver").display()),
            format!("--tls-cert-file={}", file("apiserver.crt")),
            format!("--tls-private-key-file={}", file("apiserver.key")),
            format!("--client-ca-file={}", file("ca.crt")),
            "--service-account-issuer=https://kubernetes.default.svc".to_owned(),
            format!("--service-account-key-file={}", file("sa.pub")),
            format!("--service-account-signing-key-file={}", file("sa.key")),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
        ]);
        command.args(extra_flags);
        // The API server compares its caches with etcd and panics where they differ.
        command.env("KUBE_WATCHCACHE_CONSISTENCY_CHECKER", "true");
        let logs = folder.join("logs");
        let apiserver = Process::start(&format!("{name}-apiserver"), &logs, &mut command)?;

        let address = SocketAddr::from((host.address, port));
        let server = format!("https://{address}");
        let admin =
            Identity::load(address, &pki.path("ca.crt"), &pki.path("admin.crt"), &pki.path("admin.key"))?;
        Ok(ControlPlane {
            address,
            kubeconfig: pki.kubeconfig("admin", &server)?,
            admin,
            apiserver,
            controllers: Vec::new(),
            host: host.clone(),
            name: name.to_owned(),
            programs: programs.to_owned(),
            folder: folder.to_owned(),
            pki: pki.path(""),
            controller_manager_config: pki.kubeconfig("controller-manager", &server)?,
            scheduler_config: pki.kubeconfig("scheduler", &server)?,
        })
    }

    pub fn wait_ready(&mut self) -> Outcome {
        let mut client = self.admin();
        wait::until(&format!("{}-apiserver is ready", self.name), READY_LIMIT, || {
            self.apiserver.still_running()?;
            ready(&mut client)
        })
    }

    /// What the API server says of itself at this moment.
    pub fn ready(&self) -> Result<(), String> {
        ready(&mut self.admin())
    }

    pub fn start_controllers(&mut self) -> Outcome {
        for kind in [Kind::ControllerManager, Kind::Scheduler] {
            let process = self.start_controller(kind)?;
            self.controllers.push(Controller { kind, process, started: Instant::now() });
        }
        Ok(())
    }

    fn start_controller(&self, kind: Kind) -> Outcome<Process> {
        match kind {
            Kind::ControllerManager => self.start_controller_manager(),
            Kind::Scheduler => self.start_scheduler(),
        }
    }

    fn start_controller_manager(&self) -> Outcome<Process> {
        let [port] = self.host.ports([10257])?;
        let file = |name: &str| self.pki.join(name).display().to_string();
        let mut command = self.host.command(&self.programs.join("kube-controller-manager"));
        command.args(client_flags(&self.controller_manager_config, port));
        command.args([
            format!("--cert-dir={}", self.folder.join("controller-manager").display()),
            format!("--service-account-private-key-file={}", file("sa.key")),
            format!("--root-ca-file={}", file("ca.crt")),
            format!("--cluster-signing-cert-file={}", file("ca.crt")),
            format!("--cluster-signing-key-file={}", file("ca.key")),
            "--use-service-account-credentials=true".to_owned(),
            "--service-cluster-ip-range=10.0.0.0/24".to_owned(),
        ]);
        let name = format!("{}-controller-manager", self.name);
        Process::start(&name, &self.folder.join("logs"), &mut command)
    }

    fn start_scheduler(&self) -> Outcome<Process> {
        let [port] = self.host.ports([10259])?;
        let mut command = self.host.command(&self.programs.join("kube-scheduler"));
        command.args(client_flags(&self.scheduler_config, port));
        command.arg(format!("--cert-dir={}", self.folder.join("scheduler").display()));
        Process::start(&format!("{}-scheduler", self.name), &self.folder.join("logs"), &mut command)
    }

    /// Starts those anew that have ended, as a kubelet does: they end when they cannot renew their lease.
    /// The number of starts.
    pub fn tend_controllers(&mut self) -> Outcome<usize> {
        let mut starts = 0;
        for index in 0..self.controllers.len() {
            let Controller { kind, process, started } = &mut self.controllers[index];
            if process.still_running().is_ok() || started.elapsed() < RESTART_PAUSE {
                continue;
            }
            let kind = *kind;
            let process = self.start_controller(kind)?;
            self.controllers[index] = Controller { kind, process, started: Instant::now() };
            starts += 1;
        }
        Ok(starts)
    }

    /// A client with all rights.
    pub fn admin(&self) -> Client {
        self.admin.client()
    }

    pub fn identity(&self) -> &Identity {
        &self.admin
    }

    /// An error when one of the programs has ended by itself.
    pub fn still_running(&mut self) -> Result<(), String> {
        self.apiserver.still_running()?;
        self.controllers.iter_mut().try_for_each(|controller| controller.process.still_running())
    }

    /// An error when the API server has ended by itself, whatever became of the others.
    pub fn apiserver_still_running(&mut self) -> Result<(), String> {
        self.apiserver.still_running()
    }

    /// Sum of a counter's lines that contain every one of `labels`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> Outcome<f64> {
        let metrics = self.admin().get("/metrics")?;
        let text = String::from_utf8_lossy(&metrics.body);
        let lines = text.lines().filter(|line| line.starts_with(name) && !line.starts_with('#'));
        let wanted = lines.filter(|line| labels.iter().all(|label| line.contains(label)));
        Ok(wanted
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .fold(0.0, |sum, count| sum + count))
    }

    /// What the API server has to say of its caches, compared with etcd.
    pub fn consistency(&self) -> Outcome<Consistency> {
        const CHECKS: &str = "apiserver_storage_consistency_checks_total";
        let [good, bad, undone] = ["success", "failure", "error"]
            .map(|status| self.metric(CHECKS, &[&format!("status=\"{status}\"")]));
        let (good, bad, undone) = (good?, bad?, undone?);
        let log = fs::read_to_string(&self.apiserver.log).during(self.apiserver.log.display())?;
        let is_bad = |line: &&str| {
            let line = line.to_lowercase();
            line.contains("inconsisten") && line.contains("cache") || line.starts_with("panic:")
        };
        let mut problems: Vec<String> = log.lines().filter(is_bad).map(str::to_owned).collect();
        if bad > 0.0 {
            problems.push(format!("{bad} consistency checks failed"));
        }
        let summary = format!(
            "{} compared its caches with etcd: {good} equal, {bad} differing, {undone} not done",
            self.apiserver.name
        );
        Ok(Consistency { equal: good, problems, summary })
    }

    pub fn stop_controllers(&mut self) -> Outcome {
        for controller in self.controllers.drain(..) {
            controller.process.stop()?;
        }
        Ok(())
    }

    /// Ends all three, the API server last, as a machine does that is shut down.
    pub fn stop(mut self) -> Outcome {
        self.stop_controllers()?;
        // Its graceful end waits for watches of a minute and more; nothing of it is needed.
        self.apiserver.kill()
    }
}

fn ready(client: &mut Client) -> Result<(), String> {
    let answer = client.get("/readyz").map_err(|error| error.to_string())?;
    if answer.status == 200 { Ok(()) } else { Err(String::from_utf8_lossy(&answer.body).into_owned()) }
}

fn client_flags(kubeconfig: &Path, port: u16) -> Vec<String> {
    let config = kubeconfig.display();
    vec![
        format!("--kubeconfig={config}"),
        format!("--authentication-kubeconfig={config}"),
        format!("--authorization-kubeconfig={config}"),
        "--bind-address=127.0.0.1".to_owned(),
        format!("--secure-port={port}"),
        // One of each runs, but the lease that they would compete for is an object worth having.
        "--leader-elect=true".to_owned(),
        "--kube-api-qps=5000".to_owned(),
        "--kube-api-burst=10000".to_owned(),
    ]
}

/// Secrets are encrypted by a key that only the API server has. The key is no secret of anyone's.
fn write_encryption_config(path: &Path) -> Outcome {
    let secret = base64::engine::general_purpose::STANDARD.encode(b"an aes key of 32 bytes for tests");
    let config = serde_json::json!({
        "kind": "EncryptionConfiguration",
        "apiVersion": "apiserver.config.k8s.io/v1",
        "resources": [{
            "resources": ["secrets"],
            "providers": [
                {"aescbc": {"keys": [{"name": ENCRYPTION_KEY_NAME, "secret": secret}]}},
                {"identity": {}},
            ],
        }],
    });
    fs::write(path, config.to_string()).during(path.display())
}
