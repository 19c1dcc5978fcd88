//! What the request log says about a request. Values are never logged, only their sizes.

use prost::Message;
use proto::etcdserverpb::request_op::Request as Op;
use proto::etcdserverpb::{self as pb, RequestOp};

use crate::grpc::router::{RequestSummary, Summarize};

impl Summarize for pb::RangeRequest {
    fn summarize(&self) -> RequestSummary {
        RequestSummary { count: 0, size: self.encoded_len() as i64, content: range(self) }
    }
}

impl Summarize for pb::PutRequest {
    fn summarize(&self) -> RequestSummary {
        RequestSummary { count: 1, size: self.encoded_len() as i64, content: put(self) }
    }
}

impl Summarize for pb::DeleteRangeRequest {
    fn summarize(&self) -> RequestSummary {
        RequestSummary { count: 0, size: self.encoded_len() as i64, content: delete_range(self) }
    }
}

impl Summarize for pb::TxnRequest {
    fn summarize(&self) -> RequestSummary {
        let count = self.success.len().max(self.failure.len()) as i64;
        RequestSummary { count, size: self.encoded_len() as i64, content: txn(self) }
    }
}

macro_rules! without_summary {
    ($($message:ty),* $(,)?) => { $(impl Summarize for $message {})* };
}

without_summary!(
    pb::CompactionRequest,
    pb::LeaseGrantRequest,
    pb::LeaseRevokeRequest,
    pb::LeaseTimeToLiveRequest,
    pb::LeaseLeasesRequest,
    pb::MemberAddRequest,
    pb::MemberRemoveRequest,
    pb::MemberUpdateRequest,
    pb::MemberListRequest,
    pb::MemberPromoteRequest,
    pb::MoveLeaderRequest,
    pb::DowngradeRequest,
    pb::StatusRequest,
    pb::AlarmRequest,
    pb::DefragmentRequest,
    pb::HashRequest,
    pb::HashKvRequest,
    proto::healthpb::HealthCheckRequest,
    proto::healthpb::HealthListRequest,
);

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn range(request: &pb::RangeRequest) -> String {
    let mut text = format!("key:{}", quoted(&request.key));
    if !request.range_end.is_empty() {
        text.push_str(&format!(" range_end:{}", quoted(&request.range_end)));
    }
    for (name, value) in [("limit", request.limit), ("revision", request.revision)] {
        if value != 0 {
            text.push_str(&format!(" {name}:{value}"));
        }
    }
    let flags = [
        ("serializable", request.serializable),
        ("keys_only", request.keys_only),
        ("count_only", request.count_only),
    ];
    for (name, set) in flags {
        if set {
            text.push_str(&format!(" {name}:true"));
        }
    }
    text
}

fn put(request: &pb::PutRequest) -> String {
    let mut text = format!("key:{} value_size:{}", quoted(&request.key), request.value.len());
    if request.lease != 0 {
        text.push_str(&format!(" lease:{}", request.lease));
    }
    text
}

fn delete_range(request: &pb::DeleteRangeRequest) -> String {
    format!("key:{} range_end:{}", quoted(&request.key), quoted(&request.range_end))
}

fn txn(request: &pb::TxnRequest) -> String {
    let compares: Vec<_> =
        request.compare.iter().map(|compare| format!("key:{}", quoted(&compare.key))).collect();
    format!(
        "compare:<{}> success:<{}> failure:<{}>",
        compares.join(" "),
        operations(&request.success),
        operations(&request.failure)
    )
}

fn operations(ops: &[RequestOp]) -> String {
    let texts: Vec<_> = ops
        .iter()
        .map(|op| match &op.request {
            Some(Op::RequestRange(request)) => format!("request_range:<{}>", range(request)),
            Some(Op::RequestPut(request)) => format!("request_put:<{}>", put(request)),
            Some(Op::RequestDeleteRange(request)) => {
                format!("request_delete_range:<{}>", delete_range(request))
            }
            Some(Op::RequestTxn(request)) => format!("request_txn:<{}>", txn(request)),
            None => String::new(),
        })
        .collect();
    texts.join(" ")
}
