//! `endpoint`: one member at a time.

use std::time::Instant;

use cobra::{Command, Exit, Flag, Invocation, Outcome, exit};
use proto::etcdserverpb::{AlarmType, MemberListRequest, RangeRequest};
use tokio::task::JoinSet;

use super::group;
use crate::connection::Session;
use crate::output::Answer;
use crate::output::answer::Health;
use crate::wait;

pub const CLUSTER: Flag = Flag::bool("cluster", "use all endpoints from the cluster member list");

pub static ENDPOINT: Command = Command {
    name: "endpoint",
    usage: "endpoint <subcommand>",
    short: "Endpoint related commands. Use `etcdctl endpoint --help` to see subcommands",
    long: "Endpoint related commands",
    group: Some(group::MAINTENANCE),
    persistent_flags: &[CLUSTER],
    subcommands: &[&HASHKV, &HEALTH, &STATUS],
    ..Command::EMPTY
};

static HASHKV: Command = Command {
    name: "hashkv",
    usage: "hashkv",
    short: "Prints the KV history hash for each endpoint in --endpoints",
    persistent_flags: &[Flag::int("rev", "maximum revision to hash (default: latest revision)")],
    run: Some(|invocation| wait(hashkv(invocation))),
    ..Command::EMPTY
};

static HEALTH: Command = Command {
    name: "health",
    usage: "health",
    short: "Checks the healthiness of endpoints specified in `--endpoints` flag",
    run: Some(|invocation| wait(health(invocation))),
    ..Command::EMPTY
};

static STATUS: Command = Command {
    name: "status",
    usage: "status",
    short: "Prints out the status of endpoints specified in `--endpoints` flag",
    long: "When --write-out is set to simple, this command prints out comma-separated status lists for each endpoint.
The items in the lists are endpoint, ID, version, db size, is leader, is learner, raft term, raft index, raft applied index, errors.
",
    run: Some(|invocation| wait(status(invocation))),
    ..Command::EMPTY
};

/// The endpoints given, or with `--cluster` those that the members advertise.
pub async fn chosen(session: &Session, invocation: &Invocation) -> Result<Vec<String>, Exit> {
    if !invocation.flags.bool("cluster") {
        return Ok(session.endpoints().to_vec());
    }
    // Compat: whatever is wrong with the connection, this ends with 1.
    let client = session.timed_client().await.map_err(|exit| Exit { code: exit::ERROR, ..exit })?;
    let members = client.member_list(MemberListRequest { linearizable: true }).await;
    let members = members.map_err(|error| {
        Exit::error(format!("failed to fetch endpoints from etcd cluster member list: {error}"))
    })?;
    Ok(members.members.into_iter().flat_map(|member| member.client_ur_ls).collect())
}

/// All at once; the answers stand in the order in which they came.
async fn health(mut invocation: Invocation) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let endpoints = chosen(&session, &invocation).await?;
    let session = std::sync::Arc::new(session);
    let mut checks = JoinSet::new();
    for endpoint in endpoints {
        checks.spawn(check(session.clone(), endpoint));
    }
    let mut all = Vec::new();
    while let Some(checked) = checks.join_next().await {
        all.push(checked.map_err(Exit::error)?);
    }
    session.format.print(&Answer::EndpointHealth(&all))?;
    match all.iter().any(|health| !health.error.is_empty()) {
        true => Err(Exit::error("unhealthy cluster")),
        false => Ok(()),
    }
}

/// A linearizable read, which takes a quorum; then alarms.
async fn check(session: std::sync::Arc<Session>, endpoint: String) -> Health {
    let mut health = Health { endpoint, healthy: false, took: None, error: String::new() };
    let client = match session.client_to(std::slice::from_ref(&health.endpoint)).await {
        Ok(client) => client.with_deadline(session.deadline()),
        Err(exit) => {
            health.error = exit.message.unwrap_or_default();
            return health;
        }
    };
    let start = Instant::now();
    let read = client.range(RangeRequest { key: "health".into(), ..Default::default() }).await;
    health.took = Some(start.elapsed());
    match read {
        // A refusal went through the quorum too.
        Err(error) if !error.is("etcdserver: permission denied") => {
            health.error = error.to_string();
            return health;
        }
        _ => {}
    }
    match super::alarm::all(&client).await {
        Ok(response) if response.alarms.is_empty() => health.healthy = true,
        Ok(response) => {
            health.error = "Active Alarm(s): ".into();
            for alarm in &response.alarms {
                health.error += match alarm.alarm() {
                    AlarmType::Nospace => "NOSPACE ",
                    AlarmType::Corrupt => "CORRUPT ",
                    AlarmType::None => "UNKNOWN ",
                };
            }
        }
        Err(_) => health.error = "Unable to fetch the alarm list".into(),
    }
    health
}

async fn status(mut invocation: Invocation) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let mut all = Vec::new();
    let mut failed = false;
    for endpoint in chosen(&session, &invocation).await? {
        let client = session.client_to(std::slice::from_ref(&endpoint)).await?;
        match client.with_deadline(session.deadline()).status(&endpoint).await {
            Ok(response) => all.push((endpoint, response)),
            Err(error) => {
                failed = true;
                eprintln!("Failed to get the status of endpoint {endpoint} ({error})");
            }
        }
    }
    session.format.print(&Answer::EndpointStatus(&all))?;
    if failed { Err(Exit::silent(exit::ERROR)) } else { Ok(()) }
}

async fn hashkv(mut invocation: Invocation) -> Outcome {
    let session = Session::new(&mut invocation, &[]).await?;
    let revision = invocation.flags.int("rev");
    let mut all = Vec::new();
    let mut failure = None;
    for endpoint in chosen(&session, &invocation).await? {
        let client = session.client_to(std::slice::from_ref(&endpoint)).await?;
        match client.with_deadline(session.deadline()).hash_kv(&endpoint, revision).await {
            Ok(response) => all.push((endpoint, response)),
            Err(error) => {
                eprintln!("Failed to get the hash of endpoint {endpoint} ({error})");
                failure = Some(error);
            }
        }
    }
    session.format.print(&Answer::EndpointHashKv(&all))?;
    failure.map_or(Ok(()), |error| Err(error.into()))
}
