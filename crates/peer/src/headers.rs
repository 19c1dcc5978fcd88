//! The headers that members introduce themselves with, and whether two of them fit together.
//!
//! Source: etcd `server/etcdserver/api/rafthttp/util.go` and `http.go`.

use std::fmt;

use golang::url::Url;
use http::HeaderMap;
use http::header::{HeaderName, HeaderValue};
use membership::{ClusterId, MemberId, Version};
use server::SERVER_VERSION;

pub const SERVER_FROM: HeaderName = HeaderName::from_static("x-server-from");
pub const SERVER_VERSION_NAME: HeaderName = HeaderName::from_static("x-server-version");
pub const MIN_CLUSTER_VERSION: HeaderName = HeaderName::from_static("x-min-cluster-version");
pub const CLUSTER_ID: HeaderName = HeaderName::from_static("x-etcd-cluster-id");
pub const RAFT_TO: HeaderName = HeaderName::from_static("x-raft-to");
pub const PEER_URLS: HeaderName = HeaderName::from_static("x-peerurls");

/// The oldest version that this release speaks with. Source: etcd `api/version/version.go`.
const VERSION_MIN: Version = Version::new(3, 0);

/// What a member that names no version is taken for.
const VERSION_UNNAMED: Version = Version::new(2, 0);

/// Who this member says it is.
#[derive(Clone, Debug)]
pub struct Identity {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub advertise_urls: Vec<String>,
}

/// Why a member is not talked to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incompatible {
    Version,
    ClusterId,
}

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Incompatible::Version => "incompatible version",
            Incompatible::ClusterId => "cluster ID mismatch",
        })
    }
}

impl Identity {
    /// The headers of every request to another member.
    pub fn introduce(&self, headers: &mut HeaderMap) {
        headers.insert(SERVER_FROM, hex(self.member_id.0));
        headers.insert(SERVER_VERSION_NAME, HeaderValue::from_static(SERVER_VERSION));
        headers.insert(MIN_CLUSTER_VERSION, HeaderValue::from_static("3.0.0"));
        headers.insert(CLUSTER_ID, hex(self.cluster_id.0));
        if let Ok(urls) = HeaderValue::from_str(&self.advertise_urls.join(",")) {
            headers.insert(PEER_URLS, urls);
        }
    }

    /// Whether whoever sent these headers speaks our language and is of our cluster.
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Incompatible> {
        let theirs = version(headers, &SERVER_VERSION_NAME);
        let their_min = version(headers, &MIN_CLUSTER_VERSION);
        let own: Version = SERVER_VERSION.parse().expect("our own version is one");
        let fits = theirs.zip(their_min).is_some_and(|(theirs, their_min)| {
            theirs.without_patch() >= VERSION_MIN && own.without_patch() >= their_min.without_patch()
        });
        if !fits {
            return Err(Incompatible::Version);
        }
        let cluster_id = headers.get(CLUSTER_ID).and_then(|value| value.to_str().ok()).unwrap_or_default();
        if cluster_id == self.cluster_id.to_string() { Ok(()) } else { Err(Incompatible::ClusterId) }
    }
}

pub fn hex(id: u64) -> HeaderValue {
    HeaderValue::from_str(&format!("{id:x}")).expect("hex digits are a header's value")
}

/// An id in digits alone: no sign, as Go's `ParseUint` takes none.
pub fn parse_id(text: &str, radix: u32) -> Option<MemberId> {
    let digits = Some(text).filter(|text| !text.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok().map(MemberId)
}

/// The member that a request says it is from.
pub fn sender(headers: &HeaderMap) -> Option<MemberId> {
    let text = headers.get(SERVER_FROM)?.to_str().ok()?;
    parse_id(text, 16).filter(|id| id.0 != 0)
}

/// Where its sender can be reached.
pub fn peer_urls(headers: &HeaderMap) -> Vec<String> {
    let text = headers.get(PEER_URLS).and_then(|value| value.to_str().ok()).unwrap_or_default();
    text.split(',').filter_map(|url| Some(Url::parse(url).ok()?.normalized())).collect()
}

/// `None`: there is one, and it is none.
fn version(headers: &HeaderMap, name: &HeaderName) -> Option<Version> {
    match headers.get(name) {
        None => Some(VERSION_UNNAMED),
        Some(value) => value.to_str().ok()?.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(cluster_id: u64) -> Identity {
        Identity {
            member_id: MemberId(0xab),
            cluster_id: ClusterId(cluster_id),
            advertise_urls: vec!["http://a:1".to_owned(), "http://b:2".to_owned()],
        }
    }

    #[test]
    fn members_of_one_cluster_recognise_each_other() {
        let mut headers = HeaderMap::new();
        identity(7).introduce(&mut headers);
        assert_eq!(identity(7).check(&headers), Ok(()));
        assert_eq!(sender(&headers), Some(MemberId(0xab)));
        assert_eq!(peer_urls(&headers), ["http://a:1", "http://b:2"]);
        assert_eq!(identity(8).check(&headers), Err(Incompatible::ClusterId));
        headers.insert(SERVER_VERSION_NAME, HeaderValue::from_static("3.6.16"));
        assert_eq!(identity(7).check(&headers), Ok(()));
        for (name, value) in
            [(SERVER_VERSION_NAME, "2.3.8"), (SERVER_VERSION_NAME, "three"), (MIN_CLUSTER_VERSION, "3.8.0")]
        {
            let mut headers = headers.clone();
            headers.insert(name, HeaderValue::from_static(value));
            assert_eq!(identity(7).check(&headers), Err(Incompatible::Version), "{value}");
        }
        assert_eq!(identity(7).check(&HeaderMap::new()), Err(Incompatible::Version));
    }

    #[test]
    fn urls_that_are_none_are_passed_over() {
        let mut headers = HeaderMap::new();
        headers.insert(PEER_URLS, HeaderValue::from_static("http://a:1,nonsense,,https://b:2"));
        assert_eq!(peer_urls(&headers), ["http://a:1", "https://b:2"]);
    }
}
