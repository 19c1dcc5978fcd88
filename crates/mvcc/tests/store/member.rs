//! A store with its file, driven as the apply and backend threads drive it.

use std::collections::BTreeMap;
use std::sync::Arc;

use mvcc::{Chunk, CompactionJob, CompactionsOnFile, LeaseId, MemorySource, Restored, RevisionPair, Store};

pub struct Member {
    pub store: Store,
    pub file: MemorySource,
    pub on_file: CompactionsOnFile,
    pub unfolded: Vec<Arc<Chunk>>,
    pub jobs: Vec<CompactionJob>,
    /// What the lessor would hold.
    pub leases: BTreeMap<Vec<u8>, LeaseId>,
}

impl Member {
    pub fn new() -> Member {
        Member::open(MemorySource::default(), CompactionsOnFile::default())
    }

    pub fn open(file: MemorySource, on_file: CompactionsOnFile) -> Member {
        let mut leases = BTreeMap::new();
        let Restored { store, resumed } =
            Store::restore(Arc::new(file.clone()), on_file, &mut |key, lease| {
                leases.insert(key.to_vec(), lease);
            })
            .unwrap();
        let jobs = resumed.map(mvcc::CompactionPlan::into_job).into_iter().collect();
        Member { store, file, on_file, unfolded: Vec::new(), jobs, leases }
    }

    pub fn publish(&mut self) {
        self.unfolded.extend(self.store.publish());
    }

    /// Writes the oldest `count` chunks into the file.
    pub fn fold(&mut self, count: usize) {
        let count = count.min(self.unfolded.len());
        let mut folded = RevisionPair::default();
        for chunk in self.unfolded.drain(..count) {
            for record in chunk.records() {
                self.file.insert(record.key.to_bytes().to_vec(), record.value.to_vec());
            }
            folded = chunk.last();
        }
        self.store.cell().rebase(Arc::new(self.file.clone()), folded);
    }

    pub fn compact(&mut self, revision: mvcc::Revision) -> Result<(), mvcc::MvccError> {
        let plan = self.store.compact(revision)?;
        self.publish();
        self.fold(usize::MAX);
        assert_eq!(mvcc::compact_revision_from_bytes(&plan.revision_bytes()), Some(revision));
        self.on_file.scheduled = Some(revision);
        self.jobs.push(plan.into_job());
        Ok(())
    }

    /// One slice of the oldest compaction.
    pub fn delete_slice(&mut self, limit: usize) {
        let Some(job) = self.jobs.first_mut() else { return };
        for record in job.next_slice(limit) {
            // May be gone: deleted before a restart.
            self.file.remove(&record.to_bytes());
        }
        if job.is_done() {
            self.on_file.finished = Some(job.revision());
            self.jobs.remove(0);
        }
        self.store.cell().rebase(Arc::new(self.file.clone()), RevisionPair::default());
    }

    /// Stops cleanly and starts from the file. Jobs that were not done are resumed.
    pub fn restart(&mut self) {
        self.publish();
        self.fold(usize::MAX);
        *self = Member::open(std::mem::take(&mut self.file), self.on_file);
    }
}
