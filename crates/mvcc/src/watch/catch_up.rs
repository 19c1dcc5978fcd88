//! History for watchers that start in the past or fell behind.
//!
//! A step takes watchers that want history, reads once for all of them from the least revision that any
//! needs, and gives each what concerns it. Only the last move, "everything published has been read, so this
//! watcher is synced", happens under the hub lock: between two publishes it is exact, so there is neither a
//! gap nor an event twice.

use std::sync::Arc;

use bytes::Bytes;

use super::event::{EncodedEvent, previous_of};
use super::hub::{Hub, Shared, Wakers};
use super::range_index::RangeIndex;
use super::store_view::StoreView;
use super::stream::{CancelReason, StreamShared};
use super::watcher::{Chunk, Filters, WatcherState};
use crate::{Change, HistoryLimit, KeyRange, MvccError, Revision};

/// One watcher in one step.
pub(super) struct Job {
    stream: Arc<StreamShared>,
    slot: u32,
    generation: u64,
    range: KeyRange,
    prev_kv: bool,
    filters: Filters,
    /// Everything before is read.
    next: Revision,
    events: Vec<Bytes>,
    len_bytes: usize,
    /// The chunk has its size; later revisions are for another step.
    full: bool,
}

impl Hub {
    /// One step of reading history, on a thread that may block: the server calls it with the present view
    /// until it returns false, then waits for the callback given to [`Hub::new`].
    ///
    /// # Errors
    /// When the view cannot be read: the member has to stop.
    pub fn catch_up<V: StoreView + ?Sized>(&self, view: &V) -> Result<bool, MvccError> {
        let mut jobs = self.shared.take_jobs();
        self.shared.read(view, &mut jobs)?;
        self.shared.finish(view, jobs);
        Ok(!self.shared.wanting.lock().is_empty())
    }
}

impl Shared {
    pub(super) fn take_jobs(&self) -> Vec<Job> {
        let mut jobs: Vec<Job> = Vec::new();
        let mut streams = std::mem::take(&mut *self.wanting.lock()).into_iter();
        let mut again = None;
        for stream in streams.by_ref() {
            let mut queue = stream.queue.lock();
            queue.listed = false;
            while jobs.len() < self.config.catch_up_watchers_max {
                let Some((slot, watcher)) = queue.take_wanting(&self.config) else { break };
                let WatcherState::CatchingUp { next } = watcher.state else {
                    panic!("watcher {} wants history and is synced", watcher.id)
                };
                jobs.push(Job {
                    stream: Arc::clone(&stream),
                    slot,
                    generation: watcher.generation,
                    range: watcher.range.clone(),
                    prev_kv: watcher.prev_kv,
                    filters: watcher.filters,
                    next,
                    events: Vec::new(),
                    len_bytes: 0,
                    full: false,
                });
            }
            let left = queue.wants_listing(&self.config);
            queue.listed = left;
            drop(queue);
            if left {
                again = Some(stream); // behind the others
                break;
            }
        }
        self.wanting.lock().extend(streams.chain(again));
        jobs
    }

    /// Reads for all jobs whose history is still there.
    pub(super) fn read<V: StoreView + ?Sized>(&self, view: &V, jobs: &mut [Job]) -> Result<(), MvccError> {
        let readable = view.compact_revision().unwrap_or(Revision::ZERO);
        let mut index = RangeIndex::new();
        let mut from = None::<Revision>;
        for (i, job) in jobs.iter().enumerate() {
            if job.next >= readable && job.next <= view.revision() {
                index.insert(&job.range, i);
                from = Some(from.map_or(job.next, |from| from.min(job.next)));
            }
        }
        let Some(from) = from else { return Ok(()) };
        let limit = HistoryLimit {
            revisions: self.config.catch_up_revisions_max,
            bytes: self.config.catch_up_bytes_max,
        };
        let history = view.history(from, limit, &mut |key| index.any(key))?;
        assert!(history.next > from, "history from {from} did not get past {}", history.next);
        let mut given = Vec::new();
        for group in &history.revisions {
            for change in &group.changes {
                give(view, &index, jobs, change, &mut given)?;
            }
            for i in given.drain(..) {
                if jobs[i].len_bytes >= self.config.chunk_bytes_max && !jobs[i].full {
                    jobs[i].full = true;
                    jobs[i].next = group.revision.next();
                }
            }
        }
        for job in jobs.iter_mut().filter(|job| !job.full && job.next >= readable) {
            job.next = job.next.max(history.next);
        }
        Ok(())
    }

    pub(super) fn finish<V: StoreView + ?Sized>(&self, view: &V, jobs: Vec<Job>) {
        let mut wakers = Wakers::default();
        let mut core = self.core.lock();
        for job in jobs {
            let mut queue = job.stream.queue.lock();
            queue.return_promise(&self.config);
            if let Some(watcher) = queue.watcher_of(job.slot, job.generation) {
                let id = watcher.id;
                let chunk = (!job.events.is_empty()).then_some(Chunk {
                    events: job.events,
                    len_bytes: job.len_bytes,
                    revision: view.revision(),
                });
                let state = if job.next > core.revision {
                    WatcherState::Synced { from: job.next }
                } else {
                    WatcherState::CatchingUp { next: job.next }
                };
                match view.compact_revision() {
                    Some(compact_revision) if job.next < compact_revision => {
                        core.remove(job.stream.index, &mut queue, job.slot, &self.counts);
                        queue.push_canceled(id, CancelReason::Compacted { compact_revision });
                    }
                    Some(_) | None => queue.push_history(job.slot, chunk, state, &self.counts),
                }
            }
            wakers.take(&mut queue, &job.stream, &self.config);
        }
        drop(core);
        wakers.wake(self);
    }
}

/// Gives one change to all jobs that want it, encoded once, and notes to whom.
fn give<V: StoreView + ?Sized>(
    view: &V,
    index: &RangeIndex<usize>,
    jobs: &mut [Job],
    change: &Change,
    given: &mut Vec<usize>,
) -> Result<(), MvccError> {
    let first = given.len();
    let mut prev_kv = false;
    index.each(&change.key, &mut |i: usize| {
        let job = &jobs[i];
        if !job.full && change.revision.main >= job.next && job.filters.pass(change.kind) {
            prev_kv |= job.prev_kv;
            given.push(i);
        }
        true
    });
    if given.len() == first {
        return Ok(());
    }
    let previous = previous_of(view, change, prev_kv)?;
    let event = EncodedEvent::encode(change, previous.as_deref());
    for i in &given[first..] {
        let job = &mut jobs[*i];
        job.len_bytes += event.form_len(job.prev_kv);
        job.events.push(event.form(job.prev_kv));
    }
    Ok(())
}
