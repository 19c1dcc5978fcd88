//! `compaction`: history before a revision away.

use proto::etcdserverpb::CompactionRequest;

use crate::cli::command::{Command, Group, Invocation};
use crate::cli::flags::Flag;
use crate::connection::Session;
use crate::exit::{Exit, Outcome};
use crate::golang::number;
use crate::output::print;

pub static COMPACTION: Command = Command {
    name: "compaction",
    usage: "compaction [options] <revision>",
    short: "Compacts the event history in etcd",
    group: Some(Group::KeyValue),
    flags: &[Flag::bool("physical", "'true' to wait for compaction to physically remove all old revisions")],
    run: Some(|invocation| Box::pin(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let [revision] = &invocation.args[..] else {
        return Err(Exit::bad_args("compaction command needs 1 argument"));
    };
    let revision = number::parse_int(revision, 10).map_err(Exit::error)?;
    let physical = invocation.flags.bool("physical");
    let session = Session::new(&mut invocation, &[])?;
    session.timed_client().await?.compact(CompactionRequest { revision, physical }).await?;
    print(format!("compacted revision {revision}\n").as_bytes());
    Ok(())
}
