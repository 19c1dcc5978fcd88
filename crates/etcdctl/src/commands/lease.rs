//! `lease`: keys that end by themselves.

use cobra::{Command, Exit, Flag, Invocation, Outcome, exit, print};
use golang::number;
use proto::etcdserverpb::*;

use super::group;
use super::lease_id;
use crate::connection::Session;
use crate::output::Answer;
use crate::wait;

pub static LEASE: Command = Command {
    name: "lease",
    usage: "lease <subcommand>",
    short: "Lease related commands. Use `etcdctl lease --help` to see subcommands",
    long: "Lease related commands",
    group: Some(group::KEY_VALUE),
    subcommands: &[&GRANT, &KEEP_ALIVE, &LIST, &REVOKE, &TIME_TO_LIVE],
    ..Command::EMPTY
};

static GRANT: Command = Command {
    name: "grant",
    usage: "grant <ttl>",
    short: "Creates leases",
    run: Some(|invocation| wait(grant(invocation))),
    ..Command::EMPTY
};

static KEEP_ALIVE: Command = Command {
    name: "keep-alive",
    usage: "keep-alive [options] <leaseID>",
    short: "Keeps leases alive (renew)",
    flags: &[Flag::bool(
        "once",
        "Resets the keep-alive time to its original value and cobrautl.Exits immediately",
    )],
    run: Some(|invocation| wait(keep_alive(invocation))),
    ..Command::EMPTY
};

static LIST: Command = Command {
    name: "list",
    usage: "list",
    short: "List all active leases",
    run: Some(|invocation| wait(list(invocation))),
    ..Command::EMPTY
};

static REVOKE: Command = Command {
    name: "revoke",
    usage: "revoke <leaseID>",
    short: "Revokes leases",
    run: Some(|invocation| wait(revoke(invocation))),
    ..Command::EMPTY
};

static TIME_TO_LIVE: Command = Command {
    name: "timetolive",
    usage: "timetolive <leaseID> [options]",
    short: "Get lease information",
    flags: &[Flag::bool("keys", "Get keys attached to this lease")],
    run: Some(|invocation| wait(time_to_live(invocation))),
    ..Command::EMPTY
};

async fn grant(mut invocation: Invocation) -> Outcome {
    let [ttl] = &invocation.args[..] else {
        return Err(Exit::bad_args("lease grant command needs TTL argument"));
    };
    let ttl = number::parse_int(ttl, 10).map_err(|reason| Exit::bad_args(format!("bad TTL ({reason})")))?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = session.timed_client().await?.lease_grant(LeaseGrantRequest { ttl, id: 0 }).await;
    let response = response.map_err(|error| Exit::error(format!("failed to grant lease ({error})")))?;
    session.format.print(&Answer::LeaseGrant(&response))
}

async fn revoke(mut invocation: Invocation) -> Outcome {
    let [id] = &invocation.args[..] else {
        return Err(Exit::bad_args("lease revoke command needs 1 argument"));
    };
    let id = lease_id(id)?;
    let session = Session::new(&mut invocation, &[]).await?;
    let response = session.timed_client().await?.lease_revoke(LeaseRevokeRequest { id }).await;
    let response = &response.map_err(|error| Exit::error(format!("failed to revoke lease ({error})")))?;
    session.format.print(&Answer::LeaseRevoke { id, response })
}

async fn time_to_live(mut invocation: Invocation) -> Outcome {
    let [id] = &invocation.args[..] else {
        return Err(Exit::bad_args("lease timetolive command needs lease ID as argument"));
    };
    let id = id.clone();
    let keys = invocation.flags.bool("keys");
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.client().await?;
    let request = LeaseTimeToLiveRequest { id: lease_id(&id)?, keys };
    let response = &client.lease_time_to_live(request).await.map_err(bad_connection)?;
    session.format.print(&Answer::LeaseTimeToLive { response, keys })
}

async fn list(mut invocation: Invocation) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.client().await?;
    let response = client.lease_leases(LeaseLeasesRequest {}).await.map_err(bad_connection)?;
    session.format.print(&Answer::LeaseList(&response))
}

async fn keep_alive(mut invocation: Invocation) -> Outcome {
    let [id] = &invocation.args[..] else {
        return Err(Exit::bad_args("lease keep-alive command needs lease ID as argument"));
    };
    let id = lease_id(id)?;
    let once = invocation.flags.bool("once");
    let session = Session::new(&mut invocation, &[]).await?;
    let client = session.client().await?;
    if once {
        let response = client.lease_keep_alive_once(id).await.map_err(bad_connection)?;
        return session.format.print(&Answer::LeaseKeepAlive(&response));
    }
    let mut keep_alive = client.lease_keep_alive(id);
    while let Some(response) = keep_alive.next().await.map_err(bad_connection)? {
        session.format.print(&Answer::LeaseKeepAlive(&response))?;
    }
    if session.format.is_simple() {
        print(format!("lease {id:016x} expired or revoked.\n").as_bytes());
    }
    Ok(())
}

fn bad_connection(error: client::Error) -> Exit {
    Exit::new(exit::BAD_CONNECTION, error)
}
