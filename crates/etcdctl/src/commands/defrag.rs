//! `defrag`: free space back to the system, member by member.

use std::time::Instant;

use cobra::{Command, Exit, Invocation, Outcome, exit, print};
use golang::duration;

use super::endpoint::{CLUSTER, chosen};
use super::group;
use crate::connection::Session;
use crate::wait;

pub static DEFRAG: Command = Command {
    name: "defrag",
    usage: "defrag",
    short: "Defragments the storage of the etcd members with given endpoints",
    group: Some(group::MAINTENANCE),
    persistent_flags: &[CLUSTER],
    run: Some(|invocation| wait(run(invocation))),
    ..Command::EMPTY
};

async fn run(mut invocation: Invocation) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let mut failed = false;
    for endpoint in chosen(&session, &invocation).await? {
        let client = session.client_to(std::slice::from_ref(&endpoint)).await?;
        let start = Instant::now();
        let outcome = client.with_deadline(session.deadline()).defragment(&endpoint).await;
        let took = duration::format(start.elapsed());
        match outcome {
            Ok(_) => {
                let text = format!("Finished defragmenting etcd member[{endpoint}]. took {took}\n");
                print(text.as_bytes());
            }
            Err(error) => {
                failed = true;
                eprintln!("Failed to defragment etcd member[{endpoint}]. took {took}. ({error})");
            }
        }
    }
    if failed { Err(Exit::silent(exit::ERROR)) } else { Ok(()) }
}
