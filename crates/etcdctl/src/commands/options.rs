//! `options`: the global flags.

use cobra::flags::usages;
use cobra::{Command, print};

use super::group;

pub static OPTIONS: Command = Command {
    name: "options",
    usage: "options",
    short: "Show the global command-line flags",
    group: Some(group::UTILITY),
    run: Some(|_| {
        let flags = usages(super::GLOBAL_FLAGS.iter(), None);
        print(format!("The following options can be passed to any command:\n\n{flags}").as_bytes());
        Ok(())
    }),
    ..Command::EMPTY
};
