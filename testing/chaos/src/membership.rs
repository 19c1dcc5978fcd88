//! Changing the members under load: one comes as a learner and is promoted, another goes for good.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::{
    Member, MemberAddRequest, MemberListRequest, MemberPromoteRequest, MemberRemoveRequest,
};
use tokio::time::Instant;

use crate::cluster::Cluster;
use crate::failure::Outcome;

/// One call to one member.
const CALL_LIMIT: Duration = Duration::from_secs(8);
/// A change of members, with all its attempts. etcd wants its members connected for five seconds first.
const CHANGE_LIMIT: Duration = Duration::from_secs(90);
/// A removed member learns of it and ends by itself.
const END_LIMIT: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(400);

/// Puts a new member in the place of the one in slot `old`. What does not come about in time is seen as
/// wrong, and left as it is.
pub async fn replace(cluster: &Arc<Cluster>, old: usize) -> Outcome {
    let Some(new) = cluster.free_slot() else { return Ok(()) };
    let url = cluster.peer_url(new);
    if !add(cluster, &url).await? {
        return Ok(());
    }
    let known = list(cluster).await?.unwrap_or_default();
    cluster.settle(new, &known);
    cluster.run(new)?;
    if !promote(cluster, &url).await? {
        return Ok(());
    }
    remove(cluster, old).await
}

/// Whether a learner with this address is there in the end.
async fn add(cluster: &Arc<Cluster>, url: &str) -> Outcome<bool> {
    let mut last = String::new();
    let end = Instant::now() + CHANGE_LIMIT;
    while Instant::now() < end {
        for slot in cluster.members() {
            // An attempt of unknown outcome may have added it.
            if find(cluster, url).await?.is_some() {
                return Ok(true);
            }
            let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
            let request = MemberAddRequest { peer_ur_ls: vec![url.to_owned()], is_learner: true };
            match client.member_add(request).await {
                Ok(_) => return Ok(true),
                Err(error) => last = error.to_string(),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    cluster.recorder.seen("members change", None, format!("no learner could be added: {last}"));
    Ok(false)
}

async fn promote(cluster: &Arc<Cluster>, url: &str) -> Outcome<bool> {
    let mut last = String::new();
    let end = Instant::now() + CHANGE_LIMIT;
    while Instant::now() < end {
        for slot in cluster.members() {
            match find(cluster, url).await? {
                Some(member) if !member.is_learner => return Ok(true),
                Some(member) => {
                    let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
                    match client.member_promote(MemberPromoteRequest { id: member.id }).await {
                        Ok(_) => return Ok(true),
                        Err(error) => last = error.to_string(),
                    }
                }
                None => last = "it is not in the list of members".to_owned(),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    cluster.recorder.seen("members change", None, format!("the learner could not be promoted: {last}"));
    Ok(false)
}

async fn remove(cluster: &Arc<Cluster>, old: usize) -> Outcome {
    let url = cluster.peer_url(old);
    let mut last = String::new();
    let end = Instant::now() + CHANGE_LIMIT;
    // It ends as soon as it applies its removal, which may be before we hear of it.
    cluster.may_end(old);
    while Instant::now() < end {
        for slot in cluster.members() {
            let Some(member) = find(cluster, &url).await? else {
                return see_it_end(cluster, old).await;
            };
            let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
            if let Err(error) = client.member_remove(MemberRemoveRequest { id: member.id }).await {
                last = error.to_string();
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    cluster.recorder.seen("members change", Some(old), format!("the member could not be removed: {last}"));
    Ok(())
}

async fn see_it_end(cluster: &Arc<Cluster>, old: usize) -> Outcome {
    if let Err(error) = cluster.wait_end(old, END_LIMIT).await {
        let what = format!("a removed member must end by itself: {error}");
        cluster.recorder.seen("members change", Some(old), what);
        cluster.kill(old).await?;
    }
    cluster.vacate(old)
}

async fn find(cluster: &Arc<Cluster>, url: &str) -> Outcome<Option<Member>> {
    let known = list(cluster).await?.unwrap_or_default();
    Ok(known.into_iter().find(|member| member.peer_ur_ls.iter().any(|known| known == url)))
}

/// The members, as a quorum knows them; nothing if nobody could tell.
async fn list(cluster: &Arc<Cluster>) -> Outcome<Option<Vec<Member>>> {
    for slot in cluster.members() {
        let client = cluster.client(slot)?.with_timeout(CALL_LIMIT);
        if let Ok(response) = client.member_list(MemberListRequest { linearizable: true }).await {
            return Ok(Some(response.members));
        }
    }
    Ok(None)
}
