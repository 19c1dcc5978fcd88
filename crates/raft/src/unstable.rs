//! The end of the log that is not known to be durable.
//!
//! ```text
//! storage ... | offset ......... offset_in_progress ......... end |
//!   durable   |  being written   |   not handed out yet           |
//! ```
//! Reads prefer it to the storage, so entries replicate before they are durable, and a write under way that
//! has been overtaken by another is never seen.

use crate::entry::Entry;
use crate::position::{EntryId, Index, Term};
use crate::snapshot::Snapshot;

/// Invariant: `offset <= offset_in_progress <= offset + entries.len()`.
#[derive(Debug)]
pub(crate) struct Unstable {
    /// A snapshot from the leader that replaces the whole log; `entries` follow it.
    snapshot: Option<Snapshot>,
    snapshot_in_progress: bool,
    entries: Vec<Entry>,
    /// Index of `entries[0]`, or of the next entry when there is none.
    offset: Index,
    /// Entries before it are being written.
    offset_in_progress: Index,
}

impl Unstable {
    pub fn new(offset: Index) -> Unstable {
        Unstable {
            snapshot: None,
            snapshot_in_progress: false,
            entries: Vec::new(),
            offset,
            offset_in_progress: offset,
        }
    }

    pub fn offset(&self) -> Index {
        self.offset
    }

    pub fn snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref()
    }

    pub fn has_entries(&self) -> bool {
        !self.entries.is_empty()
    }

    /// Known only when a snapshot replaces the log.
    pub fn first_index(&self) -> Option<Index> {
        self.snapshot.as_ref().map(|snapshot| snapshot.index().next())
    }

    /// Known when there is anything unstable.
    pub fn last_index(&self) -> Option<Index> {
        let last_entry = self.entries.last().map(|entry| entry.index);
        last_entry.or(self.snapshot.as_ref().map(Snapshot::index))
    }

    pub fn term(&self, index: Index) -> Option<Term> {
        if index < self.offset {
            return self.snapshot.as_ref().filter(|it| it.index() == index).map(Snapshot::term);
        }
        self.entries.get(index.distance_from(self.offset) as usize).map(|entry| entry.term)
    }

    /// Entries in `low..end`, which must all be here.
    pub fn slice(&self, low: Index, end: Index) -> &[Entry] {
        assert!(low <= end, "unstable slice {low}..{end}");
        assert!(low >= self.offset, "unstable slice {low}..{end} begins before {}", self.offset);
        let from = low.distance_from(self.offset) as usize;
        let to = end.distance_from(self.offset) as usize;
        assert!(
            to <= self.entries.len(),
            "unstable slice {low}..{end} ends after {} entries from {}",
            self.entries.len(),
            self.offset
        );
        &self.entries[from..to]
    }

    /// Entries that no write carries yet.
    pub fn next_entries(&self) -> &[Entry] {
        &self.entries[self.offset_in_progress.distance_from(self.offset) as usize..]
    }

    /// The snapshot, when no write carries it yet.
    pub fn next_snapshot(&self) -> Option<&Snapshot> {
        self.snapshot.as_ref().filter(|_| !self.snapshot_in_progress)
    }

    /// All that is here is being written now.
    pub fn accept_in_progress(&mut self) {
        if let Some(last) = self.entries.last() {
            self.offset_in_progress = last.index.next();
        }
        self.snapshot_in_progress = self.snapshot.is_some();
    }

    /// Forgets the entries up to `stable`, which storage holds now. Ignored when another entry has taken
    /// that place since: then its own write is still to come.
    pub fn stable_to(&mut self, stable: EntryId) {
        if stable.index < self.offset || self.term(stable.index) != Some(stable.term) {
            return;
        }
        let count = stable.index.next().distance_from(self.offset) as usize;
        if count == self.entries.len() {
            self.entries = Vec::new();
        } else {
            self.entries.drain(..count);
            if self.entries.len() * 2 < self.entries.capacity() {
                self.entries.shrink_to_fit();
            }
        }
        self.offset = stable.index.next();
        self.offset_in_progress = self.offset_in_progress.max(self.offset);
    }

    pub fn stable_snapshot_to(&mut self, index: Index) {
        if self.snapshot.as_ref().is_some_and(|snapshot| snapshot.index() == index) {
            self.snapshot = None;
            self.snapshot_in_progress = false;
        }
    }

    /// Replaces everything by a snapshot.
    pub fn restore(&mut self, snapshot: Snapshot) {
        *self = Unstable::new(snapshot.index().next());
        self.snapshot = Some(snapshot);
    }

    /// Adds `entries`, replacing what is here from the first one's index on. They must follow what is
    /// before them without a gap.
    pub fn truncate_and_append(&mut self, entries: &[Entry]) {
        let from = entries[0].index;
        let end = self.offset.plus(self.entries.len() as u64);
        assert!(from <= end, "append at {from} leaves a gap after {end}");
        if from <= self.offset {
            self.entries.clear();
            self.offset = from;
            self.offset_in_progress = from;
        } else {
            self.entries.truncate(from.distance_from(self.offset) as usize);
            self.offset_in_progress = self.offset_in_progress.min(from);
        }
        self.entries.extend_from_slice(entries);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf_state::ConfState;
    use crate::snapshot::SnapshotMetadata;

    fn entries(ids: &[(u64, u64)]) -> Vec<Entry> {
        ids.iter()
            .map(|&(term, index)| Entry { term: Term(term), index: Index(index), ..Entry::default() })
            .collect()
    }

    fn snapshot(term: u64, index: u64) -> Snapshot {
        Snapshot {
            metadata: SnapshotMetadata {
                conf_state: ConfState::of_voters([1]),
                index: Index(index),
                term: Term(term),
            },
            ..Snapshot::default()
        }
    }

    fn ids(entries: &[Entry]) -> Vec<(u64, u64)> {
        entries.iter().map(|entry| (entry.term.0, entry.index.0)).collect()
    }

    #[test]
    fn overwritten_entries_are_written_again() {
        let mut unstable = Unstable::new(Index(5));
        unstable.truncate_and_append(&entries(&[(1, 5), (1, 6), (1, 7)]));
        unstable.accept_in_progress();
        assert!(unstable.next_entries().is_empty());
        unstable.truncate_and_append(&entries(&[(2, 6)]));
        assert_eq!(ids(unstable.next_entries()), [(2, 6)]);
        assert_eq!(ids(unstable.slice(Index(5), Index(7))), [(1, 5), (2, 6)]);
    }

    #[test]
    fn stable_to_table() {
        // (what became stable; what is left of 5(1), 6(1), 7(2))
        let table: &[((u64, u64), usize)] =
            &[((1, 4), 3), ((1, 5), 2), ((1, 6), 1), ((2, 6), 3), ((1, 7), 3), ((2, 7), 0), ((2, 8), 3)];
        for &((term, index), left) in table {
            let mut unstable = Unstable::new(Index(5));
            unstable.truncate_and_append(&entries(&[(1, 5), (1, 6), (2, 7)]));
            unstable.accept_in_progress();
            unstable.stable_to(EntryId::new(Term(term), Index(index)));
            assert_eq!(unstable.entries.len(), left, "stable {index} of term {term}");
            assert_eq!(unstable.offset, Index(8 - left as u64));
            assert!(unstable.next_entries().is_empty());
        }
    }

    #[test]
    fn a_snapshot_replaces_entries_and_is_handed_out_once() {
        let mut unstable = Unstable::new(Index(5));
        unstable.truncate_and_append(&entries(&[(1, 5)]));
        unstable.restore(snapshot(2, 9));
        assert_eq!((unstable.first_index(), unstable.last_index()), (Some(Index(10)), Some(Index(9))));
        assert_eq!(unstable.term(Index(9)), Some(Term(2)));
        assert_eq!(unstable.term(Index(8)), None);
        assert!(unstable.next_snapshot().is_some());
        unstable.accept_in_progress();
        assert!(unstable.next_snapshot().is_none());
        // An entry's acknowledgement does not concern the snapshot.
        unstable.stable_to(EntryId::new(Term(2), Index(9)));
        assert!(unstable.snapshot().is_some());
        unstable.stable_snapshot_to(Index(8));
        assert!(unstable.snapshot().is_some());
        unstable.stable_snapshot_to(Index(9));
        assert!(unstable.snapshot().is_none());
        assert_eq!(unstable.last_index(), None);
    }

    #[test]
    fn truncating_before_the_offset_replaces_all() {
        let mut unstable = Unstable::new(Index(5));
        unstable.truncate_and_append(&entries(&[(1, 5), (1, 6)]));
        unstable.accept_in_progress();
        unstable.truncate_and_append(&entries(&[(3, 4)]));
        assert_eq!(unstable.offset, Index(4));
        assert_eq!(ids(unstable.next_entries()), [(3, 4)]);
    }
}
