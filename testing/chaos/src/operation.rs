//! What a client asked, and what it was answered: the words that histories and checkers share.
//!
//! These mirror the parts of etcd's API that the load uses. They are types of their own because they are
//! what a history file holds: a line of it is to be read by people, and to be read again years later.

use serde::{Deserialize, Serialize};

/// Nanoseconds would pretend; a microsecond is less than any call takes. Counted from the start of the run.
pub type Micros = u64;
/// Main revision of a store. 1 is the empty store.
pub type Revision = i64;
pub type LeaseId = i64;

/// A key and all that the store knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct KeyValue {
    pub key: String,
    pub value: String,
    pub create_revision: Revision,
    pub mod_revision: Revision,
    pub version: i64,
    /// 0: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub lease: LeaseId,
}

/// One key or a range of keys, in etcd's convention: an empty `end` is the key alone, `"\0"` no end.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Span {
    pub key: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub end: String,
}

impl Span {
    pub fn one(key: impl Into<String>) -> Span {
        Span { key: key.into(), end: String::new() }
    }

    pub fn prefix(prefix: &str) -> Span {
        let end = String::from_utf8_lossy(&client::prefix_end(prefix.as_bytes())).into_owned();
        Span { key: prefix.to_owned(), end }
    }

    pub fn everything() -> Span {
        Span { key: "\0".to_owned(), end: "\0".to_owned() }
    }

    pub fn is_everything(&self) -> bool {
        *self == Span::everything()
    }

    pub fn holds(&self, key: &str) -> bool {
        match self.end.as_str() {
            "" => key == self.key,
            "\0" => key >= self.key.as_str(),
            end => key >= self.key.as_str() && key < end,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Put {
    pub key: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub value: String,
    #[serde(default, skip_serializing_if = "is_default")]
    pub lease: LeaseId,
    #[serde(default, skip_serializing_if = "is_default")]
    pub prev_kv: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub ignore_value: bool,
    #[serde(default, skip_serializing_if = "is_default")]
    pub ignore_lease: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Range {
    pub span: Span,
    /// 0: the current one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub revision: Revision,
    #[serde(default, skip_serializing_if = "is_default")]
    pub serializable: bool,
    /// 0: none.
    #[serde(default, skip_serializing_if = "is_default")]
    pub limit: i64,
    #[serde(default, skip_serializing_if = "is_default")]
    pub count_only: bool,
    /// Asked for in pieces, which together must be one answer.
    #[serde(default, skip_serializing_if = "is_default")]
    pub streamed: bool,
}

impl Range {
    pub fn of(span: Span) -> Range {
        Range { span, revision: 0, serializable: false, limit: 0, count_only: false, streamed: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Delete {
    pub span: Span,
    #[serde(default, skip_serializing_if = "is_default")]
    pub prev_kv: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Target {
    Version(i64),
    Create(Revision),
    Mod(Revision),
    Value(String),
    Lease(LeaseId),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Compare {
    pub span: Span,
    pub relation: Relation,
    pub target: Target,
}

/// One step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Step {
    Put(Put),
    Range(Range),
    Delete(Delete),
    Txn(Txn),
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Txn {
    pub compares: Vec<Compare>,
    pub success: Vec<Step>,
    #[serde(default, skip_serializing_if = "is_default")]
    pub failure: Vec<Step>,
}

impl Txn {
    fn steps(&self) -> impl Iterator<Item = &Step> {
        self.success.iter().chain(&self.failure)
    }

    /// Served without the log. Compat: a nested transaction counts as a write, whatever is in it.
    pub fn is_read_only(&self) -> bool {
        self.steps().all(|step| matches!(step, Step::Range(_)))
    }

    /// Compat: a read-only transaction is local only if each of its ranges is.
    pub fn is_serializable(&self) -> bool {
        self.is_read_only()
            && self.steps().all(|step| matches!(step, Step::Range(range) if range.serializable))
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Call {
    Put(Put),
    Range(Range),
    Delete(Delete),
    Txn(Txn),
    Compact { revision: Revision, physical: bool },
    Grant { lease: LeaseId, ttl_secs: i64 },
    Revoke { lease: LeaseId },
    KeepAlive { lease: LeaseId },
}

impl Call {
    /// Whether it can make a revision.
    pub fn may_write(&self) -> bool {
        match self {
            Call::Put(_) | Call::Delete(_) | Call::Revoke { .. } => true,
            Call::Txn(txn) => !txn.is_read_only(),
            Call::Range(_) | Call::Compact { .. } | Call::Grant { .. } | Call::KeepAlive { .. } => false,
        }
    }

    /// Whether a member may answer it from what it has, be that old.
    pub fn is_serializable(&self) -> bool {
        match self {
            Call::Range(range) => range.serializable,
            Call::Txn(txn) => txn.is_serializable(),
            _ => false,
        }
    }
}

/// The answer of one step of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Part {
    /// As the nested header says: the one that the step saw. 0 for a nested transaction.
    pub revision: Revision,
    pub answer: Answer,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Answer {
    Put { prev: Option<KeyValue> },
    Range { kvs: Vec<KeyValue>, more: bool, count: i64 },
    Delete { deleted: i64, prevs: Vec<KeyValue> },
    Txn { succeeded: bool, parts: Vec<Part> },
    Compact,
    Grant { ttl_secs: i64 },
    Revoke,
    KeepAlive { ttl_secs: i64 },
}

impl Answer {
    /// Whether it tells of a change. A revoked lease does not say.
    pub fn changed(&self) -> bool {
        match self {
            Answer::Put { .. } => true,
            Answer::Delete { deleted, .. } => *deleted > 0,
            Answer::Txn { parts, .. } => parts.iter().any(|part| part.answer.changed()),
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// `revision` is the header's.
    Answered { revision: Revision, answer: Answer },
    /// It surely had no effect: refused by a member's word, or never sent.
    Refused { why: String },
    /// Nobody knows: it may take effect at any time from its call on, or never.
    Unknown { why: String },
}

/// A call of a client and how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operation {
    pub id: u64,
    pub client: u32,
    /// The member that was asked, by its place in the cluster.
    pub member: usize,
    pub called: Micros,
    pub finished: Micros,
    /// The answer's Raft term; 0 without one.
    #[serde(default, skip_serializing_if = "is_default")]
    pub term: u64,
    pub call: Call,
    pub outcome: Outcome,
}

impl Operation {
    /// Header revision and answer, if there is one.
    pub fn answered(&self) -> Option<(Revision, &Answer)> {
        match &self.outcome {
            Outcome::Answered { revision, answer } => Some((*revision, answer)),
            Outcome::Refused { .. } | Outcome::Unknown { .. } => None,
        }
    }

    pub fn is_unknown(&self) -> bool {
        matches!(self.outcome, Outcome::Unknown { .. })
    }

    pub fn is_refused(&self) -> bool {
        matches!(self.outcome, Outcome::Refused { .. })
    }
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Event {
    #[serde(default, skip_serializing_if = "is_default")]
    pub deleted: bool,
    /// A deletion brings key and `mod_revision` alone.
    pub kv: KeyValue,
    /// What was there before. In what a watcher got: if it asked for it, and if it was not compacted.
    #[serde(default, skip_serializing_if = "is_default")]
    pub prev: Option<KeyValue>,
}

impl Event {
    /// The same without what was there before.
    pub fn bare(&self) -> Event {
        Event { prev: None, ..self.clone() }
    }
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
