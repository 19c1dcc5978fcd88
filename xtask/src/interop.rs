//! `cargo xtask interop`: etcd's own programs against ours; each suite is told in `testing/interop`.
//!
//! Needs Go for the log and the file, and the peers of `cargo xtask peers`, or of the folder after `--peers`.
//! Builds ours in release, or takes the folder after `--ours` with `etcd`, `etcdctl` and `etcdutl`.
//! Names choose suites.

use std::path::{Path, PathBuf};

use crate::shell::{self, cargo, root};
use crate::{Command, Failure, peers};

pub const COMMAND: Command = Command {
    name: "interop",
    about: "etcd's own programs against ours [--peers DIR] [--ours DIR] [--seed S] [--requests N] [--rounds N] [suites…]",
    run: interop,
};

/// Suites of testing/interop/differential, in one program.
const DIFFERENTIAL: &[&str] = &["requests", "strange", "watches", "folders", "kills"];
/// Suites of testing/interop/cases, in one program.
const CASES: &[&str] = &["etcdctl", "etcdctl-cluster", "etcdutl"];
const OTHERS: &[&str] = &["wal", "bolt", "peer"];

struct Options {
    peers: PathBuf,
    ours: Option<PathBuf>,
    /// Handed on to the differential suites.
    counts: Vec<String>,
    suites: Vec<String>,
}

fn interop(arguments: &[String]) -> Result<(), Failure> {
    let options = options(arguments)?;
    let ours = match &options.ours {
        Some(ours) => ours.clone(),
        None => shell::ours()?,
    };
    let chosen = |name: &str| options.suites.is_empty() || options.suites.iter().any(|suite| suite == name);
    let mut failures = Vec::new();
    let mut note = |outcome: Result<(), Failure>| {
        if let Err(Failure(text)) = outcome {
            println!("{text}");
            failures.push(text);
        }
    };
    let scripts = [("wal", "wal: one log, both writers"), ("bolt", "bolt: one database file, both engines")];
    for (suite, title) in scripts.into_iter().filter(|(suite, _)| chosen(suite)) {
        let script = root().join("testing").join("interop").join(suite).join("run.sh");
        note(shell::run(title, &mut shell::command(&text(&script), &[])));
    }
    let suites: Vec<&str> = DIFFERENTIAL.iter().copied().filter(|suite| chosen(suite)).collect();
    if !suites.is_empty() {
        let mut run = cargo(&["run", "--quiet", "--locked", "--package", "interop-differential", "--"]);
        run.arg("--peers").arg(&options.peers).arg("--ours").arg(ours.join("etcd"));
        run.args(&options.counts).args(suites);
        note(shell::run("the same to etcd and to ours", &mut run));
    }
    let suites: Vec<&str> = CASES.iter().copied().filter(|suite| chosen(suite)).collect();
    if !suites.is_empty() {
        let mut run = cargo(&["run", "--quiet", "--locked", "--package", "interop-cases", "--"]);
        run.arg("--peers").arg(&options.peers).arg("--ours").arg(&ours).args(suites);
        note(shell::run("command line tools: what both print", &mut run));
    }
    if chosen("peer") {
        let mut run = cargo(&["run", "--quiet", "--locked", "--package", "interop-peer", "--"]);
        run.arg("--peers").arg(&options.peers).arg("--ours").arg(ours.join("etcd"));
        note(shell::run("members: the same protocol, clusters of both", &mut run));
    }
    match failures.len() {
        0 => Ok(()),
        count => Err(Failure(format!("{count} failed:\n{}", failures.join("\n")))),
    }
}

fn options(arguments: &[String]) -> Result<Options, Failure> {
    let mut options =
        Options { peers: root().join(".peers"), ours: None, counts: Vec::new(), suites: Vec::new() };
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let mut value = || rest.next().cloned().ok_or_else(|| Failure(format!("{argument} needs a value")));
        match argument.as_str() {
            "--peers" => options.peers = absolute(&value()?)?,
            "--ours" => options.ours = Some(absolute(&value()?)?),
            "--seed" | "--requests" | "--rounds" => options.counts.extend([argument.clone(), value()?]),
            suite if [DIFFERENTIAL, CASES, OTHERS].concat().contains(&suite) => {
                options.suites.push(suite.to_owned());
            }
            unknown => {
                let known = [OTHERS, CASES, DIFFERENTIAL].concat().join(", ");
                return Err(Failure(format!("no suite {unknown:?}; there are {known}")));
            }
        }
    }
    let etcd = options.peers.join("etcd-3.7").join("etcd");
    if !etcd.is_file() && options.peers == peers::folder("") {
        return Err(Failure("no peers yet: cargo xtask peers etcd-3.7 etcd-3.6 etcd-3.5".to_owned()));
    }
    Ok(options)
}

fn absolute(path: &str) -> Result<PathBuf, Failure> {
    Ok(std::path::absolute(path)?)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
