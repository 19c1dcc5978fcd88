//! Everything that opening, reading and writing a log can end in.

use std::fmt;
use std::io;
use std::path::PathBuf;

use raft::{EntryId, Index};

#[derive(Debug)]
pub enum Error {
    /// The disk refused.
    Io { action: &'static str, path: PathBuf, source: io::Error },
    /// Asked to create a log where one is.
    Exists { dir: PathBuf },
    /// No segment at all.
    NotFound { dir: PathBuf },
    /// Every segment left starts behind the asked snapshot: those before it were purged.
    NoSegmentFor { index: Index },
    /// A segment between these two is missing.
    SequenceGap { before: PathBuf, after: PathBuf },
    /// Another process has the log open.
    Locked { path: PathBuf },
    /// The bytes at this place are not what was written.
    Corrupt { path: PathBuf, offset: u64, damage: Damage },
    /// Segments of two different members or clusters lie in one directory.
    MetadataConflict { path: PathBuf },
    /// The first segment ends before its header does; [`crate::probe`] tells whether it may be discarded.
    NoHeader { path: PathBuf },
    /// The log never recorded the snapshot to start from.
    SnapshotNotFound { snapshot: EntryId },
    /// The log recorded a snapshot of that index, but of another term.
    SnapshotMismatch { wanted: EntryId, found: EntryId },
    /// An entry does not follow on those before it.
    IndexGap { last: Index, found: Index },
    /// An earlier write or flush of this log failed; the member must stop and recover.
    Failed,
}

/// What does not hold at a place in a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Damage {
    /// No writer makes such a length field.
    Length {
        field: u64,
    },
    /// A record reaches behind the end of a segment that is not the last.
    Truncated,
    /// The record is no protobuf message.
    Malformed,
    Checksum {
        recorded: u32,
        computed: u32,
    },
    /// No known record type.
    UnknownType(i64),
    /// The record checks, but its content is not what its type promises.
    Content(&'static str),
}

impl Error {
    /// The volume is full: the one error that an operator mends without losing trust in the disk.
    pub fn is_storage_full(&self) -> bool {
        matches!(self, Error::Io { source, .. } if source.kind() == io::ErrorKind::StorageFull)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io { action, path, source } => write!(f, "wal: {action} {}: {source}", path.display()),
            Error::Exists { dir } => write!(f, "wal: {} already holds a log", dir.display()),
            Error::NotFound { dir } => write!(f, "wal: no segment in {}", dir.display()),
            Error::NoSegmentFor { index } => {
                write!(f, "wal: file not found which matches the snapshot index '{index}'")
            }
            Error::SequenceGap { before, after } => write!(
                f,
                "wal: file sequence numbers do not increase continuously: {} is followed by {}",
                before.display(),
                after.display()
            ),
            Error::Locked { path } => write!(f, "wal: {} is in use by another process", path.display()),
            Error::Corrupt { path, offset, damage } => {
                write!(f, "wal: {} is damaged at byte {offset}: {damage}", path.display())
            }
            Error::MetadataConflict { path } => {
                write!(f, "wal: conflicting metadata found in {}", path.display())
            }
            Error::NoHeader { path } => write!(f, "wal: {} ends before its header does", path.display()),
            Error::SnapshotNotFound { snapshot } => write!(f, "wal: snapshot not found: {snapshot}"),
            Error::SnapshotMismatch { wanted, found } => {
                write!(f, "wal: snapshot mismatch: wanted {wanted}, the log holds {found}")
            }
            Error::IndexGap { last, found } => {
                write!(f, "wal: entry {found} does not follow on entry {last}")
            }
            Error::Failed => f.write_str("wal: an earlier write failed, the log takes no more"),
        }
    }
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Damage::Length { field } => write!(f, "impossible length field {field:#018x}"),
            Damage::Truncated => f.write_str("the record reaches behind the end of the segment"),
            Damage::Malformed => f.write_str("not a record"),
            Damage::Checksum { recorded, computed } => {
                write!(f, "crc mismatch: expected {recorded:x}, computed {computed:x}")
            }
            Damage::UnknownType(kind) => write!(f, "unexpected block type {kind}"),
            Damage::Content(what) => write!(f, "not a valid {what}"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Says what was being done to which file when the disk refused.
pub(crate) trait Context<T> {
    fn context(self, action: &'static str, path: &std::path::Path) -> Result<T, Error>;
}

impl<T> Context<T> for io::Result<T> {
    fn context(self, action: &'static str, path: &std::path::Path) -> Result<T, Error> {
        self.map_err(|source| Error::Io { action, path: path.to_path_buf(), source })
    }
}
