//! The store: keys, each with its revisions since the last compaction.
//!
//! One writer (the apply thread) owns the [`Store`]; readers load an immutable [`View`] and take no lock.
//! Records are encoded once, when they are written, and afterwards only referred to.
//!
//! What is absent: input and output, threads, clocks, randomness, and any map whose order is not its keys'.

mod change;
mod chunk;
mod compaction;
mod error;
mod hash;
mod history;
mod index;
mod jump_list;
mod key_range;
mod range;
mod range_stream;
mod record;
mod restore;
mod revision;
mod snapshot;
mod source;
mod store;
mod txn;
mod view;
pub mod watch;
mod write_txn;

pub use change::{Change, ChangeKind, Committed, LeaseChange};
pub use chunk::{Chunk, PendingRecord};
pub use compaction::{
    CompactionJob, CompactionPlan, FINISHED_COMPACT_REVISION_KEY, SCHEDULED_COMPACT_REVISION_KEY,
    compact_revision_from_bytes, compact_revision_to_bytes,
};
pub use error::MvccError;
pub use hash::{Checksum, CompactionHashes, KEY_BUCKET, KvHash, hash_kv};
pub use history::{History, HistoryLimit, RevisionChanges};
pub use key_range::{Key, KeyRange};
pub use range::{
    RangeQuery, RangeResult, ReadAt, RecordRef, RevisionFilters, Sort, SortOrder, SortTarget, Want,
};
pub use range_stream::{LastChunk, RangeStream, StreamChunk};
pub use record::{LeaseId, MalformedRecord, Record, RecordWriter};
pub use restore::{CompactionsOnFile, Restored};
pub use revision::{RECORD_KEY_LEN, RecordKey, RecordKeyBytes, Revision, RevisionPair, SUB_MAX};
pub use source::{FileRef, FindHint, MemorySource, RecordSource, SourceError, Visit};
pub use store::{IndexCompactionState, Store};
pub use txn::{
    Answer, Compare, CompareTarget, DeleteRange, DeleteRangeResult, Op, OpResult, PrevKv, Put, PutLease,
    PutResult, PutValue, Relation, Txn, TxnResult,
};
pub use view::{View, ViewCell};
pub use write_txn::WriteTxn;
