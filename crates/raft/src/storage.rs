//! What the core reads back: the durable part of the log.

use std::fmt;

use crate::conf_state::ConfState;
use crate::entry::Entry;
use crate::hard_state::HardState;
use crate::position::{Index, Term};
use crate::snapshot::Snapshot;

/// What a member knows when it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InitialState {
    pub hard_state: HardState,
    /// The membership at [`crate::Config::applied`].
    pub conf_state: ConfState,
}

/// Read side of the log that the driver keeps, in memory or not. It holds `first_index()..=last_index()`,
/// and the term of the entry before the first.
pub trait Storage {
    fn initial_state(&self) -> InitialState;

    /// Entries in `low..end`, as many from the front as fit into `bytes_max`, but at least one.
    /// `Compacted` when `low` is gone.
    fn entries(&self, low: Index, end: Index, bytes_max: u64) -> Result<Vec<Entry>, StorageError>;

    /// Term of the entry at `index`, which may be the one before the first.
    fn term(&self, index: Index) -> Result<Term, StorageError>;

    fn first_index(&self) -> Index;

    /// `first_index() - 1` when there are no entries.
    fn last_index(&self) -> Index;

    /// The newest snapshot, for a follower that needs entries from before `first_index`. Its index must
    /// be at least `first_index() - 1`. `SnapshotTemporarilyUnavailable` makes raft ask again later.
    fn snapshot(&self) -> Result<Snapshot, StorageError>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StorageError {
    /// The entry has been folded into a snapshot.
    Compacted,
    /// The entry is not there yet.
    Unavailable,
    /// A newer snapshot, or a later compaction, is already there.
    SnapshotOutOfDate,
    SnapshotTemporarilyUnavailable,
}

impl fmt::Display for StorageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StorageError::Compacted => "requested index is unavailable due to compaction",
            StorageError::Unavailable => "requested entry at index is unavailable",
            StorageError::SnapshotOutOfDate => "requested index is older than the existing snapshot",
            StorageError::SnapshotTemporarilyUnavailable => "snapshot is temporarily unavailable",
        })
    }
}

impl std::error::Error for StorageError {}
