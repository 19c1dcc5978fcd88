//! `cargo xtask chaos`: clusters of real processes under faults, by `testing/chaos`.
//!
//! Without a program to try it builds ours, in release. Whatever it is told is handed on, so its own
//! `--help` says what there is. `--short` stands for the run of CI: a fixed seed, three and five members.

use crate::shell::{self, cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "chaos",
    about: "real clusters under faults, every answer checked [--minutes N] [--seed S] [--members 5|go,ours,go] [--roll go-3.6,ours] [--etcd PATH] [--short]",
    run: chaos,
};

/// One cluster of three and one of five, under four minutes with start, end and checks.
const SHORT: [&str; 4] = ["--minutes", "3", "--seed", "1"];

fn chaos(arguments: &[String]) -> Result<(), Failure> {
    let given = |flag: &str| arguments.iter().any(|argument| argument == flag);
    let target = shell::target();
    let mut all: Vec<String> = arguments.iter().filter(|argument| *argument != "--short").cloned().collect();
    if given("--short") {
        all.splice(0..0, SHORT.map(str::to_owned));
    }
    let needs_program = !["--help", "--check", "--etcd"].iter().any(|flag| given(flag));
    let names = |name: &str| arguments.iter().any(|argument| argument.split(',').any(|kind| kind == name));
    let is_mixed = names("ours");
    if needs_program && !given("--ours") && (is_mixed || !given("--go")) {
        all.extend(["--ours".to_owned(), shell::ours()?.join("etcd").display().to_string()]);
    }
    for (kind, flag, peer) in [("go", "--go", "etcd-3.7"), ("go-3.6", "--go-3.6", "etcd-3.6")] {
        if names(kind) && !given(flag) {
            let etcd = root().join(".peers").join(peer).join("etcd");
            all.extend([flag.to_owned(), etcd.display().to_string()]);
        }
    }
    if !given("--out") {
        all.extend(["--out".to_owned(), target.join("chaos").display().to_string()]);
    }
    let build = ["build", "--quiet", "--locked", "--package", "chaos"];
    shell::run("build chaos", &mut cargo(&build))?;
    // Not by `cargo run`: ctrl-C and signals are to reach it alone.
    let mut run = std::process::Command::new(target.join("debug").join("chaos"));
    run.args(&all);
    shell::run("chaos", &mut run)
}
