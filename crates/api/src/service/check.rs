//! What a request must look like before anyone works on it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest};

use crate::error::RequestError;

pub(crate) fn range(request: &RangeRequest) -> Result<(), RequestError> {
    use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if SortOrder::try_from(request.sort_order).is_err() || SortTarget::try_from(request.sort_target).is_err()
    {
        return Err(RequestError::InvalidSortOption);
    }
    Ok(())
}

/// `RangeStream` takes what comes in key order anyway.
pub(crate) fn range_stream(request: &RangeRequest) -> Result<(), RequestError> {
    use proto::etcdserverpb::range_request::{SortOrder, SortTarget};
    range(request)?;
    let order = SortOrder::try_from(request.sort_order);
    let by_key = SortTarget::try_from(request.sort_target) == Ok(SortTarget::Key);
    // Compat: "no order" passes with any target.
    if order != Ok(SortOrder::None) && !(order == Ok(SortOrder::Ascend) && by_key) {
        return Err(RequestError::StreamSort);
    }
    let filters = [
        request.min_mod_revision,
        request.max_mod_revision,
        request.min_create_revision,
        request.max_create_revision,
    ];
    if filters.iter().any(|filter| *filter != 0) {
        return Err(RequestError::StreamFilters);
    }
    Ok(())
}

pub(crate) fn put(request: &PutRequest) -> Result<(), RequestError> {
    if request.key.is_empty() {
        return Err(RequestError::EmptyKey);
    }
    if request.ignore_value && !request.value.is_empty() {
        return Err(RequestError::ValueProvided);
    }
    if request.ignore_lease && request.lease != 0 {
        return Err(RequestError::LeaseProvided);
    }
    Ok(())
}

pub(crate) fn delete_range(request: &DeleteRangeRequest) -> Result<(), RequestError> {
    if request.key.is_empty() { Err(RequestError::EmptyKey) } else { Ok(()) }
}

/// How many txns deep a request may go. prost reads 100 messages inside each other, and a txn is two of them; the
/// log holds the request inside one more. A request beyond this would be stored and never be read again, which
/// stops every member for good. Compat: etcd has no such bound but that on operations.
const TXN_DEPTH_MAX: usize = 49;

/// Everything about a txn that can be told without the store.
pub(crate) fn txn(request: &TxnRequest, ops_max: usize) -> Result<(), RequestError> {
    operations(request, ops_max, TXN_DEPTH_MAX)?;
    // A branch of one operation cannot collide with itself.
    for branch in [&request.success, &request.failure] {
        if branch.len() > 1 || branch.iter().any(|op| matches!(op.request, Some(Op::RequestTxn(_)))) {
            Touched::of(branch)?;
        }
    }
    Ok(())
}

/// `budget` is what the levels above have left; `depth` counts this level and those that may stand below it.
fn operations(request: &TxnRequest, budget: usize, depth: usize) -> Result<(), RequestError> {
    let below = depth.checked_sub(1).ok_or(RequestError::TooManyOps)?;
    let used = request.compare.len().max(request.success.len()).max(request.failure.len());
    let left = budget.checked_sub(used).ok_or(RequestError::TooManyOps)?;
    if request.compare.iter().any(|compare| compare.key.is_empty()) {
        return Err(RequestError::EmptyKey);
    }
    for op in request.success.iter().chain(&request.failure) {
        match &op.request {
            Some(Op::RequestRange(request)) => range(request)?,
            Some(Op::RequestPut(request)) => put(request)?,
            Some(Op::RequestDeleteRange(request)) => delete_range(request)?,
            Some(Op::RequestTxn(request)) => operations(request, left, below)?,
            None => return Err(RequestError::EmptyOperation),
        }
    }
    Ok(())
}

/// Whether every operation of both branches is a range. Compat: a nested txn counts as a write.
pub(crate) fn is_read_only(request: &TxnRequest) -> bool {
    request.success.iter().chain(&request.failure).all(|op| matches!(op.request, Some(Op::RequestRange(_))))
}

/// The ranges of a read-only txn.
pub(super) fn ranges(request: &TxnRequest) -> impl Iterator<Item = &RangeRequest> {
    request.success.iter().chain(&request.failure).filter_map(|op| match &op.request {
        Some(Op::RequestRange(range)) => Some(range),
        _ => None,
    })
}

/// Keys that a branch puts and ranges that it deletes, at any depth.
#[derive(Default)]
struct Touched {
    puts: BTreeSet<Bytes>,
    deletes: RangeSet,
}

impl Touched {
    /// Compat: etcd's order of looking (`v3rpc/key.go` checkIntervals), which decides what is found: puts of
    /// a nested txn meet the deletes of this level and of nested txns before it; this level's own puts meet all.
    fn of(branch: &[RequestOp]) -> Result<Touched, RequestError> {
        let mut touched = Touched::default();
        for op in branch {
            // Compat: etcd takes the end of "everything from the key", one zero byte, literally here, so that
            // such a delete meets no put.
            if let Some(Op::RequestDeleteRange(request)) = &op.request
                && request.range_end != b"\0"[..]
            {
                touched.deletes.insert(&request.key, &request.range_end);
            }
        }
        for op in branch {
            let Some(Op::RequestTxn(nested)) = &op.request else { continue };
            let success = Touched::of(&nested.success)?;
            let failure = Touched::of(&nested.failure)?;
            for key in &success.puts {
                touched.put(key)?;
            }
            for key in &failure.puts {
                // Only one of the two branches is taken, so they may put the same key.
                if touched.deletes.contains(key)
                    || (!touched.puts.insert(key.clone()) && !success.puts.contains(key))
                {
                    return Err(RequestError::DuplicateKey);
                }
            }
            touched.deletes.merge(success.deletes);
            touched.deletes.merge(failure.deletes);
        }
        for op in branch {
            if let Some(Op::RequestPut(request)) = &op.request {
                touched.put(&request.key)?;
            }
        }
        Ok(touched)
    }

    fn put(&mut self, key: &Bytes) -> Result<(), RequestError> {
        if self.deletes.contains(key) || !self.puts.insert(key.clone()) {
            return Err(RequestError::DuplicateKey);
        }
        Ok(())
    }
}

/// A union of key ranges.
#[derive(Default)]
struct RangeSet {
    /// Start to end, `None` for no end. Invariant: ranges neither touch nor overlap, none is empty.
    ranges: BTreeMap<Bytes, Option<Bytes>>,
}

impl RangeSet {
    fn insert(&mut self, key: &Bytes, range_end: &Bytes) {
        match &range_end[..] {
            b"" => self.add(key.clone(), Some([&key[..], b"\0"].concat().into())),
            b"\0" => self.add(key.clone(), None),
            _ if range_end > key => self.add(key.clone(), Some(range_end.clone())),
            _ => {} // empty
        }
    }

    fn add(&mut self, mut start: Bytes, mut end: Option<Bytes>) {
        // Swallow all that touch the new one; they are neighbours in the map.
        while let Some((other_start, other_end)) = self.last_reaching(&start, end.as_ref()) {
            self.ranges.remove(&other_start);
            start = start.min(other_start);
            end = match (end, other_end) {
                (Some(a), Some(b)) => Some(a.max(b)),
                _ => None,
            };
        }
        self.ranges.insert(start, end);
    }

    /// A range that begins no later than `end` and ends no earlier than `start`.
    fn last_reaching(&self, start: &Bytes, end: Option<&Bytes>) -> Option<(Bytes, Option<Bytes>)> {
        let (other_start, other_end) = match end {
            Some(end) => self.ranges.range(..=end.clone()).next_back()?,
            None => self.ranges.iter().next_back()?,
        };
        let reaches = other_end.as_ref().is_none_or(|other_end| other_end >= start);
        reaches.then(|| (other_start.clone(), other_end.clone()))
    }

    fn merge(&mut self, other: RangeSet) {
        for (start, end) in other.ranges {
            self.add(start, end);
        }
    }

    fn contains(&self, key: &Bytes) -> bool {
        let before = self.ranges.range(..=key.clone()).next_back();
        before.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proto::etcdserverpb::Compare;

    fn op(request: Op) -> RequestOp {
        RequestOp { request: Some(request) }
    }

    fn put_op(key: &'static str) -> RequestOp {
        op(Op::RequestPut(PutRequest { key: key.into(), ..Default::default() }))
    }

    fn delete_op(key: &'static str, end: &'static str) -> RequestOp {
        op(Op::RequestDeleteRange(DeleteRangeRequest {
            key: key.into(),
            range_end: end.into(),
            prev_kv: false,
        }))
    }

    fn range_op(key: &'static str) -> RequestOp {
        op(Op::RequestRange(RangeRequest { key: key.into(), ..Default::default() }))
    }

    fn nested(success: Vec<RequestOp>, failure: Vec<RequestOp>) -> RequestOp {
        op(Op::RequestTxn(TxnRequest { compare: vec![], success, failure }))
    }

    fn check(success: Vec<RequestOp>) -> Result<(), RequestError> {
        txn(&TxnRequest { compare: vec![], success, failure: vec![] }, 128)
    }

    const DUPLICATE: Result<(), RequestError> = Err(RequestError::DuplicateKey);

    #[test]
    fn duplicate_keys() {
        assert_eq!(check(vec![put_op("a"), put_op("b")]), Ok(()));
        assert_eq!(check(vec![put_op("a"), put_op("a")]), DUPLICATE);
        assert_eq!(check(vec![put_op("a"), delete_op("a", "")]), DUPLICATE);
        assert_eq!(check(vec![put_op("b"), delete_op("a", "c")]), DUPLICATE);
        assert_eq!(check(vec![put_op("c"), delete_op("a", "c")]), Ok(()));
        assert_eq!(check(vec![put_op("z"), delete_op("a", "\0")]), Ok(()));
        assert_eq!(check(vec![delete_op("a", "c"), delete_op("b", "d")]), Ok(()));
        assert_eq!(check(vec![range_op("a"), put_op("a")]), Ok(()));
    }

    #[test]
    fn duplicate_keys_below() {
        let both = nested(vec![put_op("a")], vec![put_op("a")]);
        assert_eq!(check(vec![both.clone()]), Ok(()));
        assert_eq!(check(vec![both.clone(), put_op("a")]), DUPLICATE);
        assert_eq!(check(vec![both.clone(), nested(vec![], vec![put_op("a")])]), DUPLICATE);
        assert_eq!(check(vec![both, delete_op("a", "")]), DUPLICATE);
        // The quirk: a nested put meets the deletes of nested txns before it, not of those behind.
        let put = nested(vec![put_op("a")], vec![]);
        let delete = nested(vec![delete_op("a", "")], vec![]);
        assert_eq!(check(vec![delete.clone(), put.clone()]), DUPLICATE);
        assert_eq!(check(vec![put, delete.clone()]), Ok(()));
        assert_eq!(check(vec![put_op("a"), delete]), DUPLICATE);
    }

    #[test]
    fn budget_and_shape() {
        let puts = |n: usize| (0..n).map(|_| range_op("a")).collect::<Vec<_>>();
        assert_eq!(check(puts(128)), Ok(()));
        assert_eq!(check(puts(129)), Err(RequestError::TooManyOps));
        let mut outer = puts(99);
        outer.push(nested(puts(28), puts(28)));
        assert_eq!(check(outer), Ok(()));
        let mut outer = puts(99);
        outer.push(nested(puts(29), vec![]));
        assert_eq!(check(outer), Err(RequestError::TooManyOps));
        assert_eq!(check(vec![RequestOp { request: None }]), Err(RequestError::EmptyOperation));
        assert_eq!(check(vec![put_op("")]), Err(RequestError::EmptyKey));
        let compare = TxnRequest { compare: vec![Compare::default()], ..Default::default() };
        assert_eq!(txn(&compare, 128), Err(RequestError::EmptyKey));
    }

    #[test]
    fn what_passes_can_be_read_from_the_log() {
        use apply::{Command, Request};
        let deep = |levels: usize| {
            let compare = vec![Compare { key: "a".into(), ..Default::default() }];
            let innermost = TxnRequest { compare, success: vec![put_op("a")], failure: vec![] };
            (1..levels).fold(innermost, |inner, _| TxnRequest {
                success: vec![op(Op::RequestTxn(inner))],
                ..Default::default()
            })
        };
        let deepest = deep(TXN_DEPTH_MAX);
        assert_eq!(txn(&deepest, 128), Ok(()));
        let stored = Request { id: 1, command: Command::Txn(deepest) };
        assert_eq!(Request::decode(stored.clone().encode()), Ok(stored));
        assert_eq!(txn(&deep(TXN_DEPTH_MAX + 1), 128), Err(RequestError::TooManyOps));
    }

    #[test]
    fn streams_take_only_key_order() {
        let request = |order, target, min| RangeRequest {
            key: "a".into(),
            sort_order: order,
            sort_target: target,
            min_mod_revision: min,
            ..Default::default()
        };
        assert_eq!(range_stream(&request(0, 4, 0)), Ok(()));
        assert_eq!(range_stream(&request(1, 0, 0)), Ok(()));
        assert_eq!(range_stream(&request(1, 1, 0)), Err(RequestError::StreamSort));
        assert_eq!(range_stream(&request(2, 0, 0)), Err(RequestError::StreamSort));
        assert_eq!(range_stream(&request(0, 0, 1)), Err(RequestError::StreamFilters));
        assert_eq!(range_stream(&request(3, 0, 0)), Err(RequestError::InvalidSortOption));
        assert_eq!(range_stream(&request(0, 5, 0)), Err(RequestError::InvalidSortOption));
    }

    proptest::proptest! {
        #[test]
        fn range_sets_hold_what_was_put_in(
            ranges in proptest::collection::vec((0u8..20, 0u8..22), 0..8),
        ) {
            let key = |n: u8| Bytes::from(vec![b'a' + n]);
            let mut set = RangeSet::default();
            for (start, end) in &ranges {
                // 20: to the end, 21: one key.
                let end = match end { 20 => Bytes::from_static(b"\0"), 21 => Bytes::new(), n => key(*n) };
                set.insert(&key(*start), &end);
            }
            for n in 0..25 {
                let obvious = ranges.iter().any(|(start, end)| match end {
                    20 => n >= *start,
                    21 => n == *start,
                    end => n >= *start && n < *end,
                });
                proptest::prop_assert_eq!(set.contains(&key(n)), obvious, "{}", n);
            }
        }
    }
}
