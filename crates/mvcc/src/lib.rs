//! The store: keys, each with its revisions since the last compaction.
//!
//! One writer (the apply thread) owns the [`Store`]; readers load an immutable [`View`] and take no lock.
//! Records are encoded once, when they are written, and afterwards only referred to.
//!
//! What is absent: input and output, threads, clocks, randomness, and any map whose order is not its keys'.

mod change;
mod error;
mod key_range;
mod record;
mod revision;
mod source;
mod view;
pub mod watch;

pub use change::{Change, ChangeKind, Committed, LeaseChange};
pub use error::MvccError;
pub use key_range::{Key, KeyRange};
pub use record::{LeaseId, MalformedRecord, Record, RecordWriter};
pub use revision::{RECORD_KEY_LEN, RecordKey, RecordKeyBytes, Revision, RevisionPair, SUB_MAX};
pub use source::{FileRef, FindHint, MemorySource, RecordSource, SourceError};
pub use view::{History, HistoryLimit, RevisionChanges, View, ViewCell};
