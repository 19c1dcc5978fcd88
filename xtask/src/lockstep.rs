//! `cargo xtask lockstep`: our raft core and Go's through the same random lives; see `testing/interop/lockstep`.
//!
//! Needs Go. Builds its side into `.peers/lockstep`, ours in release, and hands on what it is told.

use crate::shell::{self, cargo, root};
use crate::{Command, Failure, peers};

pub const COMMAND: Command = Command {
    name: "lockstep",
    about: "our raft core and Go's must do the same, step by step [--steps N] [--seed S]",
    run: lockstep,
};

fn lockstep(arguments: &[String]) -> Result<(), Failure> {
    build_peer()?;
    let build = ["build", "--quiet", "--release", "--locked", "--package", "lockstep"];
    shell::run("build our side", &mut cargo(&build))?;
    let mut run = cargo(&["run", "--quiet", "--release", "--locked", "--package", "lockstep", "--"]);
    run.arg("--peer").arg(peers::folder("lockstep").join("lockstep")).args(arguments);
    shell::run("lockstep", run.current_dir(root()))
}

/// Each time: Go's build cache knows best what changed.
fn build_peer() -> Result<(), Failure> {
    let target = peers::folder("lockstep");
    std::fs::create_dir_all(&target)?;
    let mut go = shell::command("go", &["build", "-trimpath", "-buildvcs=false", "-o"]);
    go.arg(target.join("lockstep")).arg(".");
    go.current_dir(root().join("testing").join("interop").join("lockstep"));
    let user_flags = std::env::var("GOFLAGS").unwrap_or_default();
    go.env("GOFLAGS", format!("{user_flags} -mod=readonly").trim());
    go.env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0");
    shell::run("build the Go side", &mut go)
}
