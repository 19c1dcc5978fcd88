//! What clients ask for: the requests of each row.

use prost::Message;
use proto::etcdserverpb as pb;

use crate::http2::Keep;
use crate::load::Work;

pub const RANGE: &str = "/etcdserverpb.KV/Range";
pub const RANGE_STREAM: &str = "/etcdserverpb.KV/RangeStream";
pub const PUT: &str = "/etcdserverpb.KV/Put";
pub const TXN: &str = "/etcdserverpb.KV/Txn";
pub const COMPACT: &str = "/etcdserverpb.KV/Compact";
pub const WATCH: &str = "/etcdserverpb.Watch/Watch";
pub const SNAPSHOT: &str = "/etcdserverpb.Maintenance/Snapshot";
pub const STATUS: &str = "/etcdserverpb.Maintenance/Status";
pub const DEFRAGMENT: &str = "/etcdserverpb.Maintenance/Defragment";

/// Puts over a fixed set of keys, one after the other.
pub struct Put {
    pub prefix: &'static str,
    pub keys: u64,
    pub value_len: usize,
    pub next: u64,
}

impl Put {
    pub fn new(prefix: &'static str, keys: u64, value_len: usize) -> Put {
        Put { prefix, keys, value_len, next: 0 }
    }
}

impl Work for Put {
    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
        let key = format!("{}{:012}", self.prefix, self.next % self.keys);
        // Values differ from each other, so that nothing is won by noticing the same bytes.
        let value = value(self.value_len, self.next);
        self.next += 1;
        encode(&pb::PutRequest { key: key.into(), value: value.into(), ..Default::default() }, message);
        PUT
    }
}

pub fn value(len: usize, seed: u64) -> Vec<u8> {
    let mut value = vec![b'v'; len];
    let text = seed.to_le_bytes();
    let count = len.min(text.len());
    value[..count].copy_from_slice(&text[..count]);
    value
}

/// Reads of single keys among those that `Put` with the same prefix wrote.
#[derive(Clone, Copy)]
pub struct Get {
    serializable: bool,
    keys: u64,
    next: u64,
}

impl Get {
    pub const LINEARIZABLE: Get = Get { serializable: false, keys: 10_000, next: 0 };
    pub const SERIALIZABLE: Get = Get { serializable: true, keys: 10_000, next: 0 };
}

impl Work for Get {
    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
        // A stride that is coprime with the number of keys visits all of them, out of order.
        self.next = (self.next + 7919) % self.keys;
        let key = format!("get/{:012}", self.next);
        let serializable = self.serializable;
        encode(&pb::RangeRequest { key: key.into(), serializable, ..Default::default() }, message);
        RANGE
    }
}

/// All keys below `list/`.
#[derive(Clone, Copy)]
pub struct List {
    pub path: &'static str,
}

impl Work for List {
    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
        let request =
            pb::RangeRequest { key: "list/".into(), range_end: "list0".into(), ..Default::default() };
        encode(&request, message);
        self.path
    }
}

/// As the API server updates: compare the object's mod revision, put it, or else read it.
pub struct Update {
    /// Each client's object at its mod revision; zero until it is created.
    revisions: Vec<i64>,
    value_len: usize,
    next: u64,
}

impl Update {
    pub fn new(clients: usize, value_len: usize) -> Update {
        Update { revisions: vec![0; clients], value_len, next: 0 }
    }
}

impl Work for Update {
    const KEEP: Keep = Keep::Messages;

    fn request(&mut self, client: usize, message: &mut Vec<u8>) -> &'static str {
        let key = format!("/registry/pods/default/pod-{client:06}");
        self.next += 1;
        let compare = pb::Compare {
            result: pb::compare::CompareResult::Equal.into(),
            target: pb::compare::CompareTarget::Mod.into(),
            key: key.clone().into(),
            target_union: Some(pb::compare::TargetUnion::ModRevision(self.revisions[client])),
            ..Default::default()
        };
        let value = value(self.value_len, self.next).into();
        let put = pb::PutRequest { key: key.clone().into(), value, ..Default::default() };
        let get = pb::RangeRequest { key: key.into(), ..Default::default() };
        let op = |request| vec![pb::RequestOp { request: Some(request) }];
        let txn = pb::TxnRequest {
            compare: vec![compare],
            success: op(pb::request_op::Request::RequestPut(put)),
            failure: op(pb::request_op::Request::RequestRange(get)),
        };
        encode(&txn, message);
        TXN
    }

    fn answer(&mut self, client: usize, message: &[u8]) {
        let answer = pb::TxnResponse::decode(message).unwrap_or_default();
        assert!(answer.succeeded, "nobody else writes the object of client {client}");
        self.revisions[client] = answer.header.unwrap_or_default().revision;
    }
}

/// One call after the other with the same bytes.
pub struct Same {
    pub path: &'static str,
    pub message: Vec<u8>,
}

impl Same {
    pub fn snapshot() -> Same {
        Same { path: SNAPSHOT, message: Vec::new() }
    }

    pub fn defragment() -> Same {
        Same { path: DEFRAGMENT, message: Vec::new() }
    }

    pub fn compact(revision: i64) -> Same {
        let request = pb::CompactionRequest { revision, physical: true };
        Same { path: COMPACT, message: request.encode_to_vec() }
    }
}

impl Work for &Same {
    fn request(&mut self, _client: usize, message: &mut Vec<u8>) -> &'static str {
        message.extend_from_slice(&self.message);
        self.path
    }
}

/// The request that opens a watcher on one key.
pub fn watch_request(key: &str) -> Vec<u8> {
    let create = pb::WatchCreateRequest { key: key.to_owned().into(), ..Default::default() };
    let union = pb::watch_request::RequestUnion::CreateRequest(create);
    pb::WatchRequest { request_union: Some(union) }.encode_to_vec()
}

pub fn encode(request: &impl Message, message: &mut Vec<u8>) {
    message.reserve(request.encoded_len());
    // A vector grows as needed, so there is always room.
    let _ = request.encode(message);
}
