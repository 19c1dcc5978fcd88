//! The apply thread: the single writer of everything the cluster agrees on.
//!
//! For each batch of committed entries: apply them all, publish one view, tell the watch hub, hand the batch
//! to the backend, answer the proposers. In that order, so that whoever is answered finds its write in
//! whatever it asks for next, and no watcher created afterwards is told of it again.

use std::sync::Arc;
use std::time::Instant;

use apply::{ApplyError, Command, Effects, Fatal, OpOutcome, Outcome, Request, State, TxnOutcome};
use bytes::Bytes;
use crossbeam_channel::{Receiver, Sender, TryRecvError};
use membership::{Member, MemberChange, MemberId};
use mvcc::{Answer, ChangeKind, IndexCompactionState, MvccError};
use proto::etcdserverpb::alarm_request::AlarmAction;
use raft::{ConfChangeType, ConfChangeV2, ConfState, Entry, EntryKind};
use tokio::runtime::Handle;

use crate::backend::{Applied, BackendInput, Batch, Bucket, SCHEDULED_COMPACT, Write};
use crate::error::Error;
use crate::handle::Server;
use crate::quota;
use crate::replicate::RaftInput;
use crate::shared::{Shared, StopReason};
use crate::v2_store;

/// Entries applied before their view is published: bounds how long the first of them waits.
const ENTRIES_PER_BATCH: usize = 4096;

/// Keys whose compacted history is freed from the index between two looks at the queue.
const INDEX_SLICE: usize = 1024;

/// Bytes of entries applied before raft is told: a quarter of what it hands out without being told.
const UNTOLD_BYTES_MAX: usize = 256 << 10;

/// What an entry counts beside its data: more than raft counts for it.
const ENTRY_OVERHEAD_BYTES: usize = 32;

/// What the apply thread is told.
pub enum ApplyInput {
    /// Committed entries, in order and without a gap.
    Entries(Vec<Entry>),
    Stop,
}

/// Owner of the replicated state.
pub struct ApplyLoop {
    state: State,
    shared: Arc<Shared>,
    inputs: Receiver<ApplyInput>,
    to_raft: Sender<RaftInput>,
    runtime: Handle,
    conf_state: ConfState,
    /// The state holds everything up to here; entries before it only bring configuration changes.
    applied: Applied,
    /// Index of the last snapshot record in the log.
    snapshot_index: u64,
    /// Set by a configuration change since the last batch.
    conf_state_changed: bool,
    /// Whether the index still holds what compactions have dropped.
    index_compaction: IndexCompactionState,
    answers: Vec<(u64, Result<Outcome, Error>)>,
    /// Bytes of entries applied since raft was told.
    untold_bytes: usize,
}

impl ApplyLoop {
    pub fn new(
        state: State,
        shared: Arc<Shared>,
        inputs: Receiver<ApplyInput>,
        to_raft: Sender<RaftInput>,
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
            // One that a restart interrupted; without such the first slice finds nothing to do.
            index_compaction: IndexCompactionState::Unfinished,
            answers: Vec::new(),
            untold_bytes: 0,
        }
    }

    /// Runs until told to stop. A broken invariant ends it and the member.
    pub fn run(mut self) {
        while let Some(ApplyInput::Entries(mut entries)) = self.next_input() {
            let mut stop = false;
            while entries.len() < ENTRIES_PER_BATCH {
                match self.inputs.try_recv() {
                    Ok(ApplyInput::Entries(more)) => entries.extend(more),
                    Ok(ApplyInput::Stop) => {
                        stop = true;
                        break;
                    }
                    Err(_) => break,
                }
            }
            if let Err(error) = self.apply_batch(entries) {
                self.shared.fail(format!("apply: {error}"));
                return;
            }
            if stop {
                break;
            }
        }
    }

    /// Waits for the next input. The wait goes to the index: were it only compacted behind batches, a store
    /// with many keys and few writes would never get through before the next compaction begins anew.
    fn next_input(&mut self) -> Option<ApplyInput> {
        while self.index_compaction == IndexCompactionState::Unfinished {
            match self.inputs.try_recv() {
                Ok(input) => return Some(input),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.compact_index(),
            }
        }
        self.inputs.recv().ok()
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
        let Some(last) = entries.last().map(|entry| entry.index.0) else { return Ok(()) };
        for entry in entries {
            self.untold_bytes += entry.data.len() + ENTRY_OVERHEAD_BYTES;
            self.apply_entry(entry)?;
        }
        let still_replaying = last < self.applied.index;
        self.publish(last)?;
        // Until then the membership is older than the applied index: a snapshot record must not pair them.
        if !still_replaying {
            self.checkpoint_when_due();
        }
        self.compact_index();
        Ok(())
    }

    fn apply_entry(&mut self, entry: Entry) -> Result<(), Fatal> {
        let position = Applied { index: entry.index.0, term: entry.term.0 };
        let is_new = position.index > self.applied.index;
        match entry.kind {
            EntryKind::Normal if !is_new => {}
            EntryKind::Normal if entry.data.is_empty() => self.note_new_term(position.term),
            EntryKind::Normal => self.apply_request(entry.data)?,
            EntryKind::ConfChange | EntryKind::ConfChangeV2 => self.apply_conf_change(&entry, is_new)?,
        }
        if is_new {
            assert_eq!(position.index, self.applied.index + 1, "an entry was left out or applied twice");
            self.applied = position;
        }
        Ok(())
    }

    /// The first entry of a leader's term: from here on its lessor decides when leases end.
    fn note_new_term(&mut self, term: u64) {
        // Looked at under the lock: a member that loses its leadership says so before it demotes the lessor.
        let mut lessor = self.shared.lessor.lock();
        if self.shared.is_leader() && self.shared.raft.term() == term {
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
        // Compat: the write is applied, and then its proposer learns that the quota is reached.
        let over_quota = awaited && !quota::has_room(&self.shared, cost(&command));
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
        if !awaited {
            return Ok(());
        }
        let answer = match applied {
            Ok(_) if over_quota => {
                self.raise_no_space();
                Err(Error::NoSpace)
            }
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

    fn raise_no_space(&self) {
        let server = Server { shared: self.shared.clone() };
        self.runtime.spawn(async move { server.raise_no_space().await });
    }

    // --- membership ---

    fn apply_conf_change(&mut self, entry: &Entry, is_new: bool) -> Result<(), Fatal> {
        let malformed = |reason: String| Fatal::Command(apply::CommandError::Malformed(reason));
        let change = match ConfChangeV2::from_entry(entry) {
            Ok(Some(change)) => change,
            Ok(None) => return Ok(()),
            Err(error) => return Err(malformed(error.to_string())),
        };
        if let [single] = change.changes[..] {
            let id = MemberId(single.node_id);
            let context = &change.context[..];
            let member_change = match single.change {
                ConfChangeType::AddNode => MemberChange::from_add_context(context, false),
                ConfChangeType::AddLearnerNode => MemberChange::from_add_context(context, true),
                ConfChangeType::UpdateNode => MemberChange::from_update_context(context),
                ConfChangeType::RemoveNode => Ok(MemberChange::Remove(id)),
            };
            let member_change = member_change.map_err(|error| malformed(error.to_string()))?;
            if is_new {
                self.change_members(id, member_change);
            }
        }
        self.conf_state = self.change_raft_configuration(change)?;
        // The file already has the configuration that later entries made.
        self.conf_state_changed |= is_new;
        Ok(())
    }

    fn change_members(&mut self, id: MemberId, change: MemberChange) {
        let known = self.state.cluster.validate(&change, self.shared.config.max_learners);
        if let Err(reason) = known {
            tracing::warn!(%reason, member_id = %id, "a committed membership change does not apply");
            return;
        }
        match &change {
            MemberChange::Add(member) => self.log_added(member),
            MemberChange::Remove(removed) if *removed == self.shared.member_id => {
                tracing::warn!("the member has been permanently removed from the cluster");
                self.shared.stop_with(StopReason::Removed);
            }
            MemberChange::Remove(_) | MemberChange::Promote(_) | MemberChange::UpdatePeerUrls { .. } => {}
        }
        let writes = self.state.cluster.apply(change);
        self.state.note_membership(writes);
    }

    fn log_added(&self, member: &Member) {
        tracing::info!(
            cluster_id = %self.shared.cluster_id,
            local_member_id = %self.shared.member_id,
            added_peer_id = %member.id,
            added_peer_peer_urls = ?member.peer_urls,
            added_peer_is_learner = member.is_learner,
            "added member"
        );
    }

    fn change_raft_configuration(&self, change: ConfChangeV2) -> Result<ConfState, Fatal> {
        let (reply, configured) = crossbeam_channel::bounded(1);
        if self.to_raft.send(RaftInput::ConfChange { change, reply }).is_err() {
            return Ok(self.conf_state.clone());
        }
        match configured.recv() {
            Ok(Ok(conf_state)) => Ok(conf_state),
            Ok(Err(error)) => Err(Fatal::Command(apply::CommandError::Malformed(error.to_string()))),
            // The raft thread has stopped, and with it the member.
            Err(_) => Ok(self.conf_state.clone()),
        }
    }

    // --- effects ---

    /// `last` is the batch's last entry; after a restart the file may already hold later ones.
    fn publish(&mut self, last: u64) -> Result<(), Fatal> {
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
        };
        self.shared.to_file.send(batch).ok();
        for (id, answer) in self.answers.drain(..) {
            self.shared.waiters.answer(id, answer);
        }
        self.shared.apply_waiters.reached(self.applied.index);
        self.tell_raft(last, configured);
        self.note_metrics(view.revision().to_wire(), view.key_count());
        Ok(())
    }

    /// Raft hands out more once it knows what is applied, and has room for four times this much before that:
    /// so it is told now and then, not woken for every batch. It waits for a configuration change, though, and
    /// without a leader for whatever must be applied before it may ask for an election.
    fn tell_raft(&mut self, index: u64, configured: bool) {
        let is_awaited = configured || self.shared.raft.leader().is_none();
        if !is_awaited && self.untold_bytes < UNTOLD_BYTES_MAX {
            return;
        }
        self.untold_bytes = 0;
        self.to_raft.send(RaftInput::Applied { index, conf_state: self.conf_state.clone() }).ok();
    }

    fn publish_side_state(&self, effects: &Effects) {
        if effects.alarms_changed {
            self.shared.alarms.store(Arc::new(self.state.alarms.clone()));
        }
        if effects.cluster_changed {
            self.shared.cluster.store(Arc::new(self.state.cluster.clone()));
            self.shared.metrics.server.is_learner.set(i64::from(self.shared.is_learner()));
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
        if self.applied.index < self.snapshot_index + self.shared.config.snapshot_count {
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
