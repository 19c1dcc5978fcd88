//! `cargo xtask kubernetes`: the script of `testing/kubernetes`, on Go's etcd and on ours.
//!
//! Needs the programs of `cargo xtask peers kubernetes etcd-3.7`. Whatever it is told is handed on, so its
//! own `--help` says what there is; without `--etcd`, ours is built first.

use std::path::PathBuf;

use crate::shell::{self, cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "kubernetes",
    about: "a real control plane on Go's etcd and on ours must do the same [--ha [--quick|--short] [--part NAME]…] [--peers DIR] [--etcd PATH --etcdctl PATH] [--reference]",
    run: kubernetes,
};

fn kubernetes(arguments: &[String]) -> Result<(), Failure> {
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let target = shell::target();
    // The runs of one script do not remove those of the other.
    let out = if given("--ha") { "ha" } else { "run" };
    let mut all: Vec<String> = arguments.to_vec();
    let mut default = |flag: &str, path: PathBuf| {
        if !given(flag) {
            all.extend([flag.to_owned(), path.display().to_string()]);
        }
    };
    default("--peers", root().join(".peers"));
    default("--out", target.join("kubernetes").join(out));
    if !given("--reference") && !given("--help") {
        if !(given("--etcd") && given("--etcdctl")) {
            shell::ours()?;
        }
        default("--etcd", target.join("release").join("etcd"));
        default("--etcdctl", target.join("release").join("etcdctl"));
    }
    let mut run = cargo(&["run", "--quiet", "--locked", "--package", "kubernetes", "--"]);
    run.args(&all);
    // Paths that a person gives are relative to where that person stands.
    run.current_dir(std::env::current_dir()?);
    shell::run("kubernetes", &mut run)
}
