//! Members and versions as the file holds them: JSON under the bucket keys of etcd's
//! `server/storage/schema`. The field order is Go's, because Hash covers these bytes.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::MemberId;
use crate::member::{Attributes, Member};

/// A bucket of the file that membership writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    Members,
    MembersRemoved,
    Cluster,
}

impl Bucket {
    pub fn name(self) -> &'static [u8] {
        match self {
            Bucket::Members => b"members",
            Bucket::MembersRemoved => b"members_removed",
            Bucket::Cluster => b"cluster",
        }
    }
}

/// One write to the file; no value deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub bucket: Bucket,
    pub key: Vec<u8>,
    pub value: Option<Vec<u8>>,
}

/// A record of the file, or a context of a configuration change, that is not what etcd writes.
#[derive(Debug)]
pub struct RecordError {
    pub what: &'static str,
    pub key: String,
    pub reason: String,
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read {} {:?}: {}", self.what, self.key, self.reason)
    }
}

impl std::error::Error for RecordError {}

#[derive(Serialize, Deserialize)]
struct MemberJson {
    id: u64,
    #[serde(rename = "peerURLs", default, deserialize_with = "null_as_empty")]
    peer_urls: Vec<String>,
    #[serde(rename = "isLearner", default, skip_serializing_if = "is_false")]
    is_learner: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(
        rename = "clientURLs",
        default,
        skip_serializing_if = "Vec::is_empty",
        deserialize_with = "null_as_empty"
    )]
    client_urls: Vec<String>,
    #[serde(rename = "isPromote", default, skip_serializing_if = "is_false")]
    is_promote: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// Go writes a nil slice as `null`.
fn null_as_empty<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}

/// The `downgrade` record of the `cluster` bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DowngradeRecord {
    #[serde(rename = "target-version")]
    pub target_version: String,
    pub enabled: bool,
}

/// As Go writes it, which leaves nothing in strings that a browser could take for a tag.
fn go_json(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and numbers always serialise");
    let is_special = |c: char| matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
    if !json.contains(is_special) {
        return json;
    }
    // None of these stands outside of strings.
    let mut escaped = String::with_capacity(json.len() + 16);
    for c in json.chars() {
        match is_special(c) {
            true => escaped += &format!("\\u{:04x}", u32::from(c)),
            false => escaped.push(c),
        }
    }
    escaped
}

impl From<&Member> for MemberJson {
    fn from(member: &Member) -> MemberJson {
        MemberJson {
            id: member.id.0,
            peer_urls: member.peer_urls.clone(),
            is_learner: member.is_learner,
            name: member.attributes.name.clone(),
            client_urls: member.attributes.client_urls.clone(),
            is_promote: false,
        }
    }
}

impl From<MemberJson> for Member {
    fn from(json: MemberJson) -> Member {
        Member {
            id: MemberId(json.id),
            peer_urls: json.peer_urls,
            is_learner: json.is_learner,
            attributes: Attributes { name: json.name, client_urls: json.client_urls },
        }
    }
}

/// Members as they tell each other who is in the cluster: a JSON array, sorted by id.
pub fn encode_members<'a>(members: impl IntoIterator<Item = &'a Member>) -> String {
    let mut list: Vec<MemberJson> = members.into_iter().map(MemberJson::from).collect();
    list.sort_by_key(|member| member.id);
    go_json(&list)
}

/// What [`encode_members`] of any release made, sorted by id.
///
/// # Errors
/// It is something else.
pub fn decode_members(bytes: &[u8]) -> Result<Vec<Member>, RecordError> {
    let mut list: Vec<MemberJson> = serde_json::from_slice(bytes).map_err(|error| RecordError {
        what: "list of members",
        key: String::new(),
        reason: error.to_string(),
    })?;
    list.sort_by_key(|member| member.id);
    Ok(list.into_iter().map(Member::from).collect())
}

#[derive(Deserialize)]
struct AttributesJson {
    #[serde(default)]
    name: String,
    #[serde(rename = "clientURLs", default, deserialize_with = "null_as_empty")]
    client_urls: Vec<String>,
}

impl Attributes {
    /// Reads what a member of etcd 3.5 writes about itself into the v2 store.
    pub fn from_json(bytes: &[u8]) -> Result<Attributes, RecordError> {
        let json: AttributesJson = serde_json::from_slice(bytes).map_err(|error| RecordError {
            what: "attributes",
            key: String::from_utf8_lossy(bytes).into_owned(),
            reason: error.to_string(),
        })?;
        Ok(Attributes { name: json.name, client_urls: json.client_urls })
    }
}

/// A member as a record or as the context of a configuration change.
pub(crate) fn encode_member(member: &Member) -> Vec<u8> {
    go_json(&MemberJson::from(member)).into_bytes()
}

/// What a promotion carries instead of a member's record: all but its id is known.
pub(crate) fn encode_promotion(id: MemberId) -> Vec<u8> {
    let json = MemberJson {
        id: id.0,
        peer_urls: Vec::new(),
        is_learner: false,
        name: String::new(),
        client_urls: Vec::new(),
        is_promote: true,
    };
    serde_json::to_vec(&json).expect("strings and numbers always serialise")
}

/// A member and whether the change promotes it.
pub(crate) fn decode_member(what: &'static str, bytes: &[u8]) -> Result<(Member, bool), RecordError> {
    let json: MemberJson = serde_json::from_slice(bytes).map_err(|error| RecordError {
        what,
        key: String::from_utf8_lossy(bytes).into_owned(),
        reason: error.to_string(),
    })?;
    let is_promote = json.is_promote;
    Ok((json.into(), is_promote))
}

pub(crate) fn decode_id(what: &'static str, key: &[u8]) -> Result<MemberId, RecordError> {
    let text = String::from_utf8_lossy(key).into_owned();
    match u64::from_str_radix(&text, 16) {
        Ok(id) => Ok(MemberId(id)),
        Err(error) => Err(RecordError { what, key: text, reason: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_the_bytes_that_go_gives_them() {
        let member = |id, name: &str, is_learner| Member {
            id: MemberId(id),
            peer_urls: vec!["http://a:1".to_owned()],
            is_learner,
            attributes: Attributes { name: name.to_owned(), client_urls: Vec::new() },
        };
        let members =
            [member(9, "a<b>&\u{2028}\"", false), member(u64::MAX, "", true), member(7, "x", false)];
        let json = encode_members(&members);
        assert_eq!(
            json,
            concat!(
                r#"[{"id":7,"peerURLs":["http://a:1"],"name":"x"},"#,
                r#"{"id":9,"peerURLs":["http://a:1"],"name":"a\u003cb\u003e\u0026\u2028\""},"#,
                r#"{"id":18446744073709551615,"peerURLs":["http://a:1"],"isLearner":true}]"#,
            )
        );
        let back = decode_members(json.as_bytes()).unwrap();
        assert_eq!(back, [members[2].clone(), members[0].clone(), members[1].clone()]);
        assert!(decode_members(b"{}").is_err());
        assert!(decode_members(b"[{\"id\":-1}]").is_err());
    }
}
