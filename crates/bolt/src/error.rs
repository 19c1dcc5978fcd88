//! What can go wrong, told apart by what the caller does about it.

use std::fmt;
use std::io;
use std::sync::Arc;

pub type Result<T> = std::result::Result<T, Error>;

/// Cheap to clone, because the first failed write or sync is handed to every later writer.
#[derive(Clone, Debug)]
pub enum Error {
    /// The file was being made when power went: it holds nothing but zeros and pieces of the very first
    /// pages, so no transaction was ever committed to it. Whoever knows that nothing was acknowledged
    /// (the log is as young) may delete it and start again.
    Unborn {
        file_size_bytes: u64,
    },
    /// Neither meta page is valid, and the file is not [`Error::Unborn`].
    NoMeta {
        file_size_bytes: u64,
    },
    /// A file of bolt's, but of another version of the format.
    Version {
        found: u32,
    },
    /// Bytes that no correct writer makes. `page` is where it was noticed.
    Corrupt {
        page: u64,
        what: &'static str,
    },
    /// The file failed. `action` says what was being done.
    Io {
        action: &'static str,
        error: Arc<io::Error>,
    },
    /// Another process holds the file's lock.
    Locked,
    /// A write to a file that was opened for reading.
    ReadOnly,
    /// The file would outgrow the address space reserved for it at opening.
    Full {
        needed_bytes: u64,
        reserved_bytes: u64,
    },
    BucketNotFound,
    /// The key holds a bucket where a value was asked for, or the other way round.
    IncompatibleValue,
    KeyRequired,
    KeyTooLarge {
        size_bytes: usize,
    },
    ValueTooLarge {
        size_bytes: usize,
    },
    /// A bucket inside a bucket, in a file opened as [`crate::Layout::Flat`].
    NestedBucket,
    /// The callback of a copy asked to stop.
    Stopped,
}

impl Error {
    pub(crate) fn io(action: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::Io { action, error: Arc::new(error) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unborn { file_size_bytes } => {
                write!(f, "database file of {file_size_bytes} bytes was never completely created")
            }
            Error::NoMeta { file_size_bytes } => {
                write!(f, "invalid database: no valid meta page in {file_size_bytes} bytes")
            }
            Error::Version { found } => write!(f, "database format version {found} is not supported"),
            Error::Corrupt { page, what } => write!(f, "corrupt database: page {page}: {what}"),
            Error::Io { action, error } => write!(f, "{action}: {error}"),
            Error::Locked => f.write_str("database file is locked by another process"),
            Error::ReadOnly => f.write_str("database is in read-only mode"),
            Error::Full { needed_bytes, reserved_bytes } => {
                write!(f, "database needs {needed_bytes} bytes, only {reserved_bytes} are reserved for it")
            }
            Error::BucketNotFound => f.write_str("bucket not found"),
            Error::IncompatibleValue => f.write_str("incompatible value: bucket and value mixed up"),
            Error::KeyRequired => f.write_str("key required"),
            Error::KeyTooLarge { size_bytes } => write!(f, "key of {size_bytes} bytes is too large"),
            Error::ValueTooLarge { size_bytes } => write!(f, "value of {size_bytes} bytes is too large"),
            Error::NestedBucket => f.write_str("nested bucket in a file opened as flat"),
            Error::Stopped => f.write_str("copy was stopped"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Io { error, .. } => Some(error.as_ref()),
            _ => None,
        }
    }
}
