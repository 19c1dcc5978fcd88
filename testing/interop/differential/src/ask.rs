//! One request, ready to be sent to both, and how its answers are shown and compared.

use std::fmt::Debug;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb as pb;

use crate::wire::{Answer, Manners, Wire, frame};

/// What is left of a time to live differs by how long the servers took.
const TTL_SLACK_SECS: i64 = 60;

#[derive(Clone)]
pub struct Ask {
    pub path: &'static str,
    pub body: Bytes,
    pub shown: String,
    show: fn(&[Bytes]) -> String,
}

fn shown<Response: Message + Default + Debug>(messages: &[Bytes]) -> String {
    let decoded = messages.iter().map(|message| match Response::decode(message.clone()) {
        Ok(message) => format!("{message:?}"),
        Err(error) => format!("{error}: {message:?}"),
    });
    decoded.collect::<Vec<_>>().join("\n")
}

/// Remaining seconds become "most of them" where that is so.
fn time_to_live(messages: &[Bytes]) -> String {
    let decoded = messages.iter().map(|message| match pb::LeaseTimeToLiveResponse::decode(message.clone()) {
        Ok(mut message) => {
            if message.ttl > 0 && message.granted_ttl - message.ttl < TTL_SLACK_SECS {
                message.ttl = message.granted_ttl;
            }
            message.keys.sort();
            format!("{message:?}")
        }
        Err(error) => error.to_string(),
    });
    decoded.collect::<Vec<_>>().join("\n")
}

/// Ordered by expiry, which two clocks decide.
fn leases(messages: &[Bytes]) -> String {
    let Some(message) = messages.first() else { return String::new() };
    let Ok(mut message) = pb::LeaseLeasesResponse::decode(message.clone()) else {
        return "broken".to_owned();
    };
    message.leases.sort_by_key(|lease| lease.id);
    format!("{message:?}")
}

/// Where a stream is cut is the server's business; what it holds is not.
fn merged_range(messages: &[Bytes]) -> String {
    let mut merged = pb::RangeResponse::default();
    for message in messages {
        let Ok(chunk) = pb::RangeStreamResponse::decode(message.clone()) else { return "broken".to_owned() };
        let Some(chunk) = chunk.range_response else { return "an empty chunk".to_owned() };
        if chunk.header.is_some() {
            merged.header = chunk.header;
        }
        merged.kvs.extend(chunk.kvs);
        merged.more |= chunk.more;
        merged.count = merged.count.max(chunk.count);
    }
    format!("{merged:?}")
}

/// At the revision of a compaction etcd may answer with what it noted while it compacted, when it is through
/// with that: the hash since the compaction before. Which of both comes is a matter of time.
fn is_noted_hash(theirs: &Answer, ours: &Answer) -> bool {
    let (Some(theirs), Some(ours)) =
        (theirs.message::<pb::HashKvResponse>(), ours.message::<pb::HashKvResponse>())
    else {
        return false;
    };
    let same_place = theirs.header == ours.header && theirs.hash_revision == ours.hash_revision;
    same_place
        && ours.compact_revision == ours.hash_revision
        && theirs.compact_revision < ours.compact_revision
}

/// Which of two equals comes first etcd leaves to chance, and with it which one a limit keeps.
fn sorted_range<const TARGET: i32>(messages: &[Bytes]) -> String {
    let Some(message) = messages.first() else { return String::new() };
    let Ok(mut message) = pb::RangeResponse::decode(message.clone()) else { return "broken".to_owned() };
    let order: Vec<String> = message
        .kvs
        .iter()
        .map(|kv| match TARGET {
            1 => kv.version.to_string(),
            2 => kv.create_revision.to_string(),
            3 => kv.mod_revision.to_string(),
            _ => format!("{:?}", kv.value),
        })
        .collect();
    if message.more {
        message.kvs.clear();
    }
    message.kvs.sort_by(|left, right| left.key.cmp(&right.key));
    format!("{order:?} {message:?}")
}

/// Sizes are each engine's own.
fn status(messages: &[Bytes]) -> String {
    let Some(message) = messages.first() else { return String::new() };
    let Ok(mut message) = pb::StatusResponse::decode(message.clone()) else { return "broken".to_owned() };
    (message.db_size, message.db_size_in_use) = (0, 0);
    format!("{message:?}")
}

impl Ask {
    pub fn new<Request, Response>(path: &'static str, request: &Request) -> Ask
    where
        Request: Message + Debug,
        Response: Message + Default + Debug,
    {
        let body = Bytes::from(request.encode_to_vec());
        Ask { path, body, shown: format!("{path} {request:?}"), show: shown::<Response> }
    }

    pub fn range(request: &pb::RangeRequest) -> Ask {
        let ask = Ask::new::<_, pb::RangeResponse>("/etcdserverpb.KV/Range", request);
        let show = match request.sort_target {
            1 => sorted_range::<1>,
            2 => sorted_range::<2>,
            3 => sorted_range::<3>,
            4 => sorted_range::<4>,
            _ => return ask,
        };
        Ask { show, ..ask }
    }

    pub fn range_stream(request: &pb::RangeRequest) -> Ask {
        let ask = Ask::new::<_, pb::RangeStreamResponse>("/etcdserverpb.KV/RangeStream", request);
        Ask { show: merged_range, ..ask }
    }

    pub fn put(request: &pb::PutRequest) -> Ask {
        Ask::new::<_, pb::PutResponse>("/etcdserverpb.KV/Put", request)
    }

    pub fn delete_range(request: &pb::DeleteRangeRequest) -> Ask {
        Ask::new::<_, pb::DeleteRangeResponse>("/etcdserverpb.KV/DeleteRange", request)
    }

    pub fn txn(request: &pb::TxnRequest) -> Ask {
        Ask::new::<_, pb::TxnResponse>("/etcdserverpb.KV/Txn", request)
    }

    pub fn compact(request: &pb::CompactionRequest) -> Ask {
        Ask::new::<_, pb::CompactionResponse>("/etcdserverpb.KV/Compact", request)
    }

    pub fn hash_kv(revision: i64) -> Ask {
        let request = pb::HashKvRequest { revision };
        Ask::new::<_, pb::HashKvResponse>("/etcdserverpb.Maintenance/HashKV", &request)
    }

    pub fn hash() -> Ask {
        Ask::new::<_, pb::HashResponse>("/etcdserverpb.Maintenance/Hash", &pb::HashRequest {})
    }

    pub fn status() -> Ask {
        let path = "/etcdserverpb.Maintenance/Status";
        Ask { show: status, ..Ask::new::<_, pb::StatusResponse>(path, &pb::StatusRequest {}) }
    }

    pub fn alarm(request: &pb::AlarmRequest) -> Ask {
        Ask::new::<_, pb::AlarmResponse>("/etcdserverpb.Maintenance/Alarm", request)
    }

    pub fn members(linearizable: bool) -> Ask {
        let request = pb::MemberListRequest { linearizable };
        Ask::new::<_, pb::MemberListResponse>("/etcdserverpb.Cluster/MemberList", &request)
    }

    pub fn grant(request: &pb::LeaseGrantRequest) -> Ask {
        Ask::new::<_, pb::LeaseGrantResponse>("/etcdserverpb.Lease/LeaseGrant", request)
    }

    pub fn revoke(id: i64) -> Ask {
        let request = pb::LeaseRevokeRequest { id };
        Ask::new::<_, pb::LeaseRevokeResponse>("/etcdserverpb.Lease/LeaseRevoke", &request)
    }

    pub fn keep_alive(id: i64) -> Ask {
        let request = pb::LeaseKeepAliveRequest { id };
        Ask::new::<_, pb::LeaseKeepAliveResponse>("/etcdserverpb.Lease/LeaseKeepAlive", &request)
    }

    pub fn time_to_live(request: &pb::LeaseTimeToLiveRequest) -> Ask {
        let path = "/etcdserverpb.Lease/LeaseTimeToLive";
        Ask { show: time_to_live, ..Ask::new::<_, pb::LeaseTimeToLiveResponse>(path, request) }
    }

    pub fn leases() -> Ask {
        let path = "/etcdserverpb.Lease/LeaseLeases";
        Ask { show: leases, ..Ask::new::<_, pb::LeaseLeasesResponse>(path, &pb::LeaseLeasesRequest {}) }
    }

    pub async fn send(&self, wire: &Wire) -> Result<Answer, String> {
        let answer = wire.raw(self.path, frame(0, &self.body), &Manners::default()).await;
        answer.map_err(|error| format!("{}: {error}", self.shown))
    }

    /// The revision in the header of the answer.
    pub fn revision(answer: &Answer) -> Option<i64> {
        // Each answer has its header in field 1.
        #[derive(Clone, PartialEq, Message)]
        struct Headed {
            #[prost(message, optional, tag = "1")]
            header: Option<pb::ResponseHeader>,
        }
        Some(answer.message::<Headed>()?.header?.revision)
    }

    /// An answer as text, without what may differ.
    pub fn shown_answer(&self, answer: &Answer) -> String {
        let Answer { http_status, code, text, broken, headers, .. } = answer;
        let end = format!("http {http_status} code {code} {text:?} {headers:?} {broken:?}");
        format!("{end}\n{}", (self.show)(&answer.messages))
    }

    /// `None`: equal. Otherwise both, for people.
    pub fn difference(&self, theirs: &Answer, ours: &Answer) -> Option<String> {
        if theirs == ours {
            return None;
        }
        if self.path.ends_with("/HashKV") && is_noted_hash(theirs, ours) {
            return None;
        }
        let (theirs, ours) = (self.shown_answer(theirs), self.shown_answer(ours));
        (theirs != ours).then(|| format!("{}\n  etcd: {theirs}\n  ours: {ours}", self.shown))
    }
}
