//! What the member's threads and its callers share.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use apply::{Alarms, Outcome};
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::Sender;
use disk::Disk;
use lease::Lessor;
use membership::{Cluster, ClusterId, Member, MemberId, Version};
use mvcc::{CompactionHashes, MvccError, ReadAt, Revision, View, ViewCell};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::backend::{BackendInput, Batch};
use crate::clock::Clock;
use crate::config::Config;
use crate::error::Error;
use crate::handle::HashKvAnswer;
use crate::inlet::Inlet;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::progress::{FileProgress, RaftProgress};
use crate::reads::{ApplyWaiters, ReadQueue};
use crate::replicate::Replicator;
use crate::request_id::RequestIds;
use crate::versions;
use crate::waiters::Waiters;

/// One per member. Each field says who writes it; everyone may read.
pub struct Shared {
    pub config: Config,
    pub metrics: Metrics,
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub clock: Clock,
    pub disk: Arc<dyn Disk>,
    pub network: Arc<dyn Network>,
    /// Written by the apply and the backend thread.
    pub views: Arc<ViewCell>,
    /// Written by the apply thread; streams come and go.
    pub hub: mvcc::watch::Hub,
    /// Its replicated side is the apply thread's, its clock side the lease task's.
    pub lessor: Mutex<Lessor>,
    /// Copies that the apply thread publishes whenever its own change.
    pub cluster: ArcSwap<Cluster>,
    pub alarms: ArcSwap<Alarms>,
    /// Written by compactions; HashKV at their revisions answers from it.
    pub compaction_hashes: Mutex<CompactionHashes>,
    pub cluster_version_changed: Notify,
    pub storage_version: ArcSwapOption<Version>,
    pub raft: RaftProgress,
    pub file: FileProgress,
    /// Written by the raft stage.
    pub leader: watch::Sender<Option<MemberId>>,
    /// When the last leader was elected, as this member saw it.
    pub leader_since: Mutex<Option<Duration>>,
    /// `Some` once the member is going down, with the reason when it failed.
    pub stop: watch::Sender<Option<StopReason>>,
    pub request_ids: RequestIds,
    pub waiters: Waiters<Result<Outcome, Error>>,
    /// Requests with lower ids were made before the last snapshot from another member began to come in.
    pub snapshot_begun: AtomicU64,
    pub reads: ReadQueue,
    pub apply_waiters: ApplyWaiters,
    pub to_raft: Inlet<Replicator>,
    pub to_file: Sender<Batch>,
    pub to_backend: Sender<BackendInput>,
}

/// Why the member stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StopReason {
    Asked,
    /// It could not go on without risking data; the text says what happened.
    Failed(String),
    /// It is no longer a member of its cluster.
    Removed,
}

impl Shared {
    /// The member must not go on: nothing more is acknowledged, and whoever runs it ends the process.
    pub fn fail(&self, reason: String) {
        tracing::error!(reason, "the member stops, because it cannot go on without risking data");
        self.stop_with(StopReason::Failed(reason));
    }

    /// The first reason stands.
    pub fn stop_with(&self, reason: StopReason) {
        self.stop.send_if_modified(|stop| match stop {
            Some(_) => false,
            None => {
                *stop = Some(reason);
                true
            }
        });
    }

    /// What a reader is told. A file that does not give what it must hold stops the member.
    pub fn read_error(&self, error: MvccError) -> Error {
        match error {
            MvccError::Compacted { .. } => Error::Compacted,
            MvccError::FutureRevision { .. } => Error::FutureRevision,
            MvccError::LeaseNotFound(_) => Error::LeaseNotFound,
            MvccError::KeyNotFound => Error::KeyNotFound,
            MvccError::Source(error) => self.file_error(&error),
        }
    }

    /// The file does not give what it must hold: the member stops.
    pub fn file_error(&self, error: &dyn std::error::Error) -> Error {
        self.fail(format!("read the database file: {error}"));
        Error::Corrupt
    }

    pub fn hash_kv(&self, view: &View, at: Option<Revision>) -> Result<HashKvAnswer, Error> {
        let kept = at.and_then(|at| self.compaction_hashes.lock().get(at));
        let read_at = at.map_or(ReadAt::Latest, ReadAt::Revision);
        let hashed = match kept {
            Some(hash) => hash,
            None => mvcc::hash_kv(view, read_at).map_err(|error| self.read_error(error))?,
        };
        Ok(HashKvAnswer {
            hash: hashed.hash,
            compact_revision: hashed.compact_revision.map_or(-1, Revision::to_wire),
            hash_revision: hashed.revision,
            revision: view.revision(),
        })
    }

    /// A member that joined, or whose URLs have changed.
    pub fn note_peer(&self, member: &Member) {
        let (me, id) = (self.member_id.to_string(), member.id.to_string());
        self.metrics.server.known_peers.with_label_values(&[&me, &id]).set(1);
        if member.id != self.member_id {
            self.network.set_peer(member.id, &member.peer_urls);
        }
    }

    /// A member that left for good.
    pub fn forget_peer(&self, id: MemberId) {
        let (me, gone) = (self.member_id.to_string(), id.to_string());
        self.metrics.server.known_peers.with_label_values(&[&me, &gone]).set(0);
        if id != self.member_id {
            self.network.remove_peer(id);
        }
    }

    /// Makes the members and versions visible to everyone.
    pub fn publish_cluster(&self, cluster: &Cluster) {
        let before = self.cluster.swap(Arc::new(cluster.clone())).version();
        self.metrics.server.is_learner.set(i64::from(self.is_learner()));
        if let Some(now) = cluster.version().filter(|now| Some(*now) != before) {
            self.note_cluster_version(before, now);
            self.cluster_version_changed.notify_one();
            if let Some(refusal) = versions::refusal(now) {
                self.fail(refusal);
            }
        }
    }

    fn note_cluster_version(&self, before: Option<Version>, now: Version) {
        let metric = &self.metrics.server.cluster_version;
        if let Some(before) = before {
            metric.with_label_values(&[&before.major_minor()]).set(0);
        }
        metric.with_label_values(&[&now.major_minor()]).set(1);
        let message =
            if before.is_some() { "updated cluster version" } else { "set initial cluster version" };
        tracing::info!(
            cluster_id = %self.cluster_id,
            local_member_id = %self.member_id,
            cluster_version = now.major_minor(),
            "{message}"
        );
    }

    /// Tells everyone who waits for a leader, or looks when the last one came.
    pub fn note_leader(&self, leader: Option<MemberId>) {
        if leader.is_some() {
            *self.leader_since.lock() = Some(self.clock.elapsed());
        }
        self.leader.send_replace(leader);
    }

    pub fn is_leader(&self) -> bool {
        self.raft.leader() == Some(self.member_id)
    }

    /// Whether the cluster has no other member.
    pub fn is_alone(&self) -> bool {
        self.cluster.load().members().nth(1).is_none()
    }

    pub fn is_learner(&self) -> bool {
        self.cluster.load().member(self.member_id).is_some_and(|member| member.is_learner)
    }
}

/// Whether a thread goes on after what it was just told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    Continue,
    Stop,
}
