//! What a committed transaction did, for those who must know: watchers and the lessor.

use bytes::Bytes;

use crate::record::LeaseId;
use crate::revision::{Revision, RevisionPair};

/// One key put or deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub revision: RevisionPair,
    pub key: Bytes,
    /// The event's `kv`, encoded as `mvccpb.KeyValue`. For a put these are the stored record's own bytes;
    /// for a delete, key and mod_revision only.
    pub kv: Bytes,
    pub kind: ChangeKind,
    /// The key's last put before this transaction, for `prev_kv`: [`crate::View::record`] reads it. `None`
    /// when the key did not exist then, or when that state is compacted (in a change read back by
    /// [`crate::View::history`]).
    pub previous: Option<RevisionPair>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    Put {
        /// The key did not exist before this transaction: create_revision = mod_revision.
        created: bool,
    },
    Delete,
}

/// A key that belongs to another lease than before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseChange {
    pub key: Bytes,
    /// The lease named by the previous record. It may be revoked, expired or never have existed.
    pub old: Option<LeaseId>,
    pub new: Option<LeaseId>,
}

/// What one write transaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The transaction's own revision, or the store's unchanged one when it changed nothing.
    pub revision: Revision,
    /// In order of sub revision; empty when nothing changed.
    pub changes: Vec<Change>,
    /// In the order in which they happened. Applying them in order gives the lessor's state.
    pub lease_changes: Vec<LeaseChange>,
}
