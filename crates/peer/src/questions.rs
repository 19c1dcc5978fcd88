//! What this member asks others over HTTP.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::BodyExt;
use membership::{Attributes, ClusterId, Member, MemberId};
use mvcc::Revision;
use prost::Message;
use proto::etcdserverpb::{LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseTimeToLiveRequest};
use proto::leasepb::{LeaseInternalRequest, LeaseInternalResponse};
use serde::Deserialize;
use server::{AskError, HashKvAnswer, RemoteCluster, RemoteVersion};

use crate::body::Body;
use crate::headers::{CLUSTER_ID, hex};
use crate::network::{Shared, authority};

/// The longest answer to a question. Leases may hold many keys, which come in one.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// An answer that is no error.
struct Answer {
    headers: HeaderMap,
    body: Bytes,
}

/// The body of an answer to a GET.
pub async fn get(shared: &Arc<Shared>, url: &str, path: &str) -> Result<Bytes, AskError> {
    ask(shared, url, Method::GET, path, None, HeaderMap::new()).await.map(|answer| answer.body)
}

async fn ask(
    shared: &Arc<Shared>,
    url: &str,
    method: Method,
    path: &str,
    content: Option<(&'static str, Bytes)>,
    headers: HeaderMap,
) -> Result<Answer, AskError> {
    let mut request = Request::builder().method(method).uri(path).header(HOST, authority(url));
    let mut body = Body::empty();
    if let Some((content_type, bytes)) = content {
        request = request.header(CONTENT_TYPE, HeaderValue::from_static(content_type));
        body = Body::from(bytes);
    }
    let mut request = request.body(body).map_err(|error| AskError::Malformed(error.to_string()))?;
    if let Some(identity) = shared.identity_if_known() {
        identity.introduce(request.headers_mut());
    }
    request.headers_mut().extend(headers);
    let sent = shared.dialer.send(url, request).await;
    let (response, sender) = sent.map_err(|error| AskError::Unreachable(error.to_string()))?;
    let (parts, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| AskError::Unreachable(error.to_string()))?;
        body.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if body.len() > ANSWER_BYTES_MAX {
            return Err(AskError::Malformed(format!("more than {ANSWER_BYTES_MAX} bytes")));
        }
    }
    shared.dialer.give_back(url, sender);
    let body = body.freeze();
    match parts.status {
        StatusCode::OK => Ok(Answer { headers: parts.headers, body }),
        status => Err(AskError::Refused {
            status: status.as_u16(),
            text: String::from_utf8_lossy(&body).trim_end().to_owned(),
        }),
    }
}

fn json<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, AskError> {
    serde_json::from_slice(body).map_err(|error| AskError::Malformed(error.to_string()))
}

/// A member as `/members` tells it. Fields that say nothing may be left out or null.
#[derive(Deserialize)]
pub struct MemberJson {
    #[serde(default)]
    id: u64,
    #[serde(rename = "peerURLs", default)]
    peer_urls: Option<Vec<String>>,
    #[serde(rename = "isLearner", default)]
    is_learner: bool,
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default)]
    client_urls: Option<Vec<String>>,
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Member {
        Member {
            id: MemberId(json.id),
            peer_urls: json.peer_urls.unwrap_or_default(),
            is_learner: json.is_learner,
            attributes: Attributes { name: json.name, client_urls: json.client_urls.unwrap_or_default() },
        }
    }
}

fn member_list(body: &[u8]) -> Result<Vec<Member>, AskError> {
    let mut members: Vec<Member> = json::<Vec<MemberJson>>(body)?.into_iter().map(Member::from).collect();
    members.sort_by_key(|member| member.id);
    Ok(members)
}

pub async fn members(shared: Arc<Shared>, url: String) -> Result<RemoteCluster, AskError> {
    let answer = ask(&shared, &url, Method::GET, "/members", None, HeaderMap::new()).await?;
    let id = answer.headers.get(CLUSTER_ID).and_then(|id| id.to_str().ok());
    let id = id.and_then(|id| u64::from_str_radix(id, 16).ok());
    let id = id.ok_or_else(|| AskError::Malformed("no X-Etcd-Cluster-ID".to_owned()))?;
    Ok(RemoteCluster { cluster_id: ClusterId(id), members: member_list(&answer.body)? })
}

#[derive(Deserialize)]
struct VersionJson {
    etcdserver: String,
    #[serde(default)]
    etcdcluster: String,
}

pub async fn version(shared: Arc<Shared>, url: String) -> Result<RemoteVersion, AskError> {
    let body = get(&shared, &url, "/version").await?;
    let versions: VersionJson = json(&body)?;
    let server = versions.etcdserver.parse().map_err(|error| AskError::Malformed(format!("{error}")))?;
    // "not_decided" is none.
    Ok(RemoteVersion { server, cluster: versions.etcdcluster.parse().ok() })
}

pub async fn downgrade_enabled(shared: Arc<Shared>, url: String) -> Result<bool, AskError> {
    let body = get(&shared, &url, "/downgrade/enabled").await?;
    match body.trim_ascii() {
        b"true" => Ok(true),
        b"false" => Ok(false),
        _ => Err(AskError::Malformed("neither true nor false".to_owned())),
    }
}

pub async fn promote(shared: Arc<Shared>, url: String, id: MemberId) -> Result<Vec<Member>, AskError> {
    let path = format!("/members/promote/{}", id.0);
    let answer = ask(&shared, &url, Method::POST, &path, None, HeaderMap::new()).await?;
    member_list(&answer.body)
}

const PROTOBUF: &str = "application/protobuf";

pub async fn renew(shared: Arc<Shared>, url: String, lease_id: i64) -> Result<i64, AskError> {
    let request = LeaseKeepAliveRequest { id: lease_id }.encode_to_vec().into();
    let content = Some((PROTOBUF, request));
    let answer = ask(&shared, &url, Method::POST, "/leases", content, HeaderMap::new()).await?;
    let response = LeaseKeepAliveResponse::decode(answer.body)
        .map_err(|error| AskError::Malformed(error.to_string()))?;
    if response.id != lease_id {
        return Err(AskError::Malformed("renewed another lease".to_owned()));
    }
    Ok(response.ttl)
}

pub async fn lease_times(shared: Arc<Shared>, url: String, request: Bytes) -> Result<Bytes, AskError> {
    let malformed = |error: prost::DecodeError| AskError::Malformed(error.to_string());
    let request = LeaseTimeToLiveRequest::decode(request).map_err(malformed)?;
    let request = LeaseInternalRequest { lease_time_to_live_request: Some(request) };
    let content = Some((PROTOBUF, request.encode_to_vec().into()));
    let answer = ask(&shared, &url, Method::POST, "/leases/internal", content, HeaderMap::new()).await?;
    let response = LeaseInternalResponse::decode(answer.body).map_err(malformed)?;
    let times = response.lease_time_to_live_response;
    let times = times.ok_or_else(|| AskError::Malformed("no times".to_owned()))?;
    Ok(times.encode_to_vec().into())
}

/// Go's plain JSON of `etcdserverpb.HashKVResponse`: numbers, zero fields left out.
#[derive(Deserialize)]
struct HashKvJson {
    header: HashKvHeaderJson,
    #[serde(default)]
    hash: u32,
    #[serde(default)]
    compact_revision: i64,
    #[serde(default)]
    hash_revision: i64,
}

#[derive(Deserialize)]
struct HashKvHeaderJson {
    #[serde(default)]
    revision: i64,
}

pub async fn hash_kv(
    shared: Arc<Shared>,
    url: String,
    cluster_id: ClusterId,
    revision: i64,
) -> Result<HashKvAnswer, AskError> {
    let request = serde_json::json!({ "revision": revision }).to_string();
    let headers = HeaderMap::from_iter([(CLUSTER_ID, hex(cluster_id.0))]);
    let content = Some(("application/json", Bytes::from(request)));
    let answer = ask(&shared, &url, Method::GET, "/members/hashkv", content, headers).await?;
    let hash: HashKvJson = json(&answer.body)?;
    let revision_of =
        |number| Revision::from_wire(number).ok_or_else(|| AskError::Malformed(format!("revision {number}")));
    // Compat: etcd before 3.5.5 does not tell which revision it hashed.
    let hash_revision = if hash.hash_revision == 0 { revision } else { hash.hash_revision };
    Ok(HashKvAnswer {
        hash: hash.hash,
        compact_revision: hash.compact_revision,
        hash_revision: revision_of(hash_revision)?,
        revision: revision_of(hash.header.revision)?,
    })
}
