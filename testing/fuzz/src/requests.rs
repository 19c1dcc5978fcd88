//! Committed entries, applied one behind the other to one state.

use std::sync::Arc;
use std::time::Duration;

use apply::{Alarms, Command, Request, State};
use bytes::Bytes;
use lease::{CheckpointPolicy, Config, Lessor};
use mvcc::{Answer, CompactionsOnFile, MemorySource, Store};
use prost::Message;
use proto::etcdserverpb::{
    DeleteRangeRequest, InternalRaftRequest, LeaseGrantRequest, PutRequest, RangeRequest,
    Request as V2Request, RequestOp, TxnRequest, request_op,
};

pub fn request(data: &[u8]) {
    let Ok(request) = Request::decode(Bytes::copy_from_slice(data)) else { return };
    let source = Arc::new(MemorySource::default());
    let restored = Store::restore(source, CompactionsOnFile::default(), &mut |_, _| {});
    let store = restored.expect("an empty file is whole").store;
    let mut state = State::new(store, Alarms::default(), membership::Cluster::default());
    let config = Config::for_election_timeout(Duration::from_secs(1), CheckpointPolicy::Off);
    let mut lessor = Lessor::new(config);
    let put = PutRequest { key: "a".into(), value: "b".into(), ..PutRequest::default() };
    let _ = state.apply(&mut lessor, Command::Put(put), Answer::Unwanted);
    for answer in [Answer::Wanted, Answer::Unwanted] {
        let _ = state.apply(&mut lessor, request.command.clone(), answer);
    }
    let _ = state.take_effects();
    lessor.check();
}

pub fn request_seeds() -> Vec<Vec<u8>> {
    let put =
        PutRequest { key: "a".into(), value: "b".into(), lease: 7, prev_kv: true, ..PutRequest::default() };
    let range = RangeRequest { key: "a".into(), range_end: "z".into(), limit: 3, ..RangeRequest::default() };
    let delete = DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true };
    let op = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest {
        success: vec![op(request_op::Request::RequestRange(range.clone()))],
        ..TxnRequest::default()
    };
    let txn = TxnRequest {
        success: vec![
            op(request_op::Request::RequestPut(put.clone())),
            op(request_op::Request::RequestTxn(inner)),
        ],
        failure: vec![op(request_op::Request::RequestDeleteRange(delete.clone()))],
        ..TxnRequest::default()
    };
    let commands = [
        Command::Put(put),
        Command::Range(range),
        Command::DeleteRange(delete),
        Command::Txn(txn),
        Command::LeaseGrant(LeaseGrantRequest { id: 7, ttl: 60 }),
        Command::Compaction(proto::etcdserverpb::CompactionRequest { revision: 2, ..Default::default() }),
        Command::LeaseRevoke(proto::etcdserverpb::LeaseRevokeRequest { id: 7 }),
        Command::Alarm(proto::etcdserverpb::AlarmRequest { action: 1, member_id: 3, alarm: 1 }),
    ];
    let seeds = commands.into_iter().map(|command| Request { id: 9, command }.encode().to_vec());
    seeds.chain(v2_seeds()).collect()
}

/// As logs of etcd 3.5 hold them, bare and inside of a request.
fn v2_seeds() -> Vec<Vec<u8>> {
    let put = |path: &str, val: &str| V2Request {
        id: 7,
        method: "PUT".into(),
        path: path.into(),
        val: val.into(),
        ..V2Request::default()
    };
    let attributes = r#"{"name":"m0","clientURLs":["http://127.0.0.1:2379"]}"#;
    let requests = [
        put("/0/members/8e9e05c52164694d/attributes", attributes),
        put("/0/version", "3.5.0"),
        put("/1/foo", "bar"),
    ];
    let wrapped = InternalRaftRequest { v2: Some(requests[0].clone()), ..InternalRaftRequest::default() };
    let bare = requests.iter().map(|request| request.encode_to_vec());
    bare.chain([wrapped.encode_to_vec()]).collect()
}
