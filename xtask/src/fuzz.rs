//! `cargo xtask fuzz`: bent inputs for every decoder; see `testing/fuzz`.

use crate::shell::{self, cargo, root};
use crate::{Command, Failure};

pub const COMMAND: Command = Command {
    name: "fuzz",
    about: "bends inputs of every decoder [--seconds N] [--target T] [--seed S] [--write-seeds DIR]",
    run: fuzz,
};

fn fuzz(arguments: &[String]) -> Result<(), Failure> {
    let mut run = cargo(&[
        "run",
        "--quiet",
        "--manifest-path",
        "testing/fuzz/Cargo.toml",
        "--no-default-features",
        "--target-dir",
    ]);
    run.arg(shell::target()).arg("--").args(arguments);
    shell::run("fuzz", run.current_dir(root()))
}
