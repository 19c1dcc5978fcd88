//! `help`: the parser itself answers it.

use cobra::Command;

use super::group;

pub static HELP: Command = Command {
    name: "help",
    usage: "help [command]",
    short: "Help about any command",
    long: "Help provides help for any command in the application.
Simply type etcdctl help [path to command] for full details.",
    group: Some(group::UTILITY),
    run: Some(|_| Ok(())),
    ..Command::EMPTY
};
