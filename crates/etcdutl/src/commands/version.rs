//! `version`.

use cobra::{Command, print};

/// What we are compatible with, and say that we are.
const RELEASE: &str = "3.7.3";

pub static VERSION: Command = Command {
    name: "version",
    usage: "version",
    short: "Prints the version of etcdutl",
    run: Some(|_| {
        let api = RELEASE.rsplit_once('.').map_or(RELEASE, |(minor, _)| minor);
        print(format!("etcdutl version: {RELEASE}\nAPI version: {api}\n").as_bytes());
        Ok(())
    }),
    ..Command::EMPTY
};
