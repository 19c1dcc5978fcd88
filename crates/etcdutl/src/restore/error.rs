//! Why nothing was restored. Where scripts may know etcd's texts, they are etcd's.

use std::fmt;
use std::io;
use std::path::PathBuf;

use bolt::Finding;
use golang::quote::quote;
use golang::system_error;
use membership::InitialClusterError;

use crate::status::{RecordError, write_findings};

#[derive(Debug)]
pub enum RestoreError {
    InitialCluster(InitialClusterError),
    DataDirInUse(PathBuf),
    /// The data directory holds what an interrupted restore has left.
    Unfinished(PathBuf),
    WalDirExists(PathBuf),
    /// `call` is what was done to the snapshot file.
    Snapshot {
        call: &'static str,
        path: PathBuf,
        error: io::Error,
    },
    /// Something that can only be read once, or never.
    NotAFile(PathBuf),
    SnapshotShrank(PathBuf),
    HashMissing,
    HashMismatch {
        expected: Vec<u8>,
        got: Vec<u8>,
    },
    Database(bolt::Error),
    Damaged(Vec<Finding>),
    /// A database file, but not one of etcd's.
    NoKeys,
    Record(RecordError),
    /// There is no such revision.
    BumpTooLarge {
        latest: i64,
        amount: u64,
    },
    Wal(wal::Error),
    Io {
        call: &'static str,
        path: PathBuf,
        error: io::Error,
    },
}

impl RestoreError {
    pub(super) fn io(call: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> RestoreError {
        let path = path.into();
        move |error| RestoreError::Io { call, path, error }
    }
}

impl From<bolt::Error> for RestoreError {
    fn from(error: bolt::Error) -> RestoreError {
        RestoreError::Database(error)
    }
}

impl From<wal::Error> for RestoreError {
    fn from(error: wal::Error) -> RestoreError {
        RestoreError::Wal(error)
    }
}

impl fmt::Display for RestoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted = |path: &PathBuf| quote(path.to_string_lossy().as_bytes());
        match self {
            RestoreError::InitialCluster(error) => error.fmt(f),
            RestoreError::DataDirInUse(path) => {
                write!(f, "data-dir {} not empty or could not be read", quoted(path))
            }
            RestoreError::Unfinished(path) => write!(
                f,
                "data-dir {} not empty: a restore into it did not come to its end; remove it and try again",
                quoted(path)
            ),
            RestoreError::WalDirExists(path) => write!(f, "wal-dir {} exists", quoted(path)),
            RestoreError::Snapshot { call, path, error } | RestoreError::Io { call, path, error } => {
                f.write_str(&system_error::on_path(call, path, error))
            }
            RestoreError::NotAFile(path) => write!(f, "{} is no regular file", path.display()),
            RestoreError::SnapshotShrank(path) => {
                write!(f, "{} became shorter while it was read", path.display())
            }
            RestoreError::HashMissing => f.write_str("snapshot missing hash but --skip-hash-check=false"),
            RestoreError::HashMismatch { expected, got } => {
                write!(f, "expected sha256 {}, got {}", bytes(expected), bytes(got))
            }
            RestoreError::Database(error) => write!(f, "snapshot: {error}"),
            RestoreError::Damaged(findings) => write_findings(f, findings),
            RestoreError::NoKeys => f.write_str("snapshot: a database without keys of etcd's"),
            RestoreError::Record(error) => write!(f, "snapshot: {error}"),
            RestoreError::BumpTooLarge { latest, amount } => write!(
                f,
                "--bump-revision {amount} leads beyond the last revision: the snapshot is at {latest}"
            ),
            RestoreError::Wal(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for RestoreError {}

/// As Go prints a slice: `[1 2 3]`.
fn bytes(bytes: &[u8]) -> String {
    let numbers: Vec<String> = bytes.iter().map(u8::to_string).collect();
    format!("[{}]", numbers.join(" "))
}
