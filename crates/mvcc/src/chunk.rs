//! Records that are committed and not yet in the file.
//!
//! Each publication makes one [`Chunk`] of what was written since the last. Readers find its records in the
//! view; the backend thread writes the very same bytes into the file and then has the view forget it.

use std::sync::Arc;

use bytes::Bytes;

use crate::jump_list::JumpList;
use crate::revision::{RecordKey, RevisionPair};

/// One pair for the `key` bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingRecord {
    pub key: RecordKey,
    pub value: Bytes,
}

/// Records of neighbouring revisions, ascending; never empty.
#[derive(Debug)]
pub struct Chunk {
    records: Vec<PendingRecord>,
}

impl Chunk {
    /// `None` when there are no records.
    pub(crate) fn new(records: Vec<PendingRecord>) -> Option<Arc<Chunk>> {
        let ascending = records.is_sorted_by(|one, next| one.key.revision < next.key.revision);
        assert!(ascending, "records out of order in a chunk of {}", records.len());
        (!records.is_empty()).then(|| Arc::new(Chunk { records }))
    }

    /// What the backend thread writes, in this order.
    pub fn records(&self) -> &[PendingRecord] {
        &self.records
    }

    pub fn first(&self) -> RevisionPair {
        self.records[0].key.revision
    }

    /// Once the file holds this revision and all before it, the chunk is folded.
    pub fn last(&self) -> RevisionPair {
        self.records[self.records.len() - 1].key.revision
    }
}

/// The record of a revision in an ascending run.
pub(crate) fn find_record(records: &[PendingRecord], at: RevisionPair) -> Option<&PendingRecord> {
    records.binary_search_by_key(&at, |record| record.key.revision).ok().map(|index| &records[index])
}

/// All chunks that the view's file does not hold. A publication shares everything before it.
#[derive(Clone, Default)]
pub(crate) struct Pending {
    chunks: JumpList<Arc<Chunk>>,
    /// First revision of the oldest chunk: everything before it is in the file.
    first: Option<RevisionPair>,
}

impl Pending {
    pub fn push(&mut self, chunk: Arc<Chunk>) {
        if let Some(newest) = self.chunks.newest() {
            assert!(newest.last() < chunk.first(), "chunk {} behind {}", chunk.first(), newest.last());
        }
        self.first.get_or_insert(chunk.first());
        self.chunks.push(chunk);
    }

    /// Without the chunks that end at or before `folded`.
    pub fn without(&self, folded: RevisionPair) -> Pending {
        let kept: Vec<_> = self.chunks.iter().take_while(|chunk| chunk.last() > folded).collect();
        let mut rest = Pending::default();
        kept.into_iter().rev().for_each(|chunk| rest.push(chunk.clone()));
        rest
    }

    pub fn holds(&self, at: RevisionPair) -> bool {
        self.first.is_some_and(|first| first <= at)
    }

    pub fn find(&self, at: RevisionPair) -> Option<&PendingRecord> {
        if !self.holds(at) {
            return None;
        }
        let (chunk, _) = self.chunks.find(|chunk| chunk.first() <= at)?;
        find_record(&chunk.records, at)
    }

    /// First revision that is not in the file.
    pub fn first(&self) -> Option<RevisionPair> {
        self.first
    }

    /// The records at or behind `from`, ascending.
    pub fn records_from(&self, from: RevisionPair) -> impl Iterator<Item = &PendingRecord> {
        let wanted: Vec<_> = self.chunks.iter().take_while(|chunk| chunk.last() >= from).collect();
        wanted
            .into_iter()
            .rev()
            .flat_map(|chunk| &chunk.records)
            .skip_while(move |one| one.key.revision < from)
    }
}
