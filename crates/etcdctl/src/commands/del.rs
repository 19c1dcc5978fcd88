//! `del`: keys away.

use std::time::Duration;

use cobra::{Command, Exit, Flag, Flags, Invocation, Outcome};
use golang::quote::quote;
use proto::etcdserverpb::DeleteRangeRequest;

use super::get::{TOO_MANY, span};
use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

/// Time to think again about a range that was not marked as meant.
const SECOND_THOUGHTS: Duration = Duration::from_secs(2);

pub static DEL: Command = Command {
    name: "del",
    usage: "del [options] <key> [range_end]",
    short: "Removes the specified key or range of keys [key, range_end)",
    group: Some(group::KEY_VALUE),
    flags: &[
        Flag::bool("prefix", "delete keys with matching prefix"),
        Flag::bool("prev-kv", "return deleted key-value pairs"),
        Flag::bool(
            "from-key",
            "delete keys that are greater than or equal to the given key using byte compare",
        ),
        Flag::bool("range", "delete range of keys"),
    ],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let request = request(&invocation.args, &invocation.flags, second_thoughts)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = session.timed_client().await?.delete_range(request).await?;
    session.format.print(&Answer::Delete(&response))
}

/// Time to interrupt a deletion of more than was meant.
pub fn second_thoughts(key: &[u8], range_end: &[u8]) {
    eprintln!(
        "Warning: Keys between {} and {} will be deleted. Please interrupt the command within next 2 \
         seconds to cancel. You can provide `--range` flag to avoid the delay.",
        quote(key),
        quote(range_end)
    );
    std::thread::sleep(SECOND_THOUGHTS);
}

/// The request that arguments and flags ask for; in transactions too. `unconfirmed` is called for a range that
/// `--range` does not confirm.
pub fn request(
    args: &[Vec<u8>],
    flags: &Flags,
    unconfirmed: impl FnOnce(&[u8], &[u8]),
) -> Result<DeleteRangeRequest, Exit> {
    let (key, range_end) = match args {
        [key] => (key, None),
        [key, range_end] => (key, Some(range_end)),
        _ => {
            return Err(Exit::bad_args(
                "del command needs one argument as key and an optional argument as range_end",
            ));
        }
    };
    let (prefix, from_key) = (flags.bool("prefix"), flags.bool("from-key"));
    if prefix && from_key {
        return Err(Exit::bad_args("`--prefix` and `--from-key` cannot be set at the same time, choose one"));
    }
    if let Some(range_end) = range_end {
        if prefix || from_key {
            return Err(Exit::bad_args(TOO_MANY));
        }
        if !flags.bool("range") {
            unconfirmed(key, range_end);
        }
    }
    let (key, range_end) = span(key, range_end, prefix, from_key);
    Ok(DeleteRangeRequest { key: key.into(), range_end: range_end.into(), prev_kv: flags.bool("prev-kv") })
}
