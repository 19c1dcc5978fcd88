//! `help`: the parser itself answers it.

use cobra::Command;

pub static HELP: Command = Command {
    name: "help",
    usage: "help [command]",
    short: "Help about any command",
    run: Some(|_| Ok(())),
    ..Command::EMPTY
};
