//! What others may ask on the peer port. Statuses and texts are etcd's
//! (`server/etcdserver/api/rafthttp/http.go`, `etcdhttp/peer.go`, `server/lease/leasehttp/http.go`).

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use lease::LeaseId;
use membership::{Member, MemberId, encode_members};
use mvcc::Revision;
use prost::Message;
use proto::etcdserverpb::{
    LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveResponse, ResponseHeader,
};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use raft::codec;
use server::{Error, LeaseKeys, SERVER_VERSION};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::body::Body;
use crate::hash_kv::{HashKvHeaderJson, HashKvJson, HashKvRequestJson};
use crate::headers::{CLUSTER_ID, RAFT_TO, SERVER_VERSION_NAME, hex, parse_id, peer_urls, sender};
use crate::network::Shared;
use crate::peer::Peer;
use crate::stream::{Admitted, StreamKind};
use crate::{reader, snapshot, stream};

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf");

/// The longest message of the pipeline. Source: etcd `rafthttp/http.go`, `connReadLimitByte` is the piece; the
/// whole is bounded by what a stream may carry, of which requests are never more than a part.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The longest request about a lease. Source: etcd `leasehttp/http.go`.
const LEASE_REQUEST_BYTES_MAX: usize = 64 << 10;

/// The longest request for a hash.
const HASH_REQUEST_BYTES_MAX: usize = 64 << 10;

/// Takes the connection for a stream: nothing more is read or written on it here.
pub type Takeover = oneshot::Sender<Admitted>;

/// The answer. For a stream there is none when the connection can be taken over.
pub async fn respond(
    shared: &Arc<Shared>,
    request: Request<Incoming>,
    takeover: Option<Takeover>,
) -> Response<Body> {
    let path = request.uri().path().to_owned();
    match path.as_str() {
        "/raft" => pipeline(shared, request).await,
        "/raft/snapshot" => take_snapshot(shared, request).await,
        "/raft/probing" => probing(),
        "/members" => members(shared, &request),
        "/members/hashkv" => hash_kv(shared, request).await,
        "/leases" => renew(shared, request).await,
        "/leases/internal" => lease_times(shared, request).await,
        "/downgrade/enabled" => downgrade_enabled(shared, &request).await,
        "/version" => version(shared, &request),
        path if path.starts_with("/raft/stream/") => open_stream(shared, &request, takeover).await,
        path if path.starts_with("/members/promote/") => promote(shared, &request).await,
        _ => error(StatusCode::NOT_FOUND, "404 page not found"),
    }
}

// --- raft ---

/// What every request with raft in it must pass. Members that are not known yet are noted.
fn admit(shared: &Arc<Shared>, headers: &HeaderMap) -> Result<(), Box<Response<Body>>> {
    if let Err(incompatible) = shared.identity().check(headers) {
        tracing::warn!(
            remote_peer_id = sender(headers).map_or(String::new(), |id| id.to_string()),
            error = %incompatible,
            "rejected a request of a member that does not fit"
        );
        let mut refusal = error(StatusCode::PRECONDITION_FAILED, &incompatible.to_string());
        introduce(shared, &mut refusal);
        return Err(Box::new(refusal));
    }
    if let Some(from) = sender(headers)
        && !shared.server().is_removed(from)
    {
        let is_known = shared.known_peer(from).is_some();
        if !is_known {
            shared.add_remote(from, peer_urls(headers));
        }
    }
    Ok(())
}

fn introduce(shared: &Shared, response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(CLUSTER_ID, hex(shared.identity().cluster_id.0));
}

async fn pipeline(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        return method_not_allowed("POST");
    }
    if let Err(refusal) = admit(shared, request.headers()) {
        return *refusal;
    }
    let mut response = match sender(request.headers()) {
        None => error(StatusCode::BAD_REQUEST, "error unmarshalling raft message"),
        Some(from) => take_message(shared, from, request.into_body()).await,
    };
    introduce(shared, &mut response);
    response
}

async fn take_message(shared: &Arc<Shared>, from: MemberId, body: Incoming) -> Response<Body> {
    let label = shared.label_of(from);
    let failed = || shared.metrics.received_failures.with_label_values(&[&label]).inc();
    let Ok(bytes) = read(body, MESSAGE_BYTES_MAX, shared).await else {
        failed();
        return error(StatusCode::BAD_REQUEST, "error reading raft message");
    };
    shared.metrics.received_bytes.with_label_values(&[&label]).inc_by(bytes.len() as f64);
    let message = match codec::decode_message(bytes) {
        Ok(message) => message,
        Err(why) => {
            tracing::warn!(remote_peer_id = %from, error = %why, "failed to unmarshal Raft message");
            failed();
            return error(StatusCode::BAD_REQUEST, "error unmarshalling raft message");
        }
    };
    let taken = reader::take(shared.server(), from, message);
    shared.server().step_received();
    match taken {
        Ok(()) => status(StatusCode::NO_CONTENT),
        Err(why) => {
            tracing::warn!(remote_peer_id = %from, error = %why, "failed to process Raft message");
            failed();
            let mut refusal = error(StatusCode::INTERNAL_SERVER_ERROR, "error processing raft message");
            // Compat: etcd breaks the connection here.
            refusal.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            refusal
        }
    }
}

async fn take_snapshot(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        return method_not_allowed("POST");
    }
    if let Err(refusal) = admit(shared, request.headers()) {
        return *refusal;
    }
    let mut response = match sender(request.headers()) {
        None => error(StatusCode::BAD_REQUEST, "failed to decode raft message (no sender)"),
        Some(from) => match snapshot::receive(shared, from, request.into_body()).await {
            Ok(()) => status(StatusCode::NO_CONTENT),
            Err(snapshot::NotTaken(code, text)) => error(code, &text),
        },
    };
    introduce(shared, &mut response);
    response
}

async fn open_stream(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
    takeover: Option<Takeover>,
) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let admitted = admit(shared, request.headers()).and_then(|()| requested_stream(shared, request));
    let (mut response, admitted) = match admitted {
        Ok(stream) => (status(StatusCode::OK), Some(stream)),
        Err(refusal) => (*refusal, None),
    };
    introduce(shared, &mut response);
    response.headers_mut().insert(SERVER_VERSION_NAME, HeaderValue::from_static(SERVER_VERSION));
    let Some((peer, kind)) = admitted else { return response };
    if let Some(takeover) = takeover
        && request.version() == Version::HTTP_11
        && request.body().is_end_stream()
    {
        let headers = std::mem::take(response.headers_mut());
        // An error means that the connection ends already.
        takeover.send(Admitted { peer, kind, headers }).ok();
        match std::future::pending::<Infallible>().await {}
    }
    *response.body_mut() = stream::begin(shared, peer, kind);
    response
}

/// Which stream is asked for, if its asker may have it.
fn requested_stream(
    shared: &Arc<Shared>,
    request: &Request<Incoming>,
) -> Result<(Arc<Peer>, StreamKind), Box<Response<Body>>> {
    let refused = |code, text| Err(Box::new(error(code, text)));
    let path = request.uri().path();
    let split = path.rsplit_once('/').unwrap_or((path, ""));
    let Some(kind) = StreamKind::BOTH.into_iter().find(|kind| kind.path() == split.0) else {
        return refused(StatusCode::NOT_FOUND, "invalid path");
    };
    let Some(from) = parse_id(split.1, 16) else {
        return refused(StatusCode::NOT_FOUND, "invalid from");
    };
    if shared.server().is_removed(from) {
        tracing::warn!(remote_peer_id = %from, "rejected a stream of a removed member");
        return refused(StatusCode::GONE, "removed member");
    }
    let Some(peer) = shared.known_peer(from) else {
        // It is noted now, and comes again.
        return refused(StatusCode::NOT_FOUND, "error sender not found");
    };
    let to = request.headers().get(RAFT_TO).and_then(|to| to.to_str().ok()).unwrap_or_default();
    if to != shared.identity().member_id.to_string() {
        return refused(StatusCode::PRECONDITION_FAILED, "to field mismatch");
    }
    Ok((peer, kind))
}

fn probing() -> Response<Body> {
    let now = jiff::Timestamp::now();
    let mut response = Response::new(Body::from(format!("{{\"OK\":true,\"Now\":\"{now}\"}}\n")));
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response
}

// --- the cluster ---

fn member_list<'a>(members: impl IntoIterator<Item = &'a Member>) -> Response<Body> {
    json_answer(&format!("{}\n", encode_members(members)))
}

fn members(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let mut response = member_list(shared.server().cluster().members());
    introduce(shared, &mut response);
    response
}

async fn promote(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::POST {
        return method_not_allowed("POST");
    }
    let path = request.uri().path();
    let id = path.strip_prefix("/members/promote/").unwrap_or(path);
    let mut response = match parse_id(id, 10) {
        None => error(StatusCode::NOT_FOUND, &format!("member {id} not found in cluster")),
        Some(id) => match shared.server().promote_here(id).await {
            Ok(members) => member_list(&members),
            Err(why @ Error::MemberNotFound) => error(StatusCode::NOT_FOUND, &why.to_string()),
            Err(why @ (Error::MemberNotLearner | Error::LearnerNotReady)) => {
                error(StatusCode::PRECONDITION_FAILED, &why.to_string())
            }
            Err(why) => {
                tracing::warn!(error = %why, "failed to promote a member");
                internal_error()
            }
        },
    };
    introduce(shared, &mut response);
    response
}

async fn downgrade_enabled(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let mut response = match shared.server().is_downgrading().await {
        Ok(enabled) => {
            let mut response = Response::new(Body::from(enabled.to_string()));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain"));
            response
        }
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &format!("failed linearized read: {why}")),
    };
    introduce(shared, &mut response);
    response
}

fn version(shared: &Shared, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let server = shared.server();
    let cluster = server.cluster().version().map_or("not_decided".to_owned(), |version| version.to_string());
    let storage = server.storage_version().map_or("unknown".to_owned(), |version| version.to_string());
    json_answer(&format!(
        r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#
    ))
}

async fn hash_kv(shared: &Arc<Shared>, request: Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed("GET");
    }
    let own = shared.identity().cluster_id.to_string();
    let theirs = request.headers().get(CLUSTER_ID).and_then(|id| id.to_str().ok());
    if theirs.is_some_and(|theirs| theirs != own) {
        return error(StatusCode::PRECONDITION_FAILED, "cluster ID mismatch");
    }
    let Ok(body) = read(request.into_body(), HASH_REQUEST_BYTES_MAX, shared).await else {
        return error(StatusCode::BAD_REQUEST, "error reading body");
    };
    match HashKvRequestJson::parse(&body) {
        None => error(StatusCode::BAD_REQUEST, "error unmarshalling request"),
        Some(request) => hash_at(shared, request.revision).await,
    }
}

async fn hash_at(shared: &Shared, revision: i64) -> Response<Body> {
    let server = shared.server();
    let at = Revision::from_wire(revision).filter(|revision| *revision > Revision::ZERO);
    let hashed = match server.hash_kv(at).await {
        Ok(hashed) => hashed,
        Err(why @ (Error::Compacted | Error::FutureRevision)) => {
            return error(StatusCode::BAD_REQUEST, &why.to_string());
        }
        Err(why) => return error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    };
    let answer = HashKvJson {
        header: HashKvHeaderJson { revision: hashed.revision.to_wire() },
        hash: hashed.hash,
        compact_revision: hashed.compact_revision,
        hash_revision: hashed.hash_revision.to_wire(),
    };
    let mut response = json_answer(&serde_json::to_string(&answer).expect("numbers always serialise"));
    introduce(shared, &mut response);
    response
}

// --- leases ---

/// The whole request, or what is answered instead.
async fn lease_request(shared: &Shared, request: Request<Incoming>) -> Result<Bytes, Box<Response<Body>>> {
    if request.method() != Method::POST {
        // Compat: without saying what would be allowed.
        return Err(Box::new(error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed")));
    }
    match read(request.into_body(), LEASE_REQUEST_BYTES_MAX, shared).await {
        Ok(body) => Ok(body),
        Err(Unread::TooLong) => Err(Box::new(error(StatusCode::PAYLOAD_TOO_LARGE, "request body too large"))),
        Err(Unread::Broken) => Err(Box::new(error(StatusCode::BAD_REQUEST, "error reading body"))),
    }
}

async fn renew(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let body = match lease_request(shared, request).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let Ok(request) = LeaseKeepAliveRequest::decode(body) else {
        return error(StatusCode::BAD_REQUEST, "error unmarshalling request");
    };
    match shared.server().renew_here(LeaseId(request.id)).await {
        Ok(Some(ttl)) => {
            // Compat: without a header, unlike the answer below.
            protobuf_answer(&LeaseKeepAliveResponse { header: None, id: request.id, ttl })
        }
        Ok(None) => error(StatusCode::NOT_FOUND, &Error::LeaseNotFound.to_string()),
        Err(Error::TimeoutWaitAppliedIndex) => apply_timeout(),
        Err(why) => error(StatusCode::BAD_REQUEST, &why.to_string()),
    }
}

async fn lease_times(shared: &Shared, request: Request<Incoming>) -> Response<Body> {
    let body = match lease_request(shared, request).await {
        Ok(body) => body,
        Err(refusal) => return *refusal,
    };
    let request = LeaseInternalRequest::decode(body).ok().and_then(|it| it.lease_time_to_live_request);
    let Some(request) = request else { return error(StatusCode::BAD_REQUEST, "error unmarshalling request") };
    let keys = if request.keys { LeaseKeys::Listed } else { LeaseKeys::Omitted };
    match shared.server().lease_times_here(LeaseId(request.id), keys).await {
        Ok(Some(times)) => protobuf_answer(&LeaseInternalResponse {
            lease_time_to_live_response: Some(LeaseTimeToLiveResponse {
                header: Some(ResponseHeader::default()),
                id: request.id,
                ttl: times.remaining_secs,
                granted_ttl: times.granted_secs,
                keys: times.keys,
            }),
        }),
        Ok(None) => error(StatusCode::NOT_FOUND, &Error::LeaseNotFound.to_string()),
        Err(Error::TimeoutWaitAppliedIndex) => apply_timeout(),
        Err(why) => error(StatusCode::INTERNAL_SERVER_ERROR, &why.to_string()),
    }
}

fn apply_timeout() -> Response<Body> {
    error(StatusCode::REQUEST_TIMEOUT, "waiting for node to catch up its applied index has timed out")
}

// --- forms of answers and requests ---

enum Unread {
    TooLong,
    Broken,
}

/// A body of bounded length, from a sender that does not fall silent.
async fn read(mut body: Incoming, limit: usize, shared: &Shared) -> Result<Bytes, Unread> {
    let mut bytes = BytesMut::new();
    loop {
        match timeout(shared.config.read_timeout, body.frame()).await {
            Ok(None) => return Ok(bytes.freeze()),
            Ok(Some(Ok(frame))) => bytes.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data)),
            Ok(Some(Err(_))) | Err(_) => return Err(Unread::Broken),
        }
        if bytes.len() > limit {
            return Err(Unread::TooLong);
        }
    }
}

fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = code;
    response
}

/// As Go's `http.Error`: plain text, not to be guessed at, with a newline behind it.
fn error(code: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(format!("{text}\n")));
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn method_not_allowed(allowed: &'static str) -> Response<Body> {
    let mut response = error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    response
}

fn internal_error() -> Response<Body> {
    let mut response = json_answer("{\"message\":\"Internal Server Error\"}");
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

fn json_answer(text: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(text.to_owned()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

fn protobuf_answer(message: &impl Message) -> Response<Body> {
    let mut response = Response::new(Body::from(message.encode_to_vec()));
    response.headers_mut().insert(CONTENT_TYPE, PROTOBUF);
    response
}
