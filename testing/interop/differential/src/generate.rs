//! Requests out of a seed: mostly sensible, some absurd, over few keys so that they meet.

use bytes::Bytes;
use proto::etcdserverpb as pb;

use crate::ask::Ask;
use crate::random::Random;

const KEYS: &[&[u8]] = &[
    b"a",
    b"b",
    b"c",
    b"aa",
    b"ab",
    b"a/1",
    b"a/2",
    b"a/3",
    b"b/1",
    b"b/2",
    b"\0",
    b"\xff",
    b"\xff\xff",
    b"z",
    b"zz/long/er/key",
    b"registry/pods/default/one",
    b"registry/pods/default/two",
    b"registry/pods/kube/one",
];
const LEASES: &[i64] = &[1, 2, 3, 7, 1000, i64::MAX, 0x694d_77aa_9e38_260f];
const EDGES: &[i64] = &[0, 1, -1, 2, 3, i64::MAX, i64::MIN];
const TXN_DEPTH: u32 = 3;

/// What the requests so far led to, as far as it makes the next ones interesting.
pub struct Generator {
    pub random: Random,
    pub revision: i64,
    pub compacted: i64,
    /// Txns hold nothing that may fail behind a write: etcd 3.5 ends by a panic then. Their puts name no lease and
    /// keep nothing, their ranges are of now and not sorted.
    pub gentle: bool,
}

impl Generator {
    pub fn new(seed: u64) -> Generator {
        Generator { random: Random::new(seed), revision: 1, compacted: 0, gentle: false }
    }

    /// What is asked next; mostly one request.
    pub fn next(&mut self) -> Vec<Ask> {
        let one = match self.random.below(100) {
            0..25 => Ask::put(&self.put()),
            25..45 => Ask::range(&self.range()),
            45..52 => {
                let range = self.range();
                // Sorted but without an order etcd mixes up its chunks; docs/compat.md.
                let sort_target = if range.sort_order == 0 { 0 } else { range.sort_target };
                Ask::range_stream(&pb::RangeRequest { sort_target, ..range })
            }
            52..60 => Ask::delete_range(&self.delete_range()),
            60..80 => Ask::txn(&self.txn(TXN_DEPTH)),
            80..82 => Ask::compact(&self.compact()),
            82..85 => Ask::hash_kv(self.near_revision()),
            85..96 => return self.lease(),
            96 => Ask::members(self.random.one_in(2)),
            97..99 => Ask::status(),
            _ => return self.alarm(),
        };
        vec![one]
    }

    /// Only what changes something.
    pub fn next_write(&mut self) -> Vec<Ask> {
        let one = match self.random.below(20) {
            0..10 => Ask::put(&self.put()),
            10..13 => Ask::delete_range(&self.delete_range()),
            13..17 => Ask::txn(&self.txn(1)),
            17 => {
                let revision = self.compacted + 1 + self.below_i64(self.revision - self.compacted);
                self.compacted = revision.min(self.revision);
                Ask::compact(&pb::CompactionRequest { revision, physical: self.random.one_in(2) })
            }
            _ => return self.lease(),
        };
        vec![one]
    }

    /// A write of keys; etcd keeps these from its file as long as it is told, while compactions, and leases that
    /// end, go there at once.
    pub fn next_key_write(&mut self) -> Ask {
        match self.random.below(17) {
            0..10 => Ask::put(&self.put()),
            10..13 => Ask::delete_range(&self.delete_range()),
            _ => Ask::txn(&self.txn(1)),
        }
    }

    fn below_i64(&mut self, end: i64) -> i64 {
        i64::try_from(self.random.below(u64::try_from(end).unwrap_or(1))).unwrap_or(0)
    }

    pub fn key(&mut self) -> Bytes {
        if self.random.one_in(200) {
            return Bytes::new();
        }
        if self.random.one_in(4) {
            return Bytes::from(format!("n/{:03}", self.random.below(60)));
        }
        Bytes::from_static(self.random.pick::<&[u8]>(KEYS))
    }

    pub fn range_end(&mut self, key: &Bytes) -> Bytes {
        match self.random.below(10) {
            0..4 => Bytes::new(),
            4 => Bytes::from_static(b"\0"),
            5..8 => prefix_end(key),
            8 => key.clone(),
            _ => self.key(),
        }
    }

    fn value(&mut self) -> Bytes {
        match self.random.below(12) {
            0 => Bytes::new(),
            1 => Bytes::from(vec![b'x'; 3000]),
            2 => Bytes::from_static(b"\0\xff\x80"),
            _ => Bytes::from(format!("v{}", self.random.below(12))),
        }
    }

    fn lease_id(&mut self) -> i64 {
        if self.random.one_in(12) { *self.random.pick(EDGES) } else { *self.random.pick(LEASES) }
    }

    /// A revision: now, past, compacted, future or nonsense.
    pub fn near_revision(&mut self) -> i64 {
        match self.random.below(12) {
            0..4 => 0,
            4..9 => self.compacted + self.below_i64(self.revision - self.compacted + 1),
            9 => self.below_i64(self.revision + 3),
            10 => self.revision + self.below_i64(3),
            _ => *self.random.pick(EDGES),
        }
    }

    pub fn put(&mut self) -> pb::PutRequest {
        let (ignore_value, ignore_lease) = (self.random.one_in(10), self.random.one_in(10));
        let careless = self.random.one_in(8);
        pb::PutRequest {
            key: self.key(),
            value: if ignore_value && !careless { Bytes::new() } else { self.value() },
            lease: if (ignore_lease && !careless) || !self.random.one_in(3) { 0 } else { self.lease_id() },
            prev_kv: self.random.one_in(3),
            ignore_value,
            ignore_lease,
        }
    }

    fn put_in_txn(&mut self) -> pb::PutRequest {
        let put = self.put();
        if self.gentle {
            return pb::PutRequest { lease: 0, ignore_value: false, ignore_lease: false, ..put };
        }
        put
    }

    pub fn range(&mut self) -> pb::RangeRequest {
        let key = self.key();
        let range_end = self.range_end(&key);
        let filter = self.random.one_in(5);
        let bound = |generator: &mut Generator| {
            if filter && generator.random.one_in(2) { generator.near_revision() } else { 0 }
        };
        pb::RangeRequest {
            min_mod_revision: bound(self),
            max_mod_revision: bound(self),
            min_create_revision: bound(self),
            max_create_revision: bound(self),
            key,
            range_end,
            limit: match self.random.below(10) {
                0..5 => 0,
                5..9 => self.below_i64(6),
                _ => *self.random.pick(EDGES),
            },
            revision: self.near_revision(),
            sort_order: self.enumeration(3),
            sort_target: self.enumeration(5),
            serializable: self.random.one_in(3),
            keys_only: self.random.one_in(6),
            count_only: self.random.one_in(8),
        }
    }

    /// Mostly one of the first `count` values, sometimes none there is.
    fn enumeration(&mut self, count: u64) -> i32 {
        match self.random.below(60) {
            0 => -1,
            1 => i32::try_from(count).unwrap_or(0),
            2 => i32::MAX,
            3..30 => 0,
            _ => i32::try_from(self.random.below(count)).unwrap_or(0),
        }
    }

    pub fn delete_range(&mut self) -> pb::DeleteRangeRequest {
        let key = self.key();
        // Seldom everything, or nothing is ever there.
        let range_end = if self.random.one_in(3) { self.range_end(&key) } else { Bytes::new() };
        let range_end =
            if range_end.as_ref() == b"\0" && !self.random.one_in(8) { Bytes::new() } else { range_end };
        pb::DeleteRangeRequest { key, range_end, prev_kv: self.random.one_in(2) }
    }

    pub fn txn(&mut self, depth: u32) -> pb::TxnRequest {
        let count = |generator: &mut Generator| {
            if generator.random.one_in(150) { 129 } else { generator.random.below(4) }
        };
        let (compares, successes, failures) = (count(self), count(self), count(self));
        pb::TxnRequest {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: (0..successes).map(|_| self.operation(depth)).collect(),
            failure: (0..failures).map(|_| self.operation(depth)).collect(),
        }
    }

    fn operation(&mut self, depth: u32) -> pb::RequestOp {
        use pb::request_op::Request;
        let request = match self.random.below(24) {
            0..9 => Some(Request::RequestPut(self.put_in_txn())),
            // Below zero: docs/compat.md lists the difference.
            9..16 => {
                let mut range = self.range();
                if self.gentle {
                    (range.revision, range.sort_order, range.sort_target) = (0, 0, 0);
                }
                // The order of equals is nobody's promise, see Ask::range.
                let one_key = if range.sort_target == 0 { range.range_end } else { Bytes::new() };
                let revision = range.revision.max(0);
                Some(Request::RequestRange(pb::RangeRequest { revision, range_end: one_key, ..range }))
            }
            16..20 => Some(Request::RequestDeleteRange(self.delete_range())),
            20..23 if depth > 1 => Some(Request::RequestTxn(self.txn(depth - 1))),
            23 if self.random.one_in(4) => None,
            _ => Some(Request::RequestPut(self.put_in_txn())),
        };
        pb::RequestOp { request }
    }

    fn compare(&mut self) -> pb::Compare {
        use pb::compare::TargetUnion;
        let target = self.enumeration(5);
        let number = |generator: &mut Generator| match generator.random.below(3) {
            0 => generator.near_revision(),
            1 => generator.below_i64(4),
            _ => *generator.random.pick(EDGES),
        };
        let union = if self.random.one_in(8) { self.below_i64(6) } else { i64::from(target) };
        let target_union = match union {
            0 => Some(TargetUnion::Version(number(self))),
            1 => Some(TargetUnion::CreateRevision(number(self))),
            2 => Some(TargetUnion::ModRevision(number(self))),
            3 => Some(TargetUnion::Value(self.value())),
            4 => Some(TargetUnion::Lease(self.lease_id())),
            _ => None,
        };
        let key = self.key();
        let range_end = if self.random.one_in(4) { self.range_end(&key) } else { Bytes::new() };
        pb::Compare { result: self.enumeration(4), target, key, range_end, target_union }
    }

    fn compact(&mut self) -> pb::CompactionRequest {
        // Accepted once by etcd, whose HashKV is wrong from then on: docs/compat.md.
        let revision = match self.near_revision() {
            0 => 1,
            revision => revision,
        };
        if (self.compacted..=self.revision).contains(&revision) {
            self.compacted = revision;
        }
        pb::CompactionRequest { revision, physical: self.random.one_in(2) }
    }

    fn lease(&mut self) -> Vec<Ask> {
        let id = self.lease_id();
        match self.random.below(20) {
            // Zero lets the server choose, which cannot be equal.
            0..6 if id != 0 => {
                let edge = self.random.one_in(8);
                let ttl = *self.random.pick(if edge {
                    &[0, -1, 1, i64::MIN, i64::MAX, 9_000_000_000, 9_000_000_001][..]
                } else {
                    &[1000, 5000, 100_000][..]
                });
                let grant = Ask::grant(&pb::LeaseGrantRequest { ttl, id });
                // A lease that would expire during the test goes at once.
                if ttl < 1000 { vec![grant, Ask::revoke(id)] } else { vec![grant] }
            }
            6..10 => vec![Ask::revoke(id)],
            10..15 => {
                vec![Ask::time_to_live(&pb::LeaseTimeToLiveRequest { id, keys: self.random.one_in(2) })]
            }
            15..17 => vec![Ask::leases()],
            _ => vec![Ask::keep_alive(id)],
        }
    }

    fn alarm(&mut self) -> Vec<Ask> {
        // An unknown action crashes etcd; ours ignores it, as it does alarms of unknown kinds.
        let action = *self.random.pick(&[0, 1, 1, 2]);
        let alarm = *self.random.pick(&[0, 1, 1, 2]);
        let member_id = *self.random.pick(&[0, 1, u64::MAX]);
        let raise = Ask::alarm(&pb::AlarmRequest { action, member_id, alarm });
        let list = pb::AlarmRequest { action: 0, member_id: 0, alarm: 0 };
        let blocked = Ask::put(&self.put());
        let drop = |member_id, alarm| Ask::alarm(&pb::AlarmRequest { action: 2, member_id, alarm });
        let read = Ask::range(&self.range());
        vec![
            raise,
            Ask::alarm(&list),
            blocked,
            read,
            drop(member_id, 1),
            drop(member_id, 2),
            Ask::alarm(&list),
        ]
    }
}

/// The end of the range of all keys that begin with `prefix`.
pub fn prefix_end(prefix: &Bytes) -> Bytes {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < u8::MAX {
            end.push(last + 1);
            return Bytes::from(end);
        }
    }
    Bytes::from_static(b"\0")
}
