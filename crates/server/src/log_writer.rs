//! The wal thread: one write and one sync for all that waits.
//!
//! While a sync is under way the next writes gather in the queue, so batches grow with the load and no
//! timer is needed. Nothing that depends on a write leaves before its sync has returned.

use std::fmt;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use raft::{ConfState, EntryId, HardState, Index, Persist, PersistAck, Snapshot, Term};
use wal::{Preparation, SnapshotRecord, Wal};

use crate::apply_loop::{ApplyInput, ApplyLoop};
use crate::backend::{Applied, snap_file};
use crate::inlet::{Inlet, TakesTurns};
use crate::replicate::{RaftInput, Replicator};
use crate::shared::{Flow, Shared};

/// Bytes of entries that one sync may cover: bounds how long the first of them waits.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Between two MiB of zeros for the next segment.
const PREPARATION_PAUSE: Duration = Duration::from_millis(5);

/// After the next segment could not be made, for want of space perhaps.
const PREPARATION_RETRY: Duration = Duration::from_secs(10);

/// What the wal thread is told.
pub enum LogInput {
    Persist(Persist),
    /// The commit index at the end: nothing else is written any more.
    Commit(HardState),
    /// The file holds everything up to here, durably: the log may forget what is older.
    Snapshot {
        index: u64,
        term: u64,
        conf_state: ConfState,
    },
    Stop,
}

/// Owner of the log files.
pub struct LogWriter {
    wal: Wal,
    shared: Arc<Shared>,
    inputs: Receiver<LogInput>,
    to_raft: Inlet<Replicator>,
    to_apply: Inlet<ApplyLoop>,
    /// Makes the next segment, while there is none.
    preparing: Option<JoinHandle<Prepared>>,
    /// Not before, as the last one failed.
    next_preparation: Duration,
}

/// Why the log cannot go on.
#[derive(Debug)]
enum LogError {
    Wal(wal::Error),
    SnapFile(std::io::Error),
}

impl fmt::Display for LogError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LogError::Wal(error) => error.fmt(f),
            LogError::SnapFile(error) => write!(f, "save .snap file of a received snapshot: {error}"),
        }
    }
}

impl From<wal::Error> for LogError {
    fn from(error: wal::Error) -> LogError {
        LogError::Wal(error)
    }
}

/// A segment that is ready, or as far as it came, and why not farther.
type Prepared = (Preparation, Result<(), wal::Error>);

fn prepare(mut preparation: Preparation, pause: Duration) -> Prepared {
    loop {
        match preparation.step() {
            Ok(true) => return (preparation, Ok(())),
            // Zeroing is not urgent: leave the disk to the log and to others.
            Ok(false) => thread::sleep(pause),
            Err(error) => return (preparation, Err(error)),
        }
    }
}

impl TakesTurns for LogWriter {
    type Input = LogInput;

    /// An error of the disk ends it and the member: what a failed sync left on the disk cannot be known.
    fn turn(&mut self) -> Flow {
        let Ok(first) = self.inputs.try_recv() else { return Flow::Continue };
        let flow = self.write_batch(first).unwrap_or_else(|error| {
            self.shared.fail(format!("write-ahead log: {error}"));
            Flow::Stop
        });
        if flow == Flow::Continue
            && let Err(error) = self.prepare_next_segment()
        {
            // The log does without, and the present segment has space of its own.
            tracing::warn!(%error, "failed to prepare the next segment of the write-ahead log");
            self.next_preparation = self.shared.clock.elapsed() + PREPARATION_RETRY;
        }
        flow
    }

    fn idle_for(&self) -> Option<Duration> {
        None
    }

    fn end(mut self) {
        if let Some(Ok((prepared, _))) = self.preparing.take().map(JoinHandle::join) {
            // One that was made in vain is removed.
            self.wal.finish_preparation(prepared).ok();
        }
        if let Err(error) = self.wal.close() {
            tracing::warn!(%error, "failed to close the write-ahead log");
        }
    }
}

impl LogWriter {
    pub fn new(
        wal: Wal,
        shared: Arc<Shared>,
        inputs: Receiver<LogInput>,
        to_raft: Inlet<Replicator>,
        to_apply: Inlet<ApplyLoop>,
    ) -> LogWriter {
        LogWriter {
            wal,
            shared,
            inputs,
            to_raft,
            to_apply,
            preparing: None,
            next_preparation: Duration::ZERO,
        }
    }

    /// Makes the next segment ready on a thread of its own, so that no write waits for it.
    fn prepare_next_segment(&mut self) -> Result<(), wal::Error> {
        if self.preparing.as_ref().is_some_and(JoinHandle::is_finished) {
            let Some(preparing) = self.preparing.take() else { return Ok(()) };
            self.finish_preparation(preparing.join().expect("preparing a segment does not panic"))?;
        }
        if self.preparing.is_none()
            && self.wal.is_half_full()
            && self.shared.clock.elapsed() >= self.next_preparation
            && let Some(preparation) = self.wal.start_preparation()?
        {
            if self.shared.clock.is_simulated() {
                // Threads have no order that could be repeated.
                return self.finish_preparation(prepare(preparation, Duration::ZERO));
            }
            self.preparing = Some(thread::spawn(move || prepare(preparation, PREPARATION_PAUSE)));
        }
        Ok(())
    }

    /// What did not become ready is removed, and gives its space back.
    fn finish_preparation(&mut self, (preparation, outcome): Prepared) -> Result<(), wal::Error> {
        self.wal.finish_preparation(preparation)?;
        outcome
    }

    fn write_batch(&mut self, first: LogInput) -> Result<Flow, LogError> {
        let mut persists = Vec::new();
        let mut snapshot = None;
        let mut flow = Flow::Continue;
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(input) = next {
            match input {
                LogInput::Persist(persist) => {
                    bytes += persist.entries.iter().map(|entry| entry.payload_bytes()).sum::<u64>();
                    persists.push(persist);
                }
                LogInput::Commit(hard_state) => self.wal.append(Some(&hard_state), &[])?,
                LogInput::Snapshot { index, term, conf_state } => snapshot = Some((index, term, conf_state)),
                LogInput::Stop => {
                    flow = Flow::Stop;
                    break;
                }
            }
            next = if bytes < BATCH_BYTES_MAX { self.inputs.try_recv().ok() } else { None };
        }
        self.persist(persists)?;
        if let Some((index, term, conf_state)) = snapshot {
            self.save_snapshot(index, term, &conf_state)?;
        }
        Ok(flow)
    }

    fn persist(&mut self, persists: Vec<Persist>) -> Result<(), LogError> {
        if persists.is_empty() {
            return Ok(());
        }
        let shared = self.shared.clone();
        let metrics = &shared.metrics.disk;
        let started = Instant::now();
        let mut must_sync = false;
        let mut received = Vec::new();
        for persist in &persists {
            if let Some(snapshot) = &persist.snapshot {
                self.record_received(snapshot)?;
                // The state first: it says that the snapshot is committed, and entries behind a snapshot that
                // is not could not be read again.
                self.wal.append(persist.hard_state.as_ref(), &[])?;
                self.wal.append(None, &persist.entries)?;
                received.push(snapshot.clone());
            } else {
                self.wal.append(persist.hard_state.as_ref(), &persist.entries)?;
            }
            must_sync |= persist.must_sync;
        }
        if must_sync {
            metrics.wal_write_bytes.add(self.wal.waiting_bytes() as i64);
            let syncing = Instant::now();
            self.wal.sync()?;
            metrics.wal_fsync.observe(syncing.elapsed().as_secs_f64());
        }
        metrics.wal_write.observe(started.elapsed().as_secs_f64());
        let mut messages = Vec::new();
        let acks = persists
            .into_iter()
            .map(|persist| {
                let synced = persist.synced();
                messages.extend(synced.messages);
                synced.ack
            })
            .collect();
        if !messages.is_empty() {
            self.shared.network.send(messages);
        }
        // Before the raft thread learns of it, and lets entries behind the snapshot follow.
        for snapshot in received {
            self.to_apply.send(ApplyInput::Snapshot(Box::new(snapshot))).ok();
        }
        self.tell_raft(acks);
        Ok(())
    }

    /// While nothing waits to be written, this thread takes the turn of raft. If then still nothing waits, also
    /// that of apply, when what that is slow at can hold up no other member.
    fn tell_raft(&self, acks: Vec<PersistAck>) {
        if self.to_raft.put(RaftInput::Persisted(acks)).is_err() {
            return tracing::debug!("the raft thread has stopped");
        }
        if !self.inputs.is_empty() {
            return self.to_raft.wake();
        }
        let claim = self.shared.is_alone().then(|| self.to_apply.claim());
        self.to_raft.turn_here();
        if let Some(claim) = claim
            && self.inputs.is_empty()
        {
            claim.turn_here();
        }
    }

    /// The file came before the message, so it is durable. Nothing counts until the hard state says that the
    /// snapshot is committed: see [`wal::valid_snapshots`].
    fn record_received(&mut self, snapshot: &Snapshot) -> Result<(), LogError> {
        let shared = &self.shared;
        let metadata = &snapshot.metadata;
        let id = snapshot.entry_id();
        // Compat: etcd 3.6 and older start from this file. Newer leaders may leave its content out.
        if !snapshot.data.is_empty() {
            let dir = shared.config.snap_dir();
            let applied = Applied { index: id.index.0, term: id.term.0 };
            let (conf_state, data) = (&metadata.conf_state, &snapshot.data);
            snap_file::save(shared.disk.as_ref(), &dir, applied, conf_state, data, &shared.metrics.disk)
                .map_err(LogError::SnapFile)?;
        }
        self.wal.save_snapshot(&SnapshotRecord {
            index: id.index,
            term: id.term,
            conf_state: Some(metadata.conf_state.clone()),
        })?;
        tracing::info!(snapshot_index = id.index.0, "recorded a snapshot from the leader");
        Ok(())
    }

    fn save_snapshot(&mut self, index: u64, term: u64, conf_state: &ConfState) -> Result<(), wal::Error> {
        let id = EntryId::new(Term(term), Index(index));
        // What is applied is committed, and a start passes over snapshots of which the log does not say so.
        let hard_state = self.wal.hard_state();
        if hard_state.commit < id.index {
            self.wal.append(Some(&HardState { commit: id.index, ..hard_state }), &[])?;
        }
        self.wal.save_snapshot(&SnapshotRecord {
            index: id.index,
            term: id.term,
            conf_state: Some(conf_state.clone()),
        })?;
        self.wal.release_to(id.index);
        self.wal.purge(self.shared.config.max_wals)?;
        tracing::info!(snapshot_index = index, "saved snapshot");
        Ok(())
    }
}
