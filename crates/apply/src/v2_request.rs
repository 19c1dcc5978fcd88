//! Requests of the v2 API in logs of etcd 3.5.
//!
//! Until 3.6 a member told its attributes, and the leader the cluster's version, as a `PUT` into the v2 store. Such
//! entries stand in every log that 3.5 wrote since its last snapshot, bare or as field 2 of the usual request.

use membership::Attributes;
use proto::etcdserverpb::Request as V2Request;
use proto::membershippb::{self, ClusterMemberAttrSetRequest, ClusterVersionSetRequest};

use crate::command::{Command, CommandError, Request};

const CLUSTER_VERSION_PATH: &str = "/0/version";

/// What the request means today.
///
/// Compat: `v2ToV3Request` in server/etcdserver/apply_v2.go of 3.6; 3.7 reads no such request and ends by a panic.
///
/// # Errors
/// Any other request: it concerns keys of the v2 API, which no release from 3.6 on has.
pub fn understand(request: V2Request) -> Result<Request, CommandError> {
    let foreign = || CommandError::V2 { method: request.method.clone(), path: request.path.clone() };
    if request.method != "PUT" {
        return Err(foreign());
    }
    let command = if let Some(member_id) = attributes_of(&request.path) {
        let attributes = Attributes::from_json(request.val.as_bytes())
            .map_err(|error| CommandError::Malformed(error.to_string()))?;
        Command::MemberAttrSet(ClusterMemberAttrSetRequest {
            member_id,
            member_attributes: Some(membershippb::Attributes {
                name: attributes.name,
                client_urls: attributes.client_urls,
            }),
        })
    } else if request.path == CLUSTER_VERSION_PATH {
        Command::ClusterVersionSet(ClusterVersionSetRequest { ver: request.val.clone() })
    } else {
        return Err(foreign());
    };
    Ok(Request { id: request.id, command })
}

/// Whose attributes the path names: `/0/members/8e9e05c52164694d/attributes`.
fn attributes_of(path: &str) -> Option<u64> {
    let id = path.strip_prefix("/0/members/")?.strip_suffix("/attributes")?;
    let is_hex = id.bytes().all(|digit| digit.is_ascii_hexdigit());
    is_hex.then(|| u64::from_str_radix(id, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proto::etcdserverpb::InternalRaftRequest;

    use super::*;

    /// Entries of a log that etcd 3.5.35 wrote at its first start.
    const ATTRIBUTES: &[u8] = b"\x08\x81\xae\xcd\xd4\xa1\xc3\xe8\x869\x12\x03PUT\x1a&/0/members/bdae9bbc11dd390d/attributes\"5{\"name\":\"m0\",\"clientURLs\":[\"http://127.0.0.1:23791\"]}(\x002\x008\x00H\x00P\x00X\x00`\x00h\x00p\x00x\x00\x80\x01\x00";
    const VERSION: &[u8] = b"\x08\x82\xae\xcd\xd4\xa1\xc3\xe8\x869\x12\x03PUT\x1a\n/0/version\"\x053.5.0(\x002\x008\x00H\x00P\x00X\x00`\x00h\x00p\x00x\x00\x80\x01\x00";

    fn attributes() -> Command {
        Command::MemberAttrSet(ClusterMemberAttrSetRequest {
            member_id: 0xbdae_9bbc_11dd_390d,
            member_attributes: Some(membershippb::Attributes {
                name: "m0".into(),
                client_urls: vec!["http://127.0.0.1:23791".into()],
            }),
        })
    }

    #[test]
    fn bare_requests_of_3_5_are_understood() {
        let request = Request::decode(Bytes::from_static(ATTRIBUTES)).unwrap();
        assert_eq!(request, Request { id: 0x390d_a21a_1a93_5701, command: attributes() });
        let request = Request::decode(Bytes::from_static(VERSION)).unwrap();
        assert_eq!(
            request.command,
            Command::ClusterVersionSet(ClusterVersionSetRequest { ver: "3.5.0".into() })
        );
    }

    #[test]
    fn wrapped_ones_too() {
        let v2 = prost::Message::decode(ATTRIBUTES).unwrap();
        let wire = InternalRaftRequest { v2: Some(v2), ..InternalRaftRequest::default() };
        let request = Request::decode(prost::Message::encode_to_vec(&wire).into()).unwrap();
        assert_eq!(request.command, attributes());
    }

    #[test]
    fn keys_of_the_v2_api_are_refused_by_name() {
        let put = V2Request { id: 1, method: "PUT".into(), path: "/1/foo".into(), ..V2Request::default() };
        for (method, path) in [
            ("PUT", "/1/foo"),
            ("DELETE", "/0/members/1/attributes"),
            ("SYNC", ""),
            ("QGET", "/1/foo"),
            ("POST", "/1/queue"),
            ("PUT", "/0/members/x/attributes"),
            ("PUT", "/0/members/11112222333344445/attributes"),
            ("PUT", "/0/members//attributes"),
        ] {
            let request = V2Request { method: method.into(), path: path.into(), ..put.clone() };
            let refused = CommandError::V2 { method: method.into(), path: path.into() };
            let bare = Request::decode(prost::Message::encode_to_vec(&request).into());
            assert_eq!(bare, Err(refused.clone()), "{method} {path}");
            assert_eq!(understand(request), Err(refused));
        }
    }

    #[test]
    fn values_that_are_none_are_malformed() {
        let request = V2Request {
            method: "PUT".into(),
            path: "/0/members/1/attributes".into(),
            val: "{".into(),
            ..V2Request::default()
        };
        assert!(matches!(understand(request), Err(CommandError::Malformed(_))));
    }
}
