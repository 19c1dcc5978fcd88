//! How fast events reach many streams: `cargo run --release -p mvcc --example watch_fan_out`.
//!
//! One thread publishes batches as apply does, two drain the streams into buffers as the api's tasks do.
//! Printed: deliveries a second, and the publishing thread's own time per event and per delivery.

// A measurement needs a clock.
#![allow(clippy::disallowed_methods)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use bytes::Bytes;
use mvcc::watch::{EventBatch, Filters, Hub, HubConfig, Output, StoreView, Stream, WatchSpec, WatchStart};
use mvcc::{
    Change, ChangeKind, History, HistoryLimit, KeyRange, MvccError, Revision, RevisionChanges, RevisionPair,
};

const STREAMS: usize = 100;
const WATCHERS: usize = 100;
const VALUE_LEN: usize = 1024;

/// A store that only remembers its revision: every key has the same value before and after.
#[derive(Clone)]
struct View {
    revision: Revision,
    record: Bytes,
    key_of: fn(u64) -> Bytes,
}

impl View {
    fn change(&self, revision: Revision) -> Change {
        let at = RevisionPair::new(revision, 0);
        let (kind, previous) = (ChangeKind::Put { created: false }, Some(at));
        Change { revision: at, key: (self.key_of)(revision.get()), kv: self.record.clone(), kind, previous }
    }
}

impl StoreView for View {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn compact_revision(&self) -> Option<Revision> {
        None
    }

    fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        let mut history = History { revisions: Vec::new(), next: from };
        while history.next <= self.revision && history.revisions.len() < limit.revisions {
            let change = self.change(history.next);
            if wanted(&change.key) {
                history.revisions.push(RevisionChanges { revision: history.next, changes: vec![change] });
            }
            history.next = history.next.next();
        }
        Ok(history)
    }

    fn record(&self, _: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        Ok(Some(self.record.clone()))
    }
}

struct Unpark(Thread, AtomicBool);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        if !self.1.swap(true, Ordering::AcqRel) {
            self.0.unpark();
        }
    }
}

/// Drains its streams until the end, one buffer for all as one connection has.
fn drain(mut streams: Vec<Stream>, delivered: &AtomicU64, responses: &AtomicU64, done: &AtomicBool) {
    let unpark = Arc::new(Unpark(thread::current(), AtomicBool::new(false)));
    let waker = Waker::from(Arc::clone(&unpark));
    let mut buffer = Vec::new();
    loop {
        unpark.1.store(false, Ordering::Release);
        for stream in &mut streams {
            while let Poll::Ready(output) = stream.poll_next(&mut Context::from_waker(&waker)) {
                if let Output::Events(batch) = output {
                    buffer.clear();
                    EventBatch::put_events(&batch.events, &mut buffer);
                    delivered.fetch_add(batch.events.len() as u64, Ordering::Relaxed);
                    responses.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        if done.load(Ordering::Acquire) {
            return;
        }
        if !unpark.1.load(Ordering::Acquire) {
            thread::park_timeout(Duration::from_millis(5));
        }
    }
}

fn spec(range: KeyRange) -> WatchSpec {
    WatchSpec {
        range,
        start: WatchStart::Now,
        prev_kv: true,
        filters: Filters::default(),
        progress_notify: true,
        fragment: false,
        id: None,
    }
}

fn prefix(i: usize) -> KeyRange {
    KeyRange::Span { start: format!("/registry/{i:03}/").into(), end: format!("/registry/{i:03}0").into() }
}

struct Case {
    name: &'static str,
    key_of: fn(u64) -> Bytes,
    watchers: fn() -> Vec<KeyRange>,
    /// Deliveries per event.
    fan_out: usize,
    events: u64,
    /// Changes in one publish.
    batch: u64,
}

fn run(case: &Case) {
    let catch_up: Arc<std::sync::OnceLock<Thread>> = Arc::default();
    let to_wake = Arc::clone(&catch_up);
    let hub = Hub::new(HubConfig::default(), Revision::FIRST, move || {
        if let Some(thread) = to_wake.get() {
            thread.unpark();
        }
    });
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = hub.open_stream();
        for range in (case.watchers)() {
            stream.create(spec(range), Revision::FIRST).expect("the watch is well-formed");
            let _ = stream.poll_next(&mut Context::from_waker(Waker::noop()));
        }
        streams.push(stream);
    }
    let record = Bytes::from(vec![7; VALUE_LEN]);
    let mut view = View { revision: Revision::FIRST, record, key_of: case.key_of };
    let (delivered, responses, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    let latest = std::sync::Mutex::new(view.clone());
    let fan_out = case.fan_out as u64;
    thread::scope(|scope| {
        for _ in 0..2 {
            let half = streams.split_off(streams.len().saturating_sub(STREAMS / 2));
            scope.spawn(|| drain(half, &delivered, &responses, &done));
        }
        let (hub, done, latest) = (&hub, &done, &latest);
        let reader = scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let view = latest.lock().expect("nobody panics").clone();
                if !hub.catch_up(&view).expect("this view can be read") {
                    thread::park_timeout(Duration::from_millis(5));
                }
            }
        });
        let _ = catch_up.set(reader.thread().clone());
        let begin = Instant::now();
        let mut publishing = Duration::ZERO;
        let mut slow_max = 0;
        for round in 0..case.events / case.batch {
            let changes: Vec<Change> = (0..case.batch)
                .map(|_| {
                    view.revision = view.revision.next();
                    view.change(view.revision)
                })
                .collect();
            *latest.lock().expect("nobody panics") = view.clone();
            let start = Instant::now();
            hub.publish(&view, &changes).expect("this view can be read");
            publishing += start.elapsed();
            slow_max = slow_max.max(hub.counters().slow_watchers);
            // The store is not faster than its watchers for long: clients wait for answers.
            while (round + 1) * case.batch * fan_out > delivered.load(Ordering::Relaxed) + 200 * fan_out {
                thread::yield_now();
            }
        }
        while delivered.load(Ordering::Relaxed) < case.events * fan_out {
            thread::yield_now();
        }
        let elapsed = begin.elapsed();
        done.store(true, Ordering::Release);
        println!(
            "{:<44} {:>6.2} M deliveries/s, {:>5.1} events a response, publish {:>6.2} us an event, {:>4.0} ns a delivery, at most {slow_max} slow",
            case.name,
            (case.events * fan_out) as f64 / elapsed.as_secs_f64() / 1e6,
            (case.events * fan_out) as f64 / responses.load(Ordering::Relaxed) as f64,
            publishing.as_secs_f64() * 1e6 / case.events as f64,
            publishing.as_secs_f64() * 1e9 / (case.events * fan_out) as f64,
        );
    });
}

fn main() {
    let spread: fn(u64) -> Bytes = |i| format!("/registry/{:03}/default/{i}", i as usize % WATCHERS).into();
    let same: fn(u64) -> Bytes = |i| format!("/registry/000/default/{i}").into();
    let prefixes: fn() -> Vec<KeyRange> = || (0..WATCHERS).map(prefix).collect();
    let all: fn() -> Vec<KeyRange> = || vec![KeyRange::all()];
    let crowd: fn() -> Vec<KeyRange> = || vec![prefix(0); WATCHERS];
    let batches = [1, 50];
    for batch in batches {
        println!("{STREAMS} streams, values of {VALUE_LEN} bytes with prev_kv, {batch} changes a publish:");
        for case in [
            Case { name: "1 watcher each", key_of: same, watchers: all, fan_out: 100, events: 40_000, batch },
            Case {
                name: "100 prefixes each, one concerned",
                key_of: spread,
                watchers: prefixes,
                fan_out: 100,
                events: 40_000,
                batch,
            },
            Case {
                name: "100 watchers each, all concerned",
                key_of: same,
                watchers: crowd,
                fan_out: 10_000,
                events: 1_000,
                batch,
            },
            Case {
                name: "100 prefixes each, none concerned",
                key_of: |i| format!("/elsewhere/{i}").into(),
                watchers: prefixes,
                fan_out: 0,
                events: 1_000_000,
                batch,
            },
        ] {
            run(&case);
        }
    }
}
