//! The store itself with a file in memory, written in step with the obvious one.

use std::sync::Arc;

use super::fake_store::Write;
use crate::{
    Change, Chunk, CompactionJob, CompactionsOnFile, DeleteRange, KeyRange, MemorySource, PrevKv, Put,
    PutLease, PutValue, Revision, RevisionPair, Store, View,
};

pub(super) struct RealStore {
    store: Store,
    file: MemorySource,
    unfolded: Vec<Arc<Chunk>>,
    jobs: Vec<CompactionJob>,
}

impl RealStore {
    pub(super) fn new() -> RealStore {
        let source = Arc::new(MemorySource::default());
        let restored = Store::restore(source, CompactionsOnFile::default(), &mut |_, _| {}).unwrap();
        let file = MemorySource::default();
        RealStore { store: restored.store, file, unfolded: Vec::new(), jobs: Vec::new() }
    }

    /// One transaction, visible at once.
    pub(super) fn write(&mut self, writes: &[Write]) -> Vec<Change> {
        let mut txn = self.store.begin();
        for write in writes {
            match write.clone() {
                Write::Put { key, value } => {
                    let (value, lease) = (PutValue::Set(value), PutLease::Set(None));
                    let put = Put { key, value, lease, prev_kv: PrevKv::Unwanted };
                    txn.put(&put, &|_| false).unwrap();
                }
                Write::Delete { key } => {
                    let delete = DeleteRange { keys: KeyRange::One(key), prev_kv: PrevKv::Unwanted };
                    txn.delete_range(&delete).unwrap();
                }
            }
        }
        let changes = txn.commit().changes;
        self.unfolded.extend(self.store.publish());
        changes
    }

    pub(super) fn view(&self) -> Arc<View> {
        self.store.cell().load()
    }

    pub(super) fn compact(&mut self, at: Revision) {
        let plan = self.store.compact(at).unwrap();
        self.unfolded.extend(self.store.publish());
        self.fold(usize::MAX);
        self.jobs.push(plan.into_job());
    }

    /// What the backend does in the background: chunks go into the file, garbage leaves it.
    pub(super) fn fold(&mut self, count: usize) {
        let mut folded = RevisionPair::default();
        for chunk in self.unfolded.drain(..count.min(self.unfolded.len())) {
            for record in chunk.records() {
                self.file.insert(record.key.to_bytes().to_vec(), record.value.to_vec());
            }
            folded = chunk.last();
        }
        if let Some(job) = self.jobs.first_mut() {
            for record in job.next_slice(count) {
                self.file.remove(&record.to_bytes());
            }
            if job.is_done() {
                self.jobs.remove(0);
            }
        }
        self.store.compact_index(count.min(10));
        self.store.cell().rebase(Arc::new(self.file.clone()), folded);
    }
}
