//! What a snapshot file holds, and whether it is whole.

use std::collections::HashSet;
use std::fmt;
use std::path::Path;

use bolt::{Finding, ReadTx};
use golang::quote::quote;
use membership::Version;
use mvcc::{Checksum, Record, RecordKey, Revision};
use storage::{Bucket, Item, STORAGE_VERSION};

use crate::open::{Access, LockWait, OpenError, open};
use crate::progress::Progress;

/// As etcd's tool tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// CRC-32C over all buckets: their names, keys and values.
    pub hash: u32,
    /// Of the last record; 0 without records.
    pub revision: Revision,
    /// Keys that are not deleted.
    pub total_keys: u64,
    /// Of the database, without the checksum behind it.
    pub total_size_bytes: u64,
    /// Files older than 3.6 name none.
    pub version: Option<Version>,
}

#[derive(Debug)]
pub enum StatusError {
    Open(OpenError),
    Database(bolt::Error),
    Damaged(Vec<Finding>),
    Record(RecordError),
    Version(String),
}

/// A pair of the bucket `key` that is no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    Key(Vec<u8>),
    Value { key: Vec<u8> },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("error during bucket key iteration, name: \"key\" err: ")?;
        match self {
            RecordError::Key(key) => write!(f, "cannot parse revision key: {}", quote(key)),
            RecordError::Value { key } => write!(f, "cannot unmarshal value, key: {}", quote(key)),
        }
    }
}

impl fmt::Display for StatusError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StatusError::Open(error) => error.fmt(f),
            StatusError::Database(error) => error.fmt(f),
            StatusError::Damaged(findings) => write_findings(f, findings),
            StatusError::Record(error) => error.fmt(f),
            StatusError::Version(text) => write!(f, "{} is no storage version", quote(text.as_bytes())),
        }
    }
}

impl std::error::Error for StatusError {}

impl From<bolt::Error> for StatusError {
    fn from(error: bolt::Error) -> StatusError {
        StatusError::Database(error)
    }
}

/// More would scroll away what they are about.
const FINDINGS_SHOWN: usize = 20;

pub fn write_findings(f: &mut fmt::Formatter<'_>, findings: &[Finding]) -> fmt::Result {
    write!(f, "snapshot file integrity check failed. {} errors found.", findings.len())?;
    findings.iter().take(FINDINGS_SHOWN).try_for_each(|finding| write!(f, "\n{finding}"))?;
    if findings.len() > FINDINGS_SHOWN { write!(f, "\n…") } else { Ok(()) }
}

/// The record under a key of the bucket `key`.
pub fn record<'v>(key: &[u8], value: &'v [u8]) -> Result<(RecordKey, Record<'v>), RecordError> {
    let record_key = RecordKey::from_bytes(key).ok_or_else(|| RecordError::Key(key.to_vec()))?;
    let record = Record::parse(value).map_err(|_| RecordError::Value { key: key.to_vec() })?;
    Ok((record_key, record))
}

/// Checks the whole file, then reads all of it. The file is only read.
pub fn status(file: &Path, wait: LockWait) -> Result<Status, StatusError> {
    let db = open(file, Access::Read, wait, None).map_err(StatusError::Open)?;
    let tx = db.begin_read();
    let findings = {
        let _progress = Progress::of("checking the snapshot file", 0);
        bolt::check(&tx)
    };
    if !findings.is_empty() {
        return Err(StatusError::Damaged(findings));
    }
    let _progress = Progress::of("hashing the snapshot file", 0);
    let version = match storage::meta(&tx, STORAGE_VERSION)?.map(String::from_utf8_lossy) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| StatusError::Version(text.into_owned()))?),
    };
    let mut status =
        Status { hash: 0, revision: Revision::ZERO, total_keys: 0, total_size_bytes: tx.size(), version };
    read_all(&tx, &mut status)?;
    Ok(status)
}

fn read_all(tx: &ReadTx, status: &mut Status) -> Result<(), StatusError> {
    let mut checksum = Checksum::default();
    let mut live: HashSet<&[u8]> = HashSet::new();
    storage::for_each_item(tx, |item| {
        match item {
            Item::Bucket { name } => checksum.write(name),
            Item::Pair { bucket, key, value } => {
                checksum.write(key);
                checksum.write(value);
                if bucket == Bucket::Key.name() {
                    let (at, record) = record(key, value).map_err(StatusError::Record)?;
                    status.revision = at.revision.main;
                    match at.tombstone {
                        true => live.remove(record.key),
                        false => live.insert(record.key),
                    };
                }
            }
        }
        Ok::<(), StatusError>(())
    })?;
    (status.hash, status.total_keys) = (checksum.sum(), live.len() as u64);
    Ok(())
}
