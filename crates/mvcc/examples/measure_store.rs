//! Measures the store without a server: `cargo run --release -p mvcc --example measure_store`.
//!
//! The "file" is a sorted array, so lookups cost a binary search, as in a B+tree whose pages are cached.

#![allow(clippy::unwrap_used)]

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::{
    CompactionsOnFile, FileRef, FindHint, IndexCompactionState, KeyRange, LeaseId, PrevKv, Put, PutLease,
    PutValue, RangeQuery, ReadAt, Record, RecordSource, Restored, Revision, RevisionPair, SourceError, Store,
    Visit, Want, hash_kv,
};

#[derive(Clone, Default)]
struct FlatFile {
    keys: Vec<([u8; 17], FileRef)>,
    values: Vec<u8>,
}

impl RecordSource for FlatFile {
    fn find(&self, key: &[u8], hint: &mut FindHint) -> Result<Option<FileRef>, SourceError> {
        let near = hint.words[0] as usize;
        if self.keys.get(near).is_some_and(|(found, _)| found == key) {
            hint.words[0] += 1;
            return Ok(Some(self.keys[near].1));
        }
        let found = self.keys.binary_search_by(|(found, _)| found[..].cmp(key)).ok();
        hint.words[0] = found.map_or(0, |at| at as u64 + 1);
        Ok(found.map(|at| self.keys[at].1))
    }

    fn bytes(&self, at: FileRef) -> &[u8] {
        &self.values[at.offset as usize..at.offset as usize + at.len as usize]
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> Result<(), SourceError> {
        let start = self.keys.partition_point(|(key, _)| &key[..] < from);
        for (key, at) in &self.keys[start..] {
            if let ControlFlow::Break(()) = visit(key, self.bytes(*at)) {
                break;
            }
        }
        Ok(())
    }
}

/// Time that this thread was running, so that a busy machine disturbs less.
#[derive(Clone, Copy)]
struct Instant(u64);

impl Instant {
    fn now() -> Instant {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
        Instant(stat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
    }

    fn elapsed_nanos(self) -> u64 {
        Instant::now().0 - self.0
    }
}

fn resident_mib() -> f64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages: f64 = status.split(' ').nth(1).and_then(|pages| pages.parse().ok()).unwrap_or(0.0);
    pages * 4096.0 / (1 << 20) as f64
}

struct Names(u64);

impl Names {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 20
    }
}

fn put(store: &mut Store, key: Bytes, value: &Bytes) {
    let put = Put {
        key,
        value: PutValue::Set(value.clone()),
        lease: PutLease::Set(None),
        prev_kv: PrevKv::Unwanted,
    };
    let mut txn = store.begin();
    txn.put(&put, &|_: LeaseId| true).unwrap();
    txn.commit();
}

fn key(at: u64) -> Bytes {
    Bytes::from(format!(
        "/registry/pods/ns-{:04}/pod-{:012x}",
        at % 1000,
        at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 16
    ))
}

fn report(what: &str, from: Instant, count: usize) {
    let nanos = from.elapsed_nanos() as f64;
    println!("{what:<58} {:>10.0} ns each, {:>9.2} ms in all", nanos / count as f64, nanos / 1e6);
}

fn main() {
    const KEYS: usize = 1_000_000;
    let value = Bytes::from(vec![b'v'; 64]);
    let mut file = FlatFile::default();
    for at in 0..KEYS as u64 {
        let (key, main) = (key(at), at as i64 + 2);
        let record = Record {
            key: &key,
            create_revision: main,
            mod_revision: main,
            version: 1,
            value: &value,
            lease: 0,
        };
        let found = FileRef { offset: file.values.len() as u64, len: record.encoded_len() as u32 };
        record.encode(&mut file.values);
        file.keys.push((RevisionPair::new(Revision::from_wire(main).unwrap(), 0).to_bytes(), found));
    }
    let file = Arc::new(file);
    let before = resident_mib();
    let from = Instant::now();
    let Restored { mut store, .. } =
        Store::restore(file.clone(), CompactionsOnFile::default(), &mut |_, _| {}).unwrap();
    report("restore of 1M records", from, KEYS);
    let grown = resident_mib() - before;
    println!(
        "{:<58} {:>10.1} bytes each",
        "index of 1M keys of 37 bytes",
        grown * (1 << 20) as f64 / KEYS as f64
    );

    let Restored { store: mut fresh, .. } =
        Store::restore(Arc::new(FlatFile::default()), CompactionsOnFile::default(), &mut |_, _| {}).unwrap();
    let names: Vec<Bytes> = (0..KEYS as u64).map(key).collect();
    let from = Instant::now();
    for batch in names.chunks(100) {
        batch.iter().for_each(|key| put(&mut fresh, key.clone(), &value));
        drop(fresh.publish());
    }
    report("put of a new key, 100 per publication", from, KEYS);
    drop((fresh, names));

    let cell = store.cell().clone();

    let mut names = Names(1);
    let few: Vec<Bytes> = (0..10_000).map(key).collect();
    let from = Instant::now();
    for at in 0..100_000 {
        put(&mut store, few[at % few.len()].clone(), &value);
        let _ = store.publish().unwrap();
    }
    report("update of one of 10k keys, each published", from, 100_000);
    let from = Instant::now();
    for _ in 0..100_000 {
        put(&mut store, key(names.next() % KEYS as u64), &value);
        let _ = store.publish().unwrap();
    }
    report("update of a random key, each published", from, 100_000);
    let last = RevisionPair::new(store.revision(), 0);
    let mut folded = (*file).clone();
    cell.load().range(&RangeQuery { limit: Some(1), ..RangeQuery::latest(KeyRange::all()) }).unwrap();
    // Give the updates to the file, as the backend would.
    let limit = mvcc::HistoryLimit { revisions: usize::MAX, bytes: usize::MAX };
    let mut next = Revision::new(KEYS as u64 + 2).unwrap();
    while next <= store.revision() {
        let piece = cell.load().history(next, limit, &mut |_| true).unwrap();
        for change in piece.revisions.iter().flat_map(|one| &one.changes) {
            let at = FileRef { offset: folded.values.len() as u64, len: change.kv.len() as u32 };
            folded.values.extend_from_slice(&change.kv);
            folded.keys.push((change.revision.to_bytes(), at));
        }
        next = piece.next;
    }
    cell.rebase(Arc::new(folded), last);

    let hot = Bytes::from_static(b"/registry/leases/hot");
    let from = Instant::now();
    for _ in 0..1_000_000 {
        put(&mut store, hot.clone(), &value);
    }
    report("update of one key a million times", from, 1_000_000);
    let from = Instant::now();
    let chunk = store.publish().unwrap();
    report("  published", from, 1);
    let before_hot = Revision::new(KEYS as u64 + 700_000).unwrap();
    let one = RangeQuery::latest(KeyRange::One(hot.clone()));
    let from = Instant::now();
    for _ in 0..10_000 {
        let old = RangeQuery { at: ReadAt::Revision(before_hot), ..one.clone() };
        assert_eq!(cell.load().range(&old).unwrap().records.len(), 1);
    }
    report("get of its state half a million updates ago", from, 10_000);

    let view = cell.load();
    let prefix = KeyRange::Span {
        start: Bytes::from_static(b"/registry/pods/"),
        end: Bytes::from_static(b"/registry/pods0"),
    };
    let query = RangeQuery { limit: Some(10_000), ..RangeQuery::latest(prefix.clone()) };
    let mut wire: Vec<u8> = Vec::with_capacity(64 << 20);
    for what in ["list of 10k keys of 1M, cold", "list of 10k keys of 1M"] {
        let from = Instant::now();
        let result = view.range(&query).unwrap();
        report(what, from, 10_000);
        let from = Instant::now();
        (0..result.records.len()).for_each(|at| result.write_kv(at, &mut wire));
        report("  written", from, 10_000);
        assert_eq!((result.count, result.more), (KEYS, true));
        wire.clear();
    }
    let from = Instant::now();
    let keys_only = view.range(&RangeQuery { want: Want::Keys, ..query.clone() }).unwrap();
    report("list of 10k keys, keys only", from, keys_only.records.len());
    let from = Instant::now();
    assert_eq!(view.count(&prefix), KEYS);
    report("count of 1M keys", from, 1);
    let old = ReadAt::Revision(Revision::new(KEYS as u64 + 190_000).unwrap());
    let from = Instant::now();
    assert_eq!(view.range(&RangeQuery { at: old, want: Want::Count, ..query.clone() }).unwrap().count, KEYS);
    report("count of 1M keys, 10k updates ago", from, 1);
    let from = Instant::now();
    for _ in 0..200_000 {
        let one = RangeQuery::latest(KeyRange::One(key(names.next() % KEYS as u64)));
        assert_eq!(cell.load().range(&one).unwrap().count, 1);
    }
    report("get of a random key", from, 200_000);
    let from = Instant::now();
    hash_kv(&view, ReadAt::Latest).unwrap();
    report("hash of 2.2M records", from, 2_200_000);
    drop(view);

    let from = Instant::now();
    let plan = store.compact(store.revision()).unwrap();
    assert!(store.publish().is_none());
    report("compaction decided and published", from, 1);
    let (mut slices, mut longest) = (0, 0);
    let from = Instant::now();
    loop {
        let slice = Instant::now();
        let state = store.compact_index(2000);
        slices += 1;
        longest = longest.max(slice.elapsed_nanos() / 1000);
        if state == IndexCompactionState::Done {
            break;
        }
    }
    report(&format!("index compacted in {slices} slices, longest {longest} us"), from, slices);
    let from = Instant::now();
    let job = plan.into_job();
    report(&format!("garbage collected: {} records", job.remaining()), from, job.remaining());
    drop(chunk);
}
