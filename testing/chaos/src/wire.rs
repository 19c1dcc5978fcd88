//! Our words for calls and answers, and the wire's.

use proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use proto::etcdserverpb::request_op::Request;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::{
    self as pb, DeleteRangeRequest, DeleteRangeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, RangeStreamResponse, RequestOp, ResponseHeader, ResponseOp, TxnRequest, TxnResponse,
};
use proto::mvccpb;

use crate::operation::{
    Answer, Compare, Delete, Event, KeyValue, Part, Put, Range, Relation, Revision, Span, Step, Target, Txn,
};

pub fn put(put: &Put) -> PutRequest {
    PutRequest {
        key: bytes(&put.key),
        value: bytes(&put.value),
        lease: put.lease,
        prev_kv: put.prev_kv,
        ignore_value: put.ignore_value,
        ignore_lease: put.ignore_lease,
    }
}

pub fn range(range: &Range) -> RangeRequest {
    RangeRequest {
        key: bytes(&range.span.key),
        range_end: bytes(&range.span.end),
        revision: range.revision,
        serializable: range.serializable,
        limit: range.limit,
        count_only: range.count_only,
        ..RangeRequest::default()
    }
}

pub fn delete(delete: &Delete) -> DeleteRangeRequest {
    DeleteRangeRequest {
        key: bytes(&delete.span.key),
        range_end: bytes(&delete.span.end),
        prev_kv: delete.prev_kv,
    }
}

pub fn txn(txn: &Txn) -> TxnRequest {
    TxnRequest {
        compare: txn.compares.iter().map(compare).collect(),
        success: txn.success.iter().map(step).collect(),
        failure: txn.failure.iter().map(step).collect(),
    }
}

fn step(step: &Step) -> RequestOp {
    let request = match step {
        Step::Put(request) => Request::RequestPut(put(request)),
        Step::Range(request) => Request::RequestRange(range(request)),
        Step::Delete(request) => Request::RequestDeleteRange(delete(request)),
        Step::Txn(request) => Request::RequestTxn(txn(request)),
    };
    RequestOp { request: Some(request) }
}

fn compare(compare: &Compare) -> pb::Compare {
    let result = match compare.relation {
        Relation::Equal => CompareResult::Equal,
        Relation::Greater => CompareResult::Greater,
        Relation::Less => CompareResult::Less,
        Relation::NotEqual => CompareResult::NotEqual,
    };
    let (target, union) = match &compare.target {
        Target::Version(version) => (CompareTarget::Version, TargetUnion::Version(*version)),
        Target::Create(revision) => (CompareTarget::Create, TargetUnion::CreateRevision(*revision)),
        Target::Mod(revision) => (CompareTarget::Mod, TargetUnion::ModRevision(*revision)),
        Target::Value(value) => (CompareTarget::Value, TargetUnion::Value(bytes(value))),
        Target::Lease(lease) => (CompareTarget::Lease, TargetUnion::Lease(*lease)),
    };
    pb::Compare {
        result: result.into(),
        target: target.into(),
        key: bytes(&compare.span.key),
        range_end: bytes(&compare.span.end),
        target_union: Some(union),
    }
}

pub fn put_answer(response: PutResponse) -> Answer {
    Answer::Put { prev: response.prev_kv.map(key_value) }
}

pub fn range_answer(response: RangeResponse) -> Answer {
    let kvs = response.kvs.into_iter().map(key_value).collect();
    Answer::Range { kvs, more: response.more, count: response.count }
}

/// Puts a streamed range together. The pieces bring keys; the last also header, count and whether there is more.
pub fn add_piece(whole: &mut RangeResponse, piece: RangeStreamResponse) {
    let Some(piece) = piece.range_response else { return };
    whole.kvs.extend(piece.kvs);
    whole.header = piece.header.or(whole.header);
    whole.count += piece.count;
    whole.more |= piece.more;
}

pub fn delete_answer(response: DeleteRangeResponse) -> Answer {
    let prevs = response.prev_kvs.into_iter().map(key_value).collect();
    Answer::Delete { deleted: response.deleted, prevs }
}

pub fn txn_answer(response: TxnResponse) -> Answer {
    Answer::Txn { succeeded: response.succeeded, parts: response.responses.into_iter().map(part).collect() }
}

fn part(part: ResponseOp) -> Part {
    match part.response {
        Some(Response::ResponsePut(response)) => {
            Part { revision: revision(response.header.as_ref()), answer: put_answer(response) }
        }
        Some(Response::ResponseRange(response)) => {
            Part { revision: revision(response.header.as_ref()), answer: range_answer(response) }
        }
        Some(Response::ResponseDeleteRange(response)) => {
            Part { revision: revision(response.header.as_ref()), answer: delete_answer(response) }
        }
        Some(Response::ResponseTxn(response)) => {
            Part { revision: revision(response.header.as_ref()), answer: txn_answer(response) }
        }
        // No call has such an answer, so the checkers will say that it is wrong.
        None => Part { revision: 0, answer: Answer::Compact },
    }
}

pub fn revision(header: Option<&ResponseHeader>) -> Revision {
    header.map_or(0, |header| header.revision)
}

pub fn span(span: &Span) -> (bytes::Bytes, bytes::Bytes) {
    (bytes(&span.key), bytes(&span.end))
}

pub fn key_value(kv: mvccpb::KeyValue) -> KeyValue {
    KeyValue {
        key: text(&kv.key),
        value: text(&kv.value),
        create_revision: kv.create_revision,
        mod_revision: kv.mod_revision,
        version: kv.version,
        lease: kv.lease,
    }
}

pub fn event(event: mvccpb::Event) -> Event {
    Event {
        deleted: event.r#type() == mvccpb::event::EventType::Delete,
        kv: event.kv.map(key_value).unwrap_or_else(|| crate::model::tombstone(String::new(), 0)),
        prev: event.prev_kv.map(key_value),
    }
}

fn bytes(text: &str) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(text.as_bytes())
}

/// The load writes plain text, so anything else is a member's mistake and will be found to differ.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
