//! Deleting what a compaction no longer keeps, a slice at a time.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mvcc::{CompactionJob, CompactionPlan, Revision, compact_revision_to_bytes};
use storage::{Bucket, Buckets, FINISHED_COMPACT, Write};

use super::defrag::io_error;
use super::{Backend, Batch};
use crate::background;
use crate::shared::Shared;

/// A compaction under way.
pub struct Compaction {
    step: Step,
    started: Duration,
    deleted: u64,
    /// When the next slice may begin: the pauses leave the disk to others.
    pub next_slice: Duration,
}

enum Step {
    /// The records up to the compact revision are hashed before the first is deleted: members compare such
    /// hashes, and later they could no longer be computed.
    Hashing(JoinHandle<CompactionPlan>),
    Deleting(CompactionJob),
}

/// How often a hash under way is looked at.
const HASH_POLL: Duration = Duration::from_millis(5);

impl Compaction {
    /// Goes on where a restart interrupted. Part of the records is gone, so there is nothing to hash.
    pub fn resume(plan: CompactionPlan, now: Duration) -> Compaction {
        Compaction { step: Step::Deleting(plan.into_job()), started: now, deleted: 0, next_slice: now }
    }

    fn begin(plan: CompactionPlan, shared: Arc<Shared>) -> bolt::Result<Compaction> {
        let now = shared.clock.elapsed();
        let view = shared.views.load();
        let hasher = background::spawn("hash", move || {
            let started = Instant::now();
            match plan.hash(&view) {
                Ok(hash) => {
                    let took = started.elapsed();
                    tracing::info!(
                        hash = hash.hash,
                        compact_revision = plan.revision().get(),
                        took = ?took,
                        "storing new hash"
                    );
                    shared.metrics.mvcc.hash_rev_duration.observe(took.as_secs_f64());
                    shared.compaction_hashes.lock().insert(hash);
                }
                Err(error) => shared.fail(format!("hash records for compaction: {error}")),
            }
            plan
        });
        let hasher = hasher.map_err(|error| io_error("start a thread to hash records", error))?;
        Ok(Compaction { step: Step::Hashing(hasher), started: now, deleted: 0, next_slice: now })
    }
}

impl Backend {
    pub(super) fn start_compaction(&mut self, plan: CompactionPlan) -> bolt::Result<()> {
        if self.compaction.is_some() {
            self.next_compactions.push_back(plan);
        } else {
            self.compaction = Some(Compaction::begin(plan, self.shared.clone())?);
        }
        Ok(())
    }

    pub(super) fn compact_when_due(&mut self) -> bolt::Result<()> {
        let now = self.shared.clock.elapsed();
        match &self.compaction {
            Some(compaction) if compaction.next_slice <= now && self.defrag.is_none() => self.compact_slice(),
            _ => Ok(()),
        }
    }

    fn compact_slice(&mut self) -> bolt::Result<()> {
        let Some(mut compaction) = self.compaction.take() else { return Ok(()) };
        let pause = Instant::now();
        let mut job = match compaction.step {
            Step::Hashing(hasher) if !self.is_done(&hasher) => {
                compaction.step = Step::Hashing(hasher);
                compaction.next_slice = self.shared.clock.elapsed() + HASH_POLL;
                self.compaction = Some(compaction);
                return Ok(());
            }
            Step::Hashing(hasher) => hasher.join().expect("hashing does not panic").into_job(),
            Step::Deleting(job) => job,
        };
        let slice = job.next_slice(self.shared.config.compaction_batch_limit).to_vec();
        if slice.is_empty() {
            let took = self.shared.clock.elapsed() - compaction.started;
            return self.finish_compaction(job.revision(), compaction.deleted, took);
        }
        let mut tx = self.db.begin_write()?;
        let buckets = Buckets::open(&mut tx)?;
        for key in &slice {
            tx.delete(buckets.id(Bucket::Key), &key.to_bytes())?;
        }
        tx.commit()?;
        self.rebase_views()?;
        compaction.step = Step::Deleting(job);
        compaction.deleted += slice.len() as u64;
        compaction.next_slice = self.shared.clock.elapsed() + self.shared.config.compaction_sleep_interval;
        let metrics = &self.shared.metrics.mvcc;
        metrics.db_compaction_keys.inc_by(slice.len() as u64);
        metrics.db_compaction_pause.observe(pause.elapsed().as_secs_f64() * 1000.0);
        self.compaction = Some(compaction);
        Ok(())
    }

    /// Records that nothing of the compaction is left to do, so that a restart does not resume it.
    fn finish_compaction(&mut self, revision: Revision, deleted: u64, took: Duration) -> bolt::Result<()> {
        let write = Write::meta(FINISHED_COMPACT, compact_revision_to_bytes(revision).to_vec());
        let applied = super::applied(&self.db.begin_read())?;
        self.waiting.push(Batch {
            chunk: None,
            writes: vec![write],
            applied,
            conf_state: None,
            compaction: None,
            unfolded: None,
        });
        // One that waits goes before those of the batches that are only now folded: in order of revision.
        if let Some(plan) = self.next_compactions.pop_front() {
            self.start_compaction(plan)?;
        }
        self.fold()?;
        let metrics = &self.shared.metrics.mvcc;
        metrics.db_compaction_total.observe(took.as_secs_f64() * 1000.0);
        metrics.db_compaction_last.set(self.shared.clock.unix_time().as_secs() as i64);
        self.log_finished(revision, deleted, took);
        Ok(())
    }

    fn log_finished(&self, revision: Revision, deleted: u64, took: Duration) {
        tracing::info!(
            compact_revision = revision.get(),
            deleted,
            took = ?took,
            current_db_size_bytes = self.shared.file.size(),
            "finished scheduled compaction"
        );
    }

    /// A physical compaction waits until nothing is left to delete.
    pub(super) fn answer_compaction_waiters(&mut self) {
        let is_planned = self.waiting.iter().any(|batch| batch.compaction.is_some());
        if self.compaction.is_none() && self.next_compactions.is_empty() && !is_planned {
            for waiter in self.compaction_waiters.drain(..) {
                waiter.send(()).ok();
            }
        }
    }
}
