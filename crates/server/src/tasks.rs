//! What a member does by itself, beside requests: it makes itself known, ends leases, compacts.

use std::time::Duration;

use apply::Command;
use lease::LeaseId;
use proto::etcdserverpb::{CompactionRequest, LeaseCheckpoint, LeaseCheckpointRequest, LeaseRevokeRequest};
use proto::membershippb::{Attributes, ClusterMemberAttrSetRequest};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::compactor::Compactor;
use crate::error::Error;
use crate::handle::Server;
use crate::replicate::RaftInput;

/// How often due leases are looked for. Source: etcd `server/lease/lessor.go`.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);

/// Revokes under way at once. Source: etcd `server/etcdserver/server.go`.
const REVOKES_MAX: usize = 16;

/// How often, and how many times, a starting member looks whether it has met others: for 5 s, after which its
/// election timeout has passed anyway. Source: etcd `server/etcdserver/server.go`.
const ADVANCE_POLL: Duration = Duration::from_millis(50);
const ADVANCE_LOOKS: u32 = 100;

/// Between two tries of what must succeed before the member is ready.
const RETRY: Duration = Duration::from_millis(100);

/// Tells the cluster this member's name and client URLs, until the cluster has them.
pub async fn publish(server: Server) {
    let config = &server.shared.config;
    let member_id = server.shared.member_id;
    loop {
        let request = ClusterMemberAttrSetRequest {
            member_id: member_id.0,
            member_attributes: Some(Attributes {
                name: config.name.clone(),
                client_urls: config.advertise_client_urls.clone(),
            }),
        };
        match server.propose(Command::MemberAttrSet(request)).await {
            Ok(_) => {
                tracing::info!(
                    local_member_id = %member_id,
                    cluster_id = %server.shared.cluster_id,
                    publish_timeout = ?config.request_timeout(),
                    "published local member to cluster through raft"
                );
                return;
            }
            Err(Error::Stopped) => return,
            Err(error) => {
                tracing::warn!(%error, "failed to publish local member to cluster through raft");
                sleep(RETRY).await;
            }
        }
    }
}

/// Ends leases whose time has passed, while this member leads.
pub async fn expire_leases(server: Server) {
    let mut ticks = interval(LEASE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let expired = server.shared.lessor.lock().expired(server.shared.clock.now());
        if expired.is_empty() {
            continue;
        }
        // A leader that was cut off, or stuck, may have a successor under which they were renewed.
        if server.ensure_leadership().await.is_err() {
            tracing::warn!(leases = expired.len(), "ended no leases: leadership is not confirmed");
            continue;
        }
        let mut revokes = JoinSet::new();
        for id in expired {
            if revokes.len() >= REVOKES_MAX {
                revokes.join_next().await;
            }
            revokes.spawn(revoke_expired(server.clone(), id));
        }
        revokes.join_all().await;
    }
}

/// Replicates how much time long leases have left, while this member leads: see the gate `LeaseCheckpoint`.
pub async fn checkpoint_leases(server: Server) {
    if server.shared.config.lease_checkpoint_interval.is_none() {
        return;
    }
    let mut ticks = interval(LEASE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let due = server.shared.lessor.lock().due_checkpoints(server.shared.clock.now());
        if due.is_empty() || server.ensure_leadership().await.is_err() {
            continue;
        }
        let checkpoints = due
            .into_iter()
            .map(|due| LeaseCheckpoint { id: due.id.0, remaining_ttl: due.remaining_ttl_secs })
            .collect();
        let request = LeaseCheckpointRequest { checkpoints };
        if let Err(error) = server.propose(Command::LeaseCheckpoint(request)).await {
            tracing::warn!(%error, "failed to replicate how long leases last");
        }
    }
}

/// A member that has found the others but no leader need not wait out its first election timeout: nobody
/// was there before it to be disturbed. Source: etcd `server/etcdserver/server.go`, `adjustTicks`.
pub async fn advance_election(server: Server) {
    let config = &server.shared.config;
    let others: Vec<_> = {
        let cluster = server.cluster();
        cluster.members().map(|member| member.id).filter(|id| *id != server.shared.member_id).collect()
    };
    if others.is_empty() || !config.initial_election_tick_advance {
        return;
    }
    for _ in 0..ADVANCE_LOOKS {
        sleep(ADVANCE_POLL).await;
        if server.raft().leader().is_some() {
            return;
        }
        if others.iter().any(|id| server.shared.network.active_for(*id).is_some()) {
            // Two ticks are left, for a leader's next heartbeat.
            let ticks = config.election_ticks().saturating_sub(2);
            tracing::info!(
                local_member_id = %server.shared.member_id,
                forward_ticks = ticks,
                "initialized peer connections; fast-forwarding election ticks"
            );
            server.shared.to_raft.send(RaftInput::AdvanceTicks(ticks)).ok();
            return;
        }
    }
}

async fn revoke_expired(server: Server, id: LeaseId) {
    let revoke = Command::LeaseRevoke(LeaseRevokeRequest { id: id.0 });
    match server.propose(revoke).await {
        Ok(_) => server.shared.metrics.server.lease_expired.inc(),
        // Somebody else has revoked it.
        Err(Error::LeaseNotFound) => {}
        // It stays due, and comes again.
        Err(error) => tracing::warn!(lease_id = %id, %error, "failed to revoke an expired lease"),
    }
}

/// `--auto-compaction-mode`.
pub async fn compact_automatically(server: Server) {
    let clock = &server.shared.clock;
    let mut compactor = Compactor::new(server.shared.config.auto_compaction, clock.elapsed());
    let Some(pause) = compactor.interval() else { return };
    let mut ticks = interval(pause.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let revision = server.view().revision().to_wire();
        let Some(target) = compactor.tick(clock.elapsed(), revision, server.is_leader()) else { continue };
        tracing::info!(revision = target, "starting auto compaction");
        match server.compact(CompactionRequest { revision: target, physical: false }).await {
            Ok(()) | Err(Error::Compacted) => tracing::info!(revision = target, "completed auto compaction"),
            Err(error) => {
                tracing::warn!(revision = target, %error, "failed auto compaction");
                compactor.failed();
            }
        }
    }
}

impl Server {
    /// Brings those metrics up to date that nothing pushes: call it before they are read.
    pub fn refresh_metrics(&self) {
        let counters = self.shared.hub.counters();
        let metrics = &self.shared.metrics.mvcc;
        metrics.watch_stream.set(counters.streams as i64);
        metrics.watcher.set(counters.watchers as i64);
        metrics.slow_watcher.set(counters.slow_watchers as i64);
        metrics.pending_events.set(counters.pending_events as i64);
        metrics.events.inc_by(counters.events.saturating_sub(metrics.events.get()));
        metrics.current_revision.set(self.view().revision().to_wire());
    }
}
