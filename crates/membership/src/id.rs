//! Member and cluster ids, as etcd derives them (formats: `server/etcdserver/api/membership`).

use std::fmt;

use sha1::{Digest, Sha1};

/// Id of a member; never 0, which means "none" on the wire. Printed as etcd prints it: hex without zeros
/// in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MemberId(pub u64);

impl MemberId {
    /// The id of a member that forms a cluster: the first eight bytes of SHA-1 over its sorted peer URLs
    /// and the cluster token.
    pub fn at_bootstrap(peer_urls: &[String], token: &str) -> MemberId {
        MemberId::from_parts(peer_urls, token.as_bytes(), b"")
    }

    /// The id of a member added at run time, `unix_secs` being when it was asked for.
    pub fn at_run_time(peer_urls: &[String], unix_secs: u64) -> MemberId {
        MemberId::from_parts(peer_urls, b"", unix_secs.to_string().as_bytes())
    }

    fn from_parts(peer_urls: &[String], token: &[u8], time: &[u8]) -> MemberId {
        let mut urls: Vec<&str> = peer_urls.iter().map(String::as_str).collect();
        urls.sort_unstable();
        let mut hash = Sha1::new();
        for url in urls {
            hash.update(url.as_bytes());
        }
        hash.update(token);
        hash.update(time);
        MemberId(first_eight(&hash.finalize()))
    }
}

impl fmt::Display for MemberId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Id of a cluster, fixed by the members that formed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ClusterId(pub u64);

impl ClusterId {
    /// The first eight bytes of SHA-1 over the ids in ascending order, eight bytes each.
    pub fn of(members: impl IntoIterator<Item = MemberId>) -> ClusterId {
        let mut ids: Vec<MemberId> = members.into_iter().collect();
        ids.sort_unstable();
        let mut hash = Sha1::new();
        for id in ids {
            hash.update(id.0.to_be_bytes());
        }
        ClusterId(first_eight(&hash.finalize()))
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

fn first_eight(digest: &[u8]) -> u64 {
    u64::from_be_bytes(digest[..8].try_into().expect("a SHA-1 digest has 20 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What Go etcd 3.7.3 prints for a member started with nothing but defaults.
    #[test]
    fn ids_of_the_default_member_are_etcds() {
        let id = MemberId::at_bootstrap(&["http://localhost:2380".to_owned()], "etcd-cluster");
        assert_eq!(id.to_string(), "8e9e05c52164694d");
        assert_eq!(ClusterId::of([id]).to_string(), "cdf818194e3a8c32");
    }

    #[test]
    fn order_of_urls_does_not_matter() {
        let a = ["http://a:1".to_owned(), "http://b:1".to_owned()];
        let b = ["http://b:1".to_owned(), "http://a:1".to_owned()];
        assert_eq!(MemberId::at_bootstrap(&a, "t"), MemberId::at_bootstrap(&b, "t"));
    }
}
