//! What the index knows of one key.

use crate::jump_list::JumpList;
use crate::revision::{RecordKey, Revision, RevisionPair, SUB_MAX};

const TOMBSTONE: u32 = 1 << 31;
const LEASED: u32 = 1 << 30;
const _: () = assert!(SUB_MAX < LEASED);

/// One put or delete of a key: all of the record but value and lease. 32 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Modification {
    main: Revision,
    /// Zero for a tombstone.
    pub create_revision: Revision,
    /// Puts since the key was created; zero for a tombstone (and for the empty record that a restored
    /// snapshot may hold, which is none).
    pub version: u64,
    sub_and_flags: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    None,
    /// Some lease: the record says which.
    Some,
}

impl Modification {
    pub fn put(at: RevisionPair, create_revision: Revision, version: u64, lease: Lease) -> Modification {
        assert!(at.sub <= SUB_MAX, "sub revision {} is out of bounds", at.sub);
        let flags = if lease == Lease::Some { LEASED } else { 0 };
        Modification { main: at.main, create_revision, version, sub_and_flags: at.sub | flags }
    }

    pub fn tombstone(at: RevisionPair) -> Modification {
        assert!(at.sub <= SUB_MAX, "sub revision {} is out of bounds", at.sub);
        let sub_and_flags = at.sub | TOMBSTONE;
        Modification { main: at.main, create_revision: Revision::ZERO, version: 0, sub_and_flags }
    }

    pub fn main(&self) -> Revision {
        self.main
    }

    pub fn revision(&self) -> RevisionPair {
        RevisionPair::new(self.main, self.sub_and_flags & SUB_MAX)
    }

    pub fn is_tombstone(&self) -> bool {
        self.sub_and_flags & TOMBSTONE != 0
    }

    pub fn has_lease(&self) -> bool {
        self.sub_and_flags & LEASED != 0
    }

    pub fn record_key(&self) -> RecordKey {
        RecordKey { revision: self.revision(), tombstone: self.is_tombstone() }
    }
}

/// Modifications in one node of the history. A shared node is copied when it grows, so this bounds what a
/// put of a hot key costs; the nodes behind it are never touched.
const NODE_LEN_MAX: usize = 32;

/// The modifications of one key since the last compaction. Most keys have one, which lies here; older ones
/// are behind a pointer, shared between all copies of the entry.
///
/// A worked example (etcd's `key_index.go` shows the same as generations). `[m]` is the latest, `m.s` are
/// main and sub revision, `+` a put, `x` a tombstone:
///
/// ```text
/// put at 4.0               [4.0+ v1]
/// put at 6.2               [6.2+ v2] 4.0+ v1                at(5) = 4.0, at(6) = 6.2, at(3) = nothing
/// delete at 7.0            [7.0x] 6.2+ v2, 4.0+ v1          at(7) = the tombstone: the key does not exist
/// put at 9.0               [9.0+ v1] 7.0x, 6.2+, 4.0+       a new generation: create_revision 9, version 1
/// compact at 6             [9.0+ v1] 7.0x, 6.2+             4.0 is garbage; 6.2 is what a reader at 6 sees
/// compact at 7             [9.0+ v1] 7.0x                   a tombstone at the compact revision itself stays
/// compact at 8             [9.0+ v1]                        behind it, it goes
/// delete at 10.0, compact at 11                             nothing is left: the entry goes
/// ```
#[derive(Clone)]
pub struct KeyEntry {
    latest: Modification,
    /// Each node ascending.
    older: JumpList<Vec<Modification>>,
}

impl KeyEntry {
    pub fn new(first: Modification) -> KeyEntry {
        KeyEntry { latest: first, older: JumpList::default() }
    }

    pub fn latest(&self) -> &Modification {
        &self.latest
    }

    pub fn is_live(&self) -> bool {
        !self.latest.is_tombstone()
    }

    /// Whether some compaction, at a revision high enough, would drop something.
    pub fn may_hold_garbage(&self) -> bool {
        !self.older.is_empty() || self.latest.is_tombstone()
    }

    pub fn push(&mut self, next: Modification) {
        let old = std::mem::replace(&mut self.latest, next);
        assert!(old.revision() < next.revision(), "{} after {}", next.revision(), old.revision());
        match self.older.newest() {
            Some(node) if node.len() < NODE_LEN_MAX => {
                let grow = |node: &mut Vec<Modification>| node.push(old);
                let copy = |node: &Vec<Modification>| {
                    let mut copy = Vec::with_capacity((node.len() * 2).min(NODE_LEN_MAX));
                    copy.extend_from_slice(node);
                    copy.push(old);
                    copy
                };
                self.older.update_newest(grow, copy);
            }
            _ => self.older.push(vec![old]),
        }
    }

    /// The newest modification at or before this main revision, a tombstone included.
    pub fn at(&self, main: Revision) -> Option<&Modification> {
        if self.latest.main <= main {
            return Some(&self.latest);
        }
        let (node, _) = self.older.find(|node| node[0].main <= main)?;
        let after = node.partition_point(|one| one.main <= main);
        Some(&node[after - 1])
    }

    /// As [`KeyEntry::at`]; `None` also when the key did not exist then.
    pub fn live_at(&self, main: Revision) -> Option<&Modification> {
        self.at(main).filter(|found| !found.is_tombstone())
    }

    /// From the newest to the oldest.
    pub fn iter(&self) -> impl Iterator<Item = &Modification> {
        std::iter::once(&self.latest).chain(self.older.iter().flat_map(|node| node.iter().rev()))
    }

    pub fn has_garbage(&self, compact: Revision) -> bool {
        if self.latest.main <= compact {
            return !self.older.is_empty() || is_dropped_tombstone(&self.latest, compact);
        }
        let Some((node, has_older)) = self.older.find(|node| node[0].main <= compact) else { return false };
        let after = node.partition_point(|one| one.main <= compact);
        has_older || after > 1 || is_dropped_tombstone(&node[after - 1], compact)
    }

    /// Visits what a compaction at `compact` drops, newest first: all that nobody who reads at `compact` or
    /// later can see. A tombstone at exactly `compact` stays, so that a watch from there still sees it.
    pub fn garbage(&self, compact: Revision, visit: &mut impl FnMut(&Modification)) {
        let mut old = self.iter().skip_while(|one| one.main > compact);
        if let Some(newest) = old.next().filter(|newest| is_dropped_tombstone(newest, compact)) {
            visit(newest);
        }
        old.for_each(visit);
    }

    /// Without its garbage; `None` when nothing is left.
    pub fn compacted(&self, compact: Revision) -> Option<KeyEntry> {
        let mut kept: Vec<Modification> = Vec::new();
        for one in self.iter() {
            if one.main > compact {
                kept.push(*one);
            } else {
                if !is_dropped_tombstone(one, compact) {
                    kept.push(*one);
                }
                break;
            }
        }
        let mut oldest_first = kept.into_iter().rev();
        let mut entry = KeyEntry::new(oldest_first.next()?);
        oldest_first.for_each(|one| entry.push(one));
        Some(entry)
    }
}

fn is_dropped_tombstone(newest: &Modification, compact: Revision) -> bool {
    newest.is_tombstone() && newest.main < compact
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(main: u64, sub: u32) -> RevisionPair {
        RevisionPair::new(Revision::new(main).unwrap(), sub)
    }

    fn revision(main: u64) -> Revision {
        Revision::new(main).unwrap()
    }

    fn put(main: u64, sub: u32, created: u64, version: u64) -> Modification {
        Modification::put(pair(main, sub), revision(created), version, Lease::None)
    }

    fn mains(entry: &KeyEntry) -> Vec<u64> {
        entry.iter().map(|one| one.main().get()).collect()
    }

    fn garbage(entry: &KeyEntry, compact: u64) -> Vec<u64> {
        let mut found = Vec::new();
        entry.garbage(revision(compact), &mut |one| found.push(one.main().get()));
        assert_eq!(entry.has_garbage(revision(compact)), !found.is_empty());
        found
    }

    #[test]
    fn the_worked_example() {
        assert_eq!(size_of::<KeyEntry>(), 40);
        let mut entry = KeyEntry::new(put(4, 0, 4, 1));
        entry.push(put(6, 2, 4, 2));
        assert_eq!(entry.at(revision(5)).unwrap().revision(), pair(4, 0));
        assert_eq!(entry.at(revision(6)).unwrap().revision(), pair(6, 2));
        assert_eq!(entry.at(revision(3)), None);
        entry.push(Modification::tombstone(pair(7, 0)));
        assert!(entry.at(revision(7)).unwrap().is_tombstone() && entry.live_at(revision(7)).is_none());
        entry.push(put(9, 0, 9, 1));
        assert_eq!(mains(&entry), [9, 7, 6, 4]);

        assert_eq!(garbage(&entry, 4), []);
        assert_eq!(garbage(&entry, 6), [4]);
        let entry = entry.compacted(revision(6)).unwrap();
        assert_eq!(mains(&entry), [9, 7, 6]);
        assert_eq!(garbage(&entry, 7), [6]);
        let entry = entry.compacted(revision(7)).unwrap();
        assert_eq!(mains(&entry), [9, 7]);
        assert_eq!(garbage(&entry, 8), [7]);
        let mut entry = entry.compacted(revision(8)).unwrap();
        assert_eq!(mains(&entry), [9]);
        assert_eq!(garbage(&entry, 9), []);
        entry.push(Modification::tombstone(pair(10, 0)));
        assert_eq!(garbage(&entry, 10), [9]);
        assert_eq!(garbage(&entry, 11), [10, 9]);
        assert!(entry.compacted(revision(11)).is_none());
    }

    #[test]
    fn long_histories_are_shared_not_copied() {
        let mut entry = KeyEntry::new(put(2, 0, 2, 1));
        let mut copies = Vec::new();
        for main in 3..2000 {
            entry.push(put(main, 0, 2, main - 1));
            copies.push(entry.clone());
        }
        for (at, copy) in copies.iter().enumerate() {
            let newest = at as u64 + 3;
            for main in [2, newest / 2 + 1, newest, 5000] {
                assert_eq!(copy.at(revision(main)).unwrap().main().get(), main.min(newest));
            }
        }
        assert_eq!(mains(&entry.compacted(revision(1900)).unwrap()), (1900..2000).rev().collect::<Vec<_>>());
    }
}
