//! Answers written straight from encoded records, without building messages first.

use apply::{DeleteRangeOutcome, OpOutcome, PutOutcome, RangeOutcome, TxnOutcome};
use bytes::{BufMut, Bytes, BytesMut};
use mvcc::RangeResult;
use mvcc::watch::EventBatch;

use crate::grpc::Message;
use crate::grpc::message::{PIECE_BYTES, PieceSource};

/// `ResponseHeader`'s fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) cluster_id: u64,
    pub(super) member_id: u64,
    pub(super) revision: i64,
    pub(super) raft_term: u64,
}

const HEADER: u32 = 1;

impl Header {
    /// In an answer inside of a txn's answer: only the revision is set.
    fn nested(revision: mvcc::Revision) -> Header {
        Header { revision: revision.to_wire(), ..Header::default() }
    }

    pub(super) fn to_proto(self) -> proto::etcdserverpb::ResponseHeader {
        proto::etcdserverpb::ResponseHeader {
            cluster_id: self.cluster_id,
            member_id: self.member_id,
            revision: self.revision,
            raft_term: self.raft_term,
        }
    }

    fn fields_len(&self) -> usize {
        number_len(1, self.cluster_id)
            + number_len(2, self.member_id)
            + number_len(3, self.revision as u64)
            + number_len(4, self.raft_term)
    }

    pub(super) fn field_len(&self) -> usize {
        bytes_len(HEADER, self.fields_len())
    }

    pub(super) fn put(&self, out: &mut BytesMut) {
        put_length(out, HEADER, self.fields_len());
        put_number(out, 1, self.cluster_id);
        put_number(out, 2, self.member_id);
        put_number(out, 3, self.revision as u64);
        put_number(out, 4, self.raft_term);
    }
}

fn varint_len(value: u64) -> usize {
    let bits = u64::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn put_varint(out: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

/// A varint field; absent when zero, as proto3 has it.
fn number_len(tag: u32, value: u64) -> usize {
    if value == 0 { 0 } else { varint_len(u64::from(tag) << 3) + varint_len(value) }
}

fn put_number(out: &mut BytesMut, tag: u32, value: u64) {
    if value != 0 {
        put_varint(out, u64::from(tag) << 3);
        put_varint(out, value);
    }
}

/// A length-delimited field of `len` octets, tag and length included.
fn bytes_len(tag: u32, len: usize) -> usize {
    varint_len(u64::from(tag) << 3) + varint_len(len as u64) + len
}

fn put_length(out: &mut BytesMut, tag: u32, len: usize) {
    put_varint(out, u64::from(tag) << 3 | 2);
    put_varint(out, len as u64);
}

fn put_bytes(out: &mut BytesMut, tag: u32, bytes: &[u8]) {
    put_length(out, tag, bytes.len());
    out.put_slice(bytes);
}

/// Behind `kvs`: 3 more, 4 count.
fn put_range_tail(out: &mut BytesMut, more: bool, count: u64) {
    put_number(out, 3, u64::from(more));
    put_number(out, 4, count);
}

fn range_tail_len(more: bool, count: u64) -> usize {
    number_len(3, u64::from(more)) + number_len(4, count)
}

/// The records of a range, written when the client takes them: an answer of any size holds one piece in memory.
struct RecordPieces {
    result: RangeResult,
    next: usize,
    tail: Option<Bytes>,
}

impl PieceSource for RecordPieces {
    fn fill(&mut self, out: &mut BytesMut) -> bool {
        while self.next < self.result.records.len() {
            if out.len() >= PIECE_BYTES {
                return true;
            }
            self.result.write_kv(self.next, out);
            self.next += 1;
        }
        if let Some(tail) = self.tail.take() {
            out.put_slice(&tail);
        }
        false
    }
}

/// A `RangeResponse`, whose `more` and `count` may be another's (the last chunk of a stream).
#[derive(Clone, Copy)]
pub(super) struct RangeParts {
    pub(super) header: Option<Header>,
    pub(super) more: bool,
    pub(super) count: u64,
}

impl RangeParts {
    fn len(&self, result: &RangeResult) -> usize {
        self.header.map_or(0, |header| header.field_len())
            + result.kvs_len()
            + range_tail_len(self.more, self.count)
    }
}

pub(super) fn range_response(result: RangeResult, parts: RangeParts) -> Message {
    range_message(result, parts, None)
}

/// A `RangeStreamResponse`: 1 range_response.
pub(super) fn range_stream_response(result: RangeResult, parts: RangeParts) -> Message {
    range_message(result, parts, Some(1))
}

fn range_message(result: RangeResult, parts: RangeParts, wrapped_in: Option<u32>) -> Message {
    let inner_len = parts.len(&result);
    let payload_len = wrapped_in.map_or(inner_len, |tag| bytes_len(tag, inner_len));
    let put_head = |out: &mut BytesMut| {
        if let Some(tag) = wrapped_in {
            put_length(out, tag, inner_len);
        }
        if let Some(header) = &parts.header {
            header.put(out);
        }
    };
    let log_count = parts.count as i64;
    if payload_len <= PIECE_BYTES {
        return Message::write(payload_len, |out| {
            put_head(out);
            for at in 0..result.records.len() {
                result.write_kv(at, out);
            }
            put_range_tail(out, parts.more, parts.count);
        })
        .counting(log_count);
    }
    let mut tail = BytesMut::new();
    put_range_tail(&mut tail, parts.more, parts.count);
    let source = RecordPieces { result, next: 0, tail: Some(tail.freeze()) };
    Message::from_source(payload_len, put_head, Box::new(source)).counting(log_count)
}

pub(super) fn put_response(header: &Header, outcome: &PutOutcome) -> Message {
    let len = put_fields_len(header, outcome);
    Message::write(len, |out| put_put_fields(out, header, outcome)).counting(0)
}

fn put_fields_len(header: &Header, outcome: &PutOutcome) -> usize {
    header.field_len() + outcome.previous.as_ref().map_or(0, |record| bytes_len(2, record.len()))
}

fn put_put_fields(out: &mut BytesMut, header: &Header, outcome: &PutOutcome) {
    header.put(out);
    if let Some(record) = &outcome.previous {
        put_bytes(out, 2, record);
    }
}

pub(super) fn delete_range_response(header: &Header, outcome: &DeleteRangeOutcome) -> Message {
    let len = delete_fields_len(header, outcome);
    Message::write(len, |out| put_delete_fields(out, header, outcome)).counting(outcome.deleted as i64)
}

fn delete_fields_len(header: &Header, outcome: &DeleteRangeOutcome) -> usize {
    let records: usize = outcome.previous.iter().map(|record| bytes_len(3, record.len())).sum();
    header.field_len() + number_len(2, outcome.deleted) + records
}

fn put_delete_fields(out: &mut BytesMut, header: &Header, outcome: &DeleteRangeOutcome) {
    header.put(out);
    put_number(out, 2, outcome.deleted);
    for record in &outcome.previous {
        put_bytes(out, 3, record);
    }
}

pub(super) fn txn_response(header: &Header, outcome: &TxnOutcome) -> Message {
    let len = txn_fields_len(header, outcome);
    Message::write(len, |out| put_txn_fields(out, header, outcome)).counting(0)
}

fn txn_fields_len(header: &Header, outcome: &TxnOutcome) -> usize {
    let responses: usize =
        outcome.responses.iter().map(|op| bytes_len(3, bytes_len(op_tag(op), op_len(op)))).sum();
    header.field_len() + number_len(2, u64::from(outcome.succeeded)) + responses
}

fn put_txn_fields(out: &mut BytesMut, header: &Header, outcome: &TxnOutcome) {
    header.put(out);
    put_number(out, 2, u64::from(outcome.succeeded));
    for op in &outcome.responses {
        let len = op_len(op);
        put_length(out, 3, bytes_len(op_tag(op), len));
        put_length(out, op_tag(op), len);
        match op {
            OpOutcome::Range(range) => put_range_fields(out, range),
            OpOutcome::Put(put) => put_put_fields(out, &Header::nested(put.revision), put),
            OpOutcome::DeleteRange(delete) => {
                put_delete_fields(out, &Header::nested(delete.revision), delete)
            }
            // Compat: this header is present and empty.
            OpOutcome::Txn(txn) => put_txn_fields(out, &Header::default(), txn),
        }
    }
}

fn op_tag(op: &OpOutcome) -> u32 {
    match op {
        OpOutcome::Range(_) => 1,
        OpOutcome::Put(_) => 2,
        OpOutcome::DeleteRange(_) => 3,
        OpOutcome::Txn(_) => 4,
    }
}

fn op_len(op: &OpOutcome) -> usize {
    match op {
        OpOutcome::Range(range) => {
            let records: usize = range.records.iter().map(|record| bytes_len(2, record.len())).sum();
            Header::nested(range.revision).field_len() + records + range_tail_len(range.more, range.count)
        }
        OpOutcome::Put(put) => put_fields_len(&Header::nested(put.revision), put),
        OpOutcome::DeleteRange(delete) => delete_fields_len(&Header::nested(delete.revision), delete),
        OpOutcome::Txn(txn) => txn_fields_len(&Header::default(), txn),
    }
}

fn put_range_fields(out: &mut BytesMut, range: &RangeOutcome) {
    Header::nested(range.revision).put(out);
    for record in &range.records {
        put_bytes(out, 2, record);
    }
    put_range_tail(out, range.more, range.count);
}

/// A `WatchResponse` of events; `fragment` is set on all pieces of a batch but the last.
pub(super) fn watch_events(header: &Header, watch_id: i64, fragment: bool, events: &[Bytes]) -> Message {
    let len = watch_events_overhead(header, watch_id, fragment) + EventBatch::encoded_len(events);
    Message::write(len, |out| {
        header.put(out);
        put_number(out, 2, watch_id as u64);
        put_number(out, 7, u64::from(fragment));
        EventBatch::put_events(events, out);
    })
}

/// What such a response is besides its events.
pub(super) fn watch_events_overhead(header: &Header, watch_id: i64, fragment: bool) -> usize {
    header.field_len() + number_len(2, watch_id as u64) + number_len(7, u64::from(fragment))
}

#[cfg(test)]
mod tests {
    use mvcc::Revision;
    use prost::Message as _;
    use proto::etcdserverpb as pb;
    use proto::mvccpb::KeyValue;

    use super::*;

    fn record(key: &'static str, value_len: usize) -> (Bytes, KeyValue) {
        let kv = KeyValue {
            key: key.into(),
            value: vec![7; value_len].into(),
            mod_revision: 300,
            ..Default::default()
        };
        (kv.encode_to_vec().into(), kv)
    }

    #[test]
    fn answers_are_what_prost_would_write() {
        let header = Header { cluster_id: u64::MAX, member_id: 1, revision: 1 << 40, raft_term: 200 };
        let (small, small_kv) = record("a", 1);
        let (large, large_kv) = record("b", 100_000);
        let revision = Revision::new(9).unwrap();
        let nested = || Some(pb::ResponseHeader { revision: 9, ..Default::default() });

        let put = PutOutcome { revision, previous: Some(small.clone()) };
        let answer = pb::PutResponse { header: Some(header.to_proto()), prev_kv: Some(small_kv.clone()) };
        assert_eq!(put_response(&header, &put).into_payload(), answer.encode_to_vec());

        let delete =
            DeleteRangeOutcome { revision, deleted: 2, previous: vec![small.clone(), large.clone()] };
        let answer = pb::DeleteRangeResponse {
            header: Some(header.to_proto()),
            deleted: 2,
            prev_kvs: vec![small_kv.clone(), large_kv.clone()],
        };
        assert_eq!(delete_range_response(&header, &delete).into_payload(), answer.encode_to_vec());

        let inner = TxnOutcome { succeeded: false, responses: vec![OpOutcome::DeleteRange(delete)] };
        let range = RangeOutcome { revision, records: vec![large, small], count: 5, more: true };
        let outcome = TxnOutcome {
            succeeded: true,
            responses: vec![OpOutcome::Range(range), OpOutcome::Put(put), OpOutcome::Txn(inner)],
        };
        let op = |response| pb::ResponseOp { response: Some(response) };
        use pb::response_op::Response;
        let answer = pb::TxnResponse {
            header: Some(header.to_proto()),
            succeeded: true,
            responses: vec![
                op(Response::ResponseRange(pb::RangeResponse {
                    header: nested(),
                    kvs: vec![large_kv.clone(), small_kv.clone()],
                    more: true,
                    count: 5,
                })),
                op(Response::ResponsePut(pb::PutResponse {
                    header: nested(),
                    prev_kv: Some(small_kv.clone()),
                })),
                op(Response::ResponseTxn(pb::TxnResponse {
                    header: Some(pb::ResponseHeader::default()),
                    succeeded: false,
                    responses: vec![op(Response::ResponseDeleteRange(pb::DeleteRangeResponse {
                        header: nested(),
                        deleted: 2,
                        prev_kvs: vec![small_kv, large_kv],
                    }))],
                })),
            ],
        };
        assert_eq!(txn_response(&header, &outcome).into_payload(), answer.encode_to_vec());
    }

    #[test]
    fn watch_answers_too() {
        let header = Header { cluster_id: 1, member_id: 2, revision: 3, raft_term: 4 };
        let event = proto::mvccpb::Event { r#type: 1, kv: Some(record("k", 5).1), prev_kv: None };
        let events = [Bytes::from(event.encode_to_vec()), Bytes::from(event.encode_to_vec())];
        let answer = pb::WatchResponse {
            header: Some(header.to_proto()),
            watch_id: -1,
            fragment: true,
            events: vec![event.clone(), event],
            ..Default::default()
        };
        assert_eq!(watch_events(&header, -1, true, &events).into_payload(), answer.encode_to_vec());
    }
}
