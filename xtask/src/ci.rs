//! `cargo xtask ci`: what must hold for every change, in the order in which it fails fastest.

use crate::shell::{cargo, run};
use crate::{Command, Failure, tidy};

pub const COMMAND: Command =
    Command { name: "ci", about: "format, lints, tidy, tests, short simulations", run: ci };

/// Enough to meet each kind of fault many times, and done within half a minute each.
const SIMULATIONS: [(&str, &str); 2] = [("sim", "5000"), ("member-sim", "40")];

fn ci(_: &[String]) -> Result<(), Failure> {
    run("format", &mut cargo(&["fmt", "--all", "--", "--check"]))?;
    println!("== tidy");
    tidy::check()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"];
    run("clippy", &mut cargo(&clippy))?;
    run("tests", &mut cargo(&["test", "--workspace", "--locked"]))?;
    for (package, seeds) in SIMULATIONS {
        let simulation = ["run", "--release", "--locked", "--package", package, "--", "--seeds", seeds];
        run("simulation", &mut cargo(&simulation))?;
    }
    Ok(())
}
