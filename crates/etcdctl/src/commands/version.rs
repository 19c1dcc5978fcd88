//! `version`.

use cobra::{Command, print};

use super::group;

/// What we are compatible with, and say that we are.
pub const VERSION: &str = "3.7.3";

pub static VERSION_COMMAND: Command = Command {
    name: "version",
    usage: "version",
    short: "Prints the version of etcdctl",
    group: Some(group::UTILITY),
    run: Some(|_| {
        let api = VERSION.rsplit_once('.').map_or(VERSION, |(minor, _)| minor);
        print(format!("etcdctl version: {VERSION}\nAPI version: {api}\n").as_bytes());
        Ok(())
    }),
    ..Command::EMPTY
};
