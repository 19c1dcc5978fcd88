//! The `key` bucket as one read transaction of the file sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use crate::revision::{RecordKey, RevisionPair};

/// Where a record's value lies in the file. Means something only to the source that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// Bytes from the start of the file (or whatever finds the value again).
    pub offset: u64,
    /// Bytes of the value.
    pub len: u32,
}

/// Where the last lookup ended, so that the next one near it need not start from the root. The words
/// belong to the source; all zero means "nowhere yet". A hint never changes what is found, and one from
/// another source must only cost time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FindHint {
    pub words: [u64; 4],
}

/// Gets key and value of a pair, and says whether it wants the next.
pub type Visit<'v> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'v;

/// One frozen state of the `key` bucket. The server implements it over a read transaction of the file; that
/// transaction, and with it every byte referred to, lives as long as the source.
pub trait RecordSource: Send + Sync {
    /// The value stored under exactly this key.
    fn find(&self, key: &[u8], hint: &mut FindHint) -> Result<Option<FileRef>, SourceError>;

    /// The bytes behind a reference that this source gave.
    fn bytes(&self, at: FileRef) -> &[u8];

    /// Visits all pairs with key >= `from` in key order until told to stop.
    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> Result<(), SourceError>;
}

/// The file did not give what it must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceError {
    /// The index knows a record that the file lacks.
    MissingRecord(RevisionPair),
    /// A key of the bucket that spells no revision.
    MalformedKey(Vec<u8>),
    /// A value that is no `mvccpb.KeyValue`.
    MalformedRecord(RevisionPair),
    /// The file could not be read; the text is the file layer's own.
    Unreadable(String),
}

impl SourceError {
    pub(crate) fn parse_key(bytes: &[u8]) -> Result<RecordKey, SourceError> {
        RecordKey::from_bytes(bytes).ok_or_else(|| SourceError::MalformedKey(bytes.to_vec()))
    }
}

impl fmt::Display for SourceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceError::MissingRecord(revision) => write!(f, "record {revision} is missing from the file"),
            SourceError::MalformedKey(key) => write!(f, "key {key:02x?} spells no revision"),
            SourceError::MalformedRecord(revision) => write!(f, "record {revision} is malformed"),
            SourceError::Unreadable(text) => write!(f, "read records: {text}"),
        }
    }
}

impl std::error::Error for SourceError {}

/// Records in memory: what tests and the simulator use in place of a file.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    /// Index into `values`, so that a reference is a position.
    keys: BTreeMap<Vec<u8>, usize>,
    values: Vec<Vec<u8>>,
}

impl MemorySource {
    pub fn new(records: impl IntoIterator<Item = (Vec<u8>, Vec<u8>)>) -> MemorySource {
        let mut source = MemorySource::default();
        for (key, value) in records {
            source.insert(key, value);
        }
        source
    }

    pub fn insert(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.keys.insert(key, self.values.len());
        self.values.push(value);
    }

    /// Whether the key was there.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.keys.remove(key).is_some()
    }

    pub fn len(&self) -> usize {
        self.keys.len()
    }

    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }
}

impl RecordSource for MemorySource {
    fn find(&self, key: &[u8], _: &mut FindHint) -> Result<Option<FileRef>, SourceError> {
        Ok(self.keys.get(key).map(|at| FileRef { offset: *at as u64, len: self.values[*at].len() as u32 }))
    }

    fn bytes(&self, at: FileRef) -> &[u8] {
        &self.values[at.offset as usize]
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> Result<(), SourceError> {
        for (key, at) in self.keys.range(from.to_vec()..) {
            if visit(key, &self.values[*at]).is_break() {
                break;
            }
        }
        Ok(())
    }
}
