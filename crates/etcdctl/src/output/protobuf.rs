//! The message itself, without a newline.

use cobra::{Exit, exit};
use prost::Message;
use proto::etcdserverpb::{ResponseHeader, WatchResponse};

use super::Answer;

pub fn render(answer: &Answer<'_>) -> Result<Vec<u8>, Exit> {
    // Compat: etcdctl 3.7.3 prints of most lease answers the header only.
    let header = |header: &Option<ResponseHeader>| header.unwrap_or_default().encode_to_vec();
    Ok(match answer {
        Answer::Get(r) => r.encode_to_vec(),
        Answer::Put(r) => r.encode_to_vec(),
        Answer::Delete(r) => r.encode_to_vec(),
        Answer::Txn(r) => r.encode_to_vec(),
        Answer::Watch(r) => WatchResponse {
            watch_id: 0,
            cancel_reason: String::new(),
            fragment: false,
            ..WatchResponse::clone(r)
        }
        .encode_to_vec(),
        Answer::LeaseGrant(r) => header(&r.header),
        Answer::LeaseKeepAlive(r) => header(&r.header),
        Answer::LeaseTimeToLive { response, .. } => header(&response.header),
        Answer::LeaseList(r) => header(&r.header),
        Answer::LeaseRevoke { response, .. } => {
            let name = "*clientv3.LeaseRevokeResponse";
            let text = text_of(&response.header.unwrap_or_default());
            let message = format!("marshal unsupported for type {name} (&{{{text}}})");
            return Err(Exit::new(exit::BAD_FEATURE, message));
        }
        Answer::MemberList(r) => r.encode_to_vec(),
        Answer::MemberAdd(r) => r.encode_to_vec(),
        Answer::MemberRemove { response, .. } => response.encode_to_vec(),
        Answer::MemberUpdate { response, .. } => response.encode_to_vec(),
        Answer::MemberPromote { response, .. } => response.encode_to_vec(),
        Answer::Alarm(r) => r.encode_to_vec(),
        Answer::MoveLeader { response, .. } => response.encode_to_vec(),
        Answer::Downgrade { response, .. } => response.encode_to_vec(),
        Answer::EndpointHealth(_) | Answer::EndpointStatus(_) | Answer::EndpointHashKv(_) => {
            return Err(super::unsupported("protobuf"));
        }
    })
}

fn text_of(header: &ResponseHeader) -> String {
    let ResponseHeader { cluster_id, member_id, revision, raft_term } = header;
    format!("cluster_id:{cluster_id} member_id:{member_id} revision:{revision} raft_term:{raft_term}")
}
