//! Behaviours that clients see, each by an example.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::{
    Answer, CompactionHashes, CompactionsOnFile, Compare, CompareTarget, DeleteRange, KeyRange, LeaseId,
    MemorySource, MvccError, Op, OpResult, PrevKv, Put, PutLease, PutValue, RangeQuery, RangeResult, ReadAt,
    Record, RecordKey, Relation, Revision, RevisionFilters, RevisionPair, Sort, SortOrder, SortTarget,
    SourceError, Store, Txn, Want, hash_kv,
};

use crate::member::Member;
use crate::model::{Kv, decode, encode};

fn revision(main: u64) -> Revision {
    Revision::new(main).unwrap()
}

fn bytes(text: &str) -> Bytes {
    Bytes::from(text.to_owned())
}

fn put_of(key: &str, value: &str, lease: i64) -> Put {
    Put {
        key: bytes(key),
        value: PutValue::Set(bytes(value)),
        lease: PutLease::Set(LeaseId::from_wire(lease)),
        prev_kv: PrevKv::Unwanted,
    }
}

fn delete_of(key: &str) -> DeleteRange {
    DeleteRange { keys: KeyRange::One(bytes(key)), prev_kv: PrevKv::Unwanted }
}

impl Member {
    fn put(&mut self, key: &str, value: &str, lease: i64) {
        let mut txn = self.store.begin();
        txn.put(&put_of(key, value, lease), &|_| true).unwrap();
        txn.commit();
        self.publish();
    }

    fn delete(&mut self, key: &str) {
        let mut txn = self.store.begin();
        txn.delete_range(&delete_of(key)).unwrap();
        txn.commit();
        self.publish();
    }

    fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.store.cell().load().range(query)
    }
}

fn keys(result: &RangeResult) -> Vec<String> {
    result.iter().map(|record| String::from_utf8(decode(record).key).unwrap()).collect()
}

fn all() -> RangeQuery {
    RangeQuery::latest(KeyRange::all())
}

#[test]
fn an_empty_store_is_at_revision_one() {
    let member = Member::new();
    let result = member.range(&all()).unwrap();
    assert_eq!((result.revision, result.count, result.more), (Revision::FIRST, 0, false));
    assert_eq!(member.store.cell().load().compact_revision(), None);
}

#[test]
fn unordered_by_another_target_sorts_only_the_first_keys() {
    let mut member = Member::new();
    for (key, value) in [("a", "3"), ("b", "2"), ("c", "1"), ("d", "0")] {
        member.put(key, value, 0);
    }
    let sort = |order| Sort { order, target: SortTarget::Value };
    let query = RangeQuery { limit: Some(2), sort: sort(SortOrder::None), ..all() };
    let result = member.range(&query).unwrap();
    // Fetched: a, b, c. Sorted: c, b, a. Cut to two.
    assert_eq!((keys(&result), result.more, result.count), (vec!["c".into(), "b".into()], true, 4));
    let query = RangeQuery { limit: Some(2), sort: sort(SortOrder::Ascend), ..all() };
    assert_eq!(keys(&member.range(&query).unwrap()), ["d", "c"]);
}

#[test]
fn count_ignores_filters_and_limit_but_more_does_not() {
    let mut member = Member::new();
    for key in ["a", "b", "c", "d"] {
        member.put(key, "", 0);
    }
    let filters = RevisionFilters { min_mod: Some(3), ..RevisionFilters::default() };
    let query = RangeQuery { limit: Some(3), filters, ..all() };
    let result = member.range(&query).unwrap();
    assert_eq!((keys(&result).len(), result.count, result.more), (3, 4, false));
    let result = member.range(&RangeQuery { limit: Some(3), want: Want::Count, ..query }).unwrap();
    assert_eq!((keys(&result).len(), result.count, result.more), (0, 4, false));
}

#[test]
fn keys_alone_have_no_lease_unless_sorted_by_value() {
    let mut member = Member::new();
    member.put("a", "value", 7);
    member.put("a", "value", 7);
    let query = RangeQuery { want: Want::Keys, ..all() };
    let expected = Kv { key: b"a".to_vec(), create: 2, modified: 3, version: 2, value: vec![], lease: 0 };
    assert_eq!(decode(member.range(&query).unwrap().record(0)), expected);
    let sort = Sort { order: SortOrder::None, target: SortTarget::Value };
    let result = member.range(&RangeQuery { sort, ..query }).unwrap();
    assert_eq!(decode(result.record(0)), Kv { lease: 7, ..expected });
}

fn compare(key: &str, relation: Relation, target: CompareTarget) -> Compare {
    Compare { keys: KeyRange::One(bytes(key)), relation, target }
}

#[test]
fn a_missing_value_never_matches_and_missing_numbers_are_zero() {
    let mut member = Member::new();
    let mut holds = |compare| {
        let txn = Txn { compares: vec![compare], ..Txn::default() };
        member.store.begin().txn(&txn, &|_| true, Answer::Wanted).unwrap().succeeded
    };
    for relation in
        [Relation::Equal, Relation::NotEqual, Relation::Less, Relation::Greater, Relation::Undefined]
    {
        assert!(!holds(compare("none", relation, CompareTarget::Value(bytes("")))));
    }
    assert!(holds(compare("none", Relation::Equal, CompareTarget::Mod(0))));
    assert!(holds(compare("none", Relation::Greater, CompareTarget::Version(-1))));
    assert!(holds(compare("none", Relation::Undefined, CompareTarget::Lease(5))));
}

#[test]
fn nested_compares_and_checks_see_the_state_before() {
    let mut member = Member::new();
    let inner = |success| Txn {
        compares: vec![compare("a", Relation::Equal, CompareTarget::Version(0))],
        success,
        failure: vec![],
    };
    let txn = Txn {
        success: vec![
            Op::Put(put_of("a", "1", 0)),
            Op::Txn(Box::new(inner(vec![Op::Range(all()), Op::DeleteRange(delete_of("none"))]))),
        ],
        ..Txn::default()
    };
    let mut open = member.store.begin();
    let result = open.txn(&txn, &|_| true, Answer::Wanted).unwrap();
    assert_eq!((open.commit().revision, result.revision), (revision(2), revision(2)));
    let [OpResult::Put(put), OpResult::Txn(nested)] = &result.responses[..] else { panic!("shape") };
    assert_eq!(put.revision, revision(2));
    assert!(nested.succeeded, "a did not exist before the transaction");
    let [OpResult::Range(range), OpResult::DeleteRange(delete)] = &nested.responses[..] else {
        panic!("shape")
    };
    assert_eq!((keys(range), range.revision), (vec!["a".into()], revision(2)));
    assert_eq!((delete.revision, delete.deleted), (revision(2), 0));

    // The last operation is refused, so the first is not executed.
    let keep = Put { value: PutValue::Keep, ..put_of("none", "", 0) };
    let txn = Txn { success: vec![Op::Put(put_of("b", "", 0)), Op::Put(keep)], ..Txn::default() };
    let mut open = member.store.begin();
    let refused = open.txn(&txn, &|_| true, Answer::Wanted).err();
    assert_eq!((refused, open.commit().changes.len()), (Some(MvccError::KeyNotFound), 0));
    let leased = Txn { success: vec![Op::Put(put_of("b", "", 9))], ..Txn::default() };
    let refused = member.store.begin().txn(&leased, &|_| false, Answer::Wanted).err();
    assert_eq!(refused, Some(MvccError::LeaseNotFound(LeaseId(9))));
    let future = RangeQuery { at: ReadAt::Revision(revision(3)), ..all() };
    let txn = Txn { success: vec![Op::Put(put_of("b", "", 0)), Op::Range(future)], ..Txn::default() };
    let refused = member.store.begin().txn(&txn, &|_| true, Answer::Wanted).err();
    let expected = MvccError::FutureRevision { requested: revision(3), current: revision(2) };
    assert_eq!((refused, member.store.revision()), (Some(expected), revision(2)));
}

#[test]
fn a_transaction_without_change_has_the_old_revision() {
    let mut member = Member::new();
    member.put("a", "", 0);
    let mut open = member.store.begin();
    assert_eq!(open.delete_range(&delete_of("none")).unwrap().revision, revision(2));
    let committed = open.commit();
    assert_eq!((committed.revision, committed.changes.len()), (revision(2), 0));
    assert_eq!(member.store.publish().map(|chunk| chunk.last()), None);
}

#[test]
fn an_unwanted_answer_changes_nothing_but_the_reading() {
    let mut member = Member::new();
    let success = vec![Op::Put(put_of("a", "", 0)), Op::Range(all())];
    let mut open = member.store.begin();
    let result = open.txn(&Txn { success, ..Txn::default() }, &|_| true, Answer::Unwanted).unwrap();
    assert_eq!(open.commit().changes.len(), 1);
    let Some(OpResult::Range(range)) = result.responses.last() else { panic!("shape") };
    assert_eq!((range.records.len(), range.revision), (0, revision(2)));
}

#[test]
fn compaction_bounds() {
    let mut member = Member::new();
    member.compact(Revision::ZERO).unwrap();
    let again = MvccError::Compacted { requested: Revision::ZERO, compacted: Revision::ZERO };
    assert_eq!(member.compact(Revision::ZERO), Err(again));
    for value in ["1", "2", "3"] {
        member.put("a", value, 0);
    }
    let future = MvccError::FutureRevision { requested: revision(5), current: revision(4) };
    assert_eq!(member.compact(revision(5)), Err(future));
    member.compact(revision(3)).unwrap();
    let at = |main| RangeQuery { at: ReadAt::Revision(revision(main)), ..all() };
    assert_eq!(decode(member.range(&at(3)).unwrap().record(0)).value, b"2");
    let refused = MvccError::Compacted { requested: revision(2), compacted: revision(3) };
    assert_eq!(member.range(&at(2)).err(), Some(refused));
}

#[test]
fn the_revision_survives_when_compaction_deletes_every_record() {
    let mut member = Member::new();
    member.put("a", "1", 0);
    member.delete("a");
    member.put("b", "1", 0);
    member.delete("b");
    member.compact(revision(4)).unwrap();
    member.delete_slice(100);
    member.restart();
    assert_eq!(member.store.revision(), revision(5), "the tombstone of b is newer");
    member.compact(revision(5)).unwrap();
    // Stopped in the middle: scheduled, not finished.
    member.delete_slice(0);
    member.restart();
    assert_eq!(member.store.compact_revision(), Some(revision(5)));
    member.delete_slice(100);
    // A tombstone at the compact revision itself stays in the file.
    assert_eq!(member.file.len(), 1);
    assert_eq!(member.on_file.finished, Some(revision(5)));
    // Older versions of etcd delete it.
    member.file = MemorySource::default();
    member.restart();
    assert_eq!(member.store.revision(), revision(5));
    assert_eq!(member.store.cell().load().compact_revision(), Some(revision(5)));
}

#[test]
fn hashes_are_those_of_etcd() {
    // Measured on etcd 3.7.3 with the same requests.
    let mut member = Member::new();
    let hash = |member: &Member, main| {
        hash_kv(&member.store.cell().load(), ReadAt::Revision(revision(main))).unwrap().hash
    };
    member.put("a", "1", 0);
    member.put("b", "2", 0);
    member.put("a", "3", 0);
    member.put("c", "x", 0);
    member.delete("b");
    member.fold(3);
    member.put("d", "y", 0);
    member.put("a", "4", 0);
    member.delete("d");
    member.put("e", "z", 0);
    assert_eq!(hash(&member, 10), 4_213_456_842);
    let plan = member.store.compact(revision(6)).unwrap();
    member.publish();
    let made = plan.hash(&member.store.cell().load()).unwrap();
    assert_eq!((made.hash, made.compact_revision, made.revision), (2_512_780_358, None, revision(6)));
    let mut hashes = CompactionHashes::default();
    hashes.insert(made);
    assert_eq!((hashes.get(revision(6)), hashes.get(revision(7))), (Some(made), None));
    let expected = [(7, 2_474_916_089), (8, 3_183_490_485), (10, 84_866_105)];
    assert_eq!(expected.map(|(main, _)| (main, hash(&member, main))), expected);
    member.fold(usize::MAX);
    member.jobs.push(plan.into_job());
    member.delete_slice(2);
    assert_eq!(expected.map(|(main, _)| (main, hash(&member, main))), expected);
    member.delete_slice(2);
    assert!(member.jobs.is_empty());
    assert_eq!(expected.map(|(main, _)| (main, hash(&member, main))), expected);
}

/// No key is left at the compact revision. Measured on etcd 3.7.3: `put a 1`, compact 2, `del a`, compact 3.
#[test]
fn the_hash_of_a_compaction_behind_which_no_key_is_left_is_that_of_etcd() {
    let mut member = Member::new();
    let compact = |member: &mut Member, main| {
        let plan = member.store.compact(revision(main)).unwrap();
        member.publish();
        plan.hash(&member.store.cell().load()).unwrap()
    };
    member.put("a", "1", 0);
    compact(&mut member, 2);
    member.delete("a");
    let made = compact(&mut member, 3);
    assert_eq!((made.hash, made.compact_revision), (3_681_333_679, Some(revision(2))));
}

fn stored(main: u64, sub: u32, kv: &Kv) -> (Vec<u8>, Vec<u8>) {
    (RecordKey::put(RevisionPair::new(revision(main), sub)).to_bytes().to_vec(), encode(kv))
}

#[test]
fn a_bumped_snapshot_has_a_record_without_bytes() {
    let kv = Kv { key: b"a".to_vec(), create: 2, modified: 2, version: 1, ..Kv::default() };
    let (bump, _) = stored(1_000_002, 0, &kv);
    let file = MemorySource::new([stored(2, 0, &kv), (bump, Vec::new())]);
    let on_file = CompactionsOnFile { scheduled: Some(revision(1_000_002)), finished: None };
    let mut member = Member::open(file, on_file);
    assert_eq!(member.store.revision(), revision(1_000_002));
    member.delete_slice(10);
    assert_eq!(member.file.len(), 2);
    let keys_from_zero = KeyRange::From(Bytes::from_static(b"\0"));
    assert_eq!(keys(&member.range(&RangeQuery::latest(keys_from_zero)).unwrap()), ["a"]);
    member.put("b", "", 0);
    assert_eq!(member.store.revision(), revision(1_000_003));
}

#[test]
fn damaged_files_are_refused() {
    let kv = Kv { key: b"a".to_vec(), create: 2, modified: 2, version: 1, ..Kv::default() };
    let restore = |records: Vec<(Vec<u8>, Vec<u8>)>| {
        let source = Arc::new(MemorySource::new(records));
        Store::restore(source, CompactionsOnFile::default(), &mut |_, _| {}).err()
    };
    let (key, value) = stored(2, 0, &kv);
    let strange = [&key[..], b"x"].concat();
    let refused = restore(vec![(strange.clone(), value.clone())]);
    assert_eq!(refused, Some(SourceError::MalformedKey(strange)));
    let both = RecordKey::tombstone(RevisionPair::new(revision(2), 0)).to_bytes().to_vec();
    let refused = restore(vec![(key.clone(), value.clone()), (both.clone(), value.clone())]);
    assert_eq!(refused, Some(SourceError::MalformedKey(both)));
    let refused = restore(vec![(key, value[..2].to_vec())]);
    assert_eq!(refused, Some(SourceError::MalformedRecord(RevisionPair::new(revision(2), 0))));
}

#[test]
fn whoever_restores_beside_others_may_pause_at_every_record() {
    let records = (2..1002).map(|at| {
        let kv = Kv { key: b"a".to_vec(), create: 2, modified: at, version: at - 1, ..Kv::default() };
        stored(at.unsigned_abs(), 0, &kv)
    });
    let source = Arc::new(MemorySource::new(records.collect::<Vec<_>>()));
    let mut pauses = 0;
    let restored =
        Store::restore_with_pauses(source, CompactionsOnFile::default(), &mut |_, _| {}, &mut || pauses += 1);
    assert_eq!(restored.unwrap().store.revision(), revision(1001));
    // Each is read, and then sorted in.
    assert_eq!(pauses, 2000);
}

#[test]
fn a_record_that_the_file_lost_is_an_error_not_an_answer() {
    let mut member = Member::new();
    member.put("a", "", 0);
    member.fold(1);
    member.store.cell().rebase(Arc::new(MemorySource::default()), RevisionPair::default());
    let lost = MvccError::Source(SourceError::MissingRecord(RevisionPair::new(revision(2), 0)));
    assert_eq!(member.range(&all()).err(), Some(lost));
    assert_eq!(member.range(&RangeQuery { want: Want::Count, ..all() }).unwrap().count, 1);
}

#[test]
fn a_half_done_transaction_stops_the_member() {
    let mut member = Member::new();
    member.store.begin().put(&put_of("a", "", 0), &|_| true).unwrap();
    let next = std::panic::catch_unwind(AssertUnwindSafe(|| drop(member.store.begin())));
    assert!(next.is_err());
}

#[test]
fn readers_follow_a_snapshot_through_the_same_cell() {
    let mut member = Member::new();
    member.put("old", "", 0);
    let cell = member.store.cell().clone();
    let before = cell.load();
    let kv = Kv { key: b"new".to_vec(), create: 9, modified: 9, version: 1, lease: 5, ..Kv::default() };
    let mut leases = Vec::new();
    let restored = Store::restore(
        Arc::new(MemorySource::new([stored(9, 0, &kv)])),
        CompactionsOnFile::default(),
        &mut |key, lease| leases.push((key.to_vec(), lease)),
    );
    let restored = restored.unwrap();
    assert!(restored.resumed.is_none());
    member.store.take_over(restored.store);
    assert_eq!(leases, [(b"new".to_vec(), LeaseId(5))]);
    assert_eq!(keys(&cell.load().range(&all()).unwrap()), ["new"]);
    assert_eq!(keys(&before.range(&all()).unwrap()), ["old"]);
    member.put("next", "", 0);
    assert_eq!((cell.load().revision(), member.store.revision()), (revision(10), revision(10)));
}

#[test]
fn a_change_shares_the_records_bytes() {
    let mut member = Member::new();
    let mut open = member.store.begin();
    open.put(&put_of("key", "value", 0), &|_| true).unwrap();
    open.delete_range(&delete_of("key")).unwrap();
    let committed = open.commit();
    let [put, delete] = &committed.changes[..] else { panic!("two changes") };
    assert_eq!((&put.key[..], &delete.key[..]), (&b"key"[..], &b"key"[..]));
    assert_eq!(put.key.as_ptr(), Record::parse(&put.kv).unwrap().key.as_ptr());
    let event = Kv { key: b"key".to_vec(), modified: 2, ..Kv::default() };
    assert_eq!((decode(&delete.kv), delete.previous), (event, None));
    let chunk = member.store.publish().unwrap();
    assert_eq!(chunk.records()[0].value.as_ptr(), put.kv.as_ptr());
    assert_eq!(&chunk.records()[1].value[..], b"\x0a\x03key");
}
