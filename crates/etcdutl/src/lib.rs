//! etcd's tool for a member's files while no member runs on them: snapshots are judged and restored, files
//! defragmented, hashed and moved between storage versions.
//!
//! The grammar of the command line is crate `cobra`'s; `commands` has one file per command, which reads flags
//! and prints; the work itself is in [`status`], [`hashkv`], [`defrag`], [`migrate`] and [`restore`].

pub mod commands;
pub mod defrag;
pub mod hashkv;
mod log;
pub mod migrate;
mod open;
mod output;
mod progress;
pub mod restore;
pub mod status;

/// Runs one invocation; `args` are those behind the program's name. Returns the exit code.
pub fn run(args: Vec<Vec<u8>>) -> u8 {
    cobra::execute(&commands::ROOT, &args)
}
