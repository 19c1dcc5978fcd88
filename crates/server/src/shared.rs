//! What the member's threads and its callers share.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use apply::{Alarms, Outcome};
use arc_swap::{ArcSwap, ArcSwapOption};
use crossbeam_channel::Sender;
use disk::Disk;
use lease::{Lessor, Now};
use membership::{Cluster, ClusterId, MemberId, Version};
use mvcc::{CompactionHashes, MvccError, ReadAt, Revision, View, ViewCell};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::backend::{BackendInput, Batch};
use crate::config::Config;
use crate::error::Error;
use crate::handle::HashKvAnswer;
use crate::metrics::Metrics;
use crate::network::Network;
use crate::progress::{FileProgress, RaftProgress};
use crate::reads::{ApplyWaiters, ReadQueue};
use crate::replicate::RaftInput;
use crate::request_id::RequestIds;
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
    pub storage_version: ArcSwapOption<Version>,
    pub raft: RaftProgress,
    pub file: FileProgress,
    /// Written by the raft thread.
    pub leader: watch::Sender<Option<MemberId>>,
    /// `Some` once the member is going down, with the reason when it failed.
    pub stop: watch::Sender<Option<StopReason>>,
    pub request_ids: RequestIds,
    pub waiters: Waiters<Result<Outcome, Error>>,
    pub reads: ReadQueue,
    pub apply_waiters: ApplyWaiters,
    pub to_raft: Sender<RaftInput>,
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

    pub fn is_leader(&self) -> bool {
        self.raft.leader() == Some(self.member_id)
    }

    pub fn is_learner(&self) -> bool {
        self.cluster.load().member(self.member_id).is_some_and(|member| member.is_learner)
    }
}

/// The process's own clock: monotonic, from its start.
pub struct Clock {
    start: Instant,
}

impl Default for Clock {
    fn default() -> Clock {
        Clock { start: Instant::now() }
    }
}

impl Clock {
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    pub fn now(&self) -> Now {
        Now(self.elapsed())
    }
}

/// The wall clock, for ids and for what people read.
pub fn unix_time() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}
