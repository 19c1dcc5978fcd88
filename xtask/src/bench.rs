//! `cargo xtask bench`: Go's etcd and ours under the same load, as `testing/bench` measures them.
//!
//! Needs the programs of `cargo xtask peers etcd-3.7`. Everything but `--peers` is handed on; without
//! `--ours`, ours is built first.

use crate::shell::{self, cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "bench",
    about: "Go's etcd and ours under the same load [--members N] [--rows NAMES] [--seconds N] [--peers DIR] [--quick] [--ours PATH]",
    run: bench,
};

fn bench(arguments: &[String]) -> Result<(), Failure> {
    let mut peers = root().join(".peers");
    let mut rest = Vec::new();
    let mut all = arguments.iter();
    while let Some(argument) = all.next() {
        if argument == "--peers" {
            let folder = all.next().ok_or_else(|| Failure("--peers: no folder".to_owned()))?;
            peers = std::env::current_dir()?.join(folder);
        } else {
            rest.push(argument.clone());
        }
    }
    let given = |flag: &str| rest.iter().any(|argument| argument == flag);
    let mut paths = Vec::new();
    if !given("--go") {
        paths.extend(["--go".to_owned(), peers.join("etcd-3.7").join("etcd").display().to_string()]);
    }
    if !given("--ours") && !given("--help") {
        let etcd = shell::ours()?.join("etcd");
        paths.extend(["--ours".to_owned(), etcd.display().to_string()]);
    }
    let mut run = cargo(&["run", "--quiet", "--release", "--locked", "--package", "bench", "--"]);
    run.args(&paths).args(&rest);
    // Paths that a person gives are relative to where that person stands.
    run.current_dir(std::env::current_dir()?);
    shell::run("bench", &mut run)
}
