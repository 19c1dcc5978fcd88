//! `cargo xtask peers`: builds the Go programs that judge us, from the pins in `testing/interop/<name>`,
//! into `.peers/<name>`. What is there already for the same pins is left alone.

use std::fs;
use std::path::{Path, PathBuf};

use crate::shell::{self, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "peers",
    about: "build the Go programs that the interop tests run against [names…]",
    run: peers,
};

struct Peer {
    /// Folder under `testing/interop` with the `go.mod`, and under `.peers` with the programs.
    name: &'static str,
    /// Program and Go package.
    programs: &'static [(&'static str, &'static str)],
    /// Version that its programs are told by the linker to report; the empty text for none.
    linked_version: &'static str,
}

const ETCD_PROGRAMS: &[(&str, &str)] = &[
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("etcdctl", "go.etcd.io/etcd/etcdctl/v3"),
    ("etcdutl", "go.etcd.io/etcd/etcdutl/v3"),
];

const PEERS: &[Peer] = &[
    Peer { name: "etcd-3.7", programs: ETCD_PROGRAMS, linked_version: "" },
    Peer { name: "etcd-3.6", programs: ETCD_PROGRAMS, linked_version: "" },
    Peer { name: "etcd-3.5", programs: ETCD_PROGRAMS, linked_version: "" },
    Peer { name: "bbolt", programs: &[("bbolt", "go.etcd.io/bbolt/cmd/bbolt")], linked_version: "" },
    Peer {
        name: "kubernetes",
        programs: &[
            ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
            ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
            ("kube-scheduler", "k8s.io/kubernetes/cmd/kube-scheduler"),
            ("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
            ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
        ],
        linked_version: "1.37.2",
    },
];

fn peers(names: &[String]) -> Result<(), Failure> {
    if let Some(unknown) = names.iter().find(|name| !PEERS.iter().any(|peer| peer.name == **name)) {
        let known: Vec<&str> = PEERS.iter().map(|peer| peer.name).collect();
        return Err(Failure(format!("no peer {unknown:?}; there are {}", known.join(", "))));
    }
    for peer in PEERS.iter().filter(|peer| names.is_empty() || names.iter().any(|name| name == peer.name)) {
        build(peer)?;
    }
    Ok(())
}

/// Where the programs of a peer are.
pub fn folder(name: &str) -> PathBuf {
    root().join(".peers").join(name)
}

fn build(peer: &Peer) -> Result<(), Failure> {
    let source = root().join("testing").join("interop").join(peer.name);
    let target = folder(peer.name);
    let pins = pins(peer, &source)?;
    let stamp = target.join("pins");
    let all_there = peer.programs.iter().all(|(program, _)| target.join(program).is_file());
    if all_there && fs::read_to_string(&stamp).is_ok_and(|built| built == pins) {
        println!("== {}: built already", peer.name);
        return Ok(());
    }
    fs::create_dir_all(&target)?;
    let _ = fs::remove_file(&stamp);
    let flags = linker_flags(peer.linked_version);
    for (index, (program, package)) in peer.programs.iter().enumerate() {
        let title = format!("{}: {program} ({} of {})", peer.name, index + 1, peer.programs.len());
        let mut go = shell::command("go", &["build", "-p", "2", "-trimpath", "-ldflags", &flags, "-o"]);
        go.arg(target.join(program)).arg(package).current_dir(&source);
        // The sums are complete, so nothing may be resolved anew; the user's other flags stay.
        let user_flags = std::env::var("GOFLAGS").unwrap_or_default();
        go.env("GOFLAGS", format!("{user_flags} -mod=readonly -buildvcs=false").trim());
        go.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
        shell::run(&title, &mut go)?;
    }
    fs::write(&stamp, pins)?;
    Ok(())
}

/// Everything that decides what is built: a change of any of it builds anew.
fn pins(peer: &Peer, source: &Path) -> Result<String, Failure> {
    let read = |file: &str| {
        let path = source.join(file);
        fs::read_to_string(&path).map_err(|error| Failure(format!("read {}: {error}", path.display())))
    };
    let go = shell::output(&mut shell::command("go", &["version"]))?;
    Ok(format!("{go}{}\n{}{}", linker_flags(peer.linked_version), read("go.mod")?, read("go.sum")?))
}

/// Kubernetes programs compare the versions that the linker gives them; without, they report nonsense.
fn linker_flags(version: &str) -> String {
    let mut flags = vec!["-s".to_owned(), "-w".to_owned()];
    if version.is_empty() {
        return flags.join(" ");
    }
    let mut parts = version.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    for package in ["k8s.io/component-base/version", "k8s.io/client-go/pkg/version"] {
        for (variable, value) in [
            ("gitVersion", format!("v{version}").as_str()),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitTreeState", "clean"),
            ("gitCommit", &"0".repeat(40)),
            ("buildDate", "2026-01-01T00:00:00Z"),
        ] {
            flags.push(format!("-X {package}.{variable}={value}"));
        }
    }
    flags.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_is_told_its_version_twice() {
        let flags = linker_flags("1.37.2");
        assert!(flags.contains("-X k8s.io/component-base/version.gitVersion=v1.37.2"));
        assert!(flags.contains("-X k8s.io/client-go/pkg/version.gitMinor=37"));
        assert_eq!(linker_flags(""), "-s -w");
    }

    #[test]
    fn every_peer_has_its_pins() {
        for peer in PEERS {
            let source = root().join("testing").join("interop").join(peer.name);
            assert!(source.join("go.mod").is_file() && source.join("go.sum").is_file(), "{}", peer.name);
        }
    }
}
