//! `completion`: scripts that let shells complete commands and flags.

use cobra::{Args, Command, completion, print};

pub static COMPLETION: Command = Command {
    name: "completion",
    usage: "completion [bash|zsh|fish|powershell]",
    short: "Generate completion script",
    args: Args::OneOf(completion::SHELLS),
    run: Some(|invocation| {
        print(completion::script(&super::ROOT, &invocation.args[0]).as_bytes());
        Ok(())
    }),
    ..Command::EMPTY
};
