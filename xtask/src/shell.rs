//! Running other programs, with what runs and how long it took on the screen.

use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use crate::Failure;

/// The top of the source tree.
pub fn root() -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    here.parent().map(PathBuf::from).unwrap_or(here)
}

/// Where cargo builds.
pub fn target() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root().join("target"), PathBuf::from)
}

/// The folder with our programs in release, built now: always all three, as libraries would otherwise be built
/// again for what each of them needs by itself.
pub fn ours() -> Result<PathBuf, Failure> {
    let mut build = cargo(&["build", "--release", "--locked"]);
    build.args(["--package", "etcd", "--package", "etcdctl", "--package", "etcdutl"]);
    run("build ours", &mut build)?;
    Ok(target().join("release"))
}

/// A command that starts at the top of the tree.
pub fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

/// The cargo that runs us.
pub fn cargo(arguments: &[&str]) -> Command {
    command(&std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned()), arguments)
}

/// Prints a heading, runs, fails when the program fails.
pub fn run(title: &str, command: &mut Command) -> Result<(), Failure> {
    println!("== {title}");
    let started = Instant::now();
    let program = command.get_program().to_string_lossy().into_owned();
    let status = command.status().map_err(|error| Failure(format!("start {program}: {error}")))?;
    if !status.success() {
        return Err(Failure(format!("{title}: {program} ended with {status}")));
    }
    println!("== {title}: done in {:.1} s", started.elapsed().as_secs_f64());
    Ok(())
}

/// The standard output of a program that must succeed.
pub fn output(command: &mut Command) -> Result<String, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| Failure(format!("start {program}: {error}")))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        return Err(Failure(format!("{program} ended with {}: {text}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
