//! The command line grammar of etcd's tools, which are built with Go's cobra: commands, flags, help and
//! errors, as texts that scripts compare with those of the originals.
//!
//! A tool is a static tree of [`Command`]s; [`execute`] does the rest. In what two such tools differ is in
//! the root's [`Manner`].

pub mod command;
pub mod completion;
pub mod exit;
pub mod flags;
pub mod help;
pub mod parse;

use std::io::Write;

pub use command::{Args, Command, Errors, HelpText, Invocation, Manner, RootFlags};
pub use exit::{Exit, Outcome};
pub use flags::{Flag, Flags};

use parse::{Parsed, parse};

/// Runs one invocation; `words` are those behind the program's name. Returns the exit code.
pub fn execute(root: &'static Command, words: &[Vec<u8>]) -> u8 {
    let invocation = match parse(root, words) {
        Ok(Parsed::Run(invocation)) => invocation,
        Ok(Parsed::Help { path }) => {
            print(help::help(&path).as_bytes());
            return 0;
        }
        Err(failure) => {
            eprint!("{}", failure.text(root.manner.errors));
            return failure.exit_code();
        }
    };
    match (invocation.run)(invocation) {
        Ok(()) => 0,
        Err(Exit { code, message }) => {
            if let Some(message) = message {
                eprintln!("Error: {message}");
            }
            code
        }
    }
}

/// Writes to stdout at once. Nobody reading it is no reason to fail loudly.
pub fn print(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _closed = stdout.write_all(bytes).and_then(|()| stdout.flush());
}

#[cfg(test)]
mod tests;
