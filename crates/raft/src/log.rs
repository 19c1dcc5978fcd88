//! The log as the core sees it: durable entries in the storage, the rest in [`Unstable`], and how far it is
//! committed and applied.

use crate::entry::{Entry, EntryKind, count_within, encoded_bytes_of};
use crate::position::{EntryId, Index, Term};
use crate::snapshot::Snapshot;
use crate::storage::{Storage, StorageError};
use crate::unstable::Unstable;

/// Invariant: `applied <= applying <= committed <= last_index`.
#[derive(Debug)]
pub(crate) struct Log<S> {
    pub storage: S,
    pub unstable: Unstable,
    committed: Index,
    /// Handed out for applying.
    applying: Index,
    applied: Index,
    /// Bytes that may be handed out and not yet applied. Full: nothing more is handed out.
    applying_bytes_max: u64,
    applying_bytes: u64,
    applying_paused: bool,
}

impl<S: Storage> Log<S> {
    pub fn new(storage: S, applying_bytes_max: u64) -> Log<S> {
        let compacted = storage.first_index().prev();
        let next = storage.last_index().next();
        Log {
            storage,
            unstable: Unstable::new(next),
            committed: compacted,
            applying: compacted,
            applied: compacted,
            applying_bytes_max,
            applying_bytes: 0,
            applying_paused: false,
        }
    }

    pub fn committed(&self) -> Index {
        self.committed
    }

    pub fn applying(&self) -> Index {
        self.applying
    }

    pub fn applied(&self) -> Index {
        self.applied
    }

    pub fn first_index(&self) -> Index {
        self.unstable.first_index().unwrap_or_else(|| self.storage.first_index())
    }

    pub fn last_index(&self) -> Index {
        self.unstable.last_index().unwrap_or_else(|| self.storage.last_index())
    }

    pub fn last_id(&self) -> EntryId {
        let index = self.last_index();
        match self.term(index) {
            Ok(term) => EntryId { term, index },
            Err(error) => panic!("the storage lost the term of its last entry {index}: {error}"),
        }
    }

    /// Term of an entry, or of the one before the first.
    pub fn term(&self, index: Index) -> Result<Term, StorageError> {
        if let Some(term) = self.unstable.term(index) {
            return Ok(term);
        }
        if index < self.first_index().prev() {
            return Err(StorageError::Compacted);
        }
        if index > self.last_index() {
            return Err(StorageError::Unavailable);
        }
        self.storage.term(index)
    }

    pub fn matches(&self, id: EntryId) -> bool {
        self.term(id.index) == Ok(id.term)
    }

    /// True when a log that ends with `other` is at least as complete as ours: who votes for its owner
    /// cannot lose a committed entry.
    pub fn is_up_to_date(&self, other: EntryId) -> bool {
        let ours = self.last_id();
        other.term > ours.term || (other.term == ours.term && other.index >= ours.index)
    }

    /// Entries in `low..end`, as many from the front as fit; at least one.
    pub fn slice(&self, low: Index, end: Index, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        assert!(low <= end, "log slice {low}..{end}");
        if low < self.first_index() {
            return Err(StorageError::Compacted);
        }
        assert!(
            end <= self.last_index().next(),
            "log slice {low}..{end} ends after the last index {}",
            self.last_index()
        );
        if low == end {
            return Ok(Vec::new());
        }
        let offset = self.unstable.offset();
        if low >= offset {
            let wanted = self.unstable.slice(low, end);
            return Ok(wanted[..count_within(wanted, bytes_max)].to_vec());
        }

        let cut = end.min(offset);
        let mut entries = match self.storage.entries(low, cut, bytes_max) {
            Ok(entries) => entries,
            Err(StorageError::Compacted) => return Err(StorageError::Compacted),
            Err(error) => panic!("the storage lost entries {low}..{cut}: {error}"),
        };
        let is_cut_short = (entries.len() as u64) < cut.distance_from(low);
        if end <= offset || is_cut_short {
            return Ok(entries);
        }
        let bytes = encoded_bytes_of(&entries);
        let unstable = self.unstable.slice(offset, end);
        let fits_one = unstable.first().is_some_and(|first| bytes + first.encoded_bytes() <= bytes_max);
        if fits_one {
            entries.extend_from_slice(&unstable[..count_within(unstable, bytes_max - bytes)]);
        }
        Ok(entries)
    }

    /// Entries from `low` to the end, as many as fit.
    pub fn entries_from(&self, low: Index, bytes_max: u64) -> Result<Vec<Entry>, StorageError> {
        if low > self.last_index() {
            return Ok(Vec::new());
        }
        self.slice(low, self.last_index().next(), bytes_max)
    }

    /// Adds a leader's entries after `previous`, if our log holds that, and follows its commit index.
    /// Returns the last index that is now known to match, or `None` when `previous` is not here. The caller has
    /// checked that `previous` is not before the commit index, so nothing committed can be replaced.
    pub fn maybe_append(
        &mut self,
        previous: EntryId,
        entries: &[Entry],
        leader_commit: Index,
    ) -> Option<Index> {
        if !self.matches(previous) {
            return None;
        }
        if let Some(position) = entries.iter().position(|entry| !self.matches(entry.id())) {
            self.append(&entries[position..]);
        }
        let last_new = previous.index.plus(entries.len() as u64);
        self.commit_to(leader_commit.min(last_new));
        Some(last_new)
    }

    /// Adds entries, replacing what is there from the first one's index on.
    pub fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        assert!(
            first.index > self.committed,
            "append at {} would replace committed entries (commit index {})",
            first.index,
            self.committed
        );
        self.unstable.truncate_and_append(entries);
    }

    /// The best guess where this log meets another of which one entry is known: the last index at or before
    /// `id.index` whose term here is not above `id.term`, or is unknown. Terms only rise along a log, so
    /// everything in between is certain to differ.
    ///
    /// ```text
    ///   index      1 2 3 4 5 6 7 8 9
    ///   here       1 3 3 3 5 5 5 5 5
    ///   there      1 1 1 1 2 2          its end, (2, 6), leads to index 1: one probe instead of five
    /// ```
    pub fn find_conflict_by_term(&self, id: EntryId) -> (Index, Term) {
        let mut index = id.index;
        while index > Index::ZERO {
            match self.term(index) {
                Err(_) => return (index, Term::ZERO),
                Ok(term) if term <= id.term => return (index, term),
                Ok(_) => index = index.prev(),
            }
        }
        (Index::ZERO, Term::ZERO)
    }

    /// Commits what a quorum holds, if it is of the leader's own term. An entry of an older term may be
    /// held by a quorum and still be replaced (Raft, figure 8); it is committed along with a newer one.
    pub fn maybe_commit(&mut self, at: EntryId) -> bool {
        if at.index <= self.committed || at.term == Term::ZERO || !self.matches(at) {
            return false;
        }
        self.commit_to(at.index);
        true
    }

    pub fn commit_to(&mut self, index: Index) {
        if index <= self.committed {
            return; // a late message; commit never moves back
        }
        assert!(
            index <= self.last_index(),
            "commit {index} is past the last index {}: was the log lost or truncated?",
            self.last_index()
        );
        self.committed = index;
    }

    /// Sets what a restarted member knew. The caller has checked the range.
    pub fn load_commit(&mut self, commit: Index) {
        assert!(commit >= self.committed && commit <= self.last_index(), "load commit {commit}");
        self.committed = commit;
    }

    /// Replaces the log by a snapshot. Everything in it is committed.
    pub fn restore(&mut self, snapshot: Snapshot) {
        assert!(snapshot.index() > self.committed, "snapshot {} is not news", snapshot.index());
        self.committed = snapshot.index();
        self.unstable.restore(snapshot);
    }

    /// A snapshot for a follower.
    pub fn snapshot(&self) -> Result<Snapshot, StorageError> {
        match self.unstable.snapshot() {
            Some(snapshot) => Ok(snapshot.clone()),
            None => self.storage.snapshot(),
        }
    }

    pub fn has_snapshot_to_install(&self) -> bool {
        self.unstable.snapshot().is_some()
    }

    /// The last index that may be applied: committed, and durable here.
    fn appliable(&self) -> Index {
        self.committed.min(self.unstable.offset().prev())
    }

    /// Whether committed entries are held back until more of those that were handed out is applied.
    pub fn is_applying_paused(&self) -> bool {
        self.applying_paused
    }

    /// A snapshot goes first, and a full window waits.
    pub fn has_next_committed(&self) -> bool {
        !self.applying_paused && !self.has_snapshot_to_install() && self.applying < self.appliable()
    }

    pub fn next_committed(&self) -> Vec<Entry> {
        if !self.has_next_committed() {
            return Vec::new();
        }
        let room = self.applying_bytes_max.saturating_sub(self.applying_bytes);
        let (low, end) = (self.applying.next(), self.appliable().next());
        match self.slice(low, end, room) {
            Ok(entries) => entries,
            Err(error) => {
                panic!("committed entries {low}..{end} were lost before they were applied: {error}")
            }
        }
    }

    /// Notes that committed entries up to `index` were handed out. Pauses when the window is full, or when
    /// it was what cut them short.
    pub fn accept_applying(&mut self, index: Index, bytes: u64) {
        assert!(index > self.applying, "applying {index} again");
        assert!(index <= self.committed, "applying {index} past the commit index {}", self.committed);
        self.applying = index;
        self.applying_bytes += bytes;
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max || index < self.appliable();
    }

    /// Notes that entries up to `index` are applied, and `bytes` of them leave the window.
    pub fn applied_to(&mut self, index: Index, bytes: u64) {
        assert!(index <= self.committed, "applied {index} past the commit index {}", self.committed);
        assert!(index >= self.applied, "applied {index} after {}", self.applied);
        self.applied = index;
        self.applying = self.applying.max(index);
        self.applying_bytes = self.applying_bytes.saturating_sub(bytes);
        self.applying_paused = self.applying_bytes >= self.applying_bytes_max;
    }

    /// Forgets our copy of entries that are durable now.
    pub fn stable_to(&mut self, id: EntryId) {
        let before = self.unstable.offset();
        self.unstable.stable_to(id);
        if self.unstable.offset() != before {
            assert!(
                self.storage.term(id.index) == Ok(id.term),
                "entry {id} was reported durable, but the storage holds {:?} there",
                self.storage.term(id.index)
            );
        }
    }

    pub fn stable_snapshot_to(&mut self, index: Index) {
        self.unstable.stable_snapshot_to(index);
        assert!(
            self.storage.last_index() >= index,
            "snapshot {index} was reported durable, but the storage ends at {}",
            self.storage.last_index()
        );
    }

    /// True when a configuration change is committed and not applied: until then the member does not know
    /// whose votes it needs.
    pub fn has_unapplied_conf_change(&self) -> bool {
        let end = self.committed.next();
        let mut low = self.applied.next();
        while low < end {
            let page = match self.slice(low, end, self.applying_bytes_max) {
                Ok(entries) => entries,
                Err(error) => panic!("unapplied entries {low}..{end} were lost: {error}"),
            };
            assert!(!page.is_empty(), "no entries in {low}..{end}");
            if page.iter().any(|entry| entry.kind != EntryKind::Normal) {
                return true;
            }
            low = low.plus(page.len() as u64);
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::memory_storage::MemoryStorage;

    fn entries(terms: &[u64], first: u64) -> Vec<Entry> {
        let at = |(offset, &term): (usize, &u64)| Entry {
            term: Term(term),
            index: Index(first + offset as u64),
            data: Bytes::from_static(b"data"),
            ..Entry::default()
        };
        terms.iter().enumerate().map(at).collect()
    }

    /// A log with these terms from index 1; the first `durable` of them are in the storage.
    fn log(terms: &[u64], durable: usize) -> Log<MemoryStorage> {
        let mut storage = MemoryStorage::new();
        storage.append(&entries(&terms[..durable], 1));
        let mut log = Log::new(storage, u64::MAX);
        log.append(&entries(&terms[durable..], 1 + durable as u64));
        log
    }

    fn id(term: u64, index: u64) -> EntryId {
        EntryId::new(Term(term), Index(index))
    }

    fn terms(log: &Log<MemoryStorage>) -> Vec<u64> {
        log.entries_from(log.first_index(), u64::MAX).unwrap().iter().map(|entry| entry.term.0).collect()
    }

    #[test]
    fn log_matching_table() {
        struct Case {
            name: &'static str,
            previous: (u64, u64),
            appended: &'static [u64],
            leader_commit: u64,
            last_new: Option<u64>,
            after: &'static [u64],
            commit: u64,
        }
        // Our log is 1 2 3 with commit index 1.
        let table = [
            Case {
                name: "previous has another term",
                previous: (2, 3),
                appended: &[4],
                leader_commit: 3,
                last_new: None,
                after: &[1, 2, 3],
                commit: 1,
            },
            Case {
                name: "previous is past our end",
                previous: (3, 4),
                appended: &[4],
                leader_commit: 3,
                last_new: None,
                after: &[1, 2, 3],
                commit: 1,
            },
            Case {
                name: "previous is absurdly far",
                previous: (3, u64::MAX),
                appended: &[],
                leader_commit: 3,
                last_new: None,
                after: &[1, 2, 3],
                commit: 1,
            },
            Case {
                name: "nothing new",
                previous: (3, 3),
                appended: &[],
                leader_commit: 3,
                last_new: Some(3),
                after: &[1, 2, 3],
                commit: 3,
            },
            Case {
                name: "commit is cut to what matches",
                previous: (2, 2),
                appended: &[],
                leader_commit: 9,
                last_new: Some(2),
                after: &[1, 2, 3],
                commit: 2,
            },
            Case {
                name: "commit never moves back",
                previous: (3, 3),
                appended: &[],
                leader_commit: 0,
                last_new: Some(3),
                after: &[1, 2, 3],
                commit: 1,
            },
            Case {
                name: "from the beginning",
                previous: (0, 0),
                appended: &[1],
                leader_commit: 1,
                last_new: Some(1),
                after: &[1, 2, 3],
                commit: 1,
            },
            Case {
                name: "extends",
                previous: (3, 3),
                appended: &[4, 4],
                leader_commit: 4,
                last_new: Some(5),
                after: &[1, 2, 3, 4, 4],
                commit: 4,
            },
            Case {
                name: "replaces the tail",
                previous: (1, 1),
                appended: &[4],
                leader_commit: 2,
                last_new: Some(2),
                after: &[1, 4],
                commit: 2,
            },
            Case {
                name: "skips what it holds",
                previous: (1, 1),
                appended: &[2, 4],
                leader_commit: 1,
                last_new: Some(3),
                after: &[1, 2, 4],
                commit: 1,
            },
            Case {
                name: "an old append does not truncate",
                previous: (1, 1),
                appended: &[2],
                leader_commit: 1,
                last_new: Some(2),
                after: &[1, 2, 3],
                commit: 1,
            },
        ];
        for case in table {
            for durable in 0..=3 {
                let mut log = log(&[1, 2, 3], durable);
                log.commit_to(Index(1));
                let appended = entries(case.appended, case.previous.1.saturating_add(1));
                let last_new = log.maybe_append(
                    id(case.previous.0, case.previous.1),
                    &appended,
                    Index(case.leader_commit),
                );
                assert_eq!(last_new, case.last_new.map(Index), "{}", case.name);
                assert_eq!(terms(&log), case.after, "{}", case.name);
                assert_eq!(log.committed(), Index(case.commit), "{}", case.name);
            }
        }
    }

    #[test]
    #[should_panic(expected = "would replace committed entries")]
    fn a_committed_entry_is_never_replaced() {
        let mut log = log(&[1, 2, 3], 1);
        log.commit_to(Index(2));
        log.maybe_append(id(1, 1), &entries(&[3], 2), Index(2));
    }

    #[test]
    fn up_to_date_table() {
        let log = log(&[1, 2, 3], 2);
        for (term, index, expected) in
            [(2, 9, false), (3, 2, false), (3, 3, true), (3, 4, true), (4, 1, true), (4, 3, true)]
        {
            assert_eq!(log.is_up_to_date(id(term, index)), expected, "{index} of term {term}");
        }
    }

    #[test]
    fn only_entries_of_the_leader_s_own_term_are_committed_by_counting() {
        let mut log = log(&[1, 2, 3], 3);
        assert!(!log.maybe_commit(id(4, 3)));
        assert!(!log.maybe_commit(id(0, 0)));
        assert!(log.maybe_commit(id(3, 3)));
        assert!(!log.maybe_commit(id(3, 3)));
        assert_eq!(log.committed(), Index(3));
    }

    #[test]
    fn conflict_search_table() {
        let log = log(&[1, 3, 3, 3, 5, 5, 5, 5, 5], 5);
        for (term, index, expected) in [
            (2, 6, (1, 1)),
            (3, 9, (4, 3)),
            (5, 9, (9, 5)),
            (0, 9, (0, 0)),
            (5, 10, (10, 0)),
            (5, u64::MAX, (u64::MAX, 0)),
            (5, 0, (0, 0)),
        ] {
            let (index, term) = log.find_conflict_by_term(id(term, index));
            assert_eq!((index.0, term.0), expected);
        }
    }

    #[test]
    fn entries_are_applied_only_when_committed_and_durable() {
        let mut log = log(&[1, 1, 1], 0);
        log.commit_to(Index(2));
        assert!(log.next_committed().is_empty(), "nothing is durable yet");
        log.unstable.accept_in_progress();
        log.storage.append(&entries(&[1, 1, 1], 1));
        log.stable_to(id(1, 3));
        assert_eq!(log.next_committed().len(), 2);
        log.accept_applying(Index(2), 0);
        assert!(!log.has_next_committed());
    }

    #[test]
    fn the_window_of_entries_being_applied_fills_and_empties() {
        let mut log = log(&[1; 5], 5);
        let one = entries(&[1], 1)[0].encoded_bytes();
        log.applying_bytes_max = 2 * one;
        log.commit_to(Index(5));
        let first = log.next_committed();
        assert_eq!(first.len(), 2);
        log.accept_applying(Index(2), 2 * one);
        assert!(!log.has_next_committed());
        log.applied_to(Index(1), one);
        assert_eq!(log.next_committed().len(), 1);
        log.accept_applying(Index(3), one);
        log.applied_to(Index(3), 2 * one);
        assert_eq!(log.next_committed().len(), 2);
    }

    proptest! {
        /// A slice across storage and unstable entries is a slice of the whole.
        #[test]
        fn slices_agree_with_the_whole(
            count in 1usize..12,
            durable in 0usize..12,
            low in 1u64..13,
            len in 0u64..13,
            bytes_max in 0u64..120,
        ) {
            let all = vec![1; count];
            let log = log(&all, durable.min(count));
            let low = low.min(count as u64);
            let end = (low + len).min(count as u64 + 1);
            let whole = &entries(&all, 1)[low as usize - 1..end as usize - 1];
            let expected = &whole[..count_within(whole, bytes_max)];
            prop_assert_eq!(log.slice(Index(low), Index(end), bytes_max).unwrap(), expected);
        }
    }
}
