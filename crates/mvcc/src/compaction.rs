//! Deleting what a compaction left without readers.
//!
//! The index knows every record, so it also knows the garbage: the file is not searched for it. Everything
//! here works on a frozen index and can run on any thread.

use crate::hash::{KvHash, SomeExist, hash_up_to};
use crate::index::KeyIndex;
use crate::revision::{RECORD_KEY_LEN, RecordKey, Revision, RevisionPair};
use crate::source::SourceError;
use crate::view::View;

/// Keys of the `meta` bucket under which compactions are remembered.
pub const SCHEDULED_COMPACT_REVISION_KEY: &[u8] = b"scheduledCompactRev";
pub const FINISHED_COMPACT_REVISION_KEY: &[u8] = b"finishedCompactRev";

/// How a compact revision is stored under either key.
pub fn compact_revision_to_bytes(revision: Revision) -> [u8; RECORD_KEY_LEN] {
    RevisionPair::new(revision, 0).to_bytes()
}

/// `None` when the bytes are no revision.
pub fn compact_revision_from_bytes(bytes: &[u8]) -> Option<Revision> {
    RevisionPair::from_bytes(bytes).map(|pair| pair.main)
}

/// A compaction that is decided and not yet done in the file.
///
/// The backend, in this order: folds all chunks up to [`CompactionPlan::revision`]; writes
/// [`CompactionPlan::revision_bytes`] under [`SCHEDULED_COMPACT_REVISION_KEY`] and commits; deletes slice by
/// slice of [`CompactionPlan::into_job`], committing in between as it likes; writes the same bytes under
/// [`FINISHED_COMPACT_REVISION_KEY`] with the last slice. Stopped anywhere, a restored store gives an equal
/// plan for the rest.
pub struct CompactionPlan {
    revision: Revision,
    previous: Option<Revision>,
    index: KeyIndex,
}

impl CompactionPlan {
    pub(crate) fn new(revision: Revision, previous: Option<Revision>, index: KeyIndex) -> CompactionPlan {
        CompactionPlan { revision, previous, index }
    }

    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn revision_bytes(&self) -> [u8; RECORD_KEY_LEN] {
        compact_revision_to_bytes(self.revision)
    }

    /// The hash of everything up to the compact revision as it was before: what etcd keeps of a compaction
    /// (see [`crate::CompactionHashes`]). `view` is any that still holds the garbage, so one loaded between
    /// the publication of this compaction and the file's first delete.
    pub fn hash(&self, view: &View) -> Result<KvHash, SourceError> {
        hash_up_to(view, &self.index, self.previous, self.revision, SomeExist::LiveOrDeletedThen)
    }

    /// Collects the garbage: 16 bytes of memory per record, some 50 ms for a million keys.
    pub fn into_job(self) -> CompactionJob {
        CompactionJob { revision: self.revision, garbage: self.index.garbage(self.revision), done: 0 }
    }
}

/// The records to delete, in revision order: neighbours in the file go together.
pub struct CompactionJob {
    revision: Revision,
    garbage: Vec<RecordKey>,
    done: usize,
}

impl CompactionJob {
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// At most `limit` records to delete from the `key` bucket; empty when all are done. One that is not
    /// there was deleted before a restart.
    pub fn next_slice(&mut self, limit: usize) -> &[RecordKey] {
        let start = self.done;
        self.done = self.garbage.len().min(start.saturating_add(limit));
        &self.garbage[start..self.done]
    }

    pub fn remaining(&self) -> usize {
        self.garbage.len() - self.done
    }

    pub fn is_done(&self) -> bool {
        self.remaining() == 0
    }
}
