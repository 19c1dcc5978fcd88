//! What a normal log entry asks for: etcd's `InternalRaftRequest`, read into one enum.
//!
//! The log's format is the client API's own messages, so commands hold those and no second copy of them.

use std::fmt;

use bytes::Bytes;
use prost::Message;
use proto::etcdserverpb::{
    AlarmRequest, CompactionRequest, DeleteRangeRequest, InternalRaftRequest, LeaseCheckpointRequest,
    LeaseGrantRequest, LeaseRevokeRequest, PutRequest, RangeRequest, Request as V2Request, RequestHeader,
    TxnRequest,
};
use proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};

use crate::v2_request;

/// One replicated request with the id that its proposer waits for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    pub id: u64,
    pub command: Command,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// Changes nothing; other members propose it for a user whose permissions must be fresh.
    Range(RangeRequest),
    Put(PutRequest),
    DeleteRange(DeleteRangeRequest),
    Txn(TxnRequest),
    Compaction(CompactionRequest),
    LeaseGrant(LeaseGrantRequest),
    LeaseRevoke(LeaseRevokeRequest),
    LeaseCheckpoint(LeaseCheckpointRequest),
    Alarm(AlarmRequest),
    ClusterVersionSet(ClusterVersionSetRequest),
    MemberAttrSet(ClusterMemberAttrSetRequest),
    DowngradeInfoSet(DowngradeInfoSetRequest),
}

/// A committed entry that this member cannot apply. It stops the member: to pass the entry over would
/// make its state differ from that of the others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CommandError {
    Malformed(String),
    /// The request is of a kind that this release does not know, such as one of the auth service.
    Unsupported,
    /// The request is about keys of the v2 API.
    V2 {
        method: String,
        path: String,
    },
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CommandError::Malformed(reason) => write!(f, "read a request from the log: {reason}"),
            CommandError::Unsupported => {
                f.write_str("the log holds a request that this release cannot apply (users and roles)")
            }
            // Compat: 3.6 panics on these.
            CommandError::V2 { method, path } => write!(
                f,
                "the log holds a request of the v2 API, {method} {path:?}, whose keys no release from 3.6 on has: \
                 start etcd 3.5 in this directory until it has taken a snapshot"
            ),
        }
    }
}

impl std::error::Error for CommandError {}

impl Command {
    /// The request's name in metrics and logs.
    pub fn name(&self) -> &'static str {
        match self {
            Command::Range(_) => "Range",
            Command::Put(_) => "Put",
            Command::DeleteRange(_) => "DeleteRange",
            Command::Txn(_) => "Txn",
            Command::Compaction(_) => "Compaction",
            Command::LeaseGrant(_) => "LeaseGrant",
            Command::LeaseRevoke(_) => "LeaseRevoke",
            Command::LeaseCheckpoint(_) => "LeaseCheckpoint",
            Command::Alarm(_) => "Alarm",
            Command::ClusterVersionSet(_) => "ClusterVersionSet",
            Command::MemberAttrSet(_) => "ClusterMemberAttrSet",
            Command::DowngradeInfoSet(_) => "DowngradeInfoSet",
        }
    }
}

impl Request {
    pub fn encode(self) -> Bytes {
        let header = RequestHeader { id: self.id, ..RequestHeader::default() };
        let mut wire = InternalRaftRequest { header: Some(header), ..InternalRaftRequest::default() };
        match self.command {
            Command::Range(request) => wire.range = Some(request),
            Command::Put(request) => wire.put = Some(request),
            Command::DeleteRange(request) => wire.delete_range = Some(request),
            Command::Txn(request) => wire.txn = Some(request),
            Command::Compaction(request) => wire.compaction = Some(request),
            Command::LeaseGrant(request) => wire.lease_grant = Some(request),
            Command::LeaseRevoke(request) => wire.lease_revoke = Some(request),
            Command::LeaseCheckpoint(request) => wire.lease_checkpoint = Some(request),
            Command::Alarm(request) => wire.alarm = Some(request),
            Command::ClusterVersionSet(request) => wire.cluster_version_set = Some(request),
            Command::MemberAttrSet(request) => wire.cluster_member_attr_set = Some(request),
            Command::DowngradeInfoSet(request) => wire.downgrade_info_set = Some(request),
        }
        Bytes::from(wire.encode_to_vec())
    }

    /// Reads an entry's data; payloads stay slices of it.
    pub fn decode(data: Bytes) -> Result<Request, CommandError> {
        let wire = match InternalRaftRequest::decode(data.clone()) {
            Ok(wire) => wire,
            // Compat: 3.5 writes its v2 requests bare; their method never reads as a message.
            Err(error) => {
                let bare = V2Request::decode(data).map_err(|_| CommandError::Malformed(error.to_string()))?;
                return v2_request::understand(bare);
            }
        };
        if let Some(v2) = wire.v2 {
            return v2_request::understand(v2);
        }
        let id = wire.header.as_ref().map_or(wire.id, |header| header.id);
        let command = None
            .or(wire.put.map(Command::Put))
            .or(wire.txn.map(Command::Txn))
            .or(wire.range.map(Command::Range))
            .or(wire.delete_range.map(Command::DeleteRange))
            .or(wire.compaction.map(Command::Compaction))
            .or(wire.lease_grant.map(Command::LeaseGrant))
            .or(wire.lease_revoke.map(Command::LeaseRevoke))
            .or(wire.lease_checkpoint.map(Command::LeaseCheckpoint))
            .or(wire.alarm.map(Command::Alarm))
            .or(wire.cluster_version_set.map(Command::ClusterVersionSet))
            .or(wire.cluster_member_attr_set.map(Command::MemberAttrSet))
            .or(wire.downgrade_info_set.map(Command::DowngradeInfoSet))
            .ok_or(CommandError::Unsupported)?;
        Ok(Request { id, command })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_put_entry_has_the_bytes_that_go_writes() {
        let put = PutRequest { key: "k".into(), value: "v".into(), ..PutRequest::default() };
        let request = Request { id: 7, command: Command::Put(put) };
        let bytes = request.clone().encode();
        // put (field 4) before header (field 100), as fields stand in ascending order.
        assert_eq!(&bytes[..], b"\x22\x06\x0a\x01k\x12\x01v\xa2\x06\x02\x08\x07");
        assert_eq!(Request::decode(bytes).unwrap(), request);
    }

    #[test]
    fn entries_without_a_known_request_are_refused() {
        assert_eq!(Request::decode(Bytes::from_static(b"\xc2\x3e\x00")), Err(CommandError::Unsupported));
        assert!(matches!(Request::decode(Bytes::from_static(b"\xff")), Err(CommandError::Malformed(_))));
    }
}
