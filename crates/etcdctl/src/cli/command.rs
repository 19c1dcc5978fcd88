//! What a command is: names, texts, flags, and what it runs.

use std::pin::Pin;

use super::flags::{Flag, Flags};
use crate::exit::Outcome;

/// A node of the tree of commands.
#[derive(Debug)]
pub struct Command {
    pub name: &'static str,
    /// The name with its arguments, as help shows it.
    pub usage: &'static str,
    pub short: &'static str,
    /// For the command's own help; empty: the short text.
    pub long: &'static str,
    pub example: &'static str,
    /// Where the root's help lists it.
    pub group: Option<Group>,
    pub flags: &'static [Flag],
    /// Flags of this command and all below it.
    pub persistent_flags: &'static [Flag],
    pub args: Args,
    pub subcommands: &'static [&'static Command],
    pub run: Option<Run>,
}

/// What runs a command. A boxed future, as commands are listed in statics.
pub type Run = fn(Invocation) -> Pin<Box<dyn Future<Output = Outcome>>>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    KeyValue,
    Maintenance,
    Concurrency,
    Authentication,
    Utility,
}

impl Group {
    pub const ALL: [(Group, &'static str); 5] = [
        (Group::KeyValue, "Key-value commands"),
        (Group::Maintenance, "Cluster maintenance commands"),
        (Group::Concurrency, "Concurrency commands"),
        (Group::Authentication, "Authentication commands"),
        (Group::Utility, "Utility commands"),
    ];
}

/// Which arguments the parser itself refuses; commands look closer.
#[derive(Clone, Copy, Debug)]
pub enum Args {
    Any,
    /// Exactly one out of these; no `[flags]` in the usage line.
    OneOf(&'static [&'static str]),
}

impl Command {
    /// All empty, to be filled by `..Command::EMPTY`.
    pub const EMPTY: Command = Command {
        name: "",
        usage: "",
        short: "",
        long: "",
        example: "",
        group: None,
        flags: &[],
        persistent_flags: &[],
        args: Args::Any,
        subcommands: &[],
        run: None,
    };
}

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    pub run: Run,
    /// From the root to the command.
    pub path: Vec<&'static Command>,
    pub flags: Flags,
    /// Arguments without flags. Any bytes: keys and values are.
    pub args: Vec<Vec<u8>>,
    /// How many of them stood before `--`; `None` without it.
    pub args_before_dash: Option<usize>,
}
