//! What a member does by itself, beside requests: it makes itself known, ends leases, settles versions,
//! compacts.

use std::time::Duration;

use apply::Command;
use lease::LeaseId;
use membership::Version;
use proto::etcdserverpb::{CompactionRequest, LeaseRevokeRequest};
use proto::membershippb::{Attributes, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::backend::{BackendInput, STORAGE_VERSION, Write};
use crate::compactor::Compactor;
use crate::error::Error;
use crate::handle::Server;

/// How often due leases are looked for. Source: etcd `server/lease/lessor.go`.
const LEASE_INTERVAL: Duration = Duration::from_millis(500);

/// Revokes under way at once. Source: etcd `server/etcdserver/server.go`.
const REVOKES_MAX: usize = 16;

/// How often versions are compared. Source: etcd `server/etcdserver/server.go`.
const VERSION_INTERVAL: Duration = Duration::from_secs(4);

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

/// Settles which version the cluster runs and which the file is of.
pub async fn settle_versions(server: Server) {
    let mut ticks = interval(VERSION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leader = server.leader();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = leader.changed() => if changed.is_err() { return },
        }
        settle_cluster_version(&server).await;
        settle_storage_version(&server);
    }
}

/// The leader sets the version that all members can run: alone, its own.
async fn settle_cluster_version(server: &Server) {
    if !server.is_leader() {
        return;
    }
    let own: Version = crate::config::SERVER_VERSION.parse().expect("our own version is one");
    let wanted = own.without_patch();
    let present = server.cluster().version();
    if present.is_some_and(|present| present >= wanted) {
        return;
    }
    match present {
        None => tracing::info!(
            cluster_version = wanted.major_minor(),
            "setting up initial cluster version using v3 API"
        ),
        Some(from) => tracing::info!(
            from = from.major_minor(),
            to = wanted.major_minor(),
            "updating cluster version using v3 API"
        ),
    }
    let request = ClusterVersionSetRequest { ver: wanted.to_string() };
    if let Err(error) = server.propose(Command::ClusterVersionSet(request)).await {
        tracing::warn!(%error, "failed to set the cluster version");
    }
}

/// The file follows the cluster, one minor release at a time.
fn settle_storage_version(server: &Server) {
    let Some(target) = server.cluster().version() else { return };
    let oldest_named = Version::new(3, 6);
    loop {
        let present = server.storage_version().unwrap_or(Version::new(3, 5));
        if present >= target || target < oldest_named {
            return;
        }
        let next = Version::new(present.major, present.minor + 1);
        let write = Write::meta(STORAGE_VERSION, next.to_string());
        if server.shared.to_backend.send(BackendInput::Write(write)).is_err() {
            return;
        }
        server.shared.storage_version.store(Some(std::sync::Arc::new(next)));
        tracing::info!(new_storage_version = %next, "updated storage version");
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
