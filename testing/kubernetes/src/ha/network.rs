//! Machines made of network namespaces.
//!
//! The whole run lives in namespaces of its own (network, mounts, processes), which the kernel takes away
//! with the last process: nothing of it is visible outside, and nothing can be left behind, however the run
//! ends. Inside, each machine has two links:
//!
//! - `eth0` to a bridge, over which the members of etcd talk. This one gets cut;
//! - `ops` to us, as an operator's console: we reach a machine that its peers do not.

use std::fs;
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::failure::{During, Failure, Outcome, fail};
use crate::host::Host;
use crate::process::run;

/// First argument of a program that is already in its own namespaces.
pub const INSIDE: &str = "--in-own-namespaces";

const COMMAND_LIMIT: Duration = Duration::from_secs(30);
const BRIDGE: &str = "etcd0";

/// Address of no network card.
const NOBODY: &str = "02:00:00:00:00:fe";

/// Our own address, outside the network of the machines.
const CONSOLE: Ipv4Addr = Ipv4Addr::new(10, 98, 0, 1);

/// Becomes this same program in namespaces of its own. Returns only when that is impossible.
pub fn enter() -> Outcome {
    let mut flags = vec!["--net", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];
    if !rustix::process::geteuid().is_root() {
        // Where the system allows it, this is as good as root.
        flags.push("--map-root-user");
    }
    let refused = |text: &str| {
        let needs = "several masters need network namespaces: run as root, or where users may make namespaces; \
                     programs needed are unshare, nsenter, mount (util-linux) and ip (iproute2)";
        Failure(format!("{needs}: {text}"))
    };
    let mut attempt = Command::new("unshare");
    attempt.args(&flags).args(["--", "ip", "link", "set", "lo", "up"]);
    let ran = run(&mut attempt, None, COMMAND_LIMIT).map_err(|error| refused(&error.0))?;
    if !ran.success {
        return Err(refused(ran.stderr.trim()));
    }
    let itself = std::env::current_exe().during("find this program")?;
    let mut command = Command::new("unshare");
    command.args(&flags).arg("--").arg(itself).arg(INSIDE).args(std::env::args_os().skip(1));
    Err(refused(&command.exec().to_string()))
}

/// The machines' network. Needs [`enter`] first.
pub struct Network {
    /// Files that stand for the machines' namespaces; `ip` knows no other place.
    namespaces: PathBuf,
}

impl Network {
    /// The bridge, with nothing at it.
    pub fn create() -> Outcome<Network> {
        let namespaces = PathBuf::from("/run/netns");
        if !namespaces.exists() {
            // Ours alone: the mounts are not those of the machine.
            must("mount", &["-t", "tmpfs", "tmpfs", "/run"])?;
            fs::create_dir_all(&namespaces)?;
        }
        ip("link set lo up")?;
        ip(&format!("address add {CONSOLE}/32 dev lo"))?;
        ip(&format!("link add {BRIDGE} type bridge"))?;
        ip(&format!("link set {BRIDGE} up"))?;
        Ok(Network { namespaces })
    }

    /// A machine with the last byte `number` in its address.
    pub fn add(&self, name: &str, number: u8) -> Outcome<Host> {
        let address = Ipv4Addr::new(10, 99, 0, number);
        for command in [
            format!("netns add {name}"),
            format!("link add {} type veth peer name eth0 netns {name}", port(name)),
            format!("link set {} master {BRIDGE} up", port(name)),
            format!("link add ops-{name} type veth peer name ops netns {name}"),
            format!("link set ops-{name} up"),
            format!("-n {name} link set lo up"),
            format!("-n {name} link set eth0 up"),
            format!("-n {name} link set ops up"),
            format!("-n {name} address add {address}/24 dev eth0"),
            format!("-n {name} route add {CONSOLE}/32 dev ops"),
            format!("route add {address}/32 dev ops-{name} src {CONSOLE}"),
        ] {
            ip(&command)?;
        }
        Ok(Host::with_network(name, address, self.namespaces.join(name)))
    }

    /// Takes the machine off the bridge: its link stays up and whatever it sends is lost, as behind a dead
    /// switch. Nobody is told.
    pub fn cut(&self, host: &Host) -> Outcome {
        ip(&format!("link set {} nomaster", port(&host.name)))
    }

    pub fn heal(&self, host: &Host) -> Outcome {
        ip(&format!("link set {} master {BRIDGE}", port(&host.name)))
    }

    /// What `from` sends to `to` is lost from now on, and nobody is told: it goes to a machine that there is not.
    pub fn silence(&self, from: &Host, to: &Host) -> Outcome {
        let Host { name, .. } = from;
        ip(&format!("-n {name} neigh replace {} lladdr {NOBODY} dev eth0 nud permanent", to.address))
    }

    pub fn end_silence(&self, from: &Host, to: &Host) -> Outcome {
        ip(&format!("-n {} neigh del {} dev eth0", from.name, to.address))
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        // The next run of this process begins anew. What fails here goes with the process.
        let _ = ip(&format!("link delete {BRIDGE}"));
        let _ = ip(&format!("address delete {CONSOLE}/32 dev lo"));
        for entry in fs::read_dir(&self.namespaces).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let _ = ip(&format!("link delete {}", port(&name)));
            let _ = ip(&format!("link delete ops-{name}"));
            let _ = ip(&format!("netns delete {name}"));
        }
    }
}

/// The bridge's end of a machine's link.
fn port(name: &str) -> String {
    format!("port-{name}")
}

fn ip(arguments: &str) -> Outcome {
    must("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// Runs a program that must succeed.
pub fn must(program: &str, arguments: &[&str]) -> Outcome {
    let ran = run(Command::new(Path::new(program)).args(arguments), None, COMMAND_LIMIT)?;
    if !ran.success {
        return fail(format!("{program} {}: {}", arguments.join(" "), ran.stderr.trim()));
    }
    Ok(())
}
