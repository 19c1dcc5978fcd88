//! From the API's messages to what the store takes.

use mvcc::{
    Compare, CompareTarget, DeleteRange, KeyRange, LeaseId, Op, PrevKv, Put, PutLease, PutValue, RangeQuery,
    ReadAt, Relation, RevisionFilters, Sort, SortOrder, SortTarget, Txn, Want,
};
use proto::etcdserverpb::{
    self as pb, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest, compare, range_request,
    request_op,
};

pub fn range_query(request: &RangeRequest) -> RangeQuery {
    RangeQuery {
        keys: KeyRange::from_wire(request.key.clone(), request.range_end.clone()),
        at: ReadAt::from_wire(request.revision),
        limit: usize::try_from(request.limit).ok().filter(|limit| *limit > 0),
        sort: sort(request),
        filters: RevisionFilters {
            min_mod: bound(request.min_mod_revision),
            max_mod: bound(request.max_mod_revision),
            min_create: bound(request.min_create_revision),
            max_create: bound(request.max_create_revision),
        },
        want: match (request.count_only, request.keys_only) {
            (true, _) => Want::Count,
            (false, true) => Want::Keys,
            (false, false) => Want::Records,
        },
    }
}

/// Numbers beyond the enums are refused by `api`; in a log of another member they mean nothing.
fn sort(request: &RangeRequest) -> Sort {
    use range_request::{SortOrder as Order, SortTarget as Target};
    let order = match Order::try_from(request.sort_order) {
        Ok(Order::Ascend) => SortOrder::Ascend,
        Ok(Order::Descend) => SortOrder::Descend,
        Ok(Order::None) | Err(_) => SortOrder::None,
    };
    let target = match Target::try_from(request.sort_target) {
        Ok(Target::Version) => SortTarget::Version,
        Ok(Target::Create) => SortTarget::Create,
        Ok(Target::Mod) => SortTarget::Mod,
        Ok(Target::Value) => SortTarget::Value,
        Ok(Target::Key) | Err(_) => SortTarget::Key,
    };
    Sort { order, target }
}

fn bound(revision: i64) -> Option<i64> {
    (revision != 0).then_some(revision)
}

pub fn put(request: PutRequest) -> Put {
    Put {
        key: request.key,
        value: if request.ignore_value { PutValue::Keep } else { PutValue::Set(request.value) },
        lease: match request.ignore_lease {
            true => PutLease::Keep,
            false => PutLease::Set(LeaseId::from_wire(request.lease)),
        },
        prev_kv: prev_kv(request.prev_kv),
    }
}

pub fn delete_range(request: DeleteRangeRequest) -> DeleteRange {
    DeleteRange {
        keys: KeyRange::from_wire(request.key, request.range_end),
        prev_kv: prev_kv(request.prev_kv),
    }
}

fn prev_kv(wanted: bool) -> PrevKv {
    if wanted { PrevKv::Wanted } else { PrevKv::Unwanted }
}

/// An operation without content is refused by `api`; one from elsewhere is passed over.
pub fn txn(request: TxnRequest) -> Txn {
    Txn {
        compares: request.compare.into_iter().map(compare).collect(),
        success: request.success.into_iter().filter_map(op).collect(),
        failure: request.failure.into_iter().filter_map(op).collect(),
    }
}

fn op(op: RequestOp) -> Option<Op> {
    Some(match op.request? {
        request_op::Request::RequestRange(request) => Op::Range(range_query(&request)),
        request_op::Request::RequestPut(request) => Op::Put(put(request)),
        request_op::Request::RequestDeleteRange(request) => Op::DeleteRange(delete_range(request)),
        request_op::Request::RequestTxn(request) => Op::Txn(Box::new(txn(request))),
    })
}

fn compare(wire: pb::Compare) -> Compare {
    use compare::{CompareResult, CompareTarget as Target, TargetUnion as Union};
    let relation = match CompareResult::try_from(wire.result) {
        Ok(CompareResult::Equal) => Relation::Equal,
        Ok(CompareResult::Greater) => Relation::Greater,
        Ok(CompareResult::Less) => Relation::Less,
        Ok(CompareResult::NotEqual) => Relation::NotEqual,
        Err(_) => Relation::Undefined,
    };
    // An operand that does not belong to the target counts as none: zero, or nothing.
    let target = match (Target::try_from(wire.target), wire.target_union) {
        (Ok(Target::Version), Some(Union::Version(given))) => CompareTarget::Version(given),
        (Ok(Target::Version), _) => CompareTarget::Version(0),
        (Ok(Target::Create), Some(Union::CreateRevision(given))) => CompareTarget::Create(given),
        (Ok(Target::Create), _) => CompareTarget::Create(0),
        (Ok(Target::Mod), Some(Union::ModRevision(given))) => CompareTarget::Mod(given),
        (Ok(Target::Mod), _) => CompareTarget::Mod(0),
        (Ok(Target::Value), Some(Union::Value(given))) => CompareTarget::Value(given),
        (Ok(Target::Value), _) => CompareTarget::Value(bytes::Bytes::new()),
        (Ok(Target::Lease), Some(Union::Lease(given))) => CompareTarget::Lease(given),
        (Ok(Target::Lease), _) => CompareTarget::Lease(0),
        (Err(_), _) => CompareTarget::Undefined,
    };
    Compare { keys: KeyRange::from_wire(wire.key, wire.range_end), relation, target }
}
