//! What one stream has to send: its watchers, and which of them have something ready.
//!
//! Everything that must reach the client in order goes through the ready list: a watcher stands in it once,
//! however many events it has, so several revisions leave as one response. Everything here is under the
//! stream's own lock; publish and catch-up only add, [`Queue::next_output`] takes.

use std::collections::{BTreeMap, VecDeque};
use std::task::Waker;

use parking_lot::RwLock;

use super::event::EventBatch;
use super::hub::{Counts, HubConfig};
use super::ring::Ring;
use super::stream::{CancelReason, Output};
use super::watcher::{Chunk, Created, Demand, EventRef, WatchId, Watcher, WatcherState};
use crate::Revision;

/// Answers to progress requests that may wait in one stream. A client that asks faster than it reads gets
/// none for the rest: the answer is optional, and the next one says more.
const PROGRESS_LEN_MAX: usize = 8;

/// An event that concerns a watcher, found by publish.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hit {
    pub(super) slot: u32,
    pub(super) event: EventRef,
}

#[derive(Debug)]
enum Item {
    Created(Created),
    /// This watcher has a chunk or pending events.
    Events {
        slot: u32,
    },
    /// For one watcher, or for all of the stream.
    Progress {
        slot: Option<u32>,
        revision: Revision,
    },
    Canceled {
        id: WatchId,
        reason: CancelReason,
    },
}

/// One stream's watchers and what is to be sent to them.
#[derive(Debug, Default)]
pub(super) struct Queue {
    watchers: Vec<Option<Watcher>>,
    free: Vec<u32>,
    ids: BTreeMap<WatchId, u32>,
    /// Candidate for the next assigned id.
    next_id: i64,
    ready: VecDeque<Item>,
    /// Answers to requests in `ready`: created, canceled.
    control_len: usize,
    /// Progress answers for the whole stream in `ready`.
    progress_len: usize,
    /// References in all watchers' `pending`.
    pending_len: usize,
    /// Bytes in all watchers' chunks, and those promised to chunks that are being read.
    history_bytes: usize,
    /// Watchers to read history for, by slot and generation; some may be gone.
    wanting: VecDeque<(u32, u64)>,
    /// The stream is in the hub's list of those that want history.
    pub(super) listed: bool,
    /// A progress request waits for the hub to reach the revision of a `Created`.
    pub(super) progress_waiting: bool,
    /// Set while the owner waits for an output.
    pub(super) waker: Option<Waker>,
}

impl Queue {
    pub(super) fn control_len(&self) -> usize {
        self.control_len
    }

    pub(super) fn has_id(&self, id: WatchId) -> bool {
        self.ids.contains_key(&id)
    }

    /// The id a new watcher gets when the client does not choose: counted up, leaving out those in use.
    pub(super) fn assign_id(&mut self) -> WatchId {
        while self.ids.contains_key(&WatchId(self.next_id)) {
            self.next_id += 1;
        }
        self.next_id += 1;
        WatchId(self.next_id - 1)
    }

    pub(super) fn insert(&mut self, watcher: Watcher, counts: &Counts) -> u32 {
        assert!(!self.ids.contains_key(&watcher.id), "watch id {} is in use", watcher.id);
        let created = Created { watch_id: watcher.id, revision: watcher.created_at };
        let slow = watcher.is_slow();
        let id = watcher.id;
        let slot = match self.free.pop() {
            Some(slot) => {
                self.watchers[slot as usize] = Some(watcher);
                slot
            }
            None => {
                self.watchers.push(Some(watcher));
                u32::try_from(self.watchers.len() - 1).expect("fewer watchers than 2^32 fit in memory")
            }
        };
        self.ids.insert(id, slot);
        self.ready.push_back(Item::Created(created));
        self.control_len += 1;
        counts.watchers.add(1);
        if slow {
            counts.slow_watchers.add(1);
            self.want_history(slot);
        }
        slot
    }

    pub(super) fn slot_of(&self, id: WatchId) -> Option<u32> {
        self.ids.get(&id).copied()
    }

    /// The watcher of a job that was taken a while ago, if it is still the same.
    pub(super) fn watcher_of(&mut self, slot: u32, generation: u64) -> Option<&mut Watcher> {
        self.watchers.get_mut(slot as usize)?.as_mut().filter(|watcher| watcher.generation == generation)
    }

    /// Takes a watcher out with everything it still had to send.
    pub(super) fn remove(&mut self, slot: u32, counts: &Counts) -> Watcher {
        let watcher = self.watchers[slot as usize].take().expect("an indexed watcher exists");
        self.free.push(slot);
        self.ids.remove(&watcher.id);
        self.pending_len -= watcher.pending.len();
        counts.pending_events.sub(watcher.pending.len() as u64);
        if let Some(chunk) = &watcher.chunk {
            self.history_bytes -= chunk.len_bytes;
        }
        self.ready.retain(|item| match item {
            Item::Events { slot: other } | Item::Progress { slot: Some(other), .. } => *other != slot,
            Item::Created(_) | Item::Progress { slot: None, .. } | Item::Canceled { .. } => true,
        });
        counts.watchers.sub(1);
        if watcher.is_slow() {
            counts.slow_watchers.sub(1);
        }
        watcher
    }

    pub(super) fn push_canceled(&mut self, id: WatchId, reason: CancelReason) {
        self.ready.push_back(Item::Canceled { id, reason });
        self.control_len += 1;
    }

    /// Every watcher with its slot.
    pub(super) fn watchers(&self) -> impl Iterator<Item = (u32, &Watcher)> {
        self.watchers.iter().zip(0..).filter_map(|(watcher, slot)| watcher.as_ref().map(|w| (slot, w)))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ids.is_empty()
    }

    // ---- from publish ----

    /// Queues events in order of revision. Where the revision does not fit as a whole, its watchers fall
    /// back to history from there.
    pub(super) fn push_live(&mut self, hits: &[Hit], queue_len_max: usize, counts: &Counts) {
        let before = self.pending_len;
        if before + hits.len() <= queue_len_max {
            for hit in hits {
                self.push_hit(hit);
            }
        } else {
            for revision in hits.chunk_by(|a, b| a.event.revision == b.event.revision) {
                if self.pending_len + revision.len() <= queue_len_max {
                    for hit in revision {
                        self.push_hit(hit);
                    }
                } else {
                    for hit in revision {
                        self.fall_back(hit, counts);
                    }
                }
            }
        }
        counts.pending_events.add((self.pending_len - before) as u64);
    }

    fn push_hit(&mut self, hit: &Hit) {
        let watcher = self.watchers[hit.slot as usize].as_mut().expect("an indexed watcher exists");
        match watcher.state {
            WatcherState::Synced { from } if hit.event.revision >= from => {
                watcher.pending.push_back(hit.event);
                self.pending_len += 1;
                if !watcher.ready {
                    watcher.ready = true;
                    self.ready.push_back(Item::Events { slot: hit.slot });
                }
            }
            WatcherState::Synced { .. } | WatcherState::CatchingUp { .. } => {}
        }
    }

    fn fall_back(&mut self, hit: &Hit, counts: &Counts) {
        let watcher = self.watchers[hit.slot as usize].as_mut().expect("an indexed watcher exists");
        match watcher.state {
            WatcherState::Synced { from } if hit.event.revision >= from => {
                watcher.state = WatcherState::CatchingUp { next: hit.event.revision };
                counts.slow_watchers.add(1);
                self.want_history(hit.slot);
            }
            WatcherState::Synced { .. } | WatcherState::CatchingUp { .. } => {}
        }
    }

    /// The store was replaced by a snapshot: what lies between the old revision and the new was never
    /// published, so it must be read.
    pub(super) fn fall_back_all(&mut self, published: Revision, restored: Revision, counts: &Counts) {
        for slot in 0..self.watchers.len() {
            let Some(watcher) = &mut self.watchers[slot] else { continue };
            if let WatcherState::Synced { from } = watcher.state
                && from <= restored
            {
                watcher.state = WatcherState::CatchingUp { next: from.max(published.next()) };
                counts.slow_watchers.add(1);
                self.want_history(slot as u32);
            }
        }
    }

    // ---- progress ----

    /// Whether a progress request can be answered at this revision.
    pub(super) fn progress_answer(&self, revision: Revision) -> ProgressAnswer {
        if self.ids.is_empty() || self.progress_len >= PROGRESS_LEN_MAX {
            return ProgressAnswer::None;
        }
        let mut answer = ProgressAnswer::Now;
        for (_, watcher) in self.watchers() {
            if watcher.is_slow() || watcher.start > revision {
                return ProgressAnswer::None;
            }
            if watcher.created_at > revision {
                answer = ProgressAnswer::Later;
            }
        }
        answer
    }

    pub(super) fn push_progress(&mut self, revision: Revision) {
        self.ready.push_back(Item::Progress { slot: None, revision });
        self.progress_len += 1;
    }

    /// Queues a progress for each watcher that asked for it and was silent since the last tick.
    pub(super) fn tick_progress(&mut self, revision: Revision) {
        for (watcher, slot) in self.watchers.iter_mut().zip(0..) {
            let Some(watcher) = watcher else { continue };
            let idle = !watcher.sent_since_tick && !watcher.progress_queued && !watcher.is_slow();
            let known = watcher.start <= revision && watcher.created_at <= revision;
            watcher.sent_since_tick = false;
            if watcher.progress_notify && idle && known {
                watcher.progress_queued = true;
                self.ready.push_back(Item::Progress { slot: Some(slot), revision });
            }
        }
    }

    // ---- history ----

    fn want_history(&mut self, slot: u32) {
        if let Some(watcher) = &mut self.watchers[slot as usize]
            && watcher.wants_history()
        {
            watcher.demand = Demand::Listed;
            self.wanting.push_back((slot, watcher.generation));
        }
    }

    /// Whether the stream should be in the hub's list: a watcher wants history and there is room for it.
    pub(super) fn wants_listing(&self, config: &HubConfig) -> bool {
        !self.listed && !self.wanting.is_empty() && self.history_bytes < config.stream_history_bytes_max
    }

    /// The next watcher to read for, with room for its chunk promised.
    pub(super) fn take_wanting(&mut self, config: &HubConfig) -> Option<(u32, &Watcher)> {
        loop {
            if self.history_bytes >= config.stream_history_bytes_max {
                return None;
            }
            let (slot, generation) = self.wanting.pop_front()?;
            if self.watcher_of(slot, generation).is_none() {
                continue;
            }
            self.history_bytes += config.chunk_bytes_max;
            let watcher = self.watchers[slot as usize].as_mut()?;
            assert!(watcher.demand == Demand::Listed, "a listed watcher is {:?}", watcher.demand);
            watcher.demand = Demand::Reading;
            return Some((slot, watcher));
        }
    }

    /// The reading for a watcher is over, be it still there or not.
    pub(super) fn return_promise(&mut self, config: &HubConfig) {
        assert!(
            self.history_bytes >= config.chunk_bytes_max,
            "{} bytes of history promised, less than a chunk",
            self.history_bytes
        );
        self.history_bytes -= config.chunk_bytes_max;
    }

    /// What was read for a watcher: history up to `state`.
    pub(super) fn push_history(
        &mut self,
        slot: u32,
        chunk: Option<Chunk>,
        state: WatcherState,
        counts: &Counts,
    ) {
        let watcher = self.watchers[slot as usize].as_mut().expect("the caller has looked it up");
        assert!(watcher.chunk.is_none(), "watcher {} was read for twice", watcher.id);
        assert!(watcher.pending.is_empty(), "watcher {} has live events before history", watcher.id);
        watcher.demand = Demand::None;
        let was_slow = watcher.is_slow();
        watcher.state = state;
        if was_slow && !watcher.is_slow() {
            counts.slow_watchers.sub(1);
        }
        if let Some(chunk) = chunk {
            self.history_bytes += chunk.len_bytes;
            watcher.chunk = Some(chunk);
            assert!(!watcher.ready, "watcher {} is ready with nothing to send", watcher.id);
            watcher.ready = true;
            self.ready.push_back(Item::Events { slot });
        }
        self.want_history(slot);
    }

    // ---- to the client ----

    pub(super) fn has_ready(&self) -> bool {
        !self.ready.is_empty()
    }

    pub(super) fn next_output(
        &mut self,
        ring: &RwLock<Ring>,
        config: &HubConfig,
        counts: &Counts,
    ) -> Option<Output> {
        while let Some(item) = self.ready.pop_front() {
            let output = match item {
                Item::Created(created) => {
                    self.control_len -= 1;
                    Some(Output::Created(created))
                }
                Item::Canceled { id, reason } => {
                    self.control_len -= 1;
                    Some(Output::Canceled { watch_id: id, reason })
                }
                Item::Events { slot } => self.take_events(slot, ring, config, counts).map(Output::Events),
                Item::Progress { slot: Some(slot), revision } => self.take_progress(slot, revision),
                Item::Progress { slot: None, revision } => {
                    self.progress_len -= 1;
                    // A watcher may have lost its place in the ring since: then the promise is off.
                    let true_still = self.watchers().all(|(_, watcher)| watcher.has_sent_all_until(revision));
                    true_still.then_some(Output::Progress { watch_id: None, revision })
                }
            };
            if output.is_some() {
                return output;
            }
        }
        None
    }

    fn take_progress(&mut self, slot: u32, revision: Revision) -> Option<Output> {
        let watcher = self.watchers[slot as usize].as_mut().expect("a removed watcher leaves the list");
        watcher.progress_queued = false;
        let idle = !watcher.sent_since_tick && watcher.has_sent_all_until(revision);
        idle.then_some(Output::Progress { watch_id: Some(watcher.id), revision })
    }

    /// The next response of a watcher: its chunk, or as many pending revisions as one response holds.
    fn take_events(
        &mut self,
        slot: u32,
        ring: &RwLock<Ring>,
        config: &HubConfig,
        counts: &Counts,
    ) -> Option<EventBatch> {
        let watcher = self.watchers[slot as usize].as_mut().expect("a removed watcher leaves the list");
        watcher.ready = false;
        let (events, revision) = match watcher.chunk.take() {
            Some(chunk) => {
                self.history_bytes -= chunk.len_bytes;
                (chunk.events, chunk.revision)
            }
            None => {
                let before = watcher.pending.len();
                let was_slow = watcher.is_slow();
                let taken = take_pending(watcher, &ring.read(), config.response_bytes_max);
                self.pending_len -= before - watcher.pending.len();
                counts.pending_events.sub((before - watcher.pending.len()) as u64);
                if watcher.is_slow() && !was_slow {
                    counts.slow_watchers.add(1);
                }
                taken
            }
        };
        let batch = (!events.is_empty()).then(|| {
            watcher.sent_since_tick = true;
            counts.events.add(events.len() as u64);
            EventBatch { watch_id: watcher.id, revision, events, fragment: watcher.fragment }
        });
        if !watcher.pending.is_empty() {
            // In front, so that a progress behind it stays behind all of its events.
            watcher.ready = true;
            self.ready.push_front(Item::Events { slot });
        }
        self.want_history(slot);
        batch
    }
}

/// Whether a progress request gets an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProgressAnswer {
    /// No: a watcher is catching up, or starts in the future, or there is none.
    None,
    /// As soon as the hub is told of the revision that a `Created` already bore.
    Later,
    Now,
}

/// Takes whole revisions off a watcher's pending events until they fill a response. An event that has left
/// the ring takes it and all behind it with it: the watcher falls back to history from its revision.
fn take_pending(watcher: &mut Watcher, ring: &Ring, bytes_max: usize) -> (Vec<bytes::Bytes>, Revision) {
    let mut events = Vec::with_capacity(watcher.pending.len().min(256));
    let (mut len_bytes, mut last) = (0, Revision::ZERO);
    while let Some(&EventRef { revision, sequence }) = watcher.pending.front() {
        if revision != last && len_bytes >= bytes_max {
            break;
        }
        let Some(event) = ring.get(sequence) else {
            // Events leave in order, so the first of a revision would have been missing first.
            assert!(revision != last, "part of revision {revision} has left the ring during one read");
            watcher.pending.clear();
            watcher.state = WatcherState::CatchingUp { next: revision };
            break;
        };
        watcher.pending.pop_front();
        last = revision;
        len_bytes += event.form_len(watcher.prev_kv);
        events.push(event.form(watcher.prev_kv));
    }
    if watcher.pending.is_empty() && watcher.pending.capacity() > 256 {
        watcher.pending.shrink_to(64); // thousands of watchers must not each keep their worst moment
    }
    (events, last)
}
