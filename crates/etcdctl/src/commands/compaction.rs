//! `compaction`: history before a revision away.

use cobra::{Command, Exit, Flag, Invocation, Outcome, print};
use golang::number;
use proto::etcdserverpb::CompactionRequest;

use super::group;
use crate::connection::Session;
use crate::wait;

pub static COMPACTION: Command = Command {
    name: "compaction",
    usage: "compaction [options] <revision>",
    short: "Compacts the event history in etcd",
    group: Some(group::KEY_VALUE),
    flags: &[Flag::bool("physical", "'true' to wait for compaction to physically remove all old revisions")],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let [revision] = &invocation.args[..] else {
        return Err(Exit::bad_args("compaction command needs 1 argument"));
    };
    let revision = number::parse_int(revision, 10).map_err(Exit::error)?;
    let physical = invocation.flags.bool("physical");
    let session = Session::new(&mut invocation, &[]).await?;
    session.timed_client().await?.compact(CompactionRequest { revision, physical }).await?;
    print(format!("compacted revision {revision}\n").as_bytes());
    Ok(())
}
