//! The v2 store, as `.snap` files carry it for etcd 3.6 and older.
//!
//! Those releases rebuild their membership from this tree when they take over a directory, so every
//! disk snapshot is accompanied by one. It holds members and cluster version and nothing else.

use std::collections::BTreeMap;

use membership::Cluster;
use serde_json::{Value, json};

/// The tree of a cluster at a log index, as the JSON that etcd's `v2store` saves.
pub fn dump(cluster: &Cluster, index: u64) -> Vec<u8> {
    let members = cluster.members().map(|member| {
        let id = member.id.to_string();
        let path = format!("/0/members/{id}");
        let raft_attributes = match member.is_learner {
            true => json!({"peerURLs": member.peer_urls, "isLearner": true}),
            false => json!({"peerURLs": member.peer_urls}),
        };
        let mut children = BTreeMap::from([(
            "raftAttributes".to_owned(),
            file(&format!("{path}/raftAttributes"), raft_attributes.to_string()),
        )]);
        // As etcd does: who has not told its addresses has no attributes yet, though its name may be known.
        if !member.attributes.client_urls.is_empty() {
            let attributes =
                json!({"name": member.attributes.name, "clientURLs": member.attributes.client_urls});
            children
                .insert("attributes".to_owned(), file(&format!("{path}/attributes"), attributes.to_string()));
        }
        (id, directory(&path, children))
    });
    let members = members.collect();
    let removed = BTreeMap::from_iter(cluster.removed().map(|id| {
        let id = id.to_string();
        let path = format!("/0/removed_members/{id}");
        (id, file(&path, String::new()))
    }));
    let mut store = BTreeMap::from([
        ("members".to_owned(), directory("/0/members", members)),
        ("removed_members".to_owned(), directory("/0/removed_members", removed)),
    ]);
    if let Some(version) = cluster.version() {
        store.insert("version".to_owned(), file("/0/version", version.to_string()));
    }
    let roots = BTreeMap::from([
        ("0".to_owned(), directory("/0", store)),
        ("1".to_owned(), directory("/1", BTreeMap::new())),
    ]);
    let tree = json!({
        "Root": directory("/", roots),
        "WatcherHub": {
            "EventHistory": {
                "Queue": {"Events": vec![Value::Null; EVENTS], "Size": 0, "Front": 0, "Back": 0, "Capacity": EVENTS},
                "StartIndex": 0,
                "LastIndex": 0,
            },
        },
        "CurrentIndex": index,
        "Stats": {},
        "CurrentVersion": 2,
    });
    tree.to_string().into_bytes()
}

/// Events that the tree's own history has room for; a reader sizes its queue by it.
const EVENTS: usize = 1000;

fn directory(path: &str, children: BTreeMap<String, Value>) -> Value {
    node(path, String::new(), json!(children))
}

fn file(path: &str, value: String) -> Value {
    node(path, value, Value::Null)
}

fn node(path: &str, value: String, children: Value) -> Value {
    json!({
        "Path": path,
        "CreatedIndex": 0,
        "ModifiedIndex": 0,
        "ExpireTime": "0001-01-01T00:00:00Z",
        "Value": value,
        "Children": children,
    })
}

#[cfg(test)]
mod tests {
    use membership::{Attributes, Member, MemberChange, MemberId, Version};

    use super::*;

    #[test]
    fn the_tree_holds_members_and_version() {
        let mut cluster = Cluster::default();
        cluster.apply(MemberChange::Add(Member {
            id: MemberId(0xab),
            peer_urls: vec!["http://a:1".to_owned()],
            is_learner: false,
            attributes: Attributes { name: "n".to_owned(), client_urls: vec!["http://c:2".to_owned()] },
        }));
        cluster.apply(MemberChange::Add(Member {
            id: MemberId(0xcd),
            peer_urls: vec!["http://b:1".to_owned()],
            is_learner: false,
            attributes: Attributes { name: "not started".to_owned(), client_urls: vec![] },
        }));
        cluster.set_version(Version::new(3, 7));
        let tree: Value = serde_json::from_slice(&dump(&cluster, 42)).unwrap();
        let store = &tree["Root"]["Children"]["0"]["Children"];
        assert_eq!(store["version"]["Value"], "3.7.0");
        let member = &store["members"]["Children"]["ab"]["Children"];
        assert_eq!(member["raftAttributes"]["Value"], r#"{"peerURLs":["http://a:1"]}"#);
        assert_eq!(member["attributes"]["Value"], r#"{"clientURLs":["http://c:2"],"name":"n"}"#);
        assert_eq!(store["members"]["Children"]["cd"]["Children"]["attributes"], Value::Null);
        assert_eq!(tree["CurrentIndex"], 42);
    }
}
