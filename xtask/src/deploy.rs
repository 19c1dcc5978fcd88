//! `cargo xtask deploy`: etcd under systemd and as kubeadm's static pod; see `testing/deploy`.
//!
//! Needs the programs of `cargo xtask peers etcd-3.7 etcd-3.6 etcd-3.5 kubernetes`. Builds ours in release, or takes
//! the folder after `--ours` with `etcd` and `etcdctl`. Names choose suites.

use crate::shell::{self, cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "deploy",
    about: "under a real systemd and as kubeadm's static pod [--peers DIR] [--ours DIR] [--seconds N] [systemd] [static-pod]",
    run: deploy,
};

fn deploy(arguments: &[String]) -> Result<(), Failure> {
    let (mut peers, mut ours, mut rest) = (root().join(".peers"), None, Vec::new());
    let mut all = arguments.iter();
    while let Some(argument) = all.next() {
        let mut folder = || {
            let value = all.next().ok_or_else(|| Failure(format!("{argument}: no folder")))?;
            std::path::absolute(value).map_err(Failure::from)
        };
        match argument.as_str() {
            "--peers" => peers = folder()?,
            "--ours" => ours = Some(folder()?),
            _ => rest.push(argument.clone()),
        }
    }
    let ours = match ours {
        Some(ours) => ours,
        None => shell::ours()?,
    };
    let mut run = cargo(&["run", "--quiet", "--locked", "--package", "deploy", "--"]);
    // Elsewhere links mean nothing: a machine has only what is mounted into it.
    run.arg("--peers").arg(peers.canonicalize()?).arg("--ours").arg(ours.canonicalize()?);
    run.arg("--root").arg(root()).args(rest);
    shell::run("deploy", &mut run)
}
