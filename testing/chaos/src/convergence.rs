//! The end of a run: everything is healed, so the members must be well and the same.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::{AlarmRequest, LeaseLeasesRequest, MemberListRequest, StatusResponse};
use tokio::time::Instant;

use crate::caller::Caller;
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::liar::Liar;
use crate::load::ANCHOR;
use crate::maintenance::hash_at;
use crate::operation::{Call, Outcome as Ended, Put, Range, Revision, Span};

/// The bound on becoming well again; generous, for slow machines.
pub const LIMIT: Duration = Duration::from_secs(90);
const CALL_LIMIT: Duration = Duration::from_secs(8);
const PAUSE: Duration = Duration::from_millis(250);

/// Waits until the members agree, and lets clients read and write a last time. Whatever is not so in time
/// is noted as seen. Returns the last revision.
pub async fn settle(cluster: &Arc<Cluster>, client: u32) -> Outcome<Revision> {
    let mut caller = Caller::new(client, cluster, &Arc::new(Liar::default()));
    for slot in cluster.members() {
        let put = Put { key: ANCHOR.to_owned(), value: format!("end-{slot}"), ..Put::default() };
        until_answered(&mut caller, cluster, slot, &Call::Put(put)).await?;
    }
    until(cluster, "members converge", || progress(cluster)).await?;
    until(cluster, "leases converge", || leases(cluster)).await?;
    for slot in cluster.members() {
        for serializable in [false, true] {
            let range = Range { serializable, ..Range::of(Span::everything()) };
            until_answered(&mut caller, cluster, slot, &Call::Range(range)).await?;
        }
    }
    until(cluster, "member lists converge", || member_lists(cluster)).await?;
    no_alarm(cluster).await?;
    // One more event for every watcher of everything.
    let put = Put { key: ANCHOR.to_owned(), value: "end".to_owned(), ..Put::default() };
    let member = cluster.members()[0];
    let revision = until_answered(&mut caller, cluster, member, &Call::Put(put)).await?;
    until(cluster, "members converge", || progress(cluster)).await?;
    hashes(cluster, revision).await?;
    Ok(revision)
}

/// Calls one member until it answers; the header's revision.
async fn until_answered(
    caller: &mut Caller,
    cluster: &Arc<Cluster>,
    member: usize,
    call: &Call,
) -> Outcome<Revision> {
    let end = Instant::now() + LIMIT;
    let mut last = String::new();
    while Instant::now() < end {
        match caller.call(member, call.clone(), CALL_LIMIT).await? {
            Ended::Answered { revision, .. } => return Ok(revision),
            Ended::Refused { why } | Ended::Unknown { why } => last = why,
        }
        tokio::time::sleep(PAUSE).await;
    }
    let what = format!("member {member} does not answer {call:?} after everything was healed: {last}");
    cluster.recorder.seen("it comes back", Some(member), what);
    Ok(0)
}

/// Looks until nothing is missing any more.
async fn until<F>(cluster: &Arc<Cluster>, property: &str, mut missing: impl FnMut() -> F) -> Outcome
where
    F: Future<Output = Outcome<Option<String>>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        let Some(what) = missing().await? else { return Ok(()) };
        if Instant::now() > end {
            let what = format!("not within {} s after healing: {what}", LIMIT.as_secs());
            cluster.recorder.seen(property, None, what);
            return Ok(());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn progress(cluster: &Arc<Cluster>) -> Outcome<Option<String>> {
    let statuses = cluster.statuses().await;
    if statuses.len() < cluster.members().len() {
        return Ok(Some(format!("only {} members answer", statuses.len())));
    }
    let state = |status: &StatusResponse| {
        let revision = status.header.as_ref().map_or(0, |header| header.revision);
        (status.leader, status.raft_term, status.raft_applied_index, revision, status.is_learner)
    };
    let states: Vec<_> = statuses.iter().map(|(slot, status)| (*slot, state(status))).collect();
    let is_settled = states.iter().all(|(_, state)| *state == states[0].1 && state.0 != 0 && !state.4);
    let what = format!("(slot, (leader, term, applied index, revision, learner)): {states:?}");
    Ok((!is_settled).then_some(what))
}

async fn leases(cluster: &Arc<Cluster>) -> Outcome<Option<String>> {
    let mut sets = Vec::new();
    for slot in cluster.members() {
        let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
        let Ok(response) = client.lease_leases(LeaseLeasesRequest {}).await else {
            return Ok(Some(format!("member {slot} does not list its leases")));
        };
        let mut ids: Vec<i64> = response.leases.iter().map(|lease| lease.id).collect();
        ids.sort_unstable();
        sets.push((slot, ids));
    }
    let same = sets.iter().all(|(_, ids)| *ids == sets[0].1);
    Ok((!same).then(|| format!("leases by slot: {sets:?}")))
}

async fn member_lists(cluster: &Arc<Cluster>) -> Outcome<Option<String>> {
    let mut lists = Vec::new();
    for slot in cluster.members() {
        let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
        let Ok(response) = client.member_list(MemberListRequest { linearizable: false }).await else {
            return Ok(Some(format!("member {slot} does not list the members")));
        };
        lists.push(response.members);
    }
    let same = lists.iter().all(|list| *list == lists[0]);
    let complete = lists[0].len() == cluster.members().len();
    let learners = lists[0].iter().any(|member| member.is_learner);
    Ok((!same || !complete || learners).then(|| format!("members by slot: {lists:?}")))
}

async fn no_alarm(cluster: &Arc<Cluster>) -> Outcome {
    let client = cluster.client(cluster.members()[0])?.with_timeout(CALL_LIMIT);
    match client.alarm(AlarmRequest::default()).await {
        Ok(response) if response.alarms.is_empty() => {}
        Ok(response) => {
            cluster.recorder.seen("no alarm", None, format!("alarms at the end: {:?}", response.alarms));
        }
        Err(error) => cluster.recorder.seen("no alarm", None, format!("no list of alarms: {error}")),
    }
    Ok(())
}

async fn hashes(cluster: &Arc<Cluster>, revision: Revision) -> Outcome {
    let members = cluster.members().len();
    until(cluster, "equal hashes", || async {
        let given = hash_at(cluster, revision).await?;
        Ok((given < members).then(|| format!("only {given} members give their hash at {revision}")))
    })
    .await
}
