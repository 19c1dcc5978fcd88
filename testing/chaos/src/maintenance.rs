//! What operators do meanwhile: compact, defragment, compare hashes.

use std::sync::Arc;
use std::time::Duration;

use sim::rng::Rng;
use tokio::sync::watch;

use crate::caller::Caller;
use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::history::{HashRecord, Record};
use crate::liar::Liar;
use crate::memory::Memory;
use crate::operation::{Call, Outcome as Ended, Revision};

/// How long one member may take for a hash.
const HASH_LIMIT: Duration = Duration::from_secs(2);
const DEFRAGMENT_LIMIT: Duration = Duration::from_secs(20);

/// Compacts to some revisions back, every few seconds.
pub async fn compact(
    id: u32,
    seed: u64,
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    stop: watch::Receiver<bool>,
) -> Outcome {
    let mut rng = Rng::new(seed ^ 0xC0);
    let mut caller = Caller::new(id, &cluster, &Arc::new(Liar::default()));
    while sleep(Duration::from_millis(2_000 + rng.below(6_000)), &stop).await {
        let revision = memory.revision() - rng.below(200) as Revision;
        if revision <= memory.compacted() {
            continue;
        }
        let member = rng.pick(&cluster.members());
        let call = Call::Compact { revision, physical: rng.chance(300) };
        let outcome = caller.call(member, call.clone(), Duration::from_secs(5)).await?;
        if let Ended::Answered { revision, answer } = outcome {
            memory.learn(&call, revision, &answer);
        }
    }
    Ok(())
}

/// Defragments one member after the other, now and then.
pub async fn defragment(seed: u64, cluster: Arc<Cluster>, stop: watch::Receiver<bool>) -> Outcome {
    let mut rng = Rng::new(seed ^ 0xDE);
    while sleep(Duration::from_millis(5_000 + rng.below(10_000)), &stop).await {
        let member = rng.pick(&cluster.members());
        let client = cluster.client(member)?;
        let url = cluster.client_url(member);
        // A member that is down, or cut off, is not defragmented: the next one.
        let _outcome = tokio::time::timeout(DEFRAGMENT_LIMIT, client.defragment(&url)).await;
    }
    Ok(())
}

/// Takes the hash of all members at one revision, every second or so.
pub async fn hash(
    seed: u64,
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    stop: watch::Receiver<bool>,
) -> Outcome {
    let mut rng = Rng::new(seed ^ 0x4A);
    while sleep(Duration::from_millis(500 + rng.below(1_000)), &stop).await {
        let revision = memory.revision() - rng.below(30) as Revision;
        if revision > memory.compacted() {
            hash_at(&cluster, revision).await?;
        }
    }
    Ok(())
}

/// Takes the hash of all members that give it soon; how many did.
pub async fn hash_at(cluster: &Arc<Cluster>, revision: Revision) -> Outcome<usize> {
    let members = cluster.members();
    let hashes = members.iter().map(|member| hash_of(cluster, *member, revision));
    let noted = futures_util::future::join_all(hashes).await.into_iter().collect::<Outcome<Vec<bool>>>()?;
    Ok(noted.into_iter().filter(|noted| *noted).count())
}

async fn hash_of(cluster: &Arc<Cluster>, member: usize, revision: Revision) -> Outcome<bool> {
    let client = cluster.client(member)?;
    let url = cluster.client_url(member);
    // Behind, compacted, down: others are compared.
    let Ok(Ok(response)) = tokio::time::timeout(HASH_LIMIT, client.hash_kv(&url, revision)).await else {
        return Ok(false);
    };
    cluster.recorder.note(Record::Hash(HashRecord {
        member,
        at: cluster.recorder.now(),
        revision: response.hash_revision,
        compact_revision: response.compact_revision,
        hash: response.hash,
    }));
    Ok(true)
}

/// Whether to go on afterwards.
async fn sleep(time: Duration, stop: &watch::Receiver<bool>) -> bool {
    let mut stop = stop.clone();
    tokio::select! {
        () = tokio::time::sleep(time) => true,
        // A sender that is gone is an order to stop too.
        _ = stop.wait_for(|stop| *stop) => false,
    }
}
