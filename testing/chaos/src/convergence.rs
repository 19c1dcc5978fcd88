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

/// Waits until the members agree, and lets clients read and write a last time. What is not so in time is noted
/// as seen, and ends it: the rest would only be late too. The last revision, if all went well.
pub async fn settle(cluster: &Arc<Cluster>, client: u32) -> Outcome<Option<Revision>> {
    let mut caller = Caller::new(client, cluster, &Arc::new(Liar::default()));
    let settled = settle_by(&mut caller, cluster).await?;
    match settled {
        Ok(revision) => Ok(Some(revision)),
        Err(late) => {
            cluster.recorder.seen(late.property, late.member, late.what);
            Ok(None)
        }
    }
}

/// What did not come about in time.
struct Late {
    property: &'static str,
    member: Option<usize>,
    what: String,
}

/// In time, or late; or the run itself cannot go on.
type Timely<T = ()> = Outcome<Result<T, Late>>;

/// Goes on with what came in time.
macro_rules! in_time {
    ($timely:expr) => {
        match $timely.await? {
            Ok(value) => value,
            Err(late) => return Ok(Err(late)),
        }
    };
}

async fn settle_by(caller: &mut Caller, cluster: &Arc<Cluster>) -> Timely<Revision> {
    for slot in cluster.members() {
        let put = Put { key: ANCHOR.to_owned(), value: format!("end-{slot}"), ..Put::default() };
        in_time!(until_answered(caller, slot, &Call::Put(put)));
    }
    in_time!(until("members converge", || progress(cluster)));
    in_time!(until("leases converge", || leases(cluster)));
    for slot in cluster.members() {
        for serializable in [false, true] {
            let range = Range { serializable, ..Range::of(Span::everything()) };
            in_time!(until_answered(caller, slot, &Call::Range(range)));
        }
    }
    in_time!(until("member lists converge", || member_lists(cluster)));
    in_time!(until("no alarm", || alarms(cluster)));
    // One more event for every watcher of everything.
    let put = Put { key: ANCHOR.to_owned(), value: "end".to_owned(), ..Put::default() };
    let member = cluster.members()[0];
    let revision = in_time!(until_answered(caller, member, &Call::Put(put)));
    in_time!(until("members converge", || progress(cluster)));
    in_time!(until("equal hashes", || hashes(cluster, revision)));
    Ok(Ok(revision))
}

/// Calls one member until it answers; the header's revision.
async fn until_answered(caller: &mut Caller, member: usize, call: &Call) -> Timely<Revision> {
    let end = Instant::now() + LIMIT;
    let mut last = String::new();
    while Instant::now() < end {
        match caller.call(member, call.clone(), CALL_LIMIT).await? {
            Ended::Answered { revision, .. } => return Ok(Ok(revision)),
            Ended::Refused { why } | Ended::Unknown { why } => last = why,
        }
        tokio::time::sleep(PAUSE).await;
    }
    let what = format!("it does not answer {call:?} after everything was healed: {last}");
    Ok(Err(Late { property: "it comes back", member: Some(member), what }))
}

/// Looks until nothing is missing any more.
async fn until<F>(property: &'static str, mut missing: impl FnMut() -> F) -> Timely
where
    F: Future<Output = Outcome<Option<String>>>,
{
    let end = Instant::now() + LIMIT;
    loop {
        let Some(what) = missing().await? else { return Ok(Ok(())) };
        if Instant::now() > end {
            let what = format!("not within {} s after healing: {what}", LIMIT.as_secs());
            return Ok(Err(Late { property, member: None, what }));
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

async fn alarms(cluster: &Arc<Cluster>) -> Outcome<Option<String>> {
    let client = cluster.client(cluster.members()[0])?.with_timeout(CALL_LIMIT);
    Ok(match client.alarm(AlarmRequest::default()).await {
        Ok(response) if response.alarms.is_empty() => None,
        Ok(response) => Some(format!("alarms: {:?}", response.alarms)),
        Err(error) => Some(format!("no list of alarms: {error}")),
    })
}

async fn hashes(cluster: &Arc<Cluster>, revision: Revision) -> Outcome<Option<String>> {
    let members = cluster.members().len();
    let given = hash_at(cluster, revision).await?;
    Ok((given < members).then(|| format!("only {given} members give their hash at {revision}")))
}
