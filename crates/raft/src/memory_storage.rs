//! The log's tail in memory: what replication reads, and what the files behind it already hold.

use bytes::Bytes;

use crate::conf_state::ConfState;
use crate::entry::{Entry, count_within};
use crate::hard_state::HardState;
use crate::position::{EntryId, Index, Term};
use crate::snapshot::{Snapshot, SnapshotMetadata};
use crate::storage::{InitialState, Storage, StorageError};

/// Entries after `before`, without gaps. Owned by the raft thread through [`crate::RawNode::storage_mut`].
///
/// The driver appends what a [`crate::Persist`] carries when it takes it out of `Ready` (then nothing has to
/// be kept until the acknowledgement) or when it is durable; both are safe, as the core reads its own copy
/// until the acknowledgement.
#[derive(Clone, Debug, Default)]
pub struct MemoryStorage {
    hard_state: HardState,
    snapshot: Snapshot,
    /// Id of the entry before `entries`: compacted away, its term still known.
    before: EntryId,
    entries: Vec<Entry>,
}

impl MemoryStorage {
    pub fn new() -> MemoryStorage {
        MemoryStorage::default()
    }

    /// An empty log of a cluster whose first members are `conf_state`.
    pub fn with_conf_state(conf_state: ConfState) -> MemoryStorage {
        MemoryStorage {
            snapshot: Snapshot {
                data: Bytes::new(),
                metadata: SnapshotMetadata { conf_state, ..SnapshotMetadata::default() },
            },
            ..MemoryStorage::default()
        }
    }

    pub fn set_hard_state(&mut self, hard_state: HardState) {
        self.hard_state = hard_state;
    }

    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// Sets the membership that a restart begins with, without making a snapshot.
    pub fn set_conf_state(&mut self, conf_state: ConfState) {
        self.snapshot.metadata.conf_state = conf_state;
    }

    /// Adds entries, replacing those from the first one's index on. Entries that are already compacted are
    /// skipped. Panics on a gap: the log would be wrong from there on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        let last = entries[entries.len() - 1].index;
        if last <= self.before.index {
            return;
        }
        let skip = self.first_index().distance_from(first.index) as usize;
        let entries = &entries[skip..];
        let keep = entries[0].index.distance_from(self.first_index()) as usize;
        assert!(
            keep <= self.entries.len(),
            "missing log entry: last {}, append at {}",
            self.last_index(),
            entries[0].index
        );
        self.entries.truncate(keep);
        self.entries.extend_from_slice(entries);
    }

    /// Drops the entries up to and including `index`.
    pub fn compact(&mut self, index: Index) -> Result<(), StorageError> {
        if index <= self.before.index {
            return Err(StorageError::Compacted);
        }
        assert!(index <= self.last_index(), "compact {index} is beyond the last index {}", self.last_index());
        let count = index.distance_from(self.before.index) as usize;
        self.before = self.entries[count - 1].id();
        self.entries.drain(..count);
        Ok(())
    }

    /// Replaces everything by a snapshot that came from the leader.
    pub fn apply_snapshot(&mut self, snapshot: Snapshot) -> Result<(), StorageError> {
        let has_one = !self.snapshot.is_empty();
        if has_one && self.snapshot.index() >= snapshot.index() {
            return Err(StorageError::SnapshotOutOfDate);
        }
        self.before = snapshot.entry_id();
        self.entries.clear();
        self.snapshot = snapshot;
        Ok(())
    }

    /// Makes a snapshot at an applied index; the log is kept until [`MemoryStorage::compact`].
    pub fn create_snapshot(
        &mut self,
        index: Index,
        conf_state: ConfState,
        data: Bytes,
    ) -> Result<Snapshot, StorageError> {
        if index <= self.snapshot.index() {
            return Err(StorageError::SnapshotOutOfDate);
        }
        assert!(
            index <= self.last_index(),
            "snapshot {index} is beyond the last index {}",
            self.last_index()
        );
        let term = self.term(index)?;
        self.snapshot = Snapshot { data, metadata: SnapshotMetadata { conf_state, index, term } };
        Ok(self.snapshot.clone())
    }
}

impl Storage for MemoryStorage {
    fn initial_state(&self) -> InitialState {
        InitialState { hard_state: self.hard_state, conf_state: self.snapshot.metadata.conf_state.clone() }
    }

    fn entries(&self, low: Index, end: Index, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        if low <= self.before.index {
            return Err(StorageError::Compacted);
        }
        if end > self.last_index().next() || self.entries.is_empty() {
            return Err(StorageError::Unavailable);
        }
        let from = low.distance_from(self.first_index()) as usize;
        let to = end.distance_from(self.first_index()) as usize;
        let wanted = &self.entries[from..to];
        Ok(wanted[..count_within(wanted, bytes_max)].to_vec())
    }

    fn term(&self, index: Index) -> Result<Term, StorageError> {
        if index < self.before.index {
            return Err(StorageError::Compacted);
        }
        if index == self.before.index {
            return Ok(self.before.term);
        }
        let position = index.distance_from(self.first_index()) as usize;
        self.entries.get(position).map(|entry| entry.term).ok_or(StorageError::Unavailable)
    }

    fn first_index(&self) -> Index {
        self.before.index.next()
    }

    fn last_index(&self) -> Index {
        self.before.index.plus(self.entries.len() as u64)
    }

    fn snapshot(&self) -> Result<Snapshot, StorageError> {
        Ok(self.snapshot.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
        ids.iter()
            .map(|&(term, index)| Entry { term: Term(term), index: Index(index), ..Entry::default() })
            .collect()
    }

    fn storage(ids: &[(u64, u64)]) -> MemoryStorage {
        let mut storage = MemoryStorage::new();
        let ids = entries(ids);
        storage.before = EntryId::new(ids[0].term, ids[0].index);
        storage.append(&ids[1..]);
        storage
    }

    fn held(storage: &MemoryStorage) -> Vec<(u64, u64)> {
        storage.entries.iter().map(|entry| (entry.term.0, entry.index.0)).collect()
    }

    #[test]
    fn append_table() {
        // (what is appended to 3(3), 4(4), 5(5) after a compaction at 3; what is held afterwards)
        type Ids = &'static [(u64, u64)];
        let table: &[(Ids, Ids)] = &[
            (&[(1, 1), (2, 2)], &[(4, 4), (5, 5)]),
            (&[(3, 3), (4, 4), (5, 5)], &[(4, 4), (5, 5)]),
            (&[(3, 3), (6, 4), (6, 5)], &[(6, 4), (6, 5)]),
            (&[(3, 3), (4, 4), (5, 5), (5, 6)], &[(4, 4), (5, 5), (5, 6)]),
            (&[(2, 2), (3, 3), (5, 4)], &[(5, 4)]),
            (&[(5, 4)], &[(5, 4)]),
            (&[(5, 6)], &[(4, 4), (5, 5), (5, 6)]),
        ];
        for (appended, expected) in table {
            let mut storage = storage(&[(3, 3), (4, 4), (5, 5)]);
            storage.append(&entries(appended));
            assert_eq!(held(&storage), *expected, "append {appended:?}");
        }
    }

    #[test]
    #[should_panic(expected = "missing log entry")]
    fn append_never_leaves_a_gap() {
        storage(&[(3, 3), (4, 4)]).append(&entries(&[(5, 6)]));
    }

    #[test]
    fn reads_at_the_edges() {
        let storage = storage(&[(3, 3), (4, 4), (5, 5), (6, 6)]);
        assert_eq!(storage.term(Index(2)), Err(StorageError::Compacted));
        assert_eq!(storage.term(Index(3)), Ok(Term(3)));
        assert_eq!(storage.term(Index(6)), Ok(Term(6)));
        assert_eq!(storage.term(Index(7)), Err(StorageError::Unavailable));
        assert_eq!(storage.entries(Index(3), Index(5), u64::MAX), Err(StorageError::Compacted));
        assert_eq!(storage.entries(Index(4), Index(8), u64::MAX), Err(StorageError::Unavailable));
        assert_eq!(storage.entries(Index(4), Index(7), u64::MAX).unwrap().len(), 3);
        assert_eq!(storage.entries(Index(4), Index(7), 0).unwrap().len(), 1);
    }

    #[test]
    fn compaction_and_snapshots_only_move_forward() {
        let mut storage = storage(&[(3, 3), (4, 4), (5, 5), (6, 6)]);
        assert_eq!(storage.compact(Index(3)), Err(StorageError::Compacted));
        storage.compact(Index(5)).unwrap();
        assert_eq!((storage.first_index(), storage.last_index()), (Index(6), Index(6)));
        let made = storage.create_snapshot(Index(6), ConfState::of_voters([1]), Bytes::new()).unwrap();
        assert_eq!(made.entry_id(), EntryId::new(Term(6), Index(6)));
        assert_eq!(
            storage.create_snapshot(Index(6), ConfState::default(), Bytes::new()),
            Err(StorageError::SnapshotOutOfDate)
        );
        assert_eq!(storage.apply_snapshot(made.clone()), Err(StorageError::SnapshotOutOfDate));
        let mut newer = made;
        newer.metadata.index = Index(9);
        storage.apply_snapshot(newer).unwrap();
        assert_eq!((storage.first_index(), storage.last_index()), (Index(10), Index(9)));
    }
}
