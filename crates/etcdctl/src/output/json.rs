//! One JSON object a line, as Go writes the response's structs.

use golang::json::Json;
use proto::etcdserverpb::response_op::Response;
use proto::etcdserverpb::*;
use proto::mvccpb::{Event, KeyValue};

use super::Answer;
use super::answer::Health;

pub fn render(answer: &Answer<'_>, hex: bool) -> Json {
    match answer {
        Answer::Get(r) => range(r),
        Answer::Put(r) => put(r),
        Answer::Delete(r) => delete(r),
        Answer::Txn(r) => txn(r),
        Answer::Watch(r) => watch(r),
        Answer::LeaseGrant(r) => with_header(
            r.header.as_ref(),
            [("ID", Json::Int(r.id)), ("TTL", Json::Int(r.ttl)), ("Error", Json::text(&r.error))],
        ),
        Answer::LeaseRevoke { response, .. } => only_header(response.header.as_ref()),
        Answer::LeaseKeepAlive(r) => {
            with_header(r.header.as_ref(), [("ID", Json::Int(r.id)), ("TTL", Json::Int(r.ttl))])
        }
        Answer::LeaseTimeToLive { response: r, .. } => with_header(
            r.header.as_ref(),
            [
                ("id", Json::Int(r.id)),
                ("ttl", Json::Int(r.ttl)),
                ("granted-ttl", Json::Int(r.granted_ttl)),
                ("keys", null_if_empty(Json::list(&r.keys, |key| Json::Bytes(key.clone())))),
            ],
        ),
        Answer::LeaseList(r) => {
            let lease = |lease: &LeaseStatus| Json::Object(vec![("id", Json::Int(lease.id))]);
            with_header(r.header.as_ref(), [("leases", Json::list(&r.leases, lease))])
        }
        Answer::MemberList(r) => members(r.header.as_ref(), None, &r.members, hex),
        Answer::MemberAdd(r) => members(r.header.as_ref(), Some(r.member.as_ref()), &r.members, hex),
        Answer::MemberRemove { response: r, .. } => members(r.header.as_ref(), None, &r.members, hex),
        Answer::MemberUpdate { response: r, .. } => members(r.header.as_ref(), None, &r.members, hex),
        Answer::MemberPromote { response: r, .. } => members(r.header.as_ref(), None, &r.members, hex),
        Answer::Alarm(r) => {
            let alarms = Json::list(&r.alarms, alarm);
            Json::message([("header", optional_header(r.header.as_ref())), ("alarms", alarms)])
        }
        Answer::EndpointHealth(all) => null_if_empty(Json::list(all, health)),
        Answer::EndpointStatus(all) => null_if_empty(Json::list(all, |(endpoint, response)| {
            Json::Object(vec![("Endpoint", Json::text(endpoint)), ("Status", status(response))])
        })),
        Answer::EndpointHashKv(all) => null_if_empty(Json::list(all, |(endpoint, response)| {
            Json::Object(vec![("Endpoint", Json::text(endpoint)), ("HashKV", hash_kv(response))])
        })),
        Answer::MoveLeader { response, .. } => only_header(response.header.as_ref()),
        Answer::Downgrade { response: r, .. } => Json::message([
            ("header", optional_header(r.header.as_ref())),
            ("version", Json::text(&r.version)),
        ]),
    }
}

/// A nil slice of Go's.
fn null_if_empty(list: Json) -> Json {
    match list {
        Json::Array(items) if items.is_empty() => Json::Null,
        list => list,
    }
}

fn header(header: &ResponseHeader) -> Json {
    Json::message([
        ("cluster_id", Json::Uint(header.cluster_id)),
        ("member_id", Json::Uint(header.member_id)),
        ("revision", Json::Int(header.revision)),
        ("raft_term", Json::Uint(header.raft_term)),
    ])
}

fn optional_header(value: Option<&ResponseHeader>) -> Json {
    Json::pointer(value, header)
}

fn only_header(value: Option<&ResponseHeader>) -> Json {
    Json::message([("header", optional_header(value))])
}

/// The header's fields first, then others: Go embeds the one struct in the other.
fn with_header<const N: usize>(value: Option<&ResponseHeader>, others: [(&'static str, Json); N]) -> Json {
    let mut fields = match value.map(header) {
        Some(Json::Object(fields)) => fields,
        _ => Vec::new(),
    };
    fields.extend(others);
    Json::Object(fields)
}

fn kv(kv: &KeyValue) -> Json {
    Json::message([
        ("key", Json::Bytes(kv.key.clone())),
        ("create_revision", Json::Int(kv.create_revision)),
        ("mod_revision", Json::Int(kv.mod_revision)),
        ("version", Json::Int(kv.version)),
        ("value", Json::Bytes(kv.value.clone())),
        ("lease", Json::Int(kv.lease)),
    ])
}

fn range(r: &RangeResponse) -> Json {
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("kvs", Json::list(&r.kvs, kv)),
        ("more", Json::Bool(r.more)),
        ("count", Json::Int(r.count)),
    ])
}

fn put(r: &PutResponse) -> Json {
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("prev_kv", Json::pointer(r.prev_kv.as_ref(), kv)),
    ])
}

fn delete(r: &DeleteRangeResponse) -> Json {
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("deleted", Json::Int(r.deleted)),
        ("prev_kvs", Json::list(&r.prev_kvs, kv)),
    ])
}

fn txn(r: &TxnResponse) -> Json {
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("succeeded", Json::Bool(r.succeeded)),
        ("responses", Json::list(&r.responses, |op| Json::Object(vec![("Response", response_op(op))]))),
    ])
}

fn response_op(op: &ResponseOp) -> Json {
    Json::Object(match &op.response {
        Some(Response::ResponseRange(r)) => vec![("response_range", range(r))],
        Some(Response::ResponsePut(r)) => vec![("response_put", put(r))],
        Some(Response::ResponseDeleteRange(r)) => vec![("response_delete_range", delete(r))],
        Some(Response::ResponseTxn(r)) => vec![("response_txn", txn(r))],
        None => vec![],
    })
}

fn watch(r: &WatchResponse) -> Json {
    let event = |event: &Event| {
        Json::message([
            ("type", Json::Int(event.r#type.into())),
            ("kv", Json::pointer(event.kv.as_ref(), kv)),
            ("prev_kv", Json::pointer(event.prev_kv.as_ref(), kv)),
        ])
    };
    Json::Object(vec![
        ("Header", optional_header(r.header.as_ref())),
        ("Events", null_if_empty(Json::list(&r.events, event))),
        ("CompactRevision", Json::Int(r.compact_revision)),
        ("Canceled", Json::Bool(r.canceled)),
        ("Created", Json::Bool(r.created)),
        ("CancelReason", Json::text(&r.cancel_reason)),
    ])
}

/// `added`: the place of a member that was added, and that member.
fn members(
    head: Option<&ResponseHeader>,
    added: Option<Option<&Member>>,
    members: &[Member],
    hex: bool,
) -> Json {
    let (head, to_json): (Json, fn(&Member) -> Json) =
        if hex { (Json::pointer(head, hex_header), hex_member) } else { (optional_header(head), member) };
    let mut fields = vec![("header", head)];
    fields.extend(added.map(|member| ("member", Json::pointer(member, to_json))));
    fields.push(("members", Json::list(members, to_json)));
    if hex { Json::Object(fields) } else { Json::message(fields) }
}

fn member(member: &Member) -> Json {
    Json::message([
        ("ID", Json::Uint(member.id)),
        ("name", Json::text(&member.name)),
        ("peerURLs", Json::texts(&member.peer_ur_ls)),
        ("clientURLs", Json::texts(&member.client_ur_ls)),
        ("isLearner", Json::Bool(member.is_learner)),
    ])
}

fn hex_member(value: &Member) -> Json {
    let mut fields = vec![("ID", Json::Text(format!("{:x}", value.id)))];
    if let Json::Object(others) = member(&Member { id: 0, ..value.clone() }) {
        fields.extend(others);
    }
    Json::Object(fields)
}

fn hex_header(header: &ResponseHeader) -> Json {
    let ids = [("cluster_id", header.cluster_id), ("member_id", header.member_id)];
    let mut fields: Vec<_> = ids.map(|(name, id)| (name, Json::Text(format!("{id:x}")))).into();
    let others = Json::message([
        ("revision", Json::Int(header.revision)),
        ("raft_term", Json::Uint(header.raft_term)),
    ]);
    if let Json::Object(others) = others {
        fields.extend(others);
    }
    Json::Object(fields)
}

fn alarm(alarm: &AlarmMember) -> Json {
    Json::message([("memberID", Json::Uint(alarm.member_id)), ("alarm", Json::Int(alarm.alarm.into()))])
}

fn health(health: &Health) -> Json {
    let mut fields = vec![
        ("endpoint", Json::text(&health.endpoint)),
        ("health", Json::Bool(health.healthy)),
        ("took", Json::Text(health.took())),
    ];
    if !health.error.is_empty() {
        fields.push(("error", Json::text(&health.error)));
    }
    Json::Object(fields)
}

fn status(r: &StatusResponse) -> Json {
    let downgrade = |info: &DowngradeInfo| {
        Json::message([
            ("enabled", Json::Bool(info.enabled)),
            ("targetVersion", Json::text(&info.target_version)),
        ])
    };
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("version", Json::text(&r.version)),
        ("dbSize", Json::Int(r.db_size)),
        ("leader", Json::Uint(r.leader)),
        ("raftIndex", Json::Uint(r.raft_index)),
        ("raftTerm", Json::Uint(r.raft_term)),
        ("raftAppliedIndex", Json::Uint(r.raft_applied_index)),
        ("errors", Json::texts(&r.errors)),
        ("dbSizeInUse", Json::Int(r.db_size_in_use)),
        ("isLearner", Json::Bool(r.is_learner)),
        ("storageVersion", Json::text(&r.storage_version)),
        ("dbSizeQuota", Json::Int(r.db_size_quota)),
        ("downgradeInfo", Json::pointer(r.downgrade_info.as_ref(), downgrade)),
    ])
}

fn hash_kv(r: &HashKvResponse) -> Json {
    Json::message([
        ("header", optional_header(r.header.as_ref())),
        ("hash", Json::Uint(r.hash.into())),
        ("compact_revision", Json::Int(r.compact_revision)),
        ("hash_revision", Json::Int(r.hash_revision)),
    ])
}
