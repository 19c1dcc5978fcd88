//! What a reader sees: a view, or a view and what the open write transactions put on top of it.

use bytes::Bytes;

use crate::chunk::{PendingRecord, find_record};
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::range::{ReadAt, RecordRef};
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::source::{FindHint, SourceError};
use crate::view::View;

#[derive(Clone, Copy)]
pub(crate) struct Snapshot<'a> {
    pub index: &'a KeyIndex,
    /// Finds the records that are not open. Its own index and revision may be older.
    pub view: &'a View,
    /// Records behind the view's, ascending.
    pub open: &'a [PendingRecord],
    pub revision: Revision,
    pub compact_revision: Option<Revision>,
}

impl<'a> Snapshot<'a> {
    /// The revision at which a request reads.
    pub fn resolve(&self, at: ReadAt) -> Result<Revision, MvccError> {
        let requested = match at {
            ReadAt::Latest => self.revision,
            ReadAt::Revision(requested) => requested,
        };
        if requested > self.revision {
            return Err(MvccError::FutureRevision { requested, current: self.revision });
        }
        match self.compact_revision {
            Some(compacted) if requested < compacted => Err(MvccError::Compacted { requested, compacted }),
            _ => Ok(requested),
        }
    }

    /// The record of a put that the index knows.
    pub fn find(&self, at: RevisionPair, hint: &mut FindHint) -> Result<RecordRef, SourceError> {
        let pending = match self.open.first() {
            Some(first) if first.key.revision <= at => Some(find_record(self.open, at)),
            _ if self.view.pending.holds(at) => Some(self.view.pending.find(at)),
            _ => None,
        };
        match pending {
            Some(Some(record)) => Ok(RecordRef::Memory(record.value.clone())),
            Some(None) => Err(SourceError::MissingRecord(at)),
            None => match self.view.source.find(&RecordKey::put(at).to_bytes(), hint)? {
                Some(found) => Ok(RecordRef::File(found)),
                None => Err(SourceError::MissingRecord(at)),
            },
        }
    }

    pub fn bytes<'r>(&self, record: &'r RecordRef) -> &'r [u8]
    where
        'a: 'r,
    {
        match record {
            RecordRef::Memory(bytes) => bytes,
            RecordRef::File(at) => self.view.source.bytes(*at),
        }
    }

    pub fn owned(&self, record: RecordRef) -> Bytes {
        match record {
            RecordRef::Memory(bytes) => bytes,
            RecordRef::File(at) => Bytes::copy_from_slice(self.view.source.bytes(at)),
        }
    }
}
