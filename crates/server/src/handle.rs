//! The member as its callers see it: what `api` asks for.
//!
//! Requests come in as the API's own messages, checked by `api` for form; answers go out as records and
//! numbers. Nothing here blocks the caller's thread except where a method says so.

use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::Duration;

use apply::{
    Alarm, AlarmKind, Command, DeleteRangeOutcome, Outcome, PutOutcome, RangeOutcome, Request, TxnOutcome,
};

use membership::{Cluster, ClusterId, Member, MemberId, Version};
use mvcc::{MvccError, Revision, View};
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use raft::ConfChange;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, timeout};

use crate::backend::{BackendInput, HashAnswer, SnapshotReader};
use crate::background;
use crate::config::Config;
use crate::error::Error;
use crate::metrics::Metrics;
use crate::progress::{FileProgress, RaftProgress};
use crate::quota;
use crate::reads;
use crate::replicate::{Proposal, RaftInput};
use crate::shared::{Shared, StopReason};

/// Committed entries that may wait to be applied before new proposals are refused.
/// Source: etcd `server/etcdserver/v3_server.go`.
const APPLY_GAP_MAX: u64 = 5_000;

/// Proposals that may wait at once. Full: "too many requests".
const PROPOSALS_MAX: usize = 50_000;

/// A running member. Cheap to clone.
#[derive(Clone)]
pub struct Server {
    pub(crate) shared: Arc<Shared>,
}

/// The hash of the keys up to a revision, with what is needed to compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKvAnswer {
    pub hash: u32,
    /// -1 when the store was never compacted.
    pub compact_revision: i64,
    pub hash_revision: Revision,
    /// The store's revision when it was asked.
    pub revision: Revision,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadMode {
    /// From this member's state as it is.
    Serializable,
    /// From a state that holds everything acknowledged before the call, by any member.
    Linearizable,
}

impl Server {
    // --- who and where ---

    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    pub fn cluster_id(&self) -> ClusterId {
        self.shared.cluster_id
    }

    pub fn member_id(&self) -> MemberId {
        self.shared.member_id
    }

    pub fn raft(&self) -> &RaftProgress {
        &self.shared.raft
    }

    pub fn file(&self) -> &FileProgress {
        &self.shared.file
    }

    /// Members and versions as of the last applied entry.
    pub fn cluster(&self) -> Arc<Cluster> {
        self.shared.cluster.load_full()
    }

    pub fn storage_version(&self) -> Option<Version> {
        let named = self.shared.storage_version.load().as_deref().copied();
        // Files of 3.5 name none, and a new one is like them until this member has moved it.
        named.or_else(|| (self.shared.raft.applied() > 0).then_some(Version::new(3, 5)))
    }

    pub fn is_leader(&self) -> bool {
        self.shared.is_leader()
    }

    pub fn is_learner(&self) -> bool {
        self.shared.is_learner()
    }

    /// The leader as this member knows it; a change wakes receivers.
    pub fn leader(&self) -> watch::Receiver<Option<MemberId>> {
        self.shared.leader.subscribe()
    }

    /// `Some` once the member goes down, with the reason.
    pub fn stopping(&self) -> watch::Receiver<Option<StopReason>> {
        self.shared.stop.subscribe()
    }

    // --- reading ---

    /// The newest published state.
    pub fn view(&self) -> Arc<View> {
        self.shared.views.load()
    }

    /// The newest published state, once it is known to hold all that was acknowledged before the call.
    pub async fn linearizable_view(&self) -> Result<Arc<View>, Error> {
        let started = Instant::now();
        let (waiter, answered) = oneshot::channel();
        if self.shared.reads.push(waiter) {
            if self.shared.to_raft.put(RaftInput::ReadsWait).is_err() {
                // Reads that came in behind this one rely on its wake-up: left in the queue, they and all
                // later ones would wait for a round that nobody starts.
                reads::answer(self.shared.reads.take(), &Err(Error::Stopped));
            }
            self.shared.to_raft.turn_here();
        }
        let result = match timeout(self.shared.config.request_timeout(), answered).await {
            Err(_) => Err(Error::Timeout),
            Ok(Err(_)) => Err(Error::Stopped),
            Ok(Ok(result)) => result,
        };
        if let Err(error) = result {
            tracing::warn!(%error, took = ?started.elapsed(), "a linearizable read failed");
            return Err(error);
        }
        Ok(self.view())
    }

    pub async fn view_for(&self, mode: ReadMode) -> Result<Arc<View>, Error> {
        match mode {
            ReadMode::Serializable => Ok(self.view()),
            ReadMode::Linearizable => self.linearizable_view().await,
        }
    }

    /// A txn of ranges only, worked out on one state. May read the file.
    pub fn read_txn(&self, view: &Arc<View>, txn: TxnRequest) -> Result<TxnOutcome, Error> {
        apply::read_txn(view, txn).map_err(|error| self.shared.read_error(error))
    }

    /// A range of one state, as `Outcome`s hold it: every record in memory. For answers of any size use
    /// [`mvcc::View::range`].
    pub fn read_range(&self, view: &Arc<View>, range: RangeRequest) -> Result<RangeOutcome, Error> {
        apply::read_range(view, &range).map_err(|error| self.shared.read_error(error))
    }

    /// What is answered when a read of a view failed. A file that does not give what it must hold stops the
    /// member.
    pub fn read_error(&self, error: MvccError) -> Error {
        self.shared.read_error(error)
    }

    pub fn watch_hub(&self) -> &mvcc::watch::Hub {
        &self.shared.hub
    }

    // --- writing ---

    pub async fn put(&self, request: PutRequest) -> Result<PutOutcome, Error> {
        self.check_quota(quota::put_cost(&request)).await?;
        match self.propose(Command::Put(request)).await? {
            Outcome::Put(outcome) => Ok(outcome),
            other => unreachable!("a put was answered {other:?}"),
        }
    }

    pub async fn delete_range(&self, request: DeleteRangeRequest) -> Result<DeleteRangeOutcome, Error> {
        match self.propose(Command::DeleteRange(request)).await? {
            Outcome::DeleteRange(outcome) => Ok(outcome),
            other => unreachable!("a delete was answered {other:?}"),
        }
    }

    /// A txn that may write.
    pub async fn txn(&self, request: TxnRequest) -> Result<(Revision, TxnOutcome), Error> {
        self.check_quota(quota::txn_cost(&request)).await?;
        match self.propose(Command::Txn(request)).await? {
            Outcome::Txn { revision, txn } => Ok((revision, txn)),
            other => unreachable!("a txn was answered {other:?}"),
        }
    }

    /// Returns once compacted for readers; a physical compaction once the records are gone from the file.
    pub async fn compact(&self, request: CompactionRequest) -> Result<(), Error> {
        let physical = request.physical;
        self.propose(Command::Compaction(request)).await?;
        if physical {
            let (done, finished) = oneshot::channel();
            self.to_backend(BackendInput::AwaitCompaction(done))?;
            finished.await.map_err(|_| Error::Stopped)?;
        }
        Ok(())
    }

    pub fn alarms(&self) -> Vec<Alarm> {
        self.shared.alarms.load().list(None)
    }

    /// Lists, raises or disarms alarms, as the request says.
    pub async fn alarm(&self, request: AlarmRequest) -> Result<Vec<Alarm>, Error> {
        match self.propose(Command::Alarm(request)).await? {
            Outcome::Alarm(alarms) => Ok(alarms),
            other => unreachable!("an alarm request was answered {other:?}"),
        }
    }

    pub async fn members(&self, mode: ReadMode) -> Result<Vec<Member>, Error> {
        if mode == ReadMode::Linearizable {
            self.linearizable_view().await?;
        }
        Ok(self.shared.cluster.load().members().cloned().collect())
    }

    // --- the file ---

    /// Rewrites the file without its free pages. Service goes on meanwhile.
    pub async fn defragment(&self) -> Result<(), Error> {
        let (done, finished) = oneshot::channel();
        self.to_backend(BackendInput::Defragment(done))?;
        finished.await.map_err(|_| Error::Stopped)?
    }

    /// The hash over every bucket of the file.
    pub async fn hash(&self) -> Result<HashAnswer, Error> {
        let (done, taken) = oneshot::channel();
        self.to_backend(BackendInput::Hash(done))?;
        let source = taken.await.map_err(|_| Error::Stopped)?;
        let shared = self.shared.clone();
        background::run("hash", move || source.hash(&shared)).await?
    }

    /// The hash over the keys up to `at`, or up to now.
    pub async fn hash_kv(&self, at: Option<Revision>) -> Result<HashKvAnswer, Error> {
        let view = self.view();
        let shared = self.shared.clone();
        let hashed = background::run("hash", move || {
            let started = Instant::now();
            let answer = shared.hash_kv(&view, at);
            shared.metrics.mvcc.hash_rev_duration.observe(started.elapsed().as_secs_f64());
            answer
        });
        hashed.await?
    }

    /// A consistent image of the file that holds everything applied before the call.
    pub async fn snapshot(&self) -> Result<SnapshotReader, Error> {
        let (done, finished) = oneshot::channel();
        self.to_backend(BackendInput::Snapshot(done))?;
        finished.await.map_err(|_| Error::Stopped)?
    }

    // --- how a request becomes an entry ---

    /// Puts one command into the log and waits until this member has applied it.
    pub(crate) async fn propose(&self, command: Command) -> Result<Outcome, Error> {
        let shared = &self.shared;
        let name = command.name();
        self.admit_proposal()?;
        let started = Instant::now();
        let id = shared.request_ids.next();
        let data = Request { id, command }.encode();
        if data.len() > shared.config.max_request_bytes {
            return Err(Error::RequestTooLarge);
        }
        let result = self.propose_as(id, Proposal::Request(data)).await;
        let success = if result.is_ok() { "true" } else { "false" };
        let duration = started.elapsed().as_secs_f64();
        shared.metrics.server.request_duration.with_label_values(&[name, success]).observe(duration);
        result
    }

    /// As [`Server::propose`], for a change of the members.
    pub(crate) async fn propose_conf_change(&self, change: ConfChange) -> Result<(), Error> {
        self.admit_proposal()?;
        let id = self.shared.request_ids.next();
        self.propose_as(id, Proposal::ConfChange(ConfChange { id, ..change })).await.map(|_| ())
    }

    fn admit_proposal(&self) -> Result<(), Error> {
        let raft = &self.shared.raft;
        let is_full =
            raft.committed() > raft.applied() + APPLY_GAP_MAX || self.shared.waiters.count() >= PROPOSALS_MAX;
        if is_full { Err(Error::TooManyRequests) } else { Ok(()) }
    }

    async fn propose_as(&self, id: u64, proposal: Proposal) -> Result<Outcome, Error> {
        let shared = &self.shared;
        let started = shared.clock.elapsed();
        let answered = shared.waiters.register(id);
        if shared.to_raft.put(RaftInput::Propose { id, proposal }).is_err() {
            shared.waiters.forget(id);
            return Err(Error::Stopped);
        }
        self.have_proposed();
        let mut pending = Pending::new(shared, id);
        match timeout(shared.config.request_timeout(), answered).await {
            Ok(Ok(result)) => pending.answered(result),
            Ok(Err(_)) => pending.answered(Err(Error::Stopped)),
            Err(_) => Err(self.timeout_error(started)),
        }
    }

    /// Has raft take a proposal that was put into its queue. While the log is being written, proposals gather
    /// there, as in etcd: the end of the write is the next turn of raft, and sees whatever came before it.
    fn have_proposed(&self) {
        fence(Ordering::SeqCst);
        if !self.shared.raft.log_is_busy() {
            self.shared.to_raft.turn_here();
        }
    }

    /// What may have kept a proposal that was made at `started` from being applied in time.
    /// Source: etcd `server/etcdserver/server.go`, `parseProposeCtxErr`.
    fn timeout_error(&self, started: Duration) -> Error {
        let shared = &self.shared;
        if let Some(elected) = *shared.leader_since.lock() {
            let before = elected.saturating_sub(2 * shared.config.election_timeout);
            if (before..elected).contains(&started) {
                return Error::TimeoutLeaderFailure;
            }
        }
        let waited = shared.clock.elapsed().saturating_sub(started);
        let was_connected = |id| self.shared.network.active_for(id).is_some_and(|active| active >= waited);
        match shared.raft.leader() {
            None => Error::Timeout,
            Some(leader) if leader == shared.member_id => {
                let cluster = shared.cluster.load();
                let voters: Vec<_> = cluster.members().filter(|member| !member.is_learner).collect();
                let connected = voters
                    .iter()
                    .filter(|member| member.id == shared.member_id || was_connected(member.id))
                    .count();
                let has_quorum = connected > voters.len() / 2;
                if has_quorum { Error::Timeout } else { Error::TimeoutConnectionLost }
            }
            Some(leader) if was_connected(leader) => Error::Timeout,
            Some(_) => Error::TimeoutConnectionLost,
        }
    }

    fn to_backend(&self, input: BackendInput) -> Result<(), Error> {
        self.shared.to_backend.send(input).map_err(|_| Error::Stopped)
    }

    /// A request that needs space is refused when the file is at its quota, and an alarm raised.
    pub(crate) async fn check_quota(&self, cost: u64) -> Result<(), Error> {
        if quota::has_room(&self.shared, cost) {
            return Ok(());
        }
        self.raise_no_space().await;
        Err(Error::NoSpace)
    }

    /// Raises the NOSPACE alarm for this member.
    pub(crate) async fn raise_no_space(&self) {
        let request = AlarmRequest {
            member_id: self.shared.member_id.0,
            action: proto::etcdserverpb::alarm_request::AlarmAction::Activate as i32,
            alarm: AlarmKind::NoSpace.to_wire(),
        };
        if let Err(error) = self.propose(Command::Alarm(request)).await {
            tracing::warn!(%error, "failed to raise the NOSPACE alarm");
        }
    }

    /// Waits until all that is committed now is applied here.
    pub(crate) async fn wait_applied(&self) -> Result<(), Error> {
        let shared = &self.shared;
        let (waiter, answered) = oneshot::channel();
        shared.apply_waiters.wait(shared.raft.committed(), vec![waiter], || shared.raft.applied());
        match timeout(Duration::from_secs(1), answered).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }
}

/// A proposal that somebody waits for. Callers also give up by being dropped, when their client cancels: then
/// too it must not be counted or waited for any longer.
struct Pending<'a> {
    shared: &'a Shared,
    id: u64,
    is_answered: bool,
}

impl<'a> Pending<'a> {
    fn new(shared: &'a Shared, id: u64) -> Pending<'a> {
        shared.metrics.server.proposals_pending.inc();
        Pending { shared, id, is_answered: false }
    }

    fn answered<T>(&mut self, answer: T) -> T {
        self.is_answered = true;
        answer
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.shared.metrics.server.proposals_pending.dec();
        if !self.is_answered {
            self.shared.waiters.forget(self.id);
            self.shared.metrics.server.proposals_failed.inc();
        }
    }
}
