//! What a command is: names, texts, flags, and what it runs.

use crate::exit::Outcome;
use crate::flags::{Flag, Flags};

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
    /// The title in the root's [`Manner::groups`] under which its help lists the command.
    pub group: Option<&'static str>,
    pub flags: &'static [Flag],
    /// Flags of this command and all below it.
    pub persistent_flags: &'static [Flag],
    pub args: Args,
    pub subcommands: &'static [&'static Command],
    pub run: Option<Run>,
    /// Counts at the root.
    pub manner: Manner,
}

pub type Run = fn(Invocation) -> Outcome;

/// Which arguments the parser itself refuses; commands look closer.
#[derive(Clone, Copy, Debug)]
pub enum Args {
    Any,
    Exactly(usize),
    /// Exactly one out of these; no `[flags]` in the usage line.
    OneOf(&'static [&'static str]),
}

/// In what tools differ from each other.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    pub help: HelpText,
    pub root_flags: RootFlags,
    pub errors: Errors,
    /// Titles of groups of commands, in their order.
    pub groups: &'static [&'static str],
}

/// What `--help` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelpText {
    /// No more than follows an error.
    UsageAlone,
    /// What the command is about, its usage, and a last line.
    Full { footer: &'static str },
}

/// Whether usage texts list the flags that the root gives to all commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RootFlags {
    Shown,
    Hidden,
}

/// How often a command line that cannot be understood is complained of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Errors {
    Once,
    /// By cobra, and again by the program that called it.
    Twice,
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
        manner: Manner {
            help: HelpText::Full { footer: "" },
            root_flags: RootFlags::Shown,
            errors: Errors::Once,
            groups: &[],
        },
    };
}

/// A parsed command line.
#[derive(Debug)]
pub struct Invocation {
    pub run: Run,
    /// From the root to the command.
    pub path: Vec<&'static Command>,
    pub flags: Flags,
    /// Arguments without flags. Any bytes: keys, values and paths are.
    pub args: Vec<Vec<u8>>,
    /// How many of them stood before `--`; `None` without it.
    pub args_before_dash: Option<usize>,
}
