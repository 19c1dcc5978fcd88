//! `defrag`: the database file of a stopped member without its gaps.

use cobra::{Command, Exit, Flag, Invocation, Outcome};

use super::{db_path, lock_wait, must_exist, path};
use crate::defrag;

pub static DEFRAG: Command = Command {
    name: "defrag",
    usage: "defrag",
    short: "Defragments the storage of the etcd",
    flags: &[
        Flag::text("data-dir", "", "Required. Defragments a data directory not in use by etcd.").required()
    ],
    run: Some(run),
    ..Command::EMPTY
};

fn run(invocation: Invocation) -> Outcome {
    let flags = &invocation.flags;
    let data_dir = path(flags.bytes("data-dir"));
    let file = db_path(&data_dir);
    must_exist(&file)
        .and_then(|()| defrag::defragment(&file, lock_wait(flags)).map_err(|error| error.to_string()))
        .map_err(|reason| {
            Exit::error(format!("Failed to defragment etcd data[{}] ({reason})", data_dir.display()))
        })
}
