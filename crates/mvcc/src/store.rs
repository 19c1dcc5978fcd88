//! The store as its single writer holds it.

use std::sync::Arc;

use crate::chunk::{Chunk, PendingRecord};
use crate::compaction::CompactionPlan;
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::record::RecordWriter;
use crate::revision::Revision;
use crate::view::ViewCell;
use crate::write_txn::WriteTxn;

/// Owned by the apply thread. [`Store::begin`] … commit, any number of times, then [`Store::publish`] makes
/// all of it visible to readers at once.
pub struct Store {
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Option<Revision>,
    pub(crate) index: KeyIndex,
    /// Written since the last publication, ascending.
    pub(crate) open: Vec<PendingRecord>,
    pub(crate) writer: RecordWriter,
    pub(crate) cell: Arc<ViewCell>,
    pub(crate) index_compaction: Option<IndexCompaction>,
}

/// Where the forgetting of a compaction's garbage has come to in the index.
pub(crate) struct IndexCompaction {
    revision: Revision,
    from: Vec<u8>,
}

/// Whether [`Store::compact_index`] has something left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IndexCompactionState {
    Done,
    Unfinished,
}

impl Store {
    /// The newest committed revision, published or not.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// Where readers find the published view.
    pub fn cell(&self) -> &Arc<ViewCell> {
        &self.cell
    }

    pub fn begin(&mut self) -> WriteTxn<'_> {
        let written = self.open.last().map_or(self.revision, |record| record.key.revision.main);
        assert!(
            written <= self.revision,
            "a transaction at {written} was dropped half done, the store is at {}",
            self.revision
        );
        WriteTxn::new(self)
    }

    /// Makes everything committed so far visible. Returns the records that the file must get, if any: hand
    /// every chunk to the backend, in order.
    #[must_use = "a dropped chunk never reaches the file"]
    pub fn publish(&mut self) -> Option<Arc<Chunk>> {
        let chunk = Chunk::new(std::mem::take(&mut self.open));
        self.cell.publish(self.revision, self.compact_revision, self.index.clone(), chunk.clone());
        chunk
    }

    /// Forbids reading before `revision` from the next publication on. The plan tells the backend what to
    /// delete; hand it over behind all chunks published so far, this one's included.
    pub fn compact(&mut self, revision: Revision) -> Result<CompactionPlan, MvccError> {
        if let Some(compacted) = self.compact_revision.filter(|compacted| revision <= *compacted) {
            return Err(MvccError::Compacted { requested: revision, compacted });
        }
        if revision > self.revision {
            return Err(MvccError::FutureRevision { requested: revision, current: self.revision });
        }
        let previous = self.compact_revision.replace(revision);
        // An unfinished earlier one starts anew: the later revision covers it.
        self.index_compaction = Some(IndexCompaction { revision, from: Vec::new() });
        Ok(CompactionPlan::new(revision, previous, self.index.clone()))
    }

    /// Frees index memory of compacted revisions, in about `entries` keys. No answer depends on it, so it
    /// can wait and be done between batches.
    pub fn compact_index(&mut self, entries: usize) -> IndexCompactionState {
        if let Some(running) = self.index_compaction.take() {
            let resume = self.index.compact_slice(running.revision, &running.from, entries);
            self.index_compaction = resume.map(|from| IndexCompaction { from, ..running });
        }
        match self.index_compaction {
            Some(_) => IndexCompactionState::Unfinished,
            None => IndexCompactionState::Done,
        }
    }
}
