//! The published state: what readers load once and then work on, without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::change::Change;
use crate::error::MvccError;
use crate::revision::{Revision, RevisionPair};
use crate::source::RecordSource;

/// One immutable state of the store.
pub struct View {
    revision: Revision,
    compact_revision: Option<Revision>,
    source: Arc<dyn RecordSource>,
}

/// How much history to read at once. Whole revisions are returned, at least one, so a bound may be passed
/// by the last of them.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimit {
    pub revisions: usize,
    /// Bytes of the events' `kv`.
    pub bytes: usize,
}

/// A piece of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Ascending, only revisions that have a wanted change.
    pub revisions: Vec<RevisionChanges>,
    /// Everything before this revision was looked at: ask again from here. One past the view's revision
    /// when nothing is left.
    pub next: Revision,
}

/// All wanted changes of one revision, by sub revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionChanges {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

impl View {
    /// The newest revision that this view holds.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// History before this revision cannot be read. `None`: never compacted (-1 on the wire).
    pub fn compact_revision(&self) -> Option<Revision> {
        self.compact_revision
    }

    /// The changes from `from` on whose key is `wanted`. Refused when `from` is compacted (equal is fine);
    /// empty when it is in the future.
    pub fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        let _ = (from, limit, wanted, &self.source);
        Ok(History::default())
    }

    /// The encoded `mvccpb.KeyValue` stored at this revision; `None` when there is none (compacted).
    pub fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        let _ = at;
        Ok(None)
    }

    /// The key's encoded record as it was just before revision `before`, for `prev_kv`. `None` when the
    /// key did not exist then or that state is compacted.
    pub fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, MvccError> {
        let _ = (key, before);
        Ok(None)
    }
}

/// Where the present view is found. Readers only load; the apply and the backend thread replace it.
pub struct ViewCell {
    view: ArcSwap<View>,
}

impl ViewCell {
    /// The present view. Keep it for one request, not longer: it pins a read transaction of the file.
    pub fn load(&self) -> Arc<View> {
        self.view.load_full()
    }
}
