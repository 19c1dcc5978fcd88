//! `put`: a value for a key.

use std::io::Read;

use cobra::{Command, Exit, Flag, Flags, Invocation, Outcome};
use golang::number;
use proto::etcdserverpb::PutRequest;

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static PUT: Command = Command {
    name: "put",
    usage: "put [options] <key> <value> (<value> can also be given from stdin)",
    short: "Puts the given key into the store",
    long: "
Puts the given key into the store.

When <value> begins with '-', <value> is interpreted as a flag.
Insert '--' for workaround:

$ put <key> -- <value>
$ put -- <key> <value>

If <value> isn't given as a command line argument and '--ignore-value' is not specified,
this command tries to read the value from standard input.

If <lease> isn't given as a command line argument and '--ignore-lease' is not specified,
this command tries to read the value from standard input.

For example,
$ cat file | put <key>
will store the content of the file to <key>.
",
    group: Some(group::KEY_VALUE),
    flags: &[
        Flag::text("lease", "0", "lease ID (in hexadecimal) to attach to the key"),
        Flag::bool("prev-kv", "return the previous key-value pair before modification"),
        Flag::bool("ignore-value", "updates the key using its current value"),
        Flag::bool("ignore-lease", "updates the key using its current lease"),
    ],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let request = request(&invocation.args, &invocation.flags, read_stdin)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = session.timed_client().await?.put(request).await?;
    session.format.print(&Answer::Put(&response))
}

fn read_stdin() -> Vec<u8> {
    let mut value = Vec::new();
    match std::io::stdin().lock().read_to_end(&mut value) {
        Ok(_) => value,
        Err(_) => Vec::new(),
    }
}

/// The request that arguments and flags ask for. `stdin` gives the value if no argument does.
pub fn request(args: &[Vec<u8>], flags: &Flags, stdin: impl FnOnce() -> Vec<u8>) -> Result<PutRequest, Exit> {
    let usage = || Exit::bad_args("put command needs 1 argument and input from stdin or 2 arguments");
    let key = args.first().ok_or_else(usage)?.clone();
    let ignore_value = flags.bool("ignore-value");
    if ignore_value && args.len() > 1 {
        return Err(Exit::bad_args("put command needs only 1 argument when 'ignore-value' is set"));
    }
    let value = match args.get(1) {
        _ if ignore_value => Vec::new(),
        Some(value) => value.clone(),
        None => Some(stdin()).filter(|value| !value.is_empty()).ok_or_else(usage)?,
    };
    let lease = number::parse_int(flags.bytes("lease"), 16)
        .map_err(|reason| Exit::bad_args(format!("bad lease ID ({reason}), expecting ID in Hex")))?;
    Ok(PutRequest {
        key: key.into(),
        value: value.into(),
        lease,
        prev_kv: flags.bool("prev-kv"),
        ignore_value,
        ignore_lease: flags.bool("ignore-lease"),
    })
}
