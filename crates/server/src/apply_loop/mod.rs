//! The apply stage: the single writer of everything the cluster agrees on.
//!
//! For each batch of committed entries: apply them all, publish one view, tell the watch hub, hand the batch
//! to the backend, answer the proposers. In that order, so that whoever is answered finds its write in
//! whatever it asks for next, and no watcher created afterwards is told of it again.

mod conf_change;
mod install;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use apply::{ApplyError, Command, Effects, Fatal, OpOutcome, Outcome, Request, State, TxnOutcome};
use bytes::Bytes;
use crossbeam_channel::Receiver;
use mvcc::{Answer, ChangeKind, IndexCompactionState, MvccError};
use proto::etcdserverpb::alarm_request::AlarmAction;
use raft::{ConfState, Entry, EntryKind, Snapshot};
use storage::v2_store;
use tokio::runtime::Handle;

pub use install::Installed;
use install::Installing;

use crate::backend::{Applied, BackendInput, Batch, Bucket, SCHEDULED_COMPACT, Unfolded, Write};
use crate::background::Rests;
use crate::error::Error;
use crate::handle::Server;
use crate::inlet::{Inlet, TakesTurns};
use crate::quota;
use crate::replicate::{RaftInput, Replicator};
use crate::shared::{Flow, Shared};

/// Entries applied before their view is published: bounds how long the first of them waits.
const ENTRIES_PER_BATCH: usize = 4096;

/// Entries from which on this member has to catch up. One that keeps up is never so far behind: it takes no
/// proposals long before.
const FAR_BEHIND: u64 = 10_000;

/// Keys whose compacted history is freed from the index between two looks at the queue.
const INDEX_SLICE: usize = 1024;

/// Bytes of entries applied before raft is told: a quarter of what it hands out without being told.
const UNTOLD_BYTES_MAX: usize = 256 << 10;

/// Bytes of applied entries that may wait for the file. With more, applying waits, and with it proposals: a slow disk
/// must not fill the memory.
const UNFOLDED_BYTES_MAX: u64 = 256 << 20;

/// How often it then looks whether the file has caught up.
const UNFOLDED_LOOK: Duration = Duration::from_millis(1);

/// How often the apply thread looks whether the backend thread has installed a snapshot.
const INSTALLATION_LOOK: Duration = Duration::from_millis(2);

/// What an entry counts beside its data: more than raft counts for it.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// What the apply stage is told.
pub enum ApplyInput {
    /// Committed entries, in order and without a gap.
    Entries(Vec<Entry>),
    /// A snapshot from the leader: its file is there, and the log begins behind it.
    Snapshot(Box<Snapshot>),
    Stop,
}

/// Owner of the replicated state.
pub struct ApplyLoop {
    state: State,
    shared: Arc<Shared>,
    inputs: Receiver<ApplyInput>,
    to_raft: Inlet<Replicator>,
    runtime: Handle,
    conf_state: ConfState,
    /// The state holds everything up to here.
    applied: Applied,
    /// Index of the last snapshot record in the log.
    snapshot_index: u64,
    /// Set by a configuration change since the last batch.
    conf_state_changed: bool,
    /// Set by such a change also when it was refused, and by the first entry of a term, behind which one of an
    /// earlier leader may be: raft lets no other change in before it knows that they are applied.
    raft_waits: bool,
    /// Whether the index still holds what compactions have dropped.
    index_compaction: IndexCompactionState,
    answers: Vec<(u64, Result<Outcome, Error>)>,
    /// Bytes of entries applied since raft was told.
    untold_bytes: usize,
    /// The alarm that the quota is reached is being raised.
    raises_no_space: Arc<AtomicBool>,
    /// The next snapshot record does not wait for its time.
    snapshot_is_forced: bool,
    /// A snapshot that the backend thread is installing: nothing is applied meanwhile.
    installing: Option<Installing>,
}

impl TakesTurns for ApplyLoop {
    type Input = ApplyInput;

    /// A broken invariant ends it and the member. A turn without an input goes to the index: were it only
    /// compacted behind batches, a store with many keys and few writes would never get through before the
    /// next compaction begins anew.
    fn turn(&mut self) -> Flow {
        if let Some(installing) = self.installing.take() {
            match installing.look() {
                Ok(None) => {
                    self.installing = Some(installing);
                    return Flow::Continue;
                }
                Ok(Some(installed)) => return self.take_over(installing, installed),
                Err(()) => return Flow::Stop,
            }
        }
        let mut entries = Vec::new();
        let mut flow = Flow::Continue;
        let mut snapshot = None;
        while entries.len() < ENTRIES_PER_BATCH {
            match self.inputs.try_recv() {
                Ok(ApplyInput::Entries(more)) if entries.is_empty() => entries = more,
                Ok(ApplyInput::Entries(more)) => entries.extend(more),
                // What is committed behind it waits until it is installed.
                Ok(ApplyInput::Snapshot(received)) => {
                    snapshot = Some(received);
                    break;
                }
                Ok(ApplyInput::Stop) => {
                    flow = Flow::Stop;
                    break;
                }
                Err(_) => break,
            }
        }
        if let Err(error) = self.apply_batch(entries) {
            self.shared.fail(format!("apply: {error}"));
            return Flow::Stop;
        }
        self.compact_index();
        if let Some(snapshot) = snapshot {
            self.begin_install(*snapshot);
        }
        flow
    }

    fn idle_for(&self) -> Option<Duration> {
        match (&self.installing, self.index_compaction) {
            (Some(_), _) => Some(INSTALLATION_LOOK),
            (None, IndexCompactionState::Unfinished) => Some(Duration::ZERO),
            (None, IndexCompactionState::Done) => None,
        }
    }

    fn end(self) {}
}

impl ApplyLoop {
    pub fn new(
        state: State,
        shared: Arc<Shared>,
        inputs: Receiver<ApplyInput>,
        to_raft: Inlet<Replicator>,
        runtime: Handle,
        start: Start,
    ) -> ApplyLoop {
        ApplyLoop {
            state,
            shared,
            inputs,
            to_raft,
            runtime,
            conf_state: start.conf_state,
            applied: start.applied,
            snapshot_index: start.snapshot_index,
            conf_state_changed: false,
            raft_waits: false,
            // One that a restart interrupted; without such the first slice finds nothing to do.
            index_compaction: IndexCompactionState::Unfinished,
            answers: Vec::new(),
            untold_bytes: 0,
            raises_no_space: Arc::default(),
            snapshot_is_forced: false,
            installing: None,
        }
    }

    fn take_over(&mut self, installing: Installing, installed: Installed) -> Flow {
        match self.finish_install(installing, installed) {
            Ok(()) => Flow::Continue,
            Err(error) => {
                self.shared.fail(format!("install a snapshot from the leader: {error}"));
                Flow::Stop
            }
        }
    }

    fn compact_index(&mut self) {
        if self.index_compaction == IndexCompactionState::Done {
            return;
        }
        let started = Instant::now();
        self.index_compaction = self.state.store.compact_index(INDEX_SLICE);
        let millis = started.elapsed().as_secs_f64() * 1000.0;
        self.shared.metrics.mvcc.index_compaction_pause.observe(millis);
    }

    fn apply_batch(&mut self, entries: Vec<Entry>) -> Result<(), Fatal> {
        if entries.is_empty() {
            return Ok(());
        }
        let term_before = self.applied.term;
        let mut rests = self.is_far_behind().then(Rests::begin);
        let mut bytes = 0;
        for entry in entries {
            let entry_bytes = entry.data.len() + ENTRY_OVERHEAD_BYTES;
            self.untold_bytes += entry_bytes;
            bytes += entry_bytes as u64;
            self.apply_entry(entry)?;
            rests.as_mut().map(Rests::when_due);
        }
        self.publish(bytes)?;
        if self.applied.term > term_before {
            self.give_up_older_proposals();
        }
        self.checkpoint_when_due();
        self.wait_for_the_file();
        Ok(())
    }

    /// Before more is applied. In a simulation the file is written in turn.
    fn wait_for_the_file(&self) {
        let shared = &self.shared;
        while shared.file.unfolded_bytes() > UNFOLDED_BYTES_MAX
            && !shared.clock.is_simulated()
            && shared.stop.borrow().is_none()
        {
            std::thread::sleep(UNFOLDED_LOOK);
        }
    }

    /// A follower that catches up after a restart or a snapshot: the others serve meanwhile, and may want the
    /// processor. For what a leader or a lone member applies, clients wait.
    fn is_far_behind(&self) -> bool {
        let shared = &self.shared;
        let behind = shared.raft.committed().saturating_sub(self.applied.index);
        behind > FAR_BEHIND && !shared.is_leader() && !shared.is_alone() && !shared.clock.is_simulated()
    }

    /// Whatever older leaders have left in the log stands before the first entry of this term. A proposal that
    /// one of them was given and that is not answered by now is lost, or comes again by a message that is
    /// still under way: who waits for it had better look again than wait for the time limit.
    fn give_up_older_proposals(&self) {
        let term = self.applied.term;
        let lost = self.shared.waiters.answer_older(term, &Err(Error::TimeoutLeaderFailure));
        if lost > 0 {
            tracing::info!(term, proposals = lost, "gave up proposals that an earlier leader did not commit");
        }
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<(), Fatal> {
        let position = Applied { index: entry.index.0, term: entry.term.0 };
        assert_eq!(position.index, self.applied.index + 1, "an entry was left out or applied twice");
        match entry.kind {
            // Compat: a leader's first entry, or a configuration change that came at the wrong time.
            EntryKind::Normal if entry.data.is_empty() => self.note_leading(position.term),
            EntryKind::Normal => self.apply_request(entry.data)?,
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => self.apply_conf_change(&entry)?,
        }
        self.raft_waits |= position.term > self.applied.term;
        self.applied = position;
        Ok(())
    }

    /// The first entry of a leader's term: from here on its lessor decides when leases end.
    fn note_leading(&mut self, term: u64) {
        // Looked at under the lock: a member that loses its leadership says so before it demotes the lessor.
        let mut lessor = self.shared.lessor.lock();
        if self.shared.is_leader() && self.shared.raft.term() == term && !lessor.is_primary() {
            lessor.promote(self.shared.clock.now(), self.shared.config.election_timeout);
        }
    }

    fn apply_request(&mut self, data: Bytes) -> Result<(), Fatal> {
        let started = Instant::now();
        let Request { id, command } = Request::decode(data).map_err(Fatal::Command)?;
        let awaited = self.shared.waiters.is_awaited(id);
        let name = command.name();
        let alarm_action = match &command {
            Command::Alarm(request) => AlarmAction::try_from(request.action).ok(),
            _ => None,
        };
        let over_quota = !quota::has_room(&self.shared, cost(&command));
        let answer = if awaited { Answer::Wanted } else { Answer::Unwanted };
        let applied = self.state.apply(&mut self.shared.lessor.lock(), command, answer)?;
        if let Ok(outcome) = &applied {
            self.count(outcome, alarm_action);
        }
        let success = if applied.is_ok() { "true" } else { "false" };
        let metrics = &self.shared.metrics.server;
        let took = started.elapsed();
        metrics.apply_duration.with_label_values(&["v3", name, success]).observe(took.as_secs_f64());
        // Each request by itself: a batch of thousands may take that long and be in perfect health.
        if took > self.shared.config.warning_apply_duration {
            metrics.slow_apply.inc();
            tracing::warn!(?took, request = name, "apply request took too long");
        }
        // Compat: the write is applied, and then its proposer learns that the quota is reached. The quota is each member's
        // own, whoever proposes.
        if over_quota && applied.is_ok() {
            self.raise_no_space();
        }
        if !awaited {
            return Ok(());
        }
        let answer = match applied {
            Ok(_) if over_quota => Err(Error::NoSpace),
            Ok(outcome) => Ok(outcome),
            Err(error) => Err(answer_error(error)),
        };
        self.answers.push((id, answer));
        Ok(())
    }

    fn count(&self, outcome: &Outcome, alarm_action: Option<AlarmAction>) {
        let metrics = &self.shared.metrics.mvcc;
        match outcome {
            Outcome::Range(_) => metrics.range.inc(),
            Outcome::Put(_) => metrics.put.inc(),
            Outcome::DeleteRange(_) => metrics.delete.inc(),
            Outcome::Txn { txn, .. } => {
                let mut operations = Operations::default();
                operations.add(txn);
                let Operations { ranges, puts, deletes } = operations;
                metrics.range.inc_by(ranges);
                metrics.put.inc_by(puts);
                metrics.delete.inc_by(deletes);
                // Compat: a txn of one operation counts as that operation only.
                if ranges + puts + deletes > 1 {
                    metrics.txn.inc();
                }
            }
            Outcome::Alarm(alarms) => {
                for alarm in alarms {
                    let labels = [&alarm.member.to_string()[..], alarm.kind.name()];
                    let gauge = self.shared.metrics.server.alarms.with_label_values(&labels);
                    match alarm_action {
                        // Compat: also for one that stood before.
                        Some(AlarmAction::Activate) => gauge.inc(),
                        Some(AlarmAction::Deactivate) => gauge.dec(),
                        Some(AlarmAction::Get) | None => {}
                    }
                }
            }
            Outcome::Compaction
            | Outcome::LeaseGrant { .. }
            | Outcome::LeaseRevoke { .. }
            | Outcome::LeaseCheckpoint
            | Outcome::Done => {}
        }
    }

    /// Once, however many requests are applied before the alarm stands.
    fn raise_no_space(&self) {
        if self.raises_no_space.swap(true, Ordering::Relaxed) {
            return;
        }
        let (server, raises) = (Server { shared: self.shared.clone() }, self.raises_no_space.clone());
        self.runtime.spawn(async move {
            server.raise_no_space().await;
            raises.store(false, Ordering::Relaxed);
        });
    }

    // --- effects ---

    fn publish(&mut self, bytes: u64) -> Result<(), Fatal> {
        let chunk = self.state.store.publish();
        let effects = self.state.take_effects();
        if effects.compaction.is_some() {
            self.index_compaction = IndexCompactionState::Unfinished;
        }
        let view = self.shared.views.load();
        self.publish_side_state(&effects);
        self.shared.hub.publish(&*view, &effects.changes).map_err(|error| match error {
            MvccError::Source(error) => Fatal::File(error),
            other => unreachable!("publishing reads no given revision: {other}"),
        })?;
        self.shared.raft.set_applied(self.applied.index, self.applied.term);
        let configured = std::mem::take(&mut self.conf_state_changed);
        let conf_state = configured.then(|| self.conf_state.clone());
        let batch = Batch {
            chunk,
            writes: effects.writes.into_iter().map(file_write).collect(),
            applied: self.applied,
            conf_state,
            compaction: effects.compaction,
            unfolded: Some(Unfolded::new(&self.shared, bytes)),
        };
        self.shared.to_file.send(batch).ok();
        for (id, answer) in self.answers.drain(..) {
            self.shared.waiters.answer(id, answer);
        }
        self.shared.apply_waiters.reached(self.applied.index);
        self.tell_raft();
        self.note_metrics(view.revision().to_wire(), view.key_count());
        Ok(())
    }

    /// Raft hands out more once it knows what is applied, and has room for four times this much before that:
    /// so it is told now and then, not woken for every batch. It waits when a large entry did not find room, though,
    /// for configuration changes, and without a leader for whatever must be applied before it may ask for an election.
    fn tell_raft(&mut self) {
        let raft = &self.shared.raft;
        let is_awaited =
            std::mem::take(&mut self.raft_waits) || raft.waits_for_applied() || raft.leader().is_none();
        if !is_awaited && self.untold_bytes < UNTOLD_BYTES_MAX {
            return;
        }
        self.untold_bytes = 0;
        let (index, conf_state) = (self.applied.index, self.conf_state.clone());
        self.to_raft.send(RaftInput::Applied { index, conf_state }).ok();
    }

    fn publish_side_state(&mut self, effects: &Effects) {
        if effects.alarms_changed {
            self.shared.alarms.store(Arc::new(self.state.alarms.clone()));
        }
        if effects.cluster_changed {
            let before = self.shared.cluster.load().version();
            if self.state.cluster.version() < before {
                // So that the log behind the snapshot holds nothing that an older release cannot read.
                tracing::info!("Cluster version downgrade detected, forcing snapshot");
                self.snapshot_is_forced = true;
            }
            self.shared.publish_cluster(&self.state.cluster);
        }
        let put_bytes: usize = effects.changes.iter().map(put_bytes).sum();
        self.shared.metrics.mvcc.total_put_size.add(put_bytes as f64);
        let metrics = &self.shared.metrics.lease;
        for ttl_secs in &effects.granted_ttls_secs {
            metrics.granted.inc();
            metrics.ttl.observe(*ttl_secs as f64);
        }
        metrics.revoked.inc_by(effects.revoked_leases);
    }

    fn note_metrics(&self, revision: i64, keys: usize) {
        let metrics = &self.shared.metrics;
        metrics.server.proposals_applied.set(self.applied.index as i64);
        metrics.mvcc.current_revision.set(revision);
        metrics.mvcc.keys.set(keys as i64);
        let compacted = self.state.store.compact_revision().map_or(-1, |revision| revision.to_wire());
        metrics.mvcc.compact_revision.set(compacted);
    }

    /// Once enough entries are applied the file takes over what the log holds of them.
    fn checkpoint_when_due(&mut self) {
        let is_due = self.applied.index >= self.snapshot_index + self.shared.config.snapshot_count;
        if !is_due && !std::mem::take(&mut self.snapshot_is_forced) {
            return;
        }
        self.snapshot_index = self.applied.index;
        let checkpoint = BackendInput::Checkpoint {
            applied: self.applied,
            conf_state: self.conf_state.clone(),
            v2_store: v2_store::dump(&self.state.cluster, self.applied.index),
        };
        self.shared.to_backend.send(checkpoint).ok();
    }
}

/// Where the replicated state stands when the thread starts.
pub struct Start {
    pub conf_state: ConfState,
    pub applied: Applied,
    pub snapshot_index: u64,
}

/// What the branches that a txn took were made of.
#[derive(Default)]
struct Operations {
    ranges: u64,
    puts: u64,
    deletes: u64,
}

impl Operations {
    fn add(&mut self, txn: &TxnOutcome) {
        for response in &txn.responses {
            match response {
                OpOutcome::Range(_) => self.ranges += 1,
                OpOutcome::Put(_) => self.puts += 1,
                OpOutcome::DeleteRange(_) => self.deletes += 1,
                OpOutcome::Txn(nested) => self.add(nested),
            }
        }
    }
}

/// Bytes of key and value; 0 for a delete.
fn put_bytes(change: &mvcc::Change) -> usize {
    match change.kind {
        ChangeKind::Put { .. } => {
            change.key.len() + mvcc::Record::parse(&change.kv).map_or(0, |record| record.value.len())
        }
        ChangeKind::Delete => 0,
    }
}

fn cost(command: &Command) -> u64 {
    match command {
        Command::Put(put) => quota::put_cost(put),
        Command::Txn(txn) => quota::txn_cost(txn),
        Command::LeaseGrant(_) => quota::LEASE_GRANT_COST,
        _ => 0,
    }
}

fn answer_error(error: ApplyError) -> Error {
    match error {
        ApplyError::Mvcc(MvccError::Compacted { .. }) => Error::Compacted,
        ApplyError::Mvcc(MvccError::FutureRevision { .. }) => Error::FutureRevision,
        ApplyError::Mvcc(MvccError::LeaseNotFound(_)) | ApplyError::LeaseNotFound => Error::LeaseNotFound,
        ApplyError::Mvcc(MvccError::KeyNotFound) => Error::KeyNotFound,
        // Applying stops the member before such an answer could be given.
        ApplyError::Mvcc(MvccError::Source(_)) | ApplyError::Corrupt => Error::Corrupt,
        ApplyError::LeaseExists => Error::LeaseExists,
        ApplyError::LeaseTtlTooLarge => Error::LeaseTtlTooLarge,
        ApplyError::NoSpace => Error::NoSpace,
    }
}

fn file_write(write: apply::Write) -> Write {
    match write {
        apply::Write::Membership(write) => write.into(),
        apply::Write::Lease { key, value } => Write { bucket: Bucket::Lease, key, value },
        apply::Write::Alarm { key, value } => Write { bucket: Bucket::Alarm, key, value },
        apply::Write::ScheduledCompaction { value } => Write::meta(SCHEDULED_COMPACT, value),
    }
}
