//! `help`: the parser itself answers it.

use crate::cli::command::{Command, Group};

pub static HELP: Command = Command {
    name: "help",
    usage: "help [command]",
    short: "Help about any command",
    long: "Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details.",
    group: Some(Group::Utility),
    run: Some(|_| Box::pin(async { Ok(()) })),
    ..Command::EMPTY
};
