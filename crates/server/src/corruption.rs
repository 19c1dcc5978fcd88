//! Comparing the members' data: equal at equal revisions, or somebody's is damaged.
//!
//! Source: etcd `server/etcdserver/corrupt.go`.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use apply::{AlarmKind, Command};
use membership::MemberId;
use mvcc::{KvHash, Revision};
use proto::etcdserverpb::AlarmRequest;
use proto::etcdserverpb::alarm_request::AlarmAction;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};

use crate::error::Error;
use crate::handle::{HashKvAnswer, Server};
use crate::network::AskError;

/// How long a member may take to hash its keys. Large stores take seconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// The member that an alarm names when nobody can tell whose data is right.
const NOBODY: MemberId = MemberId(0);

/// What another member answered.
struct PeerHash {
    id: MemberId,
    answer: Result<HashKvAnswer, AskError>,
}

impl Server {
    /// The gate InitialCorruptCheck, before this member takes part in anything: every key must be readable,
    /// and equal to what the others that can be reached hold.
    pub(crate) async fn check_initial_corruption(&self) -> Result<(), String> {
        let me = self.member_id();
        tracing::info!(local_member_id = %me, "starting initial corruption check");
        let own = self.hash_kv(None).await.map_err(|error| error.to_string())?;
        let mut differing = 0;
        for PeerHash { id, answer } in self.peer_hashes(own.hash_revision).await {
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) => {
                    tracing::warn!(
                        local_member_id = %me,
                        remote_peer_id = %id,
                        %error,
                        "failed hash kv request"
                    );
                    continue;
                }
            };
            if answer.hash == own.hash {
                continue;
            }
            if answer.compact_revision == own.compact_revision {
                differing += 1;
                tracing::warn!(
                    local_member_id = %me,
                    local_member_hash = own.hash,
                    remote_peer_id = %id,
                    remote_peer_hash = answer.hash,
                    revision = own.hash_revision.get(),
                    "found different hash values from remote peer"
                );
            } else {
                tracing::warn!(
                    local_member_id = %me,
                    remote_peer_id = %id,
                    "found different compact revision values from remote peer"
                );
            }
        }
        if differing > 0 {
            return Err(format!("{me} found data inconsistency with peers"));
        }
        tracing::info!(
            local_member_id = %me,
            hash = own.hash,
            "initial corruption checking passed; no corruption"
        );
        Ok(())
    }

    /// Everybody else's hash of the keys up to a revision.
    async fn peer_hashes(&self, revision: Revision) -> Vec<PeerHash> {
        let cluster = self.cluster();
        let mut asked = JoinSet::new();
        for member in cluster.members().filter(|member| member.id != self.member_id()) {
            let (server, id, urls) = (self.clone(), member.id, member.peer_urls.clone());
            asked.spawn(async move {
                let mut answer = Err(AskError::Unreachable("the member has no peer URL".to_owned()));
                for url in &urls {
                    let network = &server.shared.network;
                    let asking =
                        network.ask_hash_kv(url, server.cluster_id(), revision.to_wire(), ANSWER_LIMIT);
                    answer = asking.await;
                    if !matches!(answer, Err(AskError::Unreachable(_))) {
                        break;
                    }
                }
                PeerHash { id, answer }
            });
        }
        asked.join_all().await
    }

    async fn raise_corrupt(&self, member: MemberId) {
        tracing::error!(remote_peer_id = %member, "found data corruption; raising an alarm");
        let request = AlarmRequest {
            member_id: member.0,
            action: AlarmAction::Activate as i32,
            alarm: AlarmKind::Corrupt.to_wire(),
        };
        if let Err(error) = self.propose(Command::Alarm(request)).await {
            tracing::warn!(%error, "failed to raise the CORRUPT alarm");
        }
    }

    /// `--corrupt-check-time`, once. The members whose data is wrong.
    async fn compare_keys(&self) -> Result<BTreeSet<MemberId>, Error> {
        let before = self.hash_kv(None).await?;
        let peers = self.peer_hashes(before.hash_revision).await;
        self.linearizable_view().await?;
        let after = self.hash_kv(None).await?;
        let mut corrupt = BTreeSet::new();
        let is_same_state =
            after.hash_revision == before.hash_revision && after.compact_revision == before.compact_revision;
        if is_same_state && after.hash != before.hash {
            corrupt.insert(self.member_id());
        }
        for PeerHash { id, answer } in peers {
            let Ok(answer) = answer else { continue };
            // A follower is never ahead of what the leader has applied by now.
            let is_ahead =
                answer.revision > after.revision || answer.compact_revision > after.compact_revision;
            let differs = answer.compact_revision == before.compact_revision && answer.hash != before.hash;
            if is_ahead || differs {
                corrupt.insert(id);
            }
        }
        Ok(corrupt)
    }
}

/// `--corrupt-check-time`.
pub async fn compare_keys(server: Server) {
    let Some(pause) = server.shared.config.corrupt_check_interval else { return };
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first tick comes at once; data that was just read has been looked at.
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if !server.is_leader() {
            continue;
        }
        match server.compare_keys().await {
            Ok(corrupt) => {
                for member in corrupt {
                    server.raise_corrupt(member).await;
                }
            }
            Err(error) => tracing::warn!(%error, "failed to check hash KV"),
        }
    }
}

/// The gate CompactHashCheck: hashes that members have worked out while they compacted, at the same
/// revisions, so that nobody's service has to stop for the comparison.
pub async fn compare_compactions(server: Server) {
    let Some(pause) = server.shared.config.compact_hash_check_interval else { return };
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut compared = Revision::ZERO;
    loop {
        ticks.tick().await;
        if !server.is_leader() {
            continue;
        }
        let hashes = server.shared.compaction_hashes.lock().newer_than(compared);
        let mut looked_at = 0;
        for own in hashes {
            looked_at += 1;
            let peers = server.peer_hashes(own.revision).await;
            let Some(verdict) = judge(server.member_id(), &own, &peers) else { continue };
            for member in verdict {
                server.raise_corrupt(member).await;
            }
            compared = own.revision;
            break;
        }
        tracing::info!(number_of_hashes_checked = looked_at, "finished compaction hash check");
    }
}

/// Whose hash of one compaction is wrong. `None` when too few have told theirs to be sure that all are equal.
fn judge(me: MemberId, own: &KvHash, peers: &[PeerHash]) -> Option<Vec<MemberId>> {
    let own_compact = own.compact_revision.map_or(-1, Revision::to_wire);
    let mut by_hash = BTreeMap::from([(own.hash, vec![me])]);
    let mut comparable = 0;
    for PeerHash { id, answer } in peers {
        match answer {
            Ok(answer) if answer.compact_revision == own_compact => {
                comparable += 1;
                by_hash.entry(answer.hash).or_default().push(*id);
            }
            Ok(_) => {
                tracing::warn!(remote_peer_id = %id, "Skipped checking hash of peer: it compacted otherwise")
            }
            Err(error) => tracing::warn!(remote_peer_id = %id, %error, "Skipped checking hash of peer"),
        }
    }
    if by_hash.len() == 1 {
        return (comparable == peers.len()).then(Vec::new);
    }
    for (hash, members) in &by_hash {
        tracing::error!(revision = own.revision.get(), hash, ?members, "Detected compaction hash mismatch");
    }
    let members = peers.len() + 1;
    let quorum = members / 2 + 1;
    let right = by_hash.iter().find(|(_, members)| members.len() >= quorum).map(|(hash, _)| *hash);
    match right {
        Some(right) => {
            by_hash.remove(&right);
            Some(by_hash.into_values().flatten().collect())
        }
        None => Some(vec![NOBODY]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: MemberId = MemberId(1);

    fn own(hash: u32) -> KvHash {
        KvHash { hash, revision: Revision::FIRST, compact_revision: None }
    }

    fn peer(id: u64, hash: u32) -> PeerHash {
        let answer = HashKvAnswer {
            hash,
            compact_revision: -1,
            hash_revision: Revision::FIRST,
            revision: Revision::FIRST,
        };
        PeerHash { id: MemberId(id), answer: Ok(answer) }
    }

    fn silent(id: u64) -> PeerHash {
        PeerHash { id: MemberId(id), answer: Err(AskError::Unreachable(String::new())) }
    }

    #[test]
    fn the_majority_is_right_and_without_one_nobody_is() {
        assert_eq!(judge(ME, &own(7), &[peer(2, 7), peer(3, 7)]), Some(vec![]));
        assert_eq!(judge(ME, &own(7), &[peer(2, 7), silent(3)]), None);
        assert_eq!(judge(ME, &own(7), &[peer(2, 7), peer(3, 8)]), Some(vec![MemberId(3)]));
        assert_eq!(judge(ME, &own(7), &[peer(2, 8), peer(3, 8)]), Some(vec![ME]));
        assert_eq!(judge(ME, &own(7), &[peer(2, 8), peer(3, 9)]), Some(vec![NOBODY]));
        assert_eq!(judge(ME, &own(7), &[peer(2, 8), silent(3)]), Some(vec![NOBODY]));
    }
}
