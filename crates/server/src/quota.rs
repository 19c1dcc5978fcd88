//! The quota: what a request may add to the file, and whether there is room for it.
//!
//! Source: etcd `server/storage/quota.go`. The estimate is rough on purpose: it only has to stop a store
//! well before its disk does.

use proto::etcdserverpb::{PutRequest, RequestOp, TxnRequest, request_op};

use crate::shared::Shared;

/// What a record costs beside its key and value.
const KV_OVERHEAD: u64 = 256;

pub const LEASE_GRANT_COST: u64 = 64;

pub fn put_cost(request: &PutRequest) -> u64 {
    KV_OVERHEAD + request.key.len() as u64 + request.value.len() as u64
}

/// The dearer branch of a txn; 0 for one that puts nothing.
pub fn txn_cost(request: &TxnRequest) -> u64 {
    branch_cost(&request.success).max(branch_cost(&request.failure))
}

fn branch_cost(ops: &[RequestOp]) -> u64 {
    ops.iter().filter_map(|op| op.request.as_ref()).map(op_cost).sum()
}

fn op_cost(op: &request_op::Request) -> u64 {
    match op {
        request_op::Request::RequestPut(put) => put_cost(put),
        request_op::Request::RequestTxn(txn) => txn_cost(txn),
        request_op::Request::RequestRange(_) | request_op::Request::RequestDeleteRange(_) => 0,
    }
}

/// A request that costs nothing always has room.
pub fn has_room(shared: &Shared, cost: u64) -> bool {
    match shared.config.quota() {
        None => true,
        Some(_) if cost == 0 => true,
        Some(quota) => shared.file.size().saturating_add(cost as i64) < quota,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(len: usize) -> RequestOp {
        let put = PutRequest { key: "k".into(), value: vec![0; len].into(), ..PutRequest::default() };
        RequestOp { request: Some(request_op::Request::RequestPut(put)) }
    }

    #[test]
    fn a_txn_costs_its_dearer_branch() {
        let nested = TxnRequest { success: vec![put(10)], failure: vec![put(30)], ..TxnRequest::default() };
        let txn = TxnRequest {
            success: vec![put(1), RequestOp { request: Some(request_op::Request::RequestTxn(nested)) }],
            failure: vec![put(2)],
            ..TxnRequest::default()
        };
        assert_eq!(txn_cost(&txn), 257 + 1 + 257 + 30);
        assert_eq!(txn_cost(&TxnRequest::default()), 0);
    }
}
