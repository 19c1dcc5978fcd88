//! What watching needs of a published view.

use std::sync::Arc;

use bytes::Bytes;

use crate::{History, HistoryLimit, MvccError, Revision, RevisionPair, View};

/// One immutable state of the store, as [`View`] is; tests bring an obvious one. The methods are those of
/// [`View`] and are described there.
pub trait StoreView {
    fn revision(&self) -> Revision;
    fn compact_revision(&self) -> Option<Revision>;
    fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError>;
    fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError>;
}

impl StoreView for View {
    fn revision(&self) -> Revision {
        View::revision(self)
    }

    fn compact_revision(&self) -> Option<Revision> {
        View::compact_revision(self)
    }

    fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        View::history(self, from, limit, wanted)
    }

    fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        View::record(self, at)
    }
}

impl<V: StoreView + ?Sized> StoreView for Arc<V> {
    fn revision(&self) -> Revision {
        V::revision(self)
    }

    fn compact_revision(&self) -> Option<Revision> {
        V::compact_revision(self)
    }

    fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        V::history(self, from, limit, wanted)
    }

    fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        V::record(self, at)
    }
}
