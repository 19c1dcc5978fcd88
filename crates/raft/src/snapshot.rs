//! A prefix of the log folded into state.

use bytes::Bytes;

use crate::conf_state::ConfState;
use crate::position::{EntryId, Index, Term};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotMetadata {
    pub conf_state: ConfState,
    /// The last entry that the snapshot holds.
    pub index: Index,
    pub term: Term,
}

/// `data` belongs to the application; with etcd the state itself travels beside the message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    pub data: Bytes,
    pub metadata: SnapshotMetadata,
}

impl Snapshot {
    /// No snapshot at all. (A cluster's first members begin from one at index 0 that only names the voters.)
    pub fn is_empty(&self) -> bool {
        self.metadata.index == Index::ZERO
    }

    pub fn index(&self) -> Index {
        self.metadata.index
    }

    pub fn term(&self) -> Term {
        self.metadata.term
    }

    pub fn entry_id(&self) -> EntryId {
        EntryId { term: self.metadata.term, index: self.metadata.index }
    }
}

/// How the sending of a snapshot ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SnapshotStatus {
    Finished,
    Failed,
}
