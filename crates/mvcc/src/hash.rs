//! Checksums by which members compare their data.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::key_range::KeyRange;
use crate::range::ReadAt;
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::source::SourceError;
use crate::view::View;

/// CRC-32C over what is written, as Go's `hash/crc32` counts it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Checksum {
    sum: u32,
}

impl Checksum {
    pub fn write(&mut self, bytes: &[u8]) {
        self.sum = crc32c::crc32c_append(self.sum, bytes);
    }

    pub fn sum(self) -> u32 {
        self.sum
    }
}

/// Name of the bucket that holds the records; the checksum starts with it.
pub const KEY_BUCKET: &[u8] = b"key";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvHash {
    pub hash: u32,
    /// The revision up to which records were hashed.
    pub revision: Revision,
    pub compact_revision: Option<Revision>,
}

/// `HashKV`: equal on all members that hold the same records up to a revision and are compacted at the same
/// one, whether or not their compactions have reached the file.
///
/// Records up to the compact revision count only when a reader at the hashed revision sees them. Compat:
/// should there be no such key at all, they all count (etcd `storage/mvcc/hash.go`), and then the file of a
/// member that still holds garbage differs, there as here.
pub fn hash_kv(view: &View, at: ReadAt) -> Result<KvHash, MvccError> {
    let revision = view.snapshot().resolve(at)?;
    Ok(hash_up_to(view, &view.index, view.compact_revision(), revision, SomeExist::Live)?)
}

/// When a hash may leave out old records: somebody exists at its revision. Etcd asks its index in two ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SomeExist {
    /// Source: etcd `storage/mvcc/index.go`, `Keep`.
    Live,
    /// Compat: a key that was deleted at this very revision counts, too. With it each revision has somebody.
    /// Source: `Compact`.
    LiveOrDeletedThen,
}

/// `index` decides what counts, `view` gives the bytes.
pub(crate) fn hash_up_to(
    view: &View,
    index: &KeyIndex,
    compact_revision: Option<Revision>,
    revision: Revision,
    some_exist: SomeExist,
) -> Result<KvHash, SourceError> {
    let mut kept = Kept::at(index, compact_revision, revision);
    kept.some_exist |= some_exist == SomeExist::LiveOrDeletedThen && kept.some_deleted;
    let mut checksum = Checksum::default();
    checksum.write(KEY_BUCKET);
    view.scan_records(RevisionPair::default(), &mut |key, value| {
        if key.revision.main > revision {
            return ControlFlow::Break(());
        }
        if kept.counts(key) {
            checksum.write(&key.to_bytes());
            checksum.write(value);
        }
        ControlFlow::Continue(())
    })?;
    Ok(KvHash { hash: checksum.sum(), revision, compact_revision })
}

/// The newest hashes made by compactions. `HashKV` and peers that ask for exactly such a revision get them,
/// as it may no longer be computed.
#[derive(Clone, Debug, Default)]
pub struct CompactionHashes {
    /// Ascending by revision.
    hashes: VecDeque<KvHash>,
}

/// Source: etcd `storage/mvcc/hash.go` hashStorageMaxSize.
const COMPACTION_HASHES_MAX: usize = 10;

impl CompactionHashes {
    pub fn insert(&mut self, hash: KvHash) {
        let at = self.hashes.partition_point(|one| one.revision <= hash.revision);
        self.hashes.insert(at, hash);
        if self.hashes.len() > COMPACTION_HASHES_MAX {
            self.hashes.pop_front();
        }
    }

    /// Those behind a revision, the newest first.
    pub fn newer_than(&self, revision: Revision) -> Vec<KvHash> {
        self.hashes.iter().rev().take_while(|hash| hash.revision > revision).copied().collect()
    }

    pub fn get(&self, revision: Revision) -> Option<KvHash> {
        self.hashes.iter().find(|hash| hash.revision == revision).copied()
    }
}

struct Kept {
    compact_revision: Option<Revision>,
    /// Whether any key exists at the hashed revision.
    some_exist: bool,
    /// Whether one was deleted by it.
    some_deleted: bool,
    /// The records of such keys up to the compact revision, ascending.
    old: Vec<RevisionPair>,
}

impl Kept {
    fn at(index: &KeyIndex, compact_revision: Option<Revision>, revision: Revision) -> Kept {
        let mut kept = Kept { compact_revision, some_exist: false, some_deleted: false, old: Vec::new() };
        index.walk(&KeyRange::all(), &mut |_, entry| {
            match entry.at(revision) {
                Some(found) if found.is_tombstone() => kept.some_deleted |= found.main() == revision,
                Some(found) => {
                    kept.some_exist = true;
                    if Some(found.main()) <= compact_revision {
                        kept.old.push(found.revision());
                    }
                }
                None => {}
            }
            ControlFlow::Continue(())
        });
        kept.old.sort_unstable();
        kept
    }

    fn counts(&self, key: RecordKey) -> bool {
        let main = Some(key.revision.main);
        // Compat: etcd before 3.5.16 deletes a tombstone at the compact revision itself.
        if main == self.compact_revision && key.tombstone {
            return false;
        }
        main > self.compact_revision || !self.some_exist || self.old.binary_search(&key.revision).is_ok()
    }
}

impl View {
    /// Visits all records at or behind `from`, in the file and pending, in revision order.
    pub(crate) fn scan_records(
        &self,
        from: RevisionPair,
        visit: &mut dyn FnMut(RecordKey, &[u8]) -> ControlFlow<()>,
    ) -> Result<(), SourceError> {
        let mut outcome = Ok(ControlFlow::Continue(()));
        self.source.scan(&from.to_bytes(), &mut |key, value| {
            match SourceError::parse_key(key) {
                // From the first pending record on, the file may know less or (just folded) the same.
                Ok(key) if self.pending.holds(key.revision) => return ControlFlow::Break(()),
                Ok(key) => outcome = Ok(visit(key, value)),
                Err(error) => outcome = Err(error),
            }
            match outcome {
                Ok(flow) => flow,
                Err(_) => ControlFlow::Break(()),
            }
        })?;
        if outcome?.is_continue() {
            for record in self.pending.records_from(from) {
                if visit(record.key, &record.value).is_break() {
                    break;
                }
            }
        }
        Ok(())
    }
}
