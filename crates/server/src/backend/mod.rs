//! The backend thread: owns the file, which is a checkpoint of what the log already holds.
//!
//! Batches from the apply thread are folded into the file together, at the latest when the batch interval
//! or limit is reached. No client waits for that. Between folds the thread deletes what compaction left
//! behind, in slices. What takes longer has a thread of its own: hashes, snapshots, and the copying of a
//! defragmentation, whose result then takes the file's place.

mod compaction;
mod copy;
mod defrag;
mod image;
mod install;
pub(crate) mod snap_file;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bolt::Db;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, select};
use mvcc::{Chunk, RevisionPair};
use raft::{ConfState, Message};
use tokio::sync::oneshot;

pub(crate) use copy::copy_to;
pub(crate) use defrag::options;
pub use image::{HashAnswer, HashSource, SnapshotReader};
pub(crate) use storage::{
    Applied, Bucket, FileSource, SCHEDULED_COMPACT, STORAGE_VERSION, Write, applied, make_buckets, pairs,
    storage_version,
};

use crate::apply_loop::Installed;
use crate::error::Error;
use crate::inlet::Inlet;
use crate::log_writer::{LogInput, LogWriter};
use crate::shared::{Flow, Shared};
use compaction::Compaction;
use defrag::{Asker, Defrag};
use storage::{Buckets, CONF_STATE, CONSISTENT_INDEX, TERM, conf_state_json, purge_snap_files};

/// How often waiting batches are counted against the limit within one batch interval.
const LOOKS_PER_INTERVAL: u32 = 4;

/// What one applied batch changes in the file.
pub struct Batch {
    /// The batch's records; readers see them in the view until the file holds them.
    pub chunk: Option<Arc<Chunk>>,
    pub writes: Vec<Write>,
    pub applied: Applied,
    /// Set when the batch changed it.
    pub conf_state: Option<ConfState>,
    /// A compaction that begins behind this batch.
    pub compaction: Option<mvcc::CompactionPlan>,
    /// `None` for what is the backend's own.
    #[expect(dead_code, reason = "it counts while it lives")]
    pub unfolded: Option<Unfolded>,
}

/// Counts the bytes of a batch among those that wait for the file, until it is dropped.
pub struct Unfolded {
    bytes: u64,
    shared: Arc<Shared>,
}

impl Unfolded {
    pub fn new(shared: &Arc<Shared>, bytes: u64) -> Unfolded {
        shared.file.add_unfolded(bytes);
        Unfolded { bytes, shared: shared.clone() }
    }
}

impl Drop for Unfolded {
    fn drop(&mut self) {
        self.shared.file.subtract_unfolded(self.bytes);
    }
}

/// What the backend thread is told beside batches. Batches that were sent before count as received before.
/// Answers that need the disk wait for a fold first.
pub enum BackendInput {
    /// A write that no log entry asks for.
    Write(Write),
    /// Once the file holds everything before this input, the log may forget it.
    Checkpoint {
        applied: Applied,
        conf_state: ConfState,
        v2_store: Vec<u8>,
    },
    AwaitCompaction(oneshot::Sender<()>),
    Defragment(Asker),
    Hash(oneshot::Sender<HashSource>),
    /// A raft message that needs the file beside it.
    SendSnapshot(Box<Message>),
    /// The file received for the snapshot at this index takes the place of ours.
    Install {
        index: u64,
        done: Sender<Installed>,
    },
    /// The apply thread has read the installed file: service of it begins.
    Installed {
        unfinished_compaction: Option<mvcc::CompactionPlan>,
    },
    Snapshot(oneshot::Sender<Result<SnapshotReader, Error>>),
    Stop,
}

/// What connects the backend thread with the others.
pub struct Queues {
    pub batches: Receiver<Batch>,
    pub inputs: Receiver<BackendInput>,
    pub to_log: Inlet<LogWriter>,
}

/// Owner of the file.
pub struct Backend {
    db: Db,
    path: PathBuf,
    disk: Arc<dyn disk::Disk>,
    shared: Arc<Shared>,
    /// From the apply thread. Sending wakes nobody while batches wait already: see [`Backend::next_input`].
    batches: Receiver<Batch>,
    inputs: Receiver<BackendInput>,
    to_log: Inlet<LogWriter>,
    waiting: Vec<Batch>,
    /// Single puts and deletes in `waiting`.
    waiting_ops: usize,
    /// When the first of `waiting` came.
    waiting_since: Option<Duration>,
    /// Records up to here are in the file.
    folded: Option<RevisionPair>,
    compaction: Option<Compaction>,
    /// Compactions asked for while one was under way.
    next_compactions: VecDeque<mvcc::CompactionPlan>,
    compaction_waiters: Vec<oneshot::Sender<()>>,
    defrag: Option<Defrag>,
    /// Who asked for a defragmentation that is not begun: one call each, that waits for its answer.
    defrag_askers: Vec<Asker>,
    /// Inputs that need the file while it is being exchanged.
    deferred: Vec<BackendInput>,
    /// Between an installation and the word that the apply thread has read the new file.
    exchanging: bool,
    failed: bool,
}

impl Backend {
    pub fn new(
        db: Db,
        path: PathBuf,
        disk: Arc<dyn disk::Disk>,
        shared: Arc<Shared>,
        queues: Queues,
        unfinished_compaction: Option<mvcc::CompactionPlan>,
    ) -> Backend {
        let Queues { batches, inputs, to_log } = queues;
        let compaction = unfinished_compaction.map(|plan| Compaction::resume(plan, shared.clock.elapsed()));
        Backend {
            db,
            path,
            disk,
            shared,
            batches,
            inputs,
            to_log,
            waiting: Vec::new(),
            waiting_ops: 0,
            waiting_since: None,
            folded: None,
            compaction,
            next_compactions: VecDeque::new(),
            compaction_waiters: Vec::new(),
            defrag: None,
            defrag_askers: Vec::new(),
            deferred: Vec::new(),
            exchanging: false,
            failed: false,
        }
    }

    /// Runs until told to stop. An error of the file ends it and the member.
    pub fn run(mut self) {
        self.begin();
        loop {
            let input = match self.next_input() {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            if self.turn(input) == Flow::Stop {
                break;
            }
        }
        // After an error nothing may be written to the file any more, not even that it was closed.
        if self.failed {
            return;
        }
        if let Err(error) = self.db.clone().close() {
            tracing::warn!(%error, "failed to close the database file");
        }
    }

    /// What must happen before the first turn.
    pub fn begin(&self) {
        self.note_sizes();
    }

    /// Takes what waits, `first` before all else, and does what is due. Does not wait.
    pub fn turn(&mut self, first: Option<BackendInput>) -> Flow {
        let input = first.or_else(|| self.inputs.try_recv().ok());
        // Behind the input: batches that were sent before it are there now.
        self.take_batches();
        self.work(input).unwrap_or_else(|error| {
            self.failed = true;
            self.shared.fail(format!("database file {}: {error}", self.path.display()));
            Flow::Stop
        })
    }

    fn work(&mut self, input: Option<BackendInput>) -> bolt::Result<Flow> {
        match input {
            Some(BackendInput::Stop) => {
                self.abandon_defrag();
                self.refuse_defrags();
                // What waits while the file is exchanged belongs to neither file.
                if !self.exchanging {
                    self.fold()?;
                }
                return Ok(Flow::Stop);
            }
            Some(input) => self.handle(input)?,
            None => {}
        }
        self.finish_defrag_when_copied()?;
        if self.fold_is_due() {
            self.fold()?;
        }
        self.compact_when_due()?;
        self.answer_compaction_waiters();
        Ok(Flow::Continue)
    }

    /// Waits for an input, for the first batch, or until something is due. While batches wait for their fold,
    /// further ones are only looked at a few times per interval: each wake-up would cost more than its batch.
    fn next_input(&mut self) -> Result<BackendInput, RecvTimeoutError> {
        let wait = self.time_to_next_task();
        if !self.waiting.is_empty() {
            return self
                .inputs
                .recv_timeout(wait.min(self.shared.config.backend_batch_interval / LOOKS_PER_INTERVAL));
        }
        let mut first = None;
        let input = select! {
            recv(self.batches) -> batch => {
                first = batch.ok();
                Err(RecvTimeoutError::Timeout)
            }
            recv(self.inputs) -> input => input.map_err(|_| RecvTimeoutError::Disconnected),
            default(wait) => Err(RecvTimeoutError::Timeout),
        };
        if let Some(batch) = first {
            self.take(batch);
        }
        input
    }

    fn take_batches(&mut self) {
        while let Ok(batch) = self.batches.try_recv() {
            self.take(batch);
        }
    }

    fn take(&mut self, batch: Batch) {
        let records = batch.chunk.as_ref().map_or(0, |chunk| chunk.records().len());
        self.waiting_ops += records + batch.writes.len();
        self.waiting.push(batch);
        self.waiting_since.get_or_insert_with(|| self.shared.clock.elapsed());
    }

    fn time_to_next_task(&self) -> Duration {
        const IDLE: Duration = Duration::from_secs(3600);
        const COPYING: Duration = Duration::from_millis(20);
        let interval = self.shared.config.backend_batch_interval;
        let now = self.shared.clock.elapsed();
        let fold =
            self.waiting_since.map_or(IDLE, |since| interval.saturating_sub(now.saturating_sub(since)));
        // Compactions rest while the file is being copied.
        let other = match (&self.defrag, &self.compaction) {
            (Some(_), _) => COPYING,
            (None, Some(compaction)) => compaction.next_slice.saturating_sub(now),
            (None, None) => IDLE,
        };
        fold.min(other)
    }

    fn handle(&mut self, input: BackendInput) -> bolt::Result<()> {
        match input {
            BackendInput::Install { index, done } => self.install(index, done),
            BackendInput::Installed { unfinished_compaction } => {
                self.exchanging = false;
                if let Some(plan) = unfinished_compaction {
                    self.compaction = Some(Compaction::resume(plan, self.shared.clock.elapsed()));
                }
                for input in std::mem::take(&mut self.deferred) {
                    self.handle(input)?;
                }
                self.start_defrag();
            }
            // The views still belong to the old file.
            input if self.exchanging => self.deferred.push(input),
            BackendInput::Write(write) => {
                let applied = self.waiting.last().map_or(Applied::default(), |batch| batch.applied);
                let writes = vec![write];
                self.waiting.push(Batch {
                    chunk: None,
                    writes,
                    applied,
                    conf_state: None,
                    compaction: None,
                    unfolded: None,
                });
                self.waiting_since.get_or_insert_with(|| self.shared.clock.elapsed());
            }
            BackendInput::AwaitCompaction(done) => {
                self.compaction_waiters.push(done);
                self.fold()?;
            }
            BackendInput::Checkpoint { applied, conf_state, v2_store } => {
                self.fold()?;
                self.checkpoint(applied, conf_state, &v2_store);
            }
            BackendInput::Defragment(asker) => {
                self.fold()?;
                self.defragment(asker);
            }
            BackendInput::Hash(done) => {
                self.fold()?;
                let revision = self.shared.views.load().revision();
                done.send(HashSource::new(self.db.begin_read(), revision)).ok();
            }
            BackendInput::SendSnapshot(message) => {
                self.fold()?;
                self.send_snapshot(*message)?;
            }
            BackendInput::Snapshot(done) => {
                self.fold()?;
                let tx = self.db.begin_read();
                let version = storage_version(&tx)?;
                let duration = self.shared.metrics.disk.backend_snapshot.clone();
                done.send(Ok(SnapshotReader::new(tx, version, duration))).ok();
            }
            BackendInput::Stop => unreachable!("the loop takes it out"),
        }
        Ok(())
    }

    /// Whether the result of a thread beside this one can be taken. A simulation waits for it: how long it takes
    /// must not matter there.
    fn is_done<T>(&self, thread: &JoinHandle<T>) -> bool {
        thread.is_finished() || self.shared.clock.is_simulated()
    }

    fn fold_is_due(&self) -> bool {
        let config = &self.shared.config;
        !self.exchanging
            && self.waiting_since.is_some_and(|since| {
                self.waiting_ops >= config.backend_batch_limit
                    || self.shared.clock.elapsed().saturating_sub(since) >= config.backend_batch_interval
            })
    }

    /// Writes all that waits in one transaction of the file, and lets readers use it from there.
    fn fold(&mut self) -> bolt::Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        let batches = std::mem::take(&mut self.waiting);
        self.waiting_ops = 0;
        self.waiting_since = None;
        let mut tx = self.db.begin_write()?;
        let buckets = Buckets::open(&mut tx)?;
        write_batches(&mut tx, &buckets, &batches)?;
        tx.commit()?;
        self.shared.metrics.disk.backend_commit.observe(started.elapsed().as_secs_f64());
        if let Some(chunk) = batches.iter().rev().find_map(|batch| batch.chunk.as_ref()) {
            self.folded = Some(chunk.last());
        }
        self.rebase_views()?;
        for plan in batches.into_iter().filter_map(|batch| batch.compaction) {
            self.start_compaction(plan)?;
        }
        Ok(())
    }

    /// Has the views read from the file's newest state.
    fn rebase_views(&mut self) -> bolt::Result<()> {
        let source = FileSource::new(self.db.begin_read())?;
        self.shared.views.rebase(Arc::new(source), self.folded.unwrap_or_default());
        self.note_sizes();
        Ok(())
    }

    fn note_sizes(&self) {
        let stats = self.db.stats();
        let (size, in_use) = (stats.size_bytes() as i64, stats.in_use_bytes() as i64);
        self.shared.file.set(size, in_use, stats.open_readers as i64);
        let metrics = &self.shared.metrics.mvcc;
        metrics.db_total_size.set(size);
        metrics.db_total_size_in_use.set(in_use);
        metrics.db_open_read_transactions.set(stats.open_readers as i64);
    }

    /// The file is durable up to `applied`: etcd's order is the `.snap` file, then the record in the log.
    fn checkpoint(&mut self, applied: Applied, conf_state: ConfState, v2_store: &[u8]) {
        if let Err(error) = self.save_snap_file(applied, &conf_state, v2_store) {
            self.shared.fail(format!("save .snap file at index {}: {error}", applied.index));
            return;
        }
        let Applied { index, term } = applied;
        self.to_log.send(LogInput::Snapshot { index, term, conf_state }).ok();
    }

    fn save_snap_file(
        &self,
        applied: Applied,
        conf_state: &ConfState,
        v2_store: &[u8],
    ) -> std::io::Result<()> {
        let dir = self.path.parent().expect("the file lies in the snap directory");
        let started = Instant::now();
        let metrics = &self.shared.metrics.disk;
        snap_file::save(self.disk.as_ref(), dir, applied, conf_state, v2_store, metrics)?;
        purge_snap_files(self.disk.as_ref(), dir, self.shared.config.max_snapshots)?;
        // The file holds more than these by now, so that no start looks for them.
        self.remove_older_received(dir, applied.index)?;
        metrics.snap_save_total.observe(started.elapsed().as_secs_f64());
        Ok(())
    }
}

fn write_batches(tx: &mut bolt::WriteTx, buckets: &Buckets, batches: &[Batch]) -> bolt::Result<()> {
    let keys = buckets.id(Bucket::Key);
    let meta = buckets.id(Bucket::Meta);
    for batch in batches {
        for record in batch.chunk.iter().flat_map(|chunk| chunk.records()) {
            tx.put(keys, record.key.to_bytes().as_ref(), &record.value)?;
        }
        for write in &batch.writes {
            buckets.apply(tx, write)?;
        }
        if let Some(conf_state) = &batch.conf_state {
            tx.put(meta, CONF_STATE, &conf_state_json(conf_state))?;
        }
    }
    let applied = batches.iter().map(|batch| batch.applied).max().unwrap_or_default();
    if applied.index > 0 {
        tx.put(meta, CONSISTENT_INDEX, &applied.index.to_be_bytes())?;
        tx.put(meta, TERM, &applied.term.to_be_bytes())?;
    }
    Ok(())
}
