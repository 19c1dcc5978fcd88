//! One test per rule of etcd's watch service.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use bytes::Bytes;

use super::fake_store::{FakeStore, Write, delete, put, revision};
use super::*;
use crate::{Change, KeyRange, Revision};

/// Store and hub as the apply thread drives them.
struct Bench {
    store: FakeStore,
    hub: Hub,
    notified: Arc<AtomicUsize>,
}

impl Bench {
    fn new() -> Bench {
        Bench::with(HubConfig::default())
    }

    fn with(config: HubConfig) -> Bench {
        let notified = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&notified);
        let hub = Hub::new(config, Revision::FIRST, move || {
            count.fetch_add(1, Ordering::Relaxed);
        });
        Bench { store: FakeStore::new(), hub, notified }
    }

    fn write(&mut self, writes: &[Write]) {
        let changes = self.store.write(writes);
        self.hub.publish(&self.store, &changes).unwrap();
    }

    fn puts(&mut self, key: &str, count: usize) {
        for i in 0..count {
            self.write(&[put(key, &i.to_string())]);
        }
    }

    fn catch_up(&self) {
        while self.hub.catch_up(&self.store).unwrap() {}
    }

    fn create(&self, stream: &mut Stream, spec: WatchSpec) -> Result<Created, CreateError> {
        stream.create(spec, StoreView::revision(&self.store))
    }

    /// Creates a watch and takes its first answer.
    fn watch(&self, stream: &mut Stream, spec: WatchSpec) -> Created {
        let created = self.create(stream, spec).unwrap();
        assert_eq!(next(stream), Some(Output::Created(created)));
        created
    }
}

fn next(stream: &mut Stream) -> Option<Output> {
    match stream.poll_next(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

fn one(key: &str) -> KeyRange {
    KeyRange::One(Bytes::copy_from_slice(key.as_bytes()))
}

fn spec(range: KeyRange, start: i64) -> WatchSpec {
    WatchSpec {
        range,
        start: WatchStart::from_wire(start).unwrap(),
        prev_kv: false,
        filters: Filters::default(),
        progress_notify: false,
        fragment: false,
        id: None,
    }
}

/// What protobuf makes of an event: type, key, mod_revision, and prev_kv's mod_revision (0: absent).
fn decode(event: &Bytes) -> (char, String, u64, u64) {
    let (mut kind, mut kv, mut previous) = ('P', None, None);
    let mut rest = &event[..];
    while let Some((tag, tail)) = rest.split_first() {
        match tag {
            0x08 => {
                assert_eq!(tail[0], 1);
                kind = 'D';
                rest = &tail[1..];
            }
            0x12 | 0x1a => {
                assert!(tail[0] < 0x80, "short records only");
                let (record, behind) = tail[1..].split_at(tail[0] as usize);
                let record = crate::Record::parse(record).unwrap();
                *(if *tag == 0x12 { &mut kv } else { &mut previous }) = Some(record);
                rest = behind;
            }
            tag => panic!("tag {tag:#x} in an event"),
        }
    }
    let kv = kv.unwrap();
    let key = String::from_utf8(kv.key.to_vec()).unwrap();
    (kind, key, kv.mod_revision as u64, previous.map_or(0, |record| record.mod_revision as u64))
}

/// The mod revisions of the next output, which must be events of this watcher.
fn revisions(stream: &mut Stream, id: i64) -> Vec<u64> {
    match next(stream) {
        Some(Output::Events(batch)) => {
            assert_eq!(batch.watch_id, WatchId(id));
            batch.events.iter().map(|event| decode(event).2).collect()
        }
        other => panic!("events expected, got {other:?}"),
    }
}

#[test]
fn created_comes_first_with_the_present_revision() {
    let mut bench = Bench::new();
    bench.puts("a", 3);
    let mut stream = bench.hub.open_stream();
    let created = bench.create(&mut stream, spec(one("a"), 0)).unwrap();
    assert_eq!(created, Created { watch_id: WatchId(0), revision: revision(4) });
    bench.write(&[put("a", "x")]);
    assert_eq!(next(&mut stream), Some(Output::Created(created)));
    assert_eq!(revisions(&mut stream, 0), [5]);
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_watch_from_now_leaves_out_what_readers_could_already_see() {
    // The view is published a moment before the hub is told.
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let changes = bench.store.write(&[put("a", "seen")]);
    let created = bench.watch(&mut stream, spec(one("a"), 0));
    assert_eq!(created.revision, revision(2));
    stream.request_progress();
    assert_eq!(next(&mut stream), None, "the hub does not know of revision 2 yet");
    bench.hub.publish(&bench.store, &changes).unwrap();
    assert_eq!(next(&mut stream), Some(Output::Progress { watch_id: None, revision: revision(2) }));
    bench.write(&[put("a", "new")]);
    assert_eq!(revisions(&mut stream, 0), [3]);
}

#[test]
fn ranges_choose_the_keys() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let text = |text: &'static str| Bytes::from_static(text.as_bytes());
    for (key, end) in [("b", ""), ("b", "\0"), ("a", "b"), ("\0", "\0")] {
        bench.watch(&mut stream, spec(KeyRange::from_wire(text(key), text(end)), 0));
    }
    bench.write(&[put("a", ""), put("b", ""), put("ba", "")]);
    let mut keys = std::collections::BTreeMap::new();
    while let Some(Output::Events(batch)) = next(&mut stream) {
        let of_batch: Vec<String> = batch.events.iter().map(|event| decode(event).1).collect();
        keys.insert(batch.watch_id.0, of_batch.join(" "));
    }
    let keys: Vec<&str> = keys.values().map(String::as_str).collect();
    assert_eq!(keys, ["b", "b ba", "a", "a b ba"]);
}

#[test]
fn refused_watches() {
    let bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let empty = KeyRange::from_wire(Bytes::from_static(b"b"), Bytes::from_static(b"a"));
    let error = bench.create(&mut stream, spec(empty, 0)).unwrap_err();
    assert_eq!(error.to_string(), "mvcc: watcher range is empty");
    let error = WatchStart::from_wire(-1).unwrap_err();
    assert_eq!(error.to_string(), "etcdserver: mvcc: required revision has been compacted");

    let with_id = |id| WatchSpec { id: Some(WatchId(id)), ..spec(one("a"), 0) };
    bench.watch(&mut stream, with_id(7));
    let error = bench.create(&mut stream, with_id(7)).unwrap_err();
    assert_eq!(error.to_string(), "mvcc: duplicate watch ID provided on the WatchStream");
    assert_eq!(next(&mut stream), None, "the api answers a refused watch");
    assert_eq!(bench.hub.counters().watchers, 1);
}

#[test]
fn ids_count_up_and_leave_out_those_in_use() {
    let bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let auto = || spec(one("a"), 0);
    let given = |id| WatchSpec { id: Some(WatchId(id)), ..spec(one("a"), 0) };
    let mut ids = Vec::new();
    for spec in [auto(), given(1), auto(), given(-5), auto()] {
        ids.push(bench.watch(&mut stream, spec).watch_id.0);
    }
    assert_eq!(ids, [0, 1, 2, -5, 3]);
    stream.cancel(WatchId(0));
    stream.cancel(WatchId(1));
    assert_eq!(bench.create(&mut stream, auto()).unwrap().watch_id.0, 4, "an assigned id never comes again");
    assert_eq!(bench.create(&mut stream, given(1)).unwrap().watch_id.0, 1, "a chosen one may");
    let mut other = bench.hub.open_stream();
    assert_eq!(bench.watch(&mut other, auto()).watch_id.0, 0, "each stream has its own");
}

#[test]
fn a_future_start_gets_only_what_comes_then() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 4));
    bench.puts("a", 2);
    stream.request_progress();
    assert_eq!(next(&mut stream), None, "no event before 4, and no progress below the start");
    bench.puts("a", 2);
    assert_eq!(revisions(&mut stream, 0), [4, 5]);
    stream.request_progress();
    assert_eq!(next(&mut stream), Some(Output::Progress { watch_id: None, revision: revision(5) }));
}

#[test]
fn a_past_start_reads_history_and_goes_on_live() {
    let mut bench = Bench::new();
    bench.puts("a", 4);
    bench.puts("b", 2);
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 3));
    assert_eq!(bench.notified.load(Ordering::Relaxed), 1);
    assert_eq!(bench.hub.counters().slow_watchers, 1);
    bench.puts("a", 1);
    assert_eq!(next(&mut stream), None);
    bench.catch_up();
    bench.puts("a", 1);
    match next(&mut stream) {
        Some(Output::Events(batch)) => {
            assert_eq!(batch.revision, revision(8), "the store's revision when history was read");
            let got: Vec<u64> = batch.events.iter().map(|event| decode(event).2).collect();
            assert_eq!(got, [3, 4, 5, 8]);
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(revisions(&mut stream, 0), [9]);
    assert_eq!(bench.hub.counters().slow_watchers, 0);
}

#[test]
fn a_compacted_start_is_canceled_with_the_compact_revision() {
    let mut bench = Bench::new();
    bench.puts("a", 5);
    bench.store.compact(revision(4));
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 3));
    bench.watch(&mut stream, spec(one("a"), 4));
    bench.catch_up();
    let reason = CancelReason::Compacted { compact_revision: revision(4) };
    assert_eq!(next(&mut stream), Some(Output::Canceled { watch_id: WatchId(0), reason }));
    assert_eq!(revisions(&mut stream, 1), [4, 5, 6], "equal is fine");
    bench.puts("a", 1);
    assert_eq!(revisions(&mut stream, 1), [7]);
    assert_eq!(next(&mut stream), None);
    assert_eq!(bench.hub.counters().watchers, 1);
}

#[test]
fn prev_kv_of_all_but_creations() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, WatchSpec { prev_kv: true, ..spec(one("a"), 0) });
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.write(&[put("a", "1")]);
    bench.write(&[put("a", "2")]);
    bench.write(&[delete("a")]);
    bench.write(&[put("a", "3")]);
    let events = |output| match output {
        Some(Output::Events(batch)) => batch.events.iter().map(decode).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let a = || String::from("a");
    assert_eq!(
        events(next(&mut stream)),
        [('P', a(), 2, 0), ('P', a(), 3, 2), ('D', a(), 4, 3), ('P', a(), 5, 0)]
    );
    assert_eq!(
        events(next(&mut stream)),
        [('P', a(), 2, 0), ('P', a(), 3, 0), ('D', a(), 4, 0), ('P', a(), 5, 0)]
    );

    let mut late = bench.hub.open_stream();
    bench.store.compact(revision(3));
    bench.watch(&mut late, WatchSpec { prev_kv: true, ..spec(one("a"), 3) });
    bench.catch_up();
    assert_eq!(
        events(next(&mut late)),
        [('P', a(), 3, 0), ('D', a(), 4, 3), ('P', a(), 5, 0)],
        "the version before 3 is compacted"
    );
}

#[test]
fn a_queued_event_keeps_its_prev_kv_through_compaction() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, WatchSpec { prev_kv: true, ..spec(one("a"), 0) });
    bench.puts("a", 3);
    bench.store.compact(revision(4));
    match next(&mut stream) {
        Some(Output::Events(batch)) => {
            assert_eq!(batch.events.iter().map(|event| decode(event).3).collect::<Vec<_>>(), [0, 2, 3]);
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn filters_drop_kinds_and_send_nothing_when_nothing_is_left() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let filtered =
        |no_put, no_delete| WatchSpec { filters: Filters { no_put, no_delete }, ..spec(KeyRange::all(), 0) };
    bench.watch(&mut stream, filtered(true, false));
    bench.watch(&mut stream, filtered(false, true));
    bench.watch(&mut stream, filtered(true, true));
    bench.write(&[put("a", "1")]);
    bench.write(&[delete("a")]);
    assert_eq!(revisions(&mut stream, 1), [2]);
    assert_eq!(revisions(&mut stream, 0), [3]);
    assert_eq!(next(&mut stream), None);

    bench.watch(&mut stream, WatchSpec { start: WatchStart::From(revision(2)), ..filtered(true, false) });
    bench.catch_up();
    assert_eq!(revisions(&mut stream, 3), [3], "in history too");
}

#[test]
fn all_of_a_revision_in_order_in_one_response() {
    let mut bench = Bench::with(HubConfig { response_bytes_max: 1, ..HubConfig::default() });
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(KeyRange::all(), 0));
    let writes: Vec<Write> = (0..500).map(|i| put(&format!("k{i:03}"), "")).collect();
    bench.write(&writes);
    bench.write(&[delete("k001"), put("k001", "again")]);
    let batch = |output| match output {
        Some(Output::Events(batch)) => batch,
        other => panic!("{other:?}"),
    };
    let first = batch(next(&mut stream));
    assert_eq!((first.events.len(), first.revision), (500, revision(2)));
    let second = batch(next(&mut stream));
    let kinds: Vec<char> = second.events.iter().map(|event| decode(event).0).collect();
    assert_eq!(kinds, ['D', 'P']);
}

#[test]
fn revisions_that_wait_leave_together() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.watch(&mut stream, spec(one("b"), 0));
    for _ in 0..3 {
        bench.puts("a", 1);
        bench.puts("b", 1);
    }
    assert_eq!(revisions(&mut stream, 0), [2, 4, 6]);
    assert_eq!(revisions(&mut stream, 1), [3, 5, 7]);
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_canceled_watcher_is_silent_and_an_unknown_one_unanswered() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.puts("a", 2);
    stream.cancel(WatchId(0));
    stream.cancel(WatchId(0));
    stream.cancel(WatchId(42));
    let reason = CancelReason::Requested { revision: revision(3) };
    assert_eq!(next(&mut stream), Some(Output::Canceled { watch_id: WatchId(0), reason }));
    bench.puts("a", 2);
    assert_eq!(next(&mut stream), None);
    assert_eq!(bench.hub.counters(), Counters { streams: 1, ..Counters::default() });
}

#[test]
fn progress_on_request_only_when_all_are_synced_and_behind_all_events() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    stream.request_progress();
    assert_eq!(next(&mut stream), None, "a stream without watchers");
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.puts("a", 1);
    stream.request_progress();
    bench.puts("a", 1);
    let progress = |r| Some(Output::Progress { watch_id: None, revision: revision(r) });
    assert_eq!(revisions(&mut stream, 0), [2, 3]);
    assert_eq!(next(&mut stream), progress(2));
    bench.puts("elsewhere", 1);
    stream.request_progress();
    assert_eq!(next(&mut stream), progress(4), "the store's revision, not the last event's");
    bench.watch(&mut stream, spec(one("a"), 2));
    stream.request_progress();
    assert_eq!(next(&mut stream), None, "one reads history");
    bench.catch_up();
    stream.request_progress();
    assert_eq!(revisions(&mut stream, 1), [2, 3], "history before progress");
    assert_eq!(next(&mut stream), progress(4));
}

#[test]
fn progress_requests_do_not_pile_up() {
    let bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    for _ in 0..1000 {
        stream.request_progress();
    }
    let answers = std::iter::from_fn(|| next(&mut stream)).count();
    assert_eq!(answers, 8);
}

#[test]
fn periodic_progress_for_the_silent_only() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    let notify = |key| WatchSpec { progress_notify: true, ..spec(one(key), 0) };
    bench.watch(&mut stream, notify("a"));
    bench.watch(&mut stream, notify("b"));
    bench.watch(&mut stream, spec(one("c"), 0));
    bench.watch(&mut stream, WatchSpec { progress_notify: true, ..spec(one("d"), 100) });
    bench.puts("a", 1);
    assert_eq!(revisions(&mut stream, 0), [2]);
    let progress = |id, r| Some(Output::Progress { watch_id: Some(WatchId(id)), revision: revision(r) });
    stream.tick_progress();
    assert_eq!(next(&mut stream), progress(1, 2));
    assert_eq!(next(&mut stream), None);
    stream.tick_progress();
    stream.tick_progress();
    assert_eq!(next(&mut stream), progress(0, 2));
    assert_eq!(next(&mut stream), progress(1, 2));
    assert_eq!(next(&mut stream), None, "two ticks at once are one");
    stream.tick_progress();
    stream.cancel(WatchId(0));
    assert_eq!(next(&mut stream), progress(1, 2));
    assert!(matches!(next(&mut stream), Some(Output::Canceled { .. })));
}

#[test]
fn a_full_queue_falls_back_to_history_without_loss() {
    let mut bench = Bench::with(HubConfig { queue_len_max: 3, ..HubConfig::default() });
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(KeyRange::all(), 0));
    bench.puts("a", 10);
    assert_eq!(bench.hub.counters().pending_events, 3);
    assert_eq!(bench.hub.counters().slow_watchers, 1);
    bench.catch_up();
    stream.request_progress();
    assert_eq!(revisions(&mut stream, 0), [2, 3, 4]);
    assert_eq!(next(&mut stream), None, "no progress while it catches up");
    bench.catch_up();
    assert_eq!(revisions(&mut stream, 0), [5, 6, 7, 8, 9, 10, 11]);
    bench.puts("a", 1);
    assert_eq!(revisions(&mut stream, 0), [12]);
    assert_eq!(bench.hub.counters().slow_watchers, 0);
}

#[test]
fn a_revision_larger_than_the_queue_comes_whole_from_history() {
    let mut bench = Bench::with(HubConfig { queue_len_max: 3, ..HubConfig::default() });
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(KeyRange::all(), 0));
    bench.puts("a", 1);
    let writes: Vec<Write> = (0..50).map(|i| put(&format!("k{i}"), "")).collect();
    bench.write(&writes);
    bench.puts("a", 1);
    assert_eq!(revisions(&mut stream, 0), [2]);
    bench.catch_up();
    let mut expect = vec![3; 50];
    expect.push(4);
    assert_eq!(revisions(&mut stream, 0), expect);
}

#[test]
fn an_event_that_left_the_ring_is_read_from_history_and_progress_waits() {
    let mut bench = Bench::with(HubConfig { ring_len_max: 4, ..HubConfig::default() });
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.puts("a", 3);
    stream.request_progress();
    bench.puts("a", 3);
    assert_eq!(next(&mut stream), None, "revision 2 is gone, so the promise of 4 is off");
    bench.catch_up();
    assert_eq!(revisions(&mut stream, 0), [2, 3, 4, 5, 6, 7]);
    stream.request_progress();
    assert_eq!(next(&mut stream), Some(Output::Progress { watch_id: None, revision: revision(7) }));
}

#[test]
fn a_slow_watcher_whose_history_is_compacted_is_canceled() {
    let mut bench = Bench::with(HubConfig { queue_len_max: 1, ..HubConfig::default() });
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.puts("a", 5);
    bench.store.compact(revision(5));
    assert_eq!(revisions(&mut stream, 0), [2]);
    bench.catch_up();
    let reason = CancelReason::Compacted { compact_revision: revision(5) };
    assert_eq!(next(&mut stream), Some(Output::Canceled { watch_id: WatchId(0), reason }));
    bench.puts("a", 1);
    assert_eq!(next(&mut stream), None);
}

#[test]
fn long_history_comes_in_chunks_as_the_client_takes_them() {
    let config = HubConfig { chunk_bytes_max: 100, stream_history_bytes_max: 100, ..HubConfig::default() };
    let mut bench = Bench::with(config);
    bench.puts("a", 200);
    let mut stream = bench.hub.open_stream();
    for _ in 0..3 {
        bench.watch(&mut stream, spec(one("a"), 2));
    }
    let mut seen = [const { Vec::<u64>::new() }; 3];
    let mut responses = 0;
    loop {
        bench.catch_up();
        let Some(Output::Events(batch)) = next(&mut stream) else { break };
        assert!(EventBatch::encoded_len(&batch.events) < 200, "one chunk at a time");
        seen[batch.watch_id.0 as usize].extend(batch.events.iter().map(|event| decode(event).2));
        responses += 1;
    }
    for seen in seen {
        assert_eq!(seen, (2..=201).collect::<Vec<u64>>());
    }
    assert!(responses > 60, "{responses}");
}

#[test]
fn a_snapshot_from_the_leader_is_caught_up_with() {
    let mut bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    bench.watch(&mut stream, spec(one("a"), 0));
    bench.watch(&mut stream, spec(one("a"), 100));
    bench.puts("a", 1);
    for _ in 0..5 {
        let _: Vec<Change> = bench.store.write(&[put("a", "in the snapshot")]);
    }
    bench.hub.restore(StoreView::revision(&bench.store));
    assert_eq!(revisions(&mut stream, 0), [2]);
    bench.catch_up();
    assert_eq!(revisions(&mut stream, 0), [3, 4, 5, 6, 7]);
    bench.puts("a", 1);
    assert_eq!(revisions(&mut stream, 0), [8]);
    assert_eq!(next(&mut stream), None);
}

#[test]
fn a_waiting_stream_is_woken_once_and_others_are_left_alone() {
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let mut bench = Bench::new();
    let count = [Arc::new(Counter(AtomicUsize::new(0))), Arc::new(Counter(AtomicUsize::new(0)))];
    let wakers = count.clone().map(Waker::from);
    let mut streams = [bench.hub.open_stream(), bench.hub.open_stream()];
    for (stream, key) in streams.iter_mut().zip(["a", "b"]) {
        for _ in 0..5 {
            bench.watch(stream, spec(one(key), 0));
        }
    }
    for (stream, waker) in streams.iter_mut().zip(&wakers) {
        assert!(stream.poll_next(&mut Context::from_waker(waker)).is_pending());
    }
    let mut changes = bench.store.write(&[put("a", "")]);
    changes.extend(bench.store.write(&[put("a", "")]));
    bench.hub.publish(&bench.store, &changes).unwrap();
    bench.puts("a", 3);
    assert_eq!(count.each_ref().map(|count| count.0.load(Ordering::Relaxed)), [1, 0]);
}

#[test]
fn answers_that_wait_hold_back_further_requests() {
    let bench = Bench::new();
    let mut stream = bench.hub.open_stream();
    for _ in 0..16 {
        assert!(stream.accepts_requests());
        bench.create(&mut stream, spec(one("a"), 0)).unwrap();
    }
    assert!(!stream.accepts_requests());
    next(&mut stream);
    assert!(stream.accepts_requests());
}

#[test]
fn a_dropped_stream_leaves_nothing_behind() {
    let mut bench = Bench::new();
    bench.puts("a", 3);
    let mut stream = bench.hub.open_stream();
    for start in [0, 2] {
        bench.create(&mut stream, spec(KeyRange::all(), start)).unwrap();
    }
    bench.puts("a", 1);
    let events = bench.hub.counters().events;
    drop(stream);
    bench.catch_up();
    bench.puts("a", 1);
    assert_eq!(bench.hub.counters(), Counters { events, ..Counters::default() });
}

#[test]
fn a_stream_dropped_while_history_is_read_for_it() {
    let mut bench = Bench::new();
    bench.puts("a", 3);
    let mut stream = bench.hub.open_stream();
    bench.create(&mut stream, spec(KeyRange::all(), 2)).unwrap();
    let mut jobs = bench.hub.shared.take_jobs();
    bench.hub.shared.read(&bench.store, &mut jobs).unwrap();
    drop(stream);
    let mut next_stream = bench.hub.open_stream();
    bench.watch(&mut next_stream, spec(KeyRange::all(), 0));
    bench.hub.shared.finish(&bench.store, jobs);
    assert_eq!(next(&mut next_stream), None, "it has the place of the old one, not its events");
}

/// Publisher, catch-up and two readers on threads of their own, with limits that keep all of them at it.
#[test]
fn threads_agree_too() {
    const EVENTS: u64 = 750;
    let config =
        HubConfig { ring_len_max: 20, queue_len_max: 8, chunk_bytes_max: 60, ..HubConfig::default() };
    let bench = Bench::with(config);
    let Bench { mut store, hub, .. } = bench;
    let latest = parking_lot::Mutex::new(Arc::new(store.clone()));
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (hub, latest, done) = (&hub, &latest, &done);
        let mut readers = Vec::new();
        for reader in 0..2 {
            let mut stream = hub.open_stream();
            for id in 0..2 {
                stream.create(spec(KeyRange::all(), i64::from(reader * id) + 2), Revision::FIRST).unwrap();
            }
            readers.push(scope.spawn(move || {
                let mut next_revision = [2, 2 + reader as u64];
                let end = EVENTS + 2;
                let mut progress = 0;
                while next_revision != [end; 2] || progress + 1 < end {
                    match next(&mut stream) {
                        Some(Output::Events(batch)) => {
                            for event in &batch.events {
                                let at = &mut next_revision[batch.watch_id.0 as usize];
                                assert_eq!(decode(event).2, *at);
                                *at += 1;
                            }
                        }
                        Some(Output::Progress { revision, .. }) => {
                            progress = revision.get();
                            assert!(next_revision.iter().all(|next| *next > progress), "{progress}");
                        }
                        Some(Output::Created(_)) => {}
                        Some(other) => panic!("{other:?}"),
                        None => {
                            stream.request_progress();
                            std::thread::yield_now();
                        }
                    }
                }
            }));
        }
        let reading = scope.spawn(move || {
            while !done.load(Ordering::Acquire) {
                let view = Arc::clone(&latest.lock());
                if !hub.catch_up(&view).unwrap() {
                    std::thread::yield_now();
                }
            }
        });
        for batch in 0..EVENTS / 15 {
            let mut changes = Vec::new();
            for i in 0..15 {
                changes.extend(store.write(&[put("a", &(batch * 15 + i).to_string())]));
            }
            let view = Arc::new(store.clone());
            *latest.lock() = Arc::clone(&view);
            hub.publish(&view, &changes).unwrap();
        }
        for reader in readers {
            reader.join().unwrap();
        }
        done.store(true, Ordering::Release);
        reading.join().unwrap();
    });
}
