//! The published state: what readers load once and then work on, without a lock.

use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use parking_lot::Mutex;

use crate::chunk::{Chunk, Pending};
use crate::error::MvccError;
use crate::index::KeyIndex;
use crate::key_range::KeyRange;
use crate::range::{RangeQuery, RangeResult};
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::snapshot::Snapshot;
use crate::source::{FindHint, RecordSource, SourceError};
use crate::txn::{Txn, TxnResult};

/// One immutable state of the store.
pub struct View {
    pub(crate) revision: Revision,
    pub(crate) compact_revision: Option<Revision>,
    pub(crate) index: KeyIndex,
    pub(crate) pending: Pending,
    /// Holds every record before the first pending one.
    pub(crate) source: Arc<dyn RecordSource>,
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

    /// Keys that exist now.
    pub fn key_count(&self) -> usize {
        self.index.live_count()
    }

    /// Whether everything is in the file.
    pub fn is_folded(&self) -> bool {
        self.pending.first().is_none()
    }

    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.snapshot().range(query)
    }

    /// How many keys of the range exist now; costs no walk.
    pub fn count(&self, keys: &KeyRange) -> usize {
        self.index.count(keys, self.revision)
    }

    /// A transaction whose operations are all ranges.
    pub fn read_txn(&self, txn: &Txn) -> Result<TxnResult, MvccError> {
        self.snapshot().read_txn(txn)
    }

    /// The encoded `mvccpb.KeyValue` put at this revision; `None` when there is none (compacted, or a
    /// tombstone).
    pub fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        if self.pending.holds(at) {
            let pending = self.pending.find(at).filter(|record| !record.key.tombstone);
            return Ok(pending.map(|record| record.value.clone()));
        }
        let found = self.source.find(&RecordKey::put(at).to_bytes(), &mut FindHint::default())?;
        Ok(found.map(|found| Bytes::copy_from_slice(self.source.bytes(found))))
    }

    /// The key's encoded record as it was just before revision `before`, for `prev_kv`. `None` when the
    /// key did not exist then or that state is compacted.
    pub fn previous(&self, key: &[u8], before: Revision) -> Result<Option<Bytes>, MvccError> {
        let Some(at) = self.previous_revision(key, before) else { return Ok(None) };
        match self.record(at)? {
            Some(record) => Ok(Some(record)),
            None => Err(SourceError::MissingRecord(at).into()),
        }
    }

    /// Where [`View::previous`] finds its record.
    pub fn previous_revision(&self, key: &[u8], before: Revision) -> Option<RevisionPair> {
        let at = before.previous().filter(|at| Some(*at) >= self.compact_revision)?;
        self.index.get(key)?.live_at(at).map(|found| found.revision())
    }

    pub(crate) fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            index: &self.index,
            view: self,
            open: &[],
            revision: self.revision,
            compact_revision: self.compact_revision,
        }
    }
}

/// Where the present view is found. Readers only load; the apply and the backend thread replace it.
pub struct ViewCell {
    view: ArcSwap<View>,
    /// Held by whoever makes the next view from the present one. Readers never wait for it.
    replacing: Mutex<()>,
}

impl ViewCell {
    pub(crate) fn new(view: View) -> ViewCell {
        ViewCell { view: ArcSwap::from_pointee(view), replacing: Mutex::new(()) }
    }

    /// The present view. Keep it for one request, not longer: it pins a read transaction of the file.
    pub fn load(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// A file commit holds every record up to and including `folded`: reads go there from now on. With
    /// `RevisionPair::default()` only the source is exchanged, as after a compaction's deletes.
    ///
    /// `source` must not lack a record that an earlier source of this cell held, other than garbage.
    pub fn rebase(&self, source: Arc<dyn RecordSource>, folded: RevisionPair) {
        self.replace(|view| View {
            revision: view.revision,
            compact_revision: view.compact_revision,
            index: view.index.clone(),
            pending: view.pending.without(folded),
            source,
        });
    }

    pub(crate) fn publish(
        &self,
        revision: Revision,
        compact_revision: Option<Revision>,
        index: KeyIndex,
        chunk: Option<Arc<Chunk>>,
    ) {
        self.replace(|view| {
            let mut pending = view.pending.clone();
            chunk.into_iter().for_each(|chunk| pending.push(chunk));
            View { revision, compact_revision, index, pending, source: view.source.clone() }
        });
    }

    /// Everything anew, after a snapshot was installed.
    pub(crate) fn reset(&self, fresh: &View) {
        self.replace(|_| View {
            revision: fresh.revision,
            compact_revision: fresh.compact_revision,
            index: fresh.index.clone(),
            pending: fresh.pending.clone(),
            source: fresh.source.clone(),
        });
    }

    fn replace(&self, next: impl FnOnce(&View) -> View) {
        let old = {
            let _replacing = self.replacing.lock();
            let view = self.view.load_full();
            self.view.swap(Arc::new(next(&view)))
        };
        // Freeing the last reference to a view may free many nodes: not under the lock.
        drop(old);
    }
}
