//! What clients send to the edge.

use std::io::Write;
use std::sync::OnceLock;

use api::fuzzing::Front;
use prost::Message;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{
    DeleteRangeRequest, LeaseGrantRequest, PutRequest, RangeRequest, RequestOp, SnapshotRequest,
    StatusRequest, TxnRequest, WatchCreateRequest, WatchRequest,
};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// One member for all inputs: what it keeps of one must not break the next.
pub fn connection(data: &[u8]) {
    talk(data);
}

fn talk(data: &[u8]) -> Vec<u8> {
    static FRONT: OnceLock<Front> = OnceLock::new();
    FRONT.get_or_init(Front::new).connection(data)
}

fn frame(kind: u8, flags: u8, stream: u8, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    [&[a, b, c, kind, flags, 0, 0, 0, stream], payload].concat()
}

/// Fields as literals that join the table.
fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        for text in [name, value] {
            if text == name {
                block.push(0x40);
            }
            block.push(text.len() as u8);
            block.extend_from_slice(text.as_bytes());
        }
    }
    block
}

/// The length-prefixed message.
fn framed(message: &impl Message) -> Vec<u8> {
    let payload = message.encode_to_vec();
    [&[0][..], &(payload.len() as u32).to_be_bytes(), &payload].concat()
}

fn call(stream: u8, path: &str, authority: &str, body: &[u8]) -> Vec<u8> {
    let fields = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", authority),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
        ("grpc-timeout", "1S"),
        ("hasleader", "true"),
    ];
    let headers = frame(HEADERS, END_HEADERS, stream, &block(&fields));
    [headers, frame(DATA, END_STREAM, stream, body)].concat()
}

fn put() -> PutRequest {
    PutRequest { key: "a".into(), value: "b".into(), prev_kv: true, ..PutRequest::default() }
}

fn range() -> RangeRequest {
    RangeRequest { key: "a".into(), range_end: "z".into(), limit: 3, ..RangeRequest::default() }
}

fn delete() -> DeleteRangeRequest {
    DeleteRangeRequest { key: "a".into(), range_end: "\0".into(), prev_kv: true }
}

fn txn() -> TxnRequest {
    let op = |request| RequestOp { request: Some(request) };
    let inner = TxnRequest { failure: vec![op(Op::RequestDeleteRange(delete()))], ..TxnRequest::default() };
    TxnRequest {
        success: vec![op(Op::RequestPut(put())), op(Op::RequestRange(range()))],
        failure: vec![op(Op::RequestTxn(inner))],
        ..TxnRequest::default()
    }
}

fn watch() -> WatchRequest {
    let create = WatchCreateRequest {
        key: "a".into(),
        range_end: "b".into(),
        start_revision: 1,
        progress_notify: true,
        ..WatchCreateRequest::default()
    };
    WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
}

pub fn authority_seeds() -> Vec<Vec<u8>> {
    let good = call(1, "/etcdserverpb.KV/Put", "a:2379", &framed(&put()));
    let old =
        call(3, "/etcdserverpb.Maintenance/Status", "http://127.0.0.1:2379", &framed(&StatusRequest {}));
    let older = call(5, "/etcdserverpb.KV/Range", "#initially=[http://a:1;http://b:2]", &framed(&range()));
    // From the table alone, and in two frames.
    let indexed =
        [frame(HEADERS, 0, 7, &[0xbe, 0xbf]), frame(CONTINUATION, END_HEADERS, 7, &[0xc0])].concat();
    let ping = frame(PING, 0, 0, &[7; 8]);
    // Huffman-coded, from RFC 7541 C.4.1.
    let coded = [
        0x82, 0x86, 0x84, 0x41, 0x8c, 0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff,
    ];
    let coded = frame(HEADERS, END_HEADERS, 9, &coded);
    let padded = frame(
        HEADERS,
        END_HEADERS | 0x8 | 0x20,
        11,
        &[[2, 1, 2, 3, 4, 5].as_slice(), &block(&[("a", "b")]), &[0, 0]].concat(),
    );
    let table_size = frame(HEADERS, END_HEADERS, 13, &[0x3f, 0x21, 0x82]);
    vec![
        [vec![1], good.clone(), ping, coded.clone()].concat(),
        [vec![7], good, old.clone(), indexed.clone()].concat(),
        [vec![200], older, coded, padded, table_size].concat(),
        [vec![3], old, indexed].concat(),
    ]
}

pub fn message_seeds() -> Vec<Vec<u8>> {
    let plain = |method: u8, body: Vec<u8>| [vec![0, method, 5], body.clone(), body].concat();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&put().encode_to_vec()).expect("memory takes writes");
    let packed = gzip.finish().expect("memory takes writes");
    let packed = [&[1, 0, 0, 0, packed.len() as u8], &packed[..]].concat();
    vec![
        plain(0, framed(&put())),
        plain(1, framed(&range())),
        plain(2, framed(&delete())),
        plain(3, framed(&txn())),
        plain(4, framed(&proto::etcdserverpb::CompactionRequest { revision: 2, physical: true })),
        plain(5, framed(&LeaseGrantRequest { id: 7, ttl: 60 })),
        plain(7, framed(&proto::etcdserverpb::AlarmRequest { action: 1, member_id: 3, alarm: 1 })),
        plain(8, framed(&watch())),
        [vec![1, 0, 9], packed].concat(),
    ]
}

pub fn connection_seeds() -> Vec<Vec<u8>> {
    let http2 = |calls: Vec<Vec<u8>>| [PREFACE.to_vec(), frame(SETTINGS, 0, 0, &[]), calls.concat()].concat();
    let kv = http2(vec![
        call(1, "/etcdserverpb.KV/Put", "a:2379", &framed(&put())),
        call(3, "/etcdserverpb.KV/Range", "a:2379", &framed(&range())),
        call(5, "/etcdserverpb.KV/Txn", "http://a:2379", &framed(&txn())),
        call(7, "/etcdserverpb.KV/RangeStream", "a:2379", &framed(&range())),
    ]);
    let streams = http2(vec![
        call(1, "/etcdserverpb.Watch/Watch", "a:2379", &framed(&watch())),
        call(3, "/etcdserverpb.KV/DeleteRange", "a:2379", &framed(&delete())),
        call(5, "/etcdserverpb.Maintenance/Snapshot", "a:2379", &framed(&SnapshotRequest {})),
        call(7, "/etcdserverpb.Lease/LeaseGrant", "a:2379", &framed(&LeaseGrantRequest { id: 7, ttl: 60 })),
        frame(PING, 0, 0, &[1; 8]),
        // RST_STREAM, WINDOW_UPDATE, GOAWAY.
        frame(3, 0, 1, &[0, 0, 0, 8]),
        frame(8, 0, 0, &[0, 0, 1, 0]),
        frame(7, 0, 0, &[0; 8]),
    ]);
    let web =
        block(&[(":method", "GET"), (":scheme", "http"), (":path", "/readyz?verbose"), (":authority", "a")]);
    let web = http2(vec![frame(HEADERS, END_HEADERS | END_STREAM, 1, &web)]);
    // Seeds that are refused would be worth little: the range finds what was put.
    let answer = talk(&kv);
    assert!(answer.windows(3).any(|octets| octets == b"*\x01b"), "the calls are not served: {answer:x?}");
    vec![
        kv,
        streams,
        web,
        b"GET /health?exclude=NOSPACE&serializable=true HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"GET /metrics HTTP/1.1\r\nHost: a\r\nAccept-Encoding: gzip\r\n\r\nGET /version HTTP/1.1\r\nHost: a\r\n\r\n".to_vec(),
        b"PUT /config/local/log HTTP/1.0\r\nContent-Length: 2\r\nOrigin: http://b\r\n\r\n{}".to_vec(),
    ]
}
