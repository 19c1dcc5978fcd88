//! The members of a cluster that is being formed, as `--initial-cluster` and the flags beside it name them.

use std::collections::BTreeSet;
use std::fmt;

use crate::id::MemberId;
use crate::member::{Attributes, Member};

/// Why these flags form no cluster. The texts are etcd's (`server/config/config.go`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InitialClusterError {
    NameMissing {
        name: String,
    },
    DuplicateUrl {
        cluster: String,
    },
    /// `in_cluster` are pairs `name=url`; `why` is what told the two apart.
    NotAdvertised {
        in_cluster: String,
        advertised: String,
        why: String,
    },
    NotInCluster {
        advertised: String,
        cluster: String,
    },
    /// Both name the same URLs, or so it seems, but not the same places.
    NotTheSame {
        advertised: String,
        cluster: String,
        why: String,
    },
}

impl fmt::Display for InitialClusterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            InitialClusterError::NameMissing { name } => {
                write!(f, "couldn't find local name {name:?} in the initial cluster configuration")
            }
            InitialClusterError::DuplicateUrl { cluster } => {
                write!(f, "initial cluster {cluster} has duplicate url")
            }
            InitialClusterError::NotAdvertised { in_cluster, advertised, why } => write!(
                f,
                "--initial-cluster has {in_cluster} but missing from \
                 --initial-advertise-peer-urls={advertised} ({why})"
            ),
            InitialClusterError::NotInCluster { advertised, cluster } => write!(
                f,
                "--initial-advertise-peer-urls has {advertised} but missing from --initial-cluster={cluster}"
            ),
            InitialClusterError::NotTheSame { advertised, cluster, why } => {
                write!(f, "failed to resolve {advertised} to match --initial-cluster={cluster} ({why})")
            }
        }
    }
}

impl std::error::Error for InitialClusterError {}

/// The members that pairs of a name and a URL name, each with the id that its URLs and the token give, in
/// the order of ids.
pub fn initial_members(pairs: &[(String, String)], token: &str) -> Result<Vec<Member>, InitialClusterError> {
    let mut members: Vec<Member> = Vec::new();
    for (name, url) in pairs {
        match members.iter_mut().find(|member| member.attributes.name == *name) {
            Some(member) => member.peer_urls.push(url.clone()),
            None => members.push(Member {
                id: MemberId(0),
                peer_urls: vec![url.clone()],
                is_learner: false,
                attributes: Attributes { name: name.clone(), client_urls: Vec::new() },
            }),
        }
    }
    for member in &mut members {
        member.peer_urls.sort();
        member.id = MemberId::at_bootstrap(&member.peer_urls, token);
    }
    let mut urls: Vec<&String> = members.iter().flat_map(|member| &member.peer_urls).collect();
    urls.sort();
    if urls.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(InitialClusterError::DuplicateUrl { cluster: listed(pairs) });
    }
    members.sort_by_key(|member| member.id);
    Ok(members)
}

/// The one of `members` that has this name and advertises these URLs. `compare` says whether two lists of
/// URLs name the same places, or why they do not: names must be resolved for that.
pub fn own_member(
    members: &[Member],
    name: &str,
    advertised: &[String],
    compare: impl FnOnce(&[String], &[String]) -> Result<(), String>,
) -> Result<MemberId, InitialClusterError> {
    let Some(me) = members.iter().find(|member| member.attributes.name == name) else {
        return Err(InitialClusterError::NameMissing { name: name.to_owned() });
    };
    let mut advertised = advertised.to_vec();
    advertised.sort();
    let Err(why) = compare(&advertised, &me.peer_urls) else { return Ok(me.id) };
    let without = |urls: &[String], others: &[String]| {
        let distinct: BTreeSet<&String> = urls.iter().filter(|url| !others.contains(url)).collect();
        distinct.into_iter().cloned().collect::<Vec<String>>()
    };
    let named = |urls: &[String]| {
        let pairs: Vec<_> = urls.iter().map(|url| (name.to_owned(), url.clone())).collect();
        listed(&pairs)
    };
    let missing = without(&me.peer_urls, &advertised);
    if !missing.is_empty() {
        let in_cluster = named(&missing);
        return Err(InitialClusterError::NotAdvertised { in_cluster, advertised: advertised.join(","), why });
    }
    // Compat: etcd shows what is advertised as if it were the cluster.
    let cluster = named(&advertised);
    let missing = without(&advertised, &me.peer_urls);
    if !missing.is_empty() {
        return Err(InitialClusterError::NotInCluster { advertised: missing.join(","), cluster });
    }
    Err(InitialClusterError::NotTheSame { advertised: advertised.join(","), cluster, why })
}

/// `name=url,name=url`, sorted.
fn listed(pairs: &[(String, String)]) -> String {
    let mut pairs: Vec<String> = pairs.iter().map(|(name, url)| format!("{name}={url}")).collect();
    pairs.sort();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter().map(|&(name, url)| (name.to_owned(), url.to_owned())).collect()
    }

    fn same_text(one: &[String], other: &[String]) -> Result<(), String> {
        if one == other { Ok(()) } else { Err("they differ".to_owned()) }
    }

    #[test]
    fn members_stand_in_the_order_of_their_ids() {
        let pairs = pairs(&[
            ("b", "http://10.0.0.2:2380"),
            ("a", "http://10.0.0.1:2381"),
            ("a", "http://10.0.0.1:2380"),
        ]);
        let members = initial_members(&pairs, "token").unwrap();
        assert!(members[0].id < members[1].id);
        let a = members.iter().find(|member| member.attributes.name == "a").unwrap();
        assert_eq!(a.peer_urls, ["http://10.0.0.1:2380", "http://10.0.0.1:2381"]);
        assert_eq!(a.id, MemberId::at_bootstrap(&a.peer_urls, "token"));
        let advertised = ["http://10.0.0.1:2381".to_owned(), "http://10.0.0.1:2380".to_owned()];
        assert_eq!(own_member(&members, "a", &advertised, same_text), Ok(a.id));
    }

    #[test]
    fn refusals_are_worded_as_etcd_words_them() {
        let cluster = pairs(&[("a", "http://a:1"), ("b", "http://a:1")]);
        let error = initial_members(&cluster, "").unwrap_err();
        assert_eq!(error.to_string(), "initial cluster a=http://a:1,b=http://a:1 has duplicate url");
        let members = initial_members(&cluster[..1], "").unwrap();
        let refusal = |name: &str, urls: &[&str]| {
            let urls: Vec<_> = urls.iter().map(|&url| url.to_owned()).collect();
            own_member(&members, name, &urls, same_text).unwrap_err().to_string()
        };
        assert_eq!(
            refusal("c", &["http://a:1"]),
            "couldn't find local name \"c\" in the initial cluster configuration"
        );
        assert_eq!(
            refusal("a", &["http://a:2"]),
            "--initial-cluster has a=http://a:1 but missing from --initial-advertise-peer-urls=http://a:2 (they differ)"
        );
        assert_eq!(
            refusal("a", &["http://a:2", "http://a:1"]),
            "--initial-advertise-peer-urls has http://a:2 but missing from --initial-cluster=a=http://a:1,a=http://a:2"
        );
    }
}
