//! Random requests, publications, folds, compactions and restarts.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use mvcc::{
    Answer as Reads, ChangeKind, Committed, Compare, CompareTarget, DeleteRange, HistoryLimit, KeyRange,
    LeaseId, Op, OpResult, PrevKv, Put, PutLease, PutValue, RangeQuery, RangeResult, RangeStream, ReadAt,
    Relation, Revision, RevisionFilters, Sort, SortOrder, SortTarget, Txn, TxnResult, View, Want,
};
use proptest::prelude::*;

use crate::member::Member;
use crate::model::{Answer, Kv, Model, Response, decode, everything};

#[derive(Clone, Debug)]
enum Step {
    Txn(Txn),
    Read(RangeQuery),
    Publish,
    Fold(usize),
    /// How far behind the current revision.
    Compact(i64),
    DeleteSlice(usize),
    CompactIndex(usize),
    Restart,
    Hold,
}

fn key() -> impl Strategy<Value = Bytes> {
    (0..12_u8).prop_map(|at| Bytes::from(format!("k{}", char::from(b'a' + at))))
}

fn keys() -> impl Strategy<Value = KeyRange> {
    prop_oneof![
        4 => key().prop_map(KeyRange::One),
        1 => key().prop_map(KeyRange::From),
        3 => (key(), key()).prop_map(|(start, end)| KeyRange::Span { start, end }),
        1 => Just(everything()),
    ]
}

fn read_at() -> impl Strategy<Value = ReadAt> {
    prop_oneof![
        3 => Just(ReadAt::Latest),
        2 => (1..60_i64).prop_map(ReadAt::from_wire),
    ]
}

fn query() -> impl Strategy<Value = RangeQuery> {
    let sort = (
        prop::sample::select(vec![SortOrder::None, SortOrder::Ascend, SortOrder::Descend]),
        prop::sample::select(vec![
            SortTarget::Key,
            SortTarget::Version,
            SortTarget::Create,
            SortTarget::Mod,
            SortTarget::Value,
        ]),
    )
        .prop_map(|(order, target)| Sort { order, target });
    let bound = || prop::option::weighted(0.1, -2..40_i64);
    let filters =
        (bound(), bound(), bound(), bound()).prop_map(|(min_mod, max_mod, min_create, max_create)| {
            RevisionFilters { min_mod, max_mod, min_create, max_create }
        });
    let want = prop::sample::select(vec![Want::Records, Want::Records, Want::Keys, Want::Count]);
    (keys(), read_at(), prop::option::of(1..6_usize), sort, filters, want).prop_map(
        |(keys, at, limit, sort, filters, want)| RangeQuery { keys, at, limit, sort, filters, want },
    )
}

fn prev_kv() -> impl Strategy<Value = PrevKv> {
    prop::sample::select(vec![PrevKv::Wanted, PrevKv::Unwanted])
}

/// Lease 9 does not exist.
fn put() -> impl Strategy<Value = Put> {
    let value = prop_oneof![
        8 => (0..5_u8).prop_map(|value| PutValue::Set(Bytes::from(vec![b'v'; usize::from(value)]))),
        1 => Just(PutValue::Keep),
    ];
    let lease = prop_oneof![
        12 => prop::option::of((1..4_i64).prop_map(LeaseId)).prop_map(PutLease::Set),
        1 => Just(PutLease::Set(Some(LeaseId(9)))),
        2 => Just(PutLease::Keep),
    ];
    (key(), value, lease, prev_kv()).prop_map(|(key, value, lease, prev_kv)| Put {
        key,
        value,
        lease,
        prev_kv,
    })
}

fn compare() -> impl Strategy<Value = Compare> {
    let relation = prop::sample::select(vec![
        Relation::Equal,
        Relation::Greater,
        Relation::Less,
        Relation::NotEqual,
        Relation::Undefined,
    ]);
    let target = prop_oneof![
        (0..3_i64).prop_map(CompareTarget::Version),
        (0..30_i64).prop_map(CompareTarget::Create),
        (0..30_i64).prop_map(CompareTarget::Mod),
        (0..3_i64).prop_map(CompareTarget::Lease),
        (0..4_u8).prop_map(|len| CompareTarget::Value(Bytes::from(vec![b'v'; usize::from(len)]))),
        Just(CompareTarget::Undefined),
    ];
    (keys(), relation, target).prop_map(|(keys, relation, target)| Compare { keys, relation, target })
}

fn op() -> impl Strategy<Value = Op> {
    let delete = (keys(), prev_kv()).prop_map(|(keys, prev_kv)| DeleteRange { keys, prev_kv });
    let leaf = prop_oneof![
        6 => put().prop_map(Op::Put),
        2 => delete.prop_map(Op::DeleteRange),
        1 => query().prop_map(Op::Range),
    ];
    leaf.prop_recursive(2, 8, 3, |op| txn_of(op.boxed()).prop_map(|txn| Op::Txn(Box::new(txn))))
}

fn txn_of(op: BoxedStrategy<Op>) -> impl Strategy<Value = Txn> {
    let branch = || prop::collection::vec(op.clone(), 0..4);
    (prop::collection::vec(compare(), 0..2), branch(), branch())
        .prop_map(|(compares, success, failure)| Txn { compares, success, failure })
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => txn_of(op().boxed()).prop_map(Step::Txn),
        6 => put().prop_map(|put| Step::Txn(Txn { success: vec![Op::Put(put)], ..Txn::default() })),
        6 => query().prop_map(Step::Read),
        6 => Just(Step::Publish),
        3 => (1..4_usize).prop_map(Step::Fold),
        1 => (-1..12_i64).prop_map(Step::Compact),
        3 => (0..4_usize).prop_map(Step::DeleteSlice),
        3 => (1..4_usize).prop_map(Step::CompactIndex),
        1 => Just(Step::Restart),
        2 => Just(Step::Hold),
    ]
}

fn answer_of(result: &RangeResult) -> Answer {
    let kvs: Vec<Kv> = result.iter().map(decode).collect();
    // What goes on the wire is each record behind tag and length.
    let mut wire = Vec::new();
    for at in 0..kvs.len() {
        let before = wire.len();
        result.write_kv(at, &mut wire);
        assert_eq!(wire.len() - before, result.kv_len(at));
        assert!(wire.ends_with(result.record(at)));
    }
    assert_eq!(wire.len(), result.kvs_len());
    Answer { kvs, count: result.count, more: result.more, revision: result.revision.to_wire() }
}

fn response_of(result: &TxnResult) -> Response {
    let responses = result.responses.iter().map(|response| match response {
        OpResult::Range(range) => Response::Range(answer_of(range)),
        OpResult::Put(put) => {
            Response::Put { revision: put.revision.to_wire(), prev: put.prev_kv.as_deref().map(decode) }
        }
        OpResult::DeleteRange(delete) => Response::Delete {
            revision: delete.revision.to_wire(),
            deleted: delete.deleted,
            prev: delete.prev_kvs.as_ref().map(|prev| prev.iter().map(decode).collect()),
        },
        OpResult::Txn(inner) => response_of(inner),
    });
    Response::Txn { succeeded: result.succeeded, responses: responses.collect() }
}

/// Everything that can be read from a view, as far back as it goes.
fn check_view(view: &View, model: &Model) {
    assert_eq!(view.revision().to_wire(), model.revision);
    assert_eq!(view.compact_revision().map_or(-1, Revision::to_wire), model.compacted);
    let first = model.compacted.max(1);
    for at in first..=model.revision {
        let query = RangeQuery { at: ReadAt::from_wire(at), ..RangeQuery::latest(everything()) };
        let expected = model.range(&query, model.revision).unwrap();
        assert_eq!(answer_of(&view.range(&query).unwrap()), expected, "at {at}");
        let hash = mvcc::hash_kv(view, ReadAt::from_wire(at)).unwrap();
        assert_eq!(hash.hash, model.hash(at).unwrap_or(hash.hash), "hash at {at}");
    }
    assert_eq!(view.key_count(), model.state_at(model.revision).len());
    check_history(view, model, first);
}

fn check_history(view: &View, model: &Model, first: i64) {
    let mut next = Revision::from_wire(first).unwrap();
    let mut changes = Vec::new();
    while next <= view.revision() {
        let limit = HistoryLimit { revisions: 3, bytes: 40 };
        let piece = view.history(next, limit, &mut |key| key != b"kb").unwrap();
        assert!(piece.next > next && piece.revisions.len() <= 3);
        changes.extend(piece.revisions.into_iter().flat_map(|one| one.changes));
        next = piece.next;
    }
    // At the compact revision itself only what is left of it; behind it, everything.
    let mut expected: Vec<_> = model.versions.iter().filter(|version| version.key != b"kb").collect();
    expected.retain(|version| version.main >= first);
    if model.compacted > 0 {
        changes.retain(|change| change.revision.main.to_wire() > model.compacted);
        expected.retain(|version| version.main > model.compacted);
    }
    assert_eq!(changes.len(), expected.len());
    for (change, version) in changes.iter().zip(expected) {
        assert_eq!((change.revision.main.to_wire(), change.revision.sub), (version.main, version.sub));
        assert_eq!(change.key, version.key);
        let deleted = Kv { key: version.key.clone(), modified: version.main, ..Kv::default() };
        assert_eq!(decode(&change.kv), version.kv.clone().unwrap_or(deleted));
        let created = version.kv.as_ref().map(|kv| ChangeKind::Put { created: kv.create == kv.modified });
        assert_eq!(change.kind, created.unwrap_or(ChangeKind::Delete));
        let before = model.state_at(version.main - 1).remove(&version.key);
        let before = before.filter(|_| version.main > model.compacted);
        let previous = change.previous.map(|at| decode(&view.record(at).unwrap().unwrap()));
        assert_eq!(previous, before);
        let previous = view.previous(&change.key, change.revision.main).unwrap();
        assert_eq!(previous.as_deref().map(decode), before);
    }
}

struct Run {
    member: Member,
    model: Model,
    held: Vec<(Arc<View>, Model)>,
    /// The model as it was published.
    published: Model,
}

impl Run {
    fn new() -> Run {
        Run { member: Member::new(), model: Model::new(), held: Vec::new(), published: Model::new() }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Txn(txn) => self.txn(txn),
            Step::Read(query) => {
                let real = self.member.store.cell().load().range(query);
                let expected = self.published.range(query, self.published.revision);
                assert_eq!(real.map(|result| answer_of(&result)), expected);
            }
            Step::Publish => self.publish(),
            Step::Fold(count) => self.member.fold(*count),
            Step::Compact(behind) => self.compact(self.model.revision - behind),
            Step::DeleteSlice(limit) => self.member.delete_slice(*limit),
            Step::CompactIndex(entries) => drop(self.member.store.compact_index(*entries)),
            Step::Restart => {
                self.member.restart();
                self.published = self.model.clone();
                let state = self.model.state_at(self.model.revision).into_values();
                let leases: BTreeMap<_, _> =
                    state.filter(|kv| kv.lease != 0).map(|kv| (kv.key, LeaseId(kv.lease))).collect();
                assert_eq!(self.member.leases, leases);
            }
            Step::Hold => self.held.push((self.member.store.cell().load(), self.published.clone())),
        }
    }

    fn publish(&mut self) {
        self.member.publish();
        self.published = self.model.clone();
    }

    fn txn(&mut self, txn: &Txn) {
        let exists = |lease: LeaseId| lease != LeaseId(9);
        let mut open = self.member.store.begin();
        let real = open.txn(txn, &exists, Reads::Wanted);
        let committed = open.commit();
        let versions_before = self.model.versions.len();
        let expected = self.model.txn(txn, &exists);
        assert_eq!(committed.revision.to_wire(), self.model.revision);
        match (&real, &expected) {
            (Ok(real), Ok(expected)) => {
                assert_eq!(response_of(real), *expected);
                assert_eq!(real.revision, committed.revision);
            }
            (Err(real), Err(expected)) => assert_eq!(real, expected),
            (real, expected) => panic!("{:?} instead of {expected:?}", real.as_ref().map(response_of)),
        }
        assert_eq!(committed.changes.len(), self.model.versions.len() - versions_before);
        self.attach(&committed);
    }

    fn attach(&mut self, committed: &Committed) {
        for change in &committed.lease_changes {
            assert_eq!(self.member.leases.get(&change.key[..]).copied(), change.old);
            match change.new {
                Some(lease) => self.member.leases.insert(change.key.to_vec(), lease),
                None => self.member.leases.remove(&change.key[..]),
            };
        }
    }

    fn compact(&mut self, revision: i64) {
        let Some(at) = Revision::from_wire(revision) else { return };
        let refused = revision <= self.model.compacted || revision > self.model.revision;
        assert_eq!(self.member.compact(at).is_err(), refused);
        if !refused {
            self.model.compacted = revision;
            self.published = self.model.clone();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    #[test]
    fn the_store_is_the_model(steps in prop::collection::vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.publish();
        check_view(&run.member.store.cell().load(), &run.model);
        // Nothing that happened since has changed what older readers see.
        for (view, model) in &run.held {
            check_view(view, model);
        }
        // All the way into the file, compactions finished, and from there.
        run.member.fold(usize::MAX);
        while !run.member.jobs.is_empty() {
            run.member.delete_slice(3);
        }
        check_view(&run.member.store.cell().load(), &run.model);
        let records = run.member.file.len();
        run.step(&Step::Restart);
        check_view(&run.member.store.cell().load(), &run.model);
        prop_assert_eq!(run.member.file.len(), records);
        prop_assert!(run.member.jobs.is_empty());
    }

    #[test]
    fn a_stream_of_chunks_is_one_range(
        count in 0..80_usize,
        limit in prop::option::of(1..90_usize),
        size in 1..3000_usize,
    ) {
        let mut member = Member::new();
        for at in 0..count {
            put_one(&mut member, &format!("s{at:03}"), 20);
        }
        member.publish();
        let keys = KeyRange::From(Bytes::from_static(b"s"));
        let query = RangeQuery { limit, ..RangeQuery::latest(keys) };
        let whole = answer_of(&member.store.cell().load().range(&query).unwrap());
        let mut stream = RangeStream::new(query, size);
        let (mut kvs, mut last) = (Vec::new(), None);
        while let Some(chunk) = stream.next_chunk(&member.store.cell().load()).unwrap() {
            prop_assert!(last.is_none());
            prop_assert!(chunk.last.is_some() || !chunk.result.records.is_empty());
            kvs.extend(chunk.result.iter().map(decode));
            last = chunk.last;
            // Written meanwhile, not part of the answer.
            put_one(&mut member, &format!("s{:03}x", kvs.len() + 5), 1);
            member.publish();
        }
        let last = last.unwrap();
        let stream = Answer { kvs, count: last.count, more: last.more, revision: last.revision.to_wire() };
        prop_assert_eq!(stream, whole);
    }
}

fn put_one(member: &mut Member, key: &str, len: usize) {
    let value = PutValue::Set(Bytes::from(vec![b'v'; len]));
    let key = Bytes::from(key.to_owned());
    let put = Put { key, value, lease: PutLease::Set(None), prev_kv: PrevKv::Unwanted };
    let mut txn = member.store.begin();
    txn.put(&put, &|_| true).unwrap();
    txn.commit();
}
