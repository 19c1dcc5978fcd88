//! Opening a database file that another process may hold.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{fmt, io};

use bolt::{Db, Layout, Options};
use disk::{Disk, OpenMode, RealDisk};
use golang::{duration, system_error};

/// How often a file that another process holds is looked at. Source: bbolt `db.go`, `flockRetryTimeout`.
const LOCK_POLL: Duration = Duration::from_millis(50);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Leaves the file as it is, to the byte.
    Read,
    Write,
}

/// How long another process's lock on the file is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockWait {
    Forever,
    UpTo(Duration),
}

impl LockWait {
    /// The flag `--timeout`.
    pub fn from_flag(timeout: Duration) -> LockWait {
        if timeout.is_zero() { LockWait::Forever } else { LockWait::UpTo(timeout) }
    }
}

#[derive(Debug)]
pub enum OpenError {
    /// The file cannot be opened as a file.
    File {
        path: PathBuf,
        error: io::Error,
    },
    Locked {
        path: PathBuf,
        waited: Duration,
    },
    /// The file is no database.
    Database {
        path: PathBuf,
        error: bolt::Error,
    },
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            OpenError::File { path, error } => f.write_str(&system_error::on_path("open", path, error)),
            OpenError::Locked { path, waited } => write!(
                f,
                "{} is held by another process, perhaps a running etcd; waited {} (--timeout)",
                path.display(),
                duration::format(*waited)
            ),
            OpenError::Database { error, .. } => error.fmt(f),
        }
    }
}

impl std::error::Error for OpenError {}

/// Opens the file, once nobody else holds it. `reserve_bytes` is the address space for its mapping; `None`: as
/// much as the server reserves.
pub fn open(
    path: &Path,
    access: Access,
    wait: LockWait,
    reserve_bytes: Option<u64>,
) -> Result<Db, OpenError> {
    let mode = match access {
        Access::Read => OpenMode::ReadOnly,
        Access::Write => OpenMode::ReadWrite,
    };
    let mut options =
        Options { read_only: access == Access::Read, layout: Layout::Flat, ..Options::default() };
    if let Some(reserve_bytes) = reserve_bytes {
        options.reserve_bytes = reserve_bytes;
    }
    let started = Instant::now();
    loop {
        let file =
            RealDisk.open(path, mode).map_err(|error| OpenError::File { path: path.to_path_buf(), error })?;
        let is_empty =
            file.is_empty().map_err(|error| OpenError::File { path: path.to_path_buf(), error })?;
        // The engine would make an empty file a database: nobody asked for that.
        let opened = match is_empty {
            true => Err(bolt::Error::Unborn { file_size_bytes: 0 }),
            false => Db::open(file, options.clone()),
        };
        match (opened, wait) {
            (Err(bolt::Error::Locked), LockWait::UpTo(limit)) if started.elapsed() >= limit => {
                return Err(OpenError::Locked { path: path.to_path_buf(), waited: limit });
            }
            (Err(bolt::Error::Locked), _) => std::thread::sleep(LOCK_POLL),
            (opened, _) => {
                return opened.map_err(|error| OpenError::Database { path: path.to_path_buf(), error });
            }
        }
    }
}
