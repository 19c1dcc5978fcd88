//! The hub against the full history: random writes, compactions, watchers, stalled and dropped streams, a
//! catch-up interrupted at every place, with limits so small that all of them are met.
//!
//! Everything is drawn from a seed that a failure prints.

use std::collections::BTreeMap;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::catch_up::Job;
use super::event::EncodedEvent;
use super::fake_store::{FakeStore, Write, revision};
use super::real_store::RealStore;
use super::*;
use crate::{Change, ChangeKind, KeyRange, Revision, RevisionPair};

const SEEDS: u64 = 150;
const REAL_SEEDS: u64 = 75;
const STEPS: usize = 400;

/// splitmix64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    fn pick<'a, T>(&mut self, items: &'a [T]) -> &'a T {
        &items[self.below(items.len() as u64) as usize]
    }

    fn key(&mut self) -> Bytes {
        Bytes::from(vec![b'a' + self.below(6) as u8])
    }

    fn config(&mut self) -> HubConfig {
        HubConfig {
            ring_len_max: *self.pick(&[1, 5, 20, 1000]),
            ring_bytes_max: *self.pick(&[50, 500, 100_000]),
            queue_len_max: *self.pick(&[0, 1, 4, 30, 1000]),
            response_bytes_max: *self.pick(&[1, 60, 10_000]),
            chunk_bytes_max: *self.pick(&[1, 60, 10_000]),
            stream_history_bytes_max: *self.pick(&[1, 100, 10_000]),
            catch_up_watchers_max: *self.pick(&[1, 2, 100]),
            catch_up_revisions_max: *self.pick(&[1, 3, 100]),
            catch_up_bytes_max: *self.pick(&[1, 100, 10_000]),
        }
    }
}

/// What a client knows of one of its watchers.
struct Expectation {
    spec: WatchSpec,
    /// The least revision of which it has not been told.
    next: Revision,
    created: bool,
}

struct Client {
    stream: Stream,
    watchers: BTreeMap<WatchId, Expectation>,
    /// Canceled by request, the answer not seen yet.
    canceling: Vec<WatchId>,
}

struct World {
    random: Random,
    /// What is compared with; also what the hub reads from, unless there is a real one.
    store: FakeStore,
    real: Option<RealStore>,
    hub: Hub,
    clients: Vec<Client>,
    /// Written and visible, but the hub is not told yet.
    unpublished: Vec<Change>,
    /// A step of catch-up that has begun, with the view it works on and whether it has read.
    reading: Option<(Box<dyn StoreView>, Vec<Job>, bool)>,
    /// Outputs by kind, so that the test knows what it met.
    seen: [u64; 5],
}

impl World {
    fn new(seed: u64, real: Option<RealStore>) -> World {
        let mut random = Random(seed);
        let hub = Hub::new(random.config(), Revision::FIRST, || ());
        World {
            random,
            store: FakeStore::new(),
            real,
            hub,
            clients: Vec::new(),
            unpublished: Vec::new(),
            reading: None,
            seen: [0; 5],
        }
    }

    fn step(&mut self) {
        match self.random.below(100) {
            0..35 => self.write(),
            35..50 => self.publish(),
            50..51 => self.compact(),
            51..53 => self.poll(),
            53..56 => {
                let stream = self.hub.open_stream();
                self.clients.push(Client { stream, watchers: BTreeMap::new(), canceling: Vec::new() });
            }
            56..57 => {
                if !self.clients.is_empty() {
                    let at = self.random.below(self.clients.len() as u64) as usize;
                    self.clients.swap_remove(at);
                }
            }
            57..66 => self.create(),
            66..69 => self.cancel(),
            69..74 => self.ask_for_progress(),
            74..75 => self.restore(),
            75..88 => self.read_history(),
            _ => self.poll(),
        }
    }

    fn write(&mut self) {
        let count = if self.random.one_in(10) { 20 } else { 1 + self.random.below(3) };
        let mut writes = Vec::new();
        let mut keys = Vec::new();
        for _ in 0..count {
            let key = self.random.key();
            if keys.contains(&key) {
                continue; // a transaction writes a key once
            }
            keys.push(key.clone());
            let value = Bytes::from(vec![b'v'; self.random.below(20) as usize]);
            let write = if self.random.one_in(4) { Write::Delete { key } } else { Write::Put { key, value } };
            writes.push(write);
        }
        let changes = self.store.write(&writes);
        if let Some(real) = &mut self.real {
            assert_eq!(real.write(&writes), changes);
        }
        self.unpublished.extend(changes);
    }

    fn publish(&mut self) {
        let changes = std::mem::take(&mut self.unpublished);
        match &mut self.real {
            Some(real) => {
                self.hub.publish(&real.view(), &changes).unwrap();
                real.fold(self.random.below(20) as usize);
            }
            None => self.hub.publish(&self.store, &changes).unwrap(),
        }
    }

    fn catch_up(&self) -> bool {
        let more = match &self.real {
            Some(real) => self.hub.catch_up(&real.view()),
            None => self.hub.catch_up(&self.store),
        };
        more.unwrap()
    }

    fn view(&self) -> Box<dyn StoreView> {
        match &self.real {
            Some(real) => Box::new(real.view()),
            None => Box::new(self.store.clone()),
        }
    }

    fn compact(&mut self) {
        // Not past what the hub knows: the apply thread publishes a batch before it compacts.
        let from = StoreView::compact_revision(&self.store).map_or(1, Revision::get);
        let end = self.hub.revision().get() + 1;
        if from + 1 < end {
            let at = from + 1 + self.random.below(end - from - 1);
            self.store.compact(revision(at));
            if let Some(real) = &mut self.real {
                real.compact(revision(at));
            }
        }
    }

    fn create(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let range = match self.random.below(4) {
            0 => KeyRange::One(self.random.key()),
            1 => KeyRange::From(self.random.key()),
            2 => KeyRange::all(),
            _ => KeyRange::Span { start: self.random.key(), end: self.random.key() },
        };
        let current = StoreView::revision(&self.store);
        let start = match self.random.below(3) {
            0 => WatchStart::Now,
            1 if self.random.one_in(4) => WatchStart::From(revision(1 + self.random.below(current.get()))),
            1 => WatchStart::From(revision(current.get() - self.random.below(current.get().min(30)))),
            _ => WatchStart::From(revision(current.get() + self.random.below(10))),
        };
        let random = &mut self.random;
        let spec = WatchSpec {
            range,
            start,
            prev_kv: random.one_in(2),
            filters: Filters { no_put: random.one_in(5), no_delete: random.one_in(5) },
            progress_notify: random.one_in(2),
            fragment: false,
            id: random.one_in(3).then(|| WatchId(random.below(5) as i64)),
        };
        let at = random.below(self.clients.len() as u64) as usize;
        // The hub may have ended a watcher of that id without the model having seen it.
        self.drain(at);
        let client = &mut self.clients[at];
        if client.watchers.len() >= 5 {
            return;
        }
        let taken = spec.id.is_some_and(|id| client.watchers.contains_key(&id));
        match client.stream.create(spec.clone(), current) {
            Ok(created) => {
                assert!(!taken && !spec.range.is_empty());
                let next = match start {
                    WatchStart::Now => created.revision.next(),
                    WatchStart::From(start) => start,
                };
                let old =
                    client.watchers.insert(created.watch_id, Expectation { spec, next, created: false });
                assert!(old.is_none(), "an id was given twice");
            }
            Err(CreateError::EmptyRange) => assert!(spec.range.is_empty()),
            Err(CreateError::DuplicateId) => assert!(taken),
            Err(CreateError::NegativeStart) => panic!("the start is not negative"),
        }
    }

    fn cancel(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.below(self.clients.len() as u64) as usize;
        let id = WatchId(self.random.below(6) as i64);
        self.drain(at);
        let client = &mut self.clients[at];
        if client.watchers.contains_key(&id) {
            client.canceling.push(id);
        }
        client.stream.cancel(id);
        self.drain(at);
        let client = &self.clients[at];
        assert!(client.canceling.is_empty(), "a cancel was not answered");
    }

    fn ask_for_progress(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.below(self.clients.len() as u64) as usize;
        if self.random.one_in(2) && self.reading.is_none() {
            // Else hardly ever a stream would be synced as a whole.
            while self.catch_up() || self.drain(at) {}
        }
        let stream = &mut self.clients[at].stream;
        if self.random.one_in(2) { stream.request_progress() } else { stream.tick_progress() }
    }

    /// Takes all that is ready for a client; false when nothing was.
    fn drain(&mut self, at: usize) -> bool {
        let client = &mut self.clients[at];
        let mut any = false;
        while let Poll::Ready(output) = client.stream.poll_next(&mut Context::from_waker(Waker::noop())) {
            check(client, output, &self.store, &mut self.seen);
            any = true;
        }
        any
    }

    /// A snapshot from the leader comes instead of entries.
    fn restore(&mut self) {
        for _ in 0..self.random.below(4) {
            self.write();
        }
        self.unpublished.clear();
        self.hub.restore(StoreView::revision(&self.store));
    }

    /// One part of a step of catch-up; anything may happen between two parts.
    fn read_history(&mut self) {
        match &mut self.reading {
            None => self.reading = Some((self.view(), self.hub.shared.take_jobs(), false)),
            Some((view, jobs, read @ false)) => {
                self.hub.shared.read(&**view, jobs).unwrap();
                *read = true;
            }
            Some((_, _, true)) => {
                let (view, jobs, _) = self.reading.take().unwrap();
                self.hub.shared.finish(&*view, jobs);
            }
        }
    }

    fn poll(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.random.below(self.clients.len() as u64) as usize;
        let client = &mut self.clients[at];
        for _ in 0..1 + self.random.below(8) {
            match client.stream.poll_next(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(output) => check(client, output, &self.store, &mut self.seen),
                Poll::Pending => break,
            }
        }
    }

    /// Lets everything come to rest: then nobody may miss anything, and progress must be answered.
    fn settle(&mut self) {
        self.publish();
        while self.reading.is_some() {
            self.read_history();
        }
        for round in 0.. {
            assert!(round < 10_000, "catch-up does not come to rest");
            let more = self.catch_up();
            let mut quiet = true;
            for at in 0..self.clients.len() {
                quiet &= !self.drain(at);
            }
            if quiet && !more {
                break;
            }
        }
        let counters = self.hub.counters();
        assert_eq!((counters.slow_watchers, counters.pending_events), (0, 0));
        let watchers: usize = self.clients.iter().map(|client| client.watchers.len()).sum();
        assert_eq!((counters.streams, counters.watchers), (self.clients.len() as u64, watchers as u64));
        let end = StoreView::revision(&self.store);
        for client in &mut self.clients {
            for (id, watcher) in &client.watchers {
                let missed = expected(&self.store, watcher).next();
                assert!(watcher.created && missed.is_none(), "watcher {id} was not told of {missed:?}");
            }
            client.stream.request_progress();
            let started = |watcher: &Expectation| match watcher.spec.start {
                WatchStart::Now => true,
                WatchStart::From(start) => start <= end,
            };
            let due = !client.watchers.is_empty() && client.watchers.values().all(started);
            let answer = client.stream.poll_next(&mut Context::from_waker(Waker::noop()));
            let progress = Poll::Ready(Output::Progress { watch_id: None, revision: end });
            assert_eq!(answer, if due { progress } else { Poll::Pending });
        }
    }
}

/// All changes a watcher has still to be told of.
fn expected<'a>(store: &'a FakeStore, watcher: &'a Expectation) -> impl Iterator<Item = &'a Change> {
    let spec = &watcher.spec;
    let changes = store.all.range(RevisionPair::new(watcher.next, 0)..).map(|(_, change)| change);
    changes.filter(|change| spec.range.contains(&change.key) && spec.filters.pass(change.kind))
}

fn check(client: &mut Client, output: Output, store: &FakeStore, seen: &mut [u64; 5]) {
    match output {
        Output::Created(created) => {
            seen[0] += 1;
            let watcher = client.watchers.get_mut(&created.watch_id).expect("created without request");
            assert!(!watcher.created, "created twice");
            watcher.created = true;
        }
        Output::Events(batch) => {
            seen[1] += 1;
            let watcher = client.watchers.get_mut(&batch.watch_id).expect("events of no watcher");
            assert!(watcher.created, "events before created");
            assert!(!batch.events.is_empty(), "an empty batch would look like progress");
            let mut changes = expected(store, watcher).peekable();
            let mut last = Revision::ZERO;
            for event in &batch.events {
                let change = changes.next().expect("an event that never was, or twice");
                last = change.revision.main;
                check_event(event, change, watcher.spec.prev_kv, store);
            }
            let split = changes.peek().is_some_and(|change| change.revision.main == last);
            assert!(!split, "revision {last} was split");
            assert!(batch.revision >= last, "header before its events");
            drop(changes);
            watcher.next = last.next();
        }
        Output::Progress { watch_id, revision } => {
            seen[if watch_id.is_some() { 2 } else { 3 }] += 1;
            for (id, watcher) in client.watchers.iter().filter(|(id, _)| watch_id.is_none_or(|w| w == **id)) {
                if !watcher.created {
                    assert!(watch_id.is_none(), "progress before created");
                    continue; // the request was made before this watch
                }
                let early = expected(store, watcher).next().filter(|change| change.revision.main <= revision);
                assert!(early.is_none(), "progress {revision} of {id} came before {early:?}");
            }
            if let Some(id) = watch_id {
                assert!(client.watchers[&id].spec.progress_notify);
            }
        }
        Output::Canceled { watch_id, reason } => {
            let watcher = client.watchers.remove(&watch_id).expect("canceled, but not there");
            assert!(watcher.created, "canceled before created");
            match reason {
                CancelReason::Requested { .. } => {
                    let at = client.canceling.iter().position(|id| *id == watch_id);
                    client.canceling.remove(at.expect("canceled without request"));
                }
                CancelReason::Compacted { compact_revision } => {
                    seen[4] += 1;
                    client.canceling.retain(|id| *id != watch_id);
                    assert!(watcher.next < compact_revision, "history from {} is there", watcher.next);
                    assert!(Some(compact_revision) <= StoreView::compact_revision(store));
                }
            }
        }
    }
}

fn check_event(event: &Bytes, change: &Change, prev_kv: bool, store: &FakeStore) {
    let short = EncodedEvent::encode(change, None).form(false);
    let created = change.kind == ChangeKind::Put { created: true };
    match change.previous.filter(|_| prev_kv && !created) {
        None => assert_eq!(event, &short, "{change:?}"),
        Some(at) => {
            let long = EncodedEvent::encode(change, Some(&store.all_records[&at])).form(true);
            let compacted = StoreView::record(store, at).unwrap().is_none();
            assert!(event == &long || (compacted && event == &short), "{change:?}: {event:?}");
        }
    }
}

struct PrintSeed(u64);

impl Drop for PrintSeed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("seed {}", self.0);
        }
    }
}

fn run(seeds: std::ops::Range<u64>, real: fn() -> Option<RealStore>) {
    let mut seen = [0; 5];
    for seed in seeds {
        let _print = PrintSeed(seed);
        let mut world = World::new(seed, real());
        for _ in 0..STEPS {
            world.step();
        }
        world.settle();
        for (sum, seen) in seen.iter_mut().zip(world.seen) {
            *sum += seen;
        }
    }
    println!("created, events, progress of one, progress of all, compacted: {seen:?}");
    assert!(seen.iter().all(|count| *count > 40), "the test has become blind: {seen:?}");
}

#[test]
fn every_watcher_gets_exactly_its_history() {
    run(0..SEEDS, || None);
}

#[test]
fn every_watcher_gets_exactly_the_history_of_the_real_store() {
    run(SEEDS..SEEDS + REAL_SEEDS, || Some(RealStore::new()));
}
