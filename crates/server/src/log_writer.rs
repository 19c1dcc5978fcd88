//! The wal thread: one write and one sync for all that waits.
//!
//! While a sync is under way the next writes gather in the queue, so batches grow with the load and no
//! timer is needed. Nothing that depends on a write leaves before its sync has returned.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use raft::{ConfState, EntryId, Index, Persist, Term};
use wal::{Preparation, SnapshotRecord, Wal};

use crate::replicate::RaftInput;
use crate::shared::Shared;

/// Bytes of entries that one sync may cover: bounds how long the first of them waits.
const BATCH_BYTES_MAX: u64 = 8 << 20;

/// Between two MiB of zeros for the next segment.
const PREPARATION_PAUSE: Duration = Duration::from_millis(5);

/// What the wal thread is told.
pub enum LogInput {
    Persist(Persist),
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
    to_raft: Sender<RaftInput>,
    /// Makes the next segment, while there is none.
    preparing: Option<JoinHandle<Result<Preparation, wal::Error>>>,
}

fn prepare(mut preparation: Preparation) -> Result<Preparation, wal::Error> {
    while !preparation.step()? {
        // Zeroing is not urgent: leave the disk to the log and to others.
        thread::sleep(PREPARATION_PAUSE);
    }
    Ok(preparation)
}

enum Step {
    Continue,
    Stop,
}

impl LogWriter {
    pub fn new(
        wal: Wal,
        shared: Arc<Shared>,
        inputs: Receiver<LogInput>,
        to_raft: Sender<RaftInput>,
    ) -> LogWriter {
        LogWriter { wal, shared, inputs, to_raft, preparing: None }
    }

    /// Runs until told to stop. An error of the disk ends it and the member: what a failed sync left on
    /// the disk cannot be known.
    pub fn run(mut self) {
        if let Err(error) = self.run_until_stopped() {
            self.shared.fail(format!("write-ahead log: {error}"));
        }
        if let Some(Ok(Ok(prepared))) = self.preparing.take().map(JoinHandle::join) {
            // One that was made in vain is removed.
            self.wal.finish_preparation(prepared).ok();
        }
        if let Err(error) = self.wal.close() {
            tracing::warn!(%error, "failed to close the write-ahead log");
        }
    }

    fn run_until_stopped(&mut self) -> Result<(), wal::Error> {
        loop {
            self.prepare_next_segment()?;
            let Ok(first) = self.inputs.recv() else { return Ok(()) };
            if let Step::Stop = self.write_batch(first)? {
                return Ok(());
            }
        }
    }

    /// Makes the next segment ready on a thread of its own, so that no write waits for it.
    fn prepare_next_segment(&mut self) -> Result<(), wal::Error> {
        if self.preparing.as_ref().is_some_and(JoinHandle::is_finished) {
            let Some(preparing) = self.preparing.take() else { return Ok(()) };
            let prepared = preparing.join().expect("preparing a segment does not panic")?;
            self.wal.finish_preparation(prepared)?;
        }
        if self.preparing.is_none()
            && self.wal.is_half_full()
            && let Some(preparation) = self.wal.start_preparation()?
        {
            self.preparing = Some(thread::spawn(move || prepare(preparation)));
        }
        Ok(())
    }

    fn write_batch(&mut self, first: LogInput) -> Result<Step, wal::Error> {
        let mut persists = Vec::new();
        let mut snapshot = None;
        let mut step = Step::Continue;
        let mut bytes = 0;
        let mut next = Some(first);
        while let Some(input) = next {
            match input {
                LogInput::Persist(persist) => {
                    bytes += persist.entries.iter().map(|entry| entry.payload_bytes()).sum::<u64>();
                    persists.push(persist);
                }
                LogInput::Snapshot { index, term, conf_state } => snapshot = Some((index, term, conf_state)),
                LogInput::Stop => {
                    step = Step::Stop;
                    break;
                }
            }
            next = if bytes < BATCH_BYTES_MAX { self.inputs.try_recv().ok() } else { None };
        }
        self.persist(persists)?;
        if let Some((index, term, conf_state)) = snapshot {
            self.save_snapshot(index, term, &conf_state)?;
        }
        Ok(step)
    }

    fn persist(&mut self, persists: Vec<Persist>) -> Result<(), wal::Error> {
        if persists.is_empty() {
            return Ok(());
        }
        let metrics = &self.shared.metrics.disk;
        let started = Instant::now();
        let mut must_sync = false;
        for persist in &persists {
            self.wal.append(persist.hard_state.as_ref(), &persist.entries)?;
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
        if self.to_raft.send(RaftInput::Persisted(acks)).is_err() {
            tracing::debug!("the raft thread has stopped");
        }
        Ok(())
    }

    fn save_snapshot(&mut self, index: u64, term: u64, conf_state: &ConfState) -> Result<(), wal::Error> {
        let id = EntryId::new(Term(term), Index(index));
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
