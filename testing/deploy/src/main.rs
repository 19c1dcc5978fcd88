//! etcd where people run it: under systemd by `deploy/etcd.service`, and as the static pod that kubeadm writes.
//!
//! Every check is made of Go's etcd first, so that the check itself is known to be right, and then of ours; what
//! both did must be equal. See README.md beside this crate.

mod kubeadm;
mod machine;
mod notify;
mod options;
mod pki;
mod pod;
mod probe;
mod runner;
mod shell;
mod static_pod;
mod systemd;
mod transcript;

use std::process::ExitCode;

use options::Options;
use transcript::Transcript;

/// One etcd with its tools.
pub struct Side {
    pub name: &'static str,
    /// Folder with `etcd` and `etcdctl`.
    pub programs: std::path::PathBuf,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        // The same program again, in namespaces of its own.
        Some((first, rest)) if first == static_pod::INSIDE => static_pod::inside(rest),
        _ => Options::from_args(arguments.into_iter()).and_then(|options| run(&options)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(text) => {
            eprintln!("deploy: {text}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let mut failures = Vec::new();
    for (suite, run) in SUITES {
        if !options.suites.is_empty() && !options.suites.iter().any(|chosen| chosen == suite) {
            continue;
        }
        println!("== {suite}");
        match run(options) {
            Ok(()) => println!("== {suite}: good"),
            Err(text) => {
                println!("== {suite}: FAILED: {text}");
                failures.push(*suite);
            }
        }
    }
    match failures.is_empty() {
        true => Ok(()),
        false => Err(format!("failed: {}", failures.join(", "))),
    }
}

type Suite = fn(&Options) -> Result<(), String>;

pub const SUITES: &[(&str, Suite)] = &[("systemd", systemd::run), ("static-pod", static_pod::run)];

/// What both did, line by line.
pub fn compare(reference: &Transcript, ours: &Transcript) -> Result<(), String> {
    for (theirs, mine) in reference.outcomes().iter().zip(ours.outcomes()) {
        if theirs != mine {
            return Err(format!("{}: {:?} of {}, {:?} of ours", theirs.0, theirs.1, reference.side, mine.1));
        }
    }
    let (theirs, mine) = (reference.outcomes().len(), ours.outcomes().len());
    match theirs == mine {
        true => Ok(()),
        false => Err(format!("{theirs} checks of {}, {mine} of ours", reference.side)),
    }
}
