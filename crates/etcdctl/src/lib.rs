//! etcd's command line client: flags in, one call or conversation, text out.
//!
//! The grammar of the command line is crate `cobra`'s; `commands` has one file per command; `output` renders
//! answers in the five formats. A command is added by a file in `commands` and its name in
//! [`commands::ROOT`].

pub mod commands;
pub mod connection;
mod discovery;
pub mod environment;
pub mod log;
pub mod output;

use cobra::{Exit, Outcome};

/// Runs one invocation; `args` are those behind the program's name. Returns the exit code.
pub fn run(args: Vec<Vec<u8>>) -> u8 {
    cobra::execute(&commands::ROOT, &args)
}

/// Runs a command to its end on a runtime of its own.
fn wait(command: impl Future<Output = Outcome>) -> Outcome {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(Exit::error)?;
    let outcome = runtime.block_on(command);
    // Threads may still wait for a terminal: do not wait for them.
    runtime.shutdown_background();
    outcome
}
