//! One write transaction: one main revision, a sub revision per change.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::Bytes;

use crate::change::{Change, ChangeKind, Committed, LeaseChange};
use crate::chunk::PendingRecord;
use crate::error::MvccError;
use crate::index::{Lease, Modification};
use crate::key_range::{Key, KeyRange};
use crate::range::{RangeQuery, RangeResult};
use crate::record::{LeaseId, Record, varint_len};
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::snapshot::Snapshot;
use crate::source::{FindHint, SourceError};
use crate::store::Store;
use crate::txn::{
    Answer, DeleteRange, DeleteRangeResult, Op, OpResult, Path, PrevKv, Put, PutLease, PutResult, PutValue,
    Txn, TxnResult,
};
use crate::view::View;

/// An open transaction. A request that is refused ([`MvccError`] other than `Source`) has changed nothing,
/// and the transaction may be dropped. Once something has changed it must be committed: the next
/// [`Store::begin`] panics otherwise, as the index already holds a half of it.
pub struct WriteTxn<'s> {
    store: &'s mut Store,
    /// Finds the records that are already published.
    view: Arc<View>,
    changes: Vec<Change>,
    lease_changes: Vec<LeaseChange>,
}

impl<'s> WriteTxn<'s> {
    pub(crate) fn new(store: &'s mut Store) -> WriteTxn<'s> {
        let view = store.cell.load();
        WriteTxn { store, view, changes: Vec::new(), lease_changes: Vec::new() }
    }

    /// The revision that this transaction stands at: the store's, and the next one after the first change.
    pub fn revision(&self) -> Revision {
        if self.changes.is_empty() { self.store.revision } else { self.store.revision.next() }
    }

    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        self.snapshot().range(query)
    }

    pub fn put(&mut self, put: &Put, lease_exists: &dyn Fn(LeaseId) -> bool) -> Result<PutResult, MvccError> {
        self.snapshot().check_put(put, lease_exists)?;
        self.execute_put(put).map_err(MvccError::Source)
    }

    pub fn delete_range(&mut self, delete: &DeleteRange) -> Result<DeleteRangeResult, MvccError> {
        let prev_kvs = match delete.prev_kv {
            PrevKv::Wanted => Some(self.range(&RangeQuery::latest(delete.keys.clone()))?),
            PrevKv::Unwanted => None,
        };
        let keys = self.live_keys(&delete.keys);
        for key in &keys {
            self.delete(key)?;
        }
        Ok(DeleteRangeResult { revision: self.revision(), deleted: keys.len(), prev_kvs })
    }

    pub fn txn(
        &mut self,
        txn: &Txn,
        lease_exists: &dyn Fn(LeaseId) -> bool,
        answer: Answer,
    ) -> Result<TxnResult, MvccError> {
        let before = self.snapshot();
        let path = before.choose_path(txn)?;
        before.check_path(txn, &path, lease_exists)?;
        let mut result = self.execute_txn(txn, &path, answer)?;
        result.revision = self.revision();
        Ok(result)
    }

    pub fn commit(self) -> Committed {
        self.store.revision = self.revision();
        Committed { revision: self.store.revision, changes: self.changes, lease_changes: self.lease_changes }
    }

    fn snapshot(&self) -> Snapshot<'_> {
        Snapshot {
            index: &self.store.index,
            view: &self.view,
            open: &self.store.open,
            revision: self.revision(),
            compact_revision: self.store.compact_revision,
        }
    }

    fn execute_txn(&mut self, txn: &Txn, path: &Path, answer: Answer) -> Result<TxnResult, MvccError> {
        let mut nested = path.nested.iter();
        let mut responses = Vec::new();
        for op in txn.branch(path.succeeded) {
            responses.push(match op {
                Op::Range(query) => OpResult::Range(match answer {
                    Answer::Wanted => self.range(query)?,
                    Answer::Unwanted => self.snapshot().empty_result(),
                }),
                Op::Put(put) => OpResult::Put(self.execute_put(put)?),
                Op::DeleteRange(delete) => OpResult::DeleteRange(self.delete_range(delete)?),
                Op::Txn(inner) => {
                    let path = nested.next().expect("choose_path made one path per nested transaction");
                    OpResult::Txn(self.execute_txn(inner, path, answer)?)
                }
            });
        }
        Ok(TxnResult { succeeded: path.succeeded, revision: self.revision(), responses })
    }

    /// A key that `Keep` needs exists, unless an earlier operation of this transaction deleted it: the edge
    /// refuses such requests, and one that comes from elsewhere keeps nothing.
    fn execute_put(&mut self, put: &Put) -> Result<PutResult, SourceError> {
        let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        let before =
            if keeps || put.prev_kv == PrevKv::Wanted { self.latest_record(&put.key)? } else { None };
        let kept = match &before {
            Some(bytes) => Record::parse(bytes).map_err(|_| self.malformed(&put.key))?,
            None => Record::default(),
        };
        let value = match &put.value {
            PutValue::Set(value) => value,
            PutValue::Keep => kept.value,
        };
        let lease = match put.lease {
            PutLease::Set(lease) => lease,
            PutLease::Keep => kept.lease_id(),
        };
        let revision = self.put_record(&put.key, value, lease)?;
        let prev_kv = before.filter(|_| put.prev_kv == PrevKv::Wanted);
        Ok(PutResult { revision, prev_kv })
    }

    fn put_record(
        &mut self,
        key: &[u8],
        value: &[u8],
        lease: Option<LeaseId>,
    ) -> Result<Revision, SourceError> {
        let at = self.next_pair();
        let entry = self.store.index.get(key);
        let previous = entry.and_then(|entry| entry.live_at(self.store.revision)).map(Modification::revision);
        let latest = entry.map(|entry| *entry.latest()).filter(|latest| !latest.is_tombstone());
        let old_lease = self.lease_of(latest)?;
        let (create_revision, version) =
            latest.map_or((at.main, 1), |latest| (latest.create_revision, latest.version + 1));
        let record = self.store.writer.write(&Record {
            key,
            create_revision: create_revision.to_wire(),
            mod_revision: at.main.to_wire(),
            version: version as i64,
            value,
            lease: LeaseId::to_wire(lease),
        });
        let has_lease = if lease.is_some() { Lease::Some } else { Lease::None };
        self.store.index.push(key, Modification::put(at, create_revision, version, has_lease));
        let key = key_in(&record, key.len());
        self.note_lease(&key, old_lease, lease);
        self.store.open.push(PendingRecord { key: RecordKey::put(at), value: record.clone() });
        let kind = ChangeKind::Put { created: create_revision == at.main };
        self.changes.push(Change { revision: at, key, kv: record, kind, previous });
        Ok(at.main)
    }

    /// Deletes a key that exists.
    fn delete(&mut self, key: &[u8]) -> Result<(), SourceError> {
        let at = self.next_pair();
        let entry = self.store.index.get(key);
        let previous = entry.and_then(|entry| entry.live_at(self.store.revision)).map(Modification::revision);
        let old_lease = self.lease_of(entry.map(|entry| *entry.latest()))?;
        let tombstone = self.store.writer.tombstone(key, at.main);
        self.store.index.push(key, Modification::tombstone(at));
        let key = key_in(&tombstone.event, key.len());
        self.note_lease(&key, old_lease, None);
        self.store.open.push(PendingRecord { key: RecordKey::tombstone(at), value: tombstone.stored });
        let kind = ChangeKind::Delete;
        self.changes.push(Change { revision: at, key, kv: tombstone.event, kind, previous });
        Ok(())
    }

    fn next_pair(&self) -> RevisionPair {
        let sub = u32::try_from(self.changes.len()).unwrap_or(u32::MAX);
        RevisionPair::new(self.store.revision.next(), sub)
    }

    fn live_keys(&self, range: &KeyRange) -> Vec<Key> {
        let mut keys = Vec::new();
        self.store.index.walk(range, &mut |key, entry| {
            if entry.is_live() {
                keys.push(Bytes::copy_from_slice(key));
            }
            ControlFlow::Continue(())
        });
        keys
    }

    fn latest_record(&self, key: &[u8]) -> Result<Option<Bytes>, SourceError> {
        let latest = self.store.index.get(key).filter(|entry| entry.is_live()).map(|entry| entry.latest());
        let Some(latest) = latest else { return Ok(None) };
        let snapshot = self.snapshot();
        let found = snapshot.find(latest.revision(), &mut FindHint::default())?;
        Ok(Some(snapshot.owned(found)))
    }

    fn lease_of(&self, latest: Option<Modification>) -> Result<Option<LeaseId>, SourceError> {
        match latest {
            Some(latest) if latest.has_lease() => {
                self.snapshot().with_record(&latest, &mut FindHint::default(), |record| record.lease_id())
            }
            _ => Ok(None),
        }
    }

    fn note_lease(&mut self, key: &Key, old: Option<LeaseId>, new: Option<LeaseId>) {
        if old != new {
            self.lease_changes.push(LeaseChange { key: key.clone(), old, new });
        }
    }

    fn malformed(&self, key: &[u8]) -> SourceError {
        let latest = self.store.index.get(key).map(|entry| entry.latest().revision());
        SourceError::MalformedRecord(latest.unwrap_or_default())
    }
}

/// The key's bytes within a record that was just written: behind tag and length.
fn key_in(record: &Bytes, key_len: usize) -> Key {
    if key_len == 0 {
        return Key::new();
    }
    let start = 1 + varint_len(key_len as u64);
    record.slice(start..start + key_len)
}
