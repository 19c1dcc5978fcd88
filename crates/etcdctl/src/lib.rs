//! etcd's command line client: flags in, one call or conversation, text out.
//!
//! `cli` knows commands, flags and help, as texts that scripts compare with those of etcd's own tool;
//! `commands` has one file per command; `output` renders answers in the five formats; `golang` is the
//! little of Go's formatting that shows through in all of these. A command is added by a file in
//! `commands` and its name in [`commands::ROOT`].

pub mod cli;
pub mod commands;
pub mod connection;
pub mod exit;
pub mod golang;
pub mod log;
pub mod output;

use cli::parse::{Parsed, parse};
use exit::Exit;

/// Runs one invocation; `args` are those behind the program's name. Returns the exit code.
pub fn run(args: Vec<Vec<u8>>) -> u8 {
    let invocation = match parse(&commands::ROOT, &args) {
        Ok(Parsed::Run(invocation)) => invocation,
        Ok(Parsed::Help { path }) => {
            output::print(cli::help::help(&path).as_bytes());
            return 0;
        }
        Err(failure) => {
            eprint!("{}", failure.text());
            return failure.exit_code();
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("Error: {error}");
            return exit::ERROR;
        }
    };
    let outcome = runtime.block_on((invocation.run)(invocation));
    // Threads may still wait for a terminal: do not wait for them.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => 0,
        Err(Exit { code, message }) => {
            if let Some(message) = message {
                eprintln!("Error: {message}");
            }
            code
        }
    }
}
