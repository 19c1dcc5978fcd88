//! The hub between the apply thread and all watch streams.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use parking_lot::{Mutex, RwLock};

use super::event::{EncodedEvent, previous_of};
use super::queue::{Hit, ProgressAnswer, Queue};
use super::range_index::RangeIndex;
use super::ring::Ring;
use super::store_view::StoreView;
use super::stream::{CancelReason, Stream, StreamShared};
use super::watcher::{
    CreateError, Created, Demand, EventRef, Filters, WatchId, WatchSpec, WatchStart, Watcher, WatcherState,
};
use crate::{Change, MvccError, Revision};

/// Bounds of the hub's memory. What does not fit is read from history instead; nothing is lost or waits.
#[derive(Clone, Copy, Debug)]
pub struct HubConfig {
    /// Events kept for streams that are behind.
    pub ring_len_max: usize,
    /// Bytes of these events.
    pub ring_bytes_max: usize,
    /// References to events in one stream, 16 bytes each, over all its watchers.
    pub queue_len_max: usize,
    /// A response takes further revisions until it holds this much. One revision is never split.
    pub response_bytes_max: usize,
    /// History read at once for one watcher, with the same exception.
    pub chunk_bytes_max: usize,
    /// History read ahead for one stream, with room for one more chunk.
    pub stream_history_bytes_max: usize,
    /// Watchers served by one step of catch-up. Source: etcd `server/storage/mvcc/watchable_store.go`.
    pub catch_up_watchers_max: usize,
    /// Revisions with wanted events in one step. Source: as above.
    pub catch_up_revisions_max: usize,
    /// Bytes of wanted records in one step.
    pub catch_up_bytes_max: usize,
}

impl Default for HubConfig {
    fn default() -> HubConfig {
        HubConfig {
            ring_len_max: 64 * 1024,
            ring_bytes_max: 64 << 20,
            queue_len_max: 4096,
            response_bytes_max: 256 << 10,
            chunk_bytes_max: 512 << 10,
            stream_history_bytes_max: 4 << 20,
            catch_up_watchers_max: 512,
            catch_up_revisions_max: 1000,
            catch_up_bytes_max: 8 << 20,
        }
    }
}

/// A number that several threads change and metrics read.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, by: u64) {
        if by > 0 {
            self.0.fetch_add(by, Ordering::Relaxed);
        }
    }

    pub(super) fn sub(&self, by: u64) {
        if by > 0 {
            self.0.fetch_sub(by, Ordering::Relaxed);
        }
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) streams: Count,
    pub(super) watchers: Count,
    pub(super) slow_watchers: Count,
    pub(super) events: Count,
    pub(super) pending_events: Count,
}

/// For the metrics `etcd_debugging_mvcc_*`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Open streams (`watch_stream_total`).
    pub streams: u64,
    /// Live watchers (`watcher_total`).
    pub watchers: u64,
    /// Those catching up (`slow_watcher_total`).
    pub slow_watchers: u64,
    /// Events handed to streams since the start (`events_total`).
    pub events: u64,
    /// Events waiting in streams' queues (`pending_events_total`).
    pub pending_events: u64,
}

/// A watcher as the index knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Target {
    stream: u32,
    slot: u32,
    prev_kv: bool,
    filters: Filters,
}

struct StreamEntry {
    shared: Arc<StreamShared>,
    /// Of the publish under way; empty otherwise.
    hits: Vec<Hit>,
}

/// What only its lock's holder may see: publish as a whole is one step to all who create, cancel or ask for
/// progress.
pub(super) struct Core {
    /// All changes up to here are in the queues of those they concern.
    pub(super) revision: Revision,
    index: RangeIndex<Target>,
    streams: Vec<Option<StreamEntry>>,
    free: Vec<u32>,
    next_generation: u64,
    /// Streams hit by the publish under way.
    touched: Vec<u32>,
    /// Streams whose progress answer waits for the next publish.
    progress_waiting: Vec<u32>,
}

/// The hub's state, shared with its streams.
pub(super) struct Shared {
    pub(super) config: HubConfig,
    pub(super) core: Mutex<Core>,
    pub(super) ring: RwLock<Ring>,
    pub(super) counts: Counts,
    /// Streams with watchers that want history.
    pub(super) wanting: Mutex<Vec<Arc<StreamShared>>>,
    /// Tells the catch-up thread that `wanting` has something.
    notify: Box<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("counts", &self.counts).finish_non_exhaustive()
    }
}

/// The hub. One for the store; clones are the same hub.
#[derive(Clone, Debug)]
pub struct Hub {
    pub(super) shared: Arc<Shared>,
}

impl Hub {
    /// A hub for a store at this revision. `wake_catch_up` is called (from any thread, and with no lock
    /// held) when [`Hub::catch_up`] has work again: it must only wake the thread that calls it.
    pub fn new(
        config: HubConfig,
        revision: Revision,
        wake_catch_up: impl Fn() + Send + Sync + 'static,
    ) -> Hub {
        let core = Core {
            revision,
            index: RangeIndex::new(),
            streams: Vec::new(),
            free: Vec::new(),
            next_generation: 0,
            touched: Vec::new(),
            progress_waiting: Vec::new(),
        };
        let shared = Shared {
            config,
            core: Mutex::new(core),
            ring: RwLock::new(Ring::new(config.ring_len_max, config.ring_bytes_max)),
            counts: Counts::default(),
            wanting: Mutex::new(Vec::new()),
            notify: Box::new(wake_catch_up),
        };
        Hub { shared: Arc::new(shared) }
    }

    /// Hands the changes of a batch to those they concern. Called by the apply thread right after `view`,
    /// the state after them, was published and before any of the batch's writers is answered: with every
    /// change once, in order of revision. A compaction in the same batch goes to the backend only afterwards,
    /// so that the view still has what it takes away.
    ///
    /// Never waits for a stream. Reads previous values, if a concerned watcher wants them, from the view.
    ///
    /// # Errors
    /// When the view cannot be read: the member has to stop, as events would be lost.
    ///
    /// # Panics
    /// When a revision is published twice or out of order.
    pub fn publish<V: StoreView + ?Sized>(&self, view: &V, changes: &[Change]) -> Result<(), MvccError> {
        let mut core = self.shared.core.lock();
        let wakers = core.publish(&self.shared, view, changes)?;
        drop(core);
        wakers.wake(&self.shared);
        Ok(())
    }

    /// The store was replaced by a snapshot from the leader: what lies between was never published, so
    /// watchers read it from the history of the new store (or learn that it is compacted).
    pub fn restore(&self, revision: Revision) {
        let mut wakers = Wakers::default();
        let mut core = self.shared.core.lock();
        let published = core.revision;
        for entry in core.streams.iter().flatten() {
            let mut queue = entry.shared.queue.lock();
            queue.fall_back_all(published, revision, &self.shared.counts);
            wakers.take(&mut queue, &entry.shared, &self.shared.config);
        }
        core.revision = core.revision.max(revision);
        drop(core);
        wakers.wake(&self.shared);
    }

    /// Opens a stream without watchers.
    #[must_use]
    pub fn open_stream(&self) -> Stream {
        let mut core = self.shared.core.lock();
        let index = core.free.pop().unwrap_or_else(|| {
            core.streams.push(None);
            u32::try_from(core.streams.len() - 1).expect("fewer streams than 2^32 fit in memory")
        });
        let shared = Arc::new(StreamShared { index, queue: Mutex::default() });
        core.streams[index as usize] = Some(StreamEntry { shared: Arc::clone(&shared), hits: Vec::new() });
        self.shared.counts.streams.add(1);
        Stream::new(Arc::clone(&self.shared), shared)
    }

    /// The last published revision.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.shared.core.lock().revision
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        let counts = &self.shared.counts;
        Counters {
            streams: counts.streams.get(),
            watchers: counts.watchers.get(),
            slow_watchers: counts.slow_watchers.get(),
            events: counts.events.get(),
            pending_events: counts.pending_events.get(),
        }
    }
}

/// Whom to wake once no lock is held.
#[derive(Default)]
pub(super) struct Wakers {
    wakers: Vec<Waker>,
    wanting: Vec<Arc<StreamShared>>,
}

impl Wakers {
    /// Notes the stream's owner if something is ready, and the catch-up thread if history is wanted.
    pub(super) fn take(&mut self, queue: &mut Queue, shared: &Arc<StreamShared>, config: &HubConfig) {
        if queue.has_ready()
            && let Some(waker) = queue.waker.take()
        {
            self.wakers.push(waker);
        }
        if queue.wants_listing(config) {
            queue.listed = true;
            self.wanting.push(Arc::clone(shared));
        }
    }

    pub(super) fn wake(mut self, hub: &Shared) {
        if !self.wanting.is_empty() {
            hub.wanting.lock().append(&mut self.wanting);
            (hub.notify)();
        }
        for waker in self.wakers {
            waker.wake();
        }
    }
}

impl Core {
    fn publish<V: StoreView + ?Sized>(
        &mut self,
        hub: &Shared,
        view: &V,
        changes: &[Change],
    ) -> Result<Wakers, MvccError> {
        let mut sequence = hub.ring.read().next();
        let mut events = Vec::new();
        let mut last = self.revision;
        for change in changes {
            let revision = change.revision.main;
            assert!(
                revision > self.revision && revision >= last,
                "revision {revision} was published after {last}"
            );
            last = revision;
            let event = EventRef { revision, sequence };
            let Some(wanted) = self.hit(change, event) else { continue };
            // Read now: a compaction between this write and its sending must not take it away.
            let previous = previous_of(view, change, wanted.prev_kv)?;
            events.push(EncodedEvent::encode(change, previous.as_deref()));
            sequence += 1;
        }
        assert!(last <= view.revision(), "change {last} is not in the view of {}", view.revision());
        if !events.is_empty() {
            let mut ring = hub.ring.write();
            if hub.counts.pending_events.get() == 0 {
                // All is sent: do not hold the last megabytes of events for nobody.
                ring.clear();
            }
            ring.append(&mut events);
        }
        self.revision = self.revision.max(view.revision());

        let mut wakers = Wakers::default();
        for stream in self.touched.drain(..) {
            let entry = self.streams[stream as usize].as_mut().expect("an indexed watcher has its stream");
            let mut queue = entry.shared.queue.lock();
            queue.push_live(&entry.hits, hub.config.queue_len_max, &hub.counts);
            entry.hits.clear();
            entry.hits.shrink_to(hub.config.queue_len_max); // a lease with 100,000 keys may have ended
            wakers.take(&mut queue, &entry.shared, &hub.config);
        }
        for stream in std::mem::take(&mut self.progress_waiting) {
            let Some(entry) = &self.streams[stream as usize] else { continue };
            let mut queue = entry.shared.queue.lock();
            if std::mem::take(&mut queue.progress_waiting) {
                if answer_progress(&mut queue, self.revision) == ProgressAnswer::Later {
                    self.progress_waiting.push(stream);
                }
                wakers.take(&mut queue, &entry.shared, &hub.config);
            }
        }
        Ok(wakers)
    }

    /// Notes the event with every watcher it concerns; none when there is no such.
    fn hit(&mut self, change: &Change, event: EventRef) -> Option<Wanted> {
        let mut wanted = None;
        let (streams, touched) = (&mut self.streams, &mut self.touched);
        self.index.each(&change.key, &mut |target: Target| {
            if target.filters.pass(change.kind) {
                let entry =
                    streams[target.stream as usize].as_mut().expect("an indexed watcher has its stream");
                if entry.hits.is_empty() {
                    touched.push(target.stream);
                }
                entry.hits.push(Hit { slot: target.slot, event });
                wanted.get_or_insert(Wanted { prev_kv: false }).prev_kv |= target.prev_kv;
            }
            true
        });
        wanted
    }

    /// Takes a watcher out of index and queue.
    pub(super) fn remove(&mut self, stream: u32, queue: &mut Queue, slot: u32, counts: &Counts) -> Watcher {
        let watcher = queue.remove(slot, counts);
        let Watcher { prev_kv, filters, .. } = watcher;
        self.index.remove(&watcher.range, Target { stream, slot, prev_kv, filters });
        watcher
    }
}

/// In which forms an event is wanted by anybody.
struct Wanted {
    prev_kv: bool,
}

/// Queues the answer to a progress request if there is one, or notes that it comes later.
fn answer_progress(queue: &mut Queue, revision: Revision) -> ProgressAnswer {
    let answer = queue.progress_answer(revision);
    match answer {
        ProgressAnswer::Now => queue.push_progress(revision),
        ProgressAnswer::Later => queue.progress_waiting = true,
        ProgressAnswer::None => {}
    }
    answer
}

impl Shared {
    pub(super) fn create(
        &self,
        stream: &Arc<StreamShared>,
        spec: WatchSpec,
        view_revision: Revision,
    ) -> Result<Created, CreateError> {
        if spec.range.is_empty() {
            return Err(CreateError::EmptyRange);
        }
        let mut core = self.core.lock();
        let mut queue = stream.queue.lock();
        let id = match spec.id {
            Some(id) if queue.has_id(id) => return Err(CreateError::DuplicateId),
            Some(id) => id,
            None => queue.assign_id(),
        };
        let created_at = core.revision.max(view_revision);
        let (start, state) = match spec.start {
            WatchStart::Now => (Revision::ZERO, WatcherState::Synced { from: created_at.next() }),
            WatchStart::From(start) if start > core.revision => (start, WatcherState::Synced { from: start }),
            WatchStart::From(start) => (start, WatcherState::CatchingUp { next: start }),
        };
        let generation = core.next_generation;
        core.next_generation += 1;
        let watcher = Watcher {
            id,
            generation,
            range: spec.range.clone(),
            prev_kv: spec.prev_kv,
            filters: spec.filters,
            progress_notify: spec.progress_notify,
            fragment: spec.fragment,
            start,
            created_at,
            state,
            pending: std::collections::VecDeque::new(),
            chunk: None,
            ready: false,
            demand: Demand::None,
            progress_queued: false,
            sent_since_tick: false,
        };
        let slot = queue.insert(watcher, &self.counts);
        let target = Target { stream: stream.index, slot, prev_kv: spec.prev_kv, filters: spec.filters };
        core.index.insert(&spec.range, target);
        Ok(Created { watch_id: id, revision: created_at })
    }

    pub(super) fn cancel(&self, stream: &Arc<StreamShared>, id: WatchId) {
        let mut core = self.core.lock();
        let mut queue = stream.queue.lock();
        let Some(slot) = queue.slot_of(id) else { return };
        core.remove(stream.index, &mut queue, slot, &self.counts);
        queue.push_canceled(id, CancelReason::Requested { revision: core.revision });
    }

    pub(super) fn request_progress(&self, stream: &Arc<StreamShared>) {
        let mut core = self.core.lock();
        let mut queue = stream.queue.lock();
        if !queue.progress_waiting && answer_progress(&mut queue, core.revision) == ProgressAnswer::Later {
            core.progress_waiting.push(stream.index);
        }
    }

    pub(super) fn tick_progress(&self, stream: &Arc<StreamShared>) {
        let core = self.core.lock();
        stream.queue.lock().tick_progress(core.revision);
    }

    /// Puts the stream on the catch-up thread's list if one of its watchers wants history.
    pub(super) fn list_if_wanted(&self, stream: &Arc<StreamShared>) {
        let mut queue = stream.queue.lock();
        if queue.wants_listing(&self.config) {
            queue.listed = true;
            drop(queue);
            self.wanting.lock().push(Arc::clone(stream));
            (self.notify)();
        }
    }

    pub(super) fn close(&self, stream: &Arc<StreamShared>) {
        let mut core = self.core.lock();
        let mut queue = stream.queue.lock();
        let slots: Vec<u32> = queue.watchers().map(|(slot, _)| slot).collect();
        for slot in slots {
            core.remove(stream.index, &mut queue, slot, &self.counts);
        }
        assert!(queue.is_empty(), "a closed stream has no watchers");
        let waker = queue.waker.take();
        drop(queue);
        core.streams[stream.index as usize] = None;
        core.free.push(stream.index);
        self.counts.streams.sub(1);
        drop(core);
        drop(waker);
    }
}
