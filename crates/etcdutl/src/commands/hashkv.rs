//! `hashkv`: the hash by which members compare their keys, of a file.

use cobra::{Args, Command, Exit, Flag, Invocation, Outcome};
use golang::json::Json;

use super::{format, lock_wait, must_exist, path};
use crate::hashkv;
use crate::output::{Answer, Shown};

pub static HASHKV: Command = Command {
    name: "hashkv",
    usage: "hashkv <filename>",
    short: "Prints the KV history hash of a given file",
    flags: &[Flag::int("rev", "maximum revision to hash (default: latest revision)")],
    args: Args::Exactly(1),
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: Invocation) -> Outcome {
    let flags = &invocation.flags;
    let format = format(flags)?;
    let file = path(&invocation.args[0]);
    must_exist(&file).map_err(Exit::error)?;
    let hash = hashkv::hash_kv(&file, flags.int("rev"), lock_wait(flags))?;
    let shown = |heading, field, member, json| Shown { heading, field, member, json, cell: None };
    format.print(&Answer {
        values: vec![
            shown("HASH", "Hash", "hash", Json::Uint(hash.hash.into())),
            shown("HASH REVISION", "Hash revision", "hashRevision", Json::Int(hash.revision)),
            shown(
                "COMPACT REVISION",
                "Compact revision",
                "compactRevision",
                Json::Int(hash.compact_revision),
            ),
        ],
    })
}
