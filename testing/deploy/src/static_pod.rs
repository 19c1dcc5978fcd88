//! The static pod of kubeadm, in a network and over `/etc` and `/var/lib` of its own.
//!
//! This program starts itself again in new namespaces, once for each etcd and manifest, and reads what came of it
//! from a file.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::json;
use tempfile::TempDir;

use crate::options::Options;
use crate::pod::{self, Pod};
use crate::runner::Kubelet;
use crate::shell::{Ran, run as run_program, succeed};
use crate::transcript::Transcript;
use crate::{Side, compare, kubeadm};

pub const INSIDE: &str = "--inside-namespaces";
pub const ADDRESS: &str = "10.99.0.11";
pub const NODE: &str = "master";

/// The manifest that kubeadm writes now; others lie in `manifests`, with the release of etcd they came with.
const GENERATED: &str = "kubeadm";
const STORED: [(&str, &str); 3] = [("kubeadm-1.20", "3.5"), ("kubeadm-1.30", "3.5"), ("kubeadm-1.33", "3.6")];

/// Between two writes of the load.
const LOAD_INTERVAL: Duration = Duration::from_millis(50);

pub fn run(options: &Options) -> Result<(), String> {
    let (etcd, ours) = (options.peer("etcd 3.7.3", "3.7"), options.ours());
    both(options, GENERATED, &etcd, &ours)?;
    for (manifest, release) in STORED {
        // 3.7 knows these flags no more.
        both(options, manifest, &options.peer("etcd of its time", release), &ours)?;
    }
    Ok(())
}

fn both(options: &Options, manifest: &str, reference: &Side, ours: &Side) -> Result<(), String> {
    println!("   manifest: {manifest}");
    let reference = in_namespaces(options, manifest, reference)?;
    let ours = in_namespaces(options, manifest, ours)?;
    compare(&reference, &ours).map_err(|error| format!("{manifest}: {error}"))
}

fn in_namespaces(options: &Options, manifest: &str, side: &Side) -> Result<Transcript, String> {
    let mut transcript = Transcript::new(side.name);
    let folder = TempDir::new().map_err(|error| error.to_string())?;
    let this = std::env::current_exe().map_err(|error| error.to_string())?;
    let status = Command::new("unshare")
        .args([
            "--mount",
            "--net",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation=private",
            "--",
        ])
        .arg(this)
        .arg(INSIDE)
        .args([folder.path(), &side.programs, &options.peers])
        .arg(manifest_path(options, manifest))
        .arg(options.seconds.to_string())
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("unshare: {error}"))?;
    let outcomes = fs::read_to_string(folder.path().join("outcomes")).unwrap_or_default();
    if !status.success() {
        return Err(format!("{manifest} with {}: ended with {status}", side.name));
    }
    let outcomes: Vec<(String, String)> =
        serde_json::from_str(&outcomes).map_err(|error| error.to_string())?;
    for (check, outcome) in outcomes {
        transcript.note(&check, outcome);
    }
    Ok(transcript)
}

fn manifest_path(options: &Options, manifest: &str) -> PathBuf {
    match manifest {
        GENERATED => PathBuf::from(GENERATED),
        stored => options.root.join("testing/deploy/manifests").join(format!("{stored}.yaml")),
    }
}

/// The part that runs in the namespaces.
pub fn inside(arguments: &[String]) -> Result<(), String> {
    let [folder, programs, peers, manifest, seconds] = arguments else {
        return Err("started by hand".to_owned());
    };
    let node = Node {
        folder: PathBuf::from(folder),
        programs: PathBuf::from(programs),
        kubeadm: PathBuf::from(peers).join("kubernetes").join("kubeadm"),
    };
    let seconds = seconds.parse().map_err(|error| format!("seconds: {error}"))?;
    node.set_up()?;
    let pod = node.pod(manifest)?;
    let outcomes = node.life(pod, Duration::from_secs(seconds))?;
    fs::write(node.folder.join("outcomes"), json!(outcomes).to_string()).map_err(|error| error.to_string())
}

struct Node {
    folder: PathBuf,
    programs: PathBuf,
    kubeadm: PathBuf,
}

type Outcomes = Vec<(String, String)>;

impl Node {
    /// An address, and folders that the host never sees.
    fn set_up(&self) -> Result<(), String> {
        succeed(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        let address = format!("{ADDRESS}/32");
        succeed(Command::new("ip").args(["address", "add", &address, "dev", "lo"]))?;
        for folder in ["/etc", "/var/lib"] {
            let above = self.folder.join(folder.trim_start_matches('/').replace('/', "-"));
            let (upper, work) = (above.join("upper"), above.join("work"));
            for made in [&upper, &work] {
                fs::create_dir_all(made).map_err(|error| format!("{}: {error}", made.display()))?;
            }
            let how = format!("lowerdir={folder},upperdir={},workdir={}", upper.display(), work.display());
            succeed(Command::new("mount").args(["-t", "overlay", "overlay", "-o", &how, folder]))?;
        }
        Ok(())
    }

    fn pod(&self, manifest: &str) -> Result<Pod, String> {
        kubeadm::certificates(&self.kubeadm, &self.folder)?;
        if manifest == GENERATED {
            kubeadm::manifest(&self.kubeadm, &self.folder)?;
            return pod::read(Path::new(kubeadm::MANIFEST));
        }
        let text = fs::read_to_string(manifest).map_err(|error| format!("{manifest}: {error}"))?;
        pod::parse(&text.replace("HOST", ADDRESS).replace("NODE", NODE))
    }

    fn life(&self, pod: Pod, load_time: Duration) -> Result<Outcomes, String> {
        let mut outcomes = vec![("the command".to_owned(), pod.command.join(" "))];
        // Two that fail alike are not equal enough.
        let mut expect = |check: &str, outcome: String, wanted: &str| {
            outcomes.push((check.to_owned(), outcome.clone()));
            match outcome == wanted {
                true => Ok(()),
                false => Err(format!("{check}: {outcome:?} instead of {wanted:?}")),
            }
        };

        let mut kubelet = Kubelet::start(pod, &self.programs, &self.folder.join("log"))?;
        kubelet.until_ready()?;
        expect(
            "started within the startup probe's budget",
            format!("restarts: {}", kubelet.restarts),
            "restarts: 0",
        )?;
        let members = self.etcdctl(&["member", "list"])?.line();
        let member = members.split_once(", ").map_or("none", |(_id, rest)| rest).to_owned();
        let wanted = format!("started, {NODE}, https://{ADDRESS}:2380, https://{ADDRESS}:2379, false");
        expect("the member, but for its id", member, &wanted)?;
        self.etcdctl(&["put", "greeting", "hello"])?;

        let end = Instant::now() + load_time;
        let (mut writes, mut unready) = (0_u32, 0_u32);
        while Instant::now() < end {
            kubelet.tick()?;
            unready += u32::from(!kubelet.is_ready());
            let put = self.etcdctl(&["put", &format!("load/{}", writes % 100), "x"])?;
            if !put.is_ok() {
                return Err(format!("put: {}\n{}", put.text, kubelet.last_words()));
            }
            writes += 1;
            sleep(LOAD_INTERVAL);
        }
        if writes == 0 {
            return Err("there was no load".to_owned());
        }
        let seen = format!("looks at which it was not ready: {unready}, restarts: {}", kubelet.restarts);
        expect("under load", seen, "looks at which it was not ready: 0, restarts: 0")?;

        kubeadm::renew(&self.kubeadm, &self.folder)?;
        let health = self.etcdctl(&["endpoint", "health"])?.code;
        expect("health after kubeadm certs renew", format!("exit code {health}"), "exit code 0")?;

        succeed(Command::new("kill").args(["-KILL", &kubelet.id().to_string()]))?;
        while kubelet.restarts == 0 {
            kubelet.tick()?;
            sleep(LOAD_INTERVAL);
        }
        kubelet.until_ready()?;
        let value = self.etcdctl(&["get", "greeting", "--print-value-only"])?.line();
        expect(
            "killed and restarted",
            format!("restarts: {}, {value}", kubelet.restarts),
            "restarts: 1, hello",
        )?;

        let status = kubelet.stop()?;
        let how = status.signal().map_or_else(|| status.to_string(), |signal| format!("signal {signal}"));
        expect("stopped", how, "signal 15")?;
        Ok(outcomes)
    }

    fn etcdctl(&self, words: &[&str]) -> Result<Ran, String> {
        let pki = Path::new(kubeadm::PKI);
        run_program(
            Command::new(self.programs.join("etcdctl"))
                .env("ETCDCTL_API", "3")
                .args(["--endpoints", &format!("https://{ADDRESS}:2379")])
                .arg("--cacert")
                .arg(pki.join("ca.crt"))
                .arg("--cert")
                .arg(pki.join("healthcheck-client.crt"))
                .arg("--key")
                .arg(pki.join("healthcheck-client.key"))
                .args(words),
        )
    }
}
