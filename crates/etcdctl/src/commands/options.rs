//! `options`: the global flags.

use crate::cli::command::{Command, Group};
use crate::cli::flags::usages;
use crate::output::print;

pub static OPTIONS: Command = Command {
    name: "options",
    usage: "options",
    short: "Show the global command-line flags",
    group: Some(Group::Utility),
    run: Some(|_| {
        Box::pin(async {
            let flags = usages(super::GLOBAL_FLAGS.iter(), None);
            print(format!("The following options can be passed to any command:\n\n{flags}").as_bytes());
            Ok(())
        })
    }),
    ..Command::EMPTY
};
