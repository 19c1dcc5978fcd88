//! The question for a hash and its answer: Go's plain JSON of protobuf messages, numbers as numbers and zeros left out.

use serde::{Deserialize, Serialize};

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct HashKvRequestJson {
    #[serde(skip_serializing_if = "is_zero")]
    pub revision: i64,
}

impl HashKvRequestJson {
    /// `None`: it is none. Compat: Go takes `null` for an empty object, and an array for an error.
    pub fn parse(body: &[u8]) -> Option<HashKvRequestJson> {
        if body.trim_ascii_start().starts_with(b"[") {
            return None;
        }
        serde_json::from_slice::<Option<HashKvRequestJson>>(body).ok().map(Option::unwrap_or_default)
    }
}

#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HashKvJson {
    pub header: HashKvHeaderJson,
    #[serde(skip_serializing_if = "is_zero")]
    pub hash: u32,
    #[serde(skip_serializing_if = "is_zero")]
    pub compact_revision: i64,
    /// Compat: 0 from etcd before 3.5.5.
    #[serde(skip_serializing_if = "is_zero")]
    pub hash_revision: i64,
}

/// Compat: other fields of the header are not filled in.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HashKvHeaderJson {
    #[serde(skip_serializing_if = "is_zero")]
    pub revision: i64,
}

fn is_zero<N: Default + PartialEq>(number: &N) -> bool {
    *number == N::default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_go_takes() {
        let revision = |body: &str| HashKvRequestJson::parse(body.as_bytes()).map(|request| request.revision);
        assert_eq!(revision("{\"revision\":4}"), Some(4));
        assert_eq!((revision("{}"), revision("null")), (Some(0), Some(0)));
        assert_eq!((revision(""), revision(" [4]"), revision("{\"revision\":\"4\"}")), (None, None, None));
    }

    #[test]
    fn numbers_are_plain_and_zeros_absent() {
        let answer = HashKvJson {
            header: HashKvHeaderJson { revision: 5 },
            hash: 4_000_000_000,
            compact_revision: 0,
            hash_revision: 4,
        };
        let json = serde_json::to_string(&answer).unwrap();
        assert_eq!(json, r#"{"header":{"revision":5},"hash":4000000000,"hash_revision":4}"#);
        let back: HashKvJson = serde_json::from_str(&json).unwrap();
        assert_eq!(back, answer);
    }
}
