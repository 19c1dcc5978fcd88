//! `cargo xtask <command>`: the project's own chores. A command is one file and one line in [`COMMANDS`].

mod bench;
mod chaos;
mod ci;
mod deploy;
mod fuzz;
mod interop;
mod kubernetes;
mod lockstep;
mod mutants;
mod peers;
mod shell;
mod tidy;

use std::process::ExitCode;

/// One chore.
pub struct Command {
    pub name: &'static str,
    /// One line for the list that `cargo xtask` prints.
    pub about: &'static str,
    pub run: fn(&[String]) -> Result<(), Failure>,
}

/// Why a chore failed: the text for the person who ran it.
#[derive(Debug)]
pub struct Failure(pub String);

impl<E: std::error::Error> From<E> for Failure {
    fn from(error: E) -> Failure {
        Failure(error.to_string())
    }
}

const COMMANDS: &[Command] = &[
    ci::COMMAND,
    tidy::COMMAND,
    peers::COMMAND,
    fuzz::COMMAND,
    interop::COMMAND,
    kubernetes::COMMAND,
    deploy::COMMAND,
    lockstep::COMMAND,
    chaos::COMMAND,
    mutants::COMMAND,
    bench::COMMAND,
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        eprint!("{}", list());
        return ExitCode::from(2);
    };
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("no command {name:?}\n{}", list());
        return ExitCode::from(2);
    };
    match (command.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(text)) => {
            eprintln!("xtask {name}: {text}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> String {
    let lines = COMMANDS.iter().map(|command| format!("  {:<12} {}\n", command.name, command.about));
    format!("cargo xtask <command>\n\n{}", lines.collect::<String>())
}
