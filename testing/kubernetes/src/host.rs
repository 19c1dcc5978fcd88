//! A machine of the bench: this one, or a network namespace that plays one.

use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Outcome};

/// Where programs run, and the address under which others find them.
#[derive(Clone)]
pub struct Host {
    /// Node name of kubeadm: in certificates, as etcd's `--name`, in the names of logs.
    pub name: String,
    pub address: IpAddr,
    /// File that stands for its network, unless that is ours.
    network: Option<PathBuf>,
    /// Folders that only programs of this machine see: where they are, and under which path there.
    folders: Vec<(PathBuf, PathBuf)>,
}

/// Mounts each pair of folders before the mark, then becomes the program behind it.
const MOUNT_AND_RUN: &str =
    r#"while [ "$1" != -- ]; do mount --bind "$1" "$2" || exit 1; shift 2; done; shift; exec "$@""#;

impl Host {
    /// This machine, seen over loopback alone.
    pub fn loopback(name: &str) -> Host {
        Host {
            name: name.to_owned(),
            address: Ipv4Addr::LOCALHOST.into(),
            network: None,
            folders: Vec::new(),
        }
    }

    /// A machine with a network of its own.
    pub fn with_network(name: &str, address: Ipv4Addr, network: PathBuf) -> Host {
        Host { name: name.to_owned(), address: address.into(), network: Some(network), folders: Vec::new() }
    }

    /// From now on its programs see `folder` at `path`, which must exist.
    pub fn mount(&mut self, folder: &Path, path: &Path) {
        self.folders.push((folder.to_owned(), path.to_owned()));
    }

    /// Whether the host shares our network, and with it the ports.
    pub fn is_loopback(&self) -> bool {
        self.network.is_none()
    }

    /// A command that runs there. It replaces what leads to it, so its id is the program's.
    pub fn command(&self, program: &Path) -> Command {
        let Some(network) = &self.network else { return Command::new(program) };
        let enter = format!("--net={}", network.display());
        if self.folders.is_empty() {
            let mut command = Command::new("nsenter");
            command.args([&enter, "--"]).arg(program);
            return command;
        }
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation=private", "--", "sh", "-c", MOUNT_AND_RUN, "sh"]);
        for (folder, path) in &self.folders {
            command.arg(folder).arg(path);
        }
        command.args(["--", "nsenter", &enter, "--"]).arg(program);
        command
    }

    /// The usual ports where the network is its own, else some that are free.
    pub fn ports<const N: usize>(&self, usual: [u16; N]) -> Outcome<[u16; N]> {
        if self.is_loopback() { ports::free_array().during("find free ports") } else { Ok(usual) }
    }
}
