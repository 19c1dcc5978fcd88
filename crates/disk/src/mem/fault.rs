//! Errors that the in-memory disk is told to return.

use std::fmt;
use std::io;
use std::path::Path;

/// Where a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultPoint {
    /// Opening a file, new or old.
    Open,
    Read,
    /// [`write_at`](crate::File::write_at). The first half of the bytes is written all the
    /// same, in whole sectors.
    Write,
    /// [`set_len`](crate::File::set_len) and [`allocate`](crate::File::allocate).
    SetLen,
    /// [`sync_data`](crate::File::sync_data). What was written since the last success stays in doubt for
    /// ever: no later sync of the same file makes it durable, as on Linux.
    Sync,
    SyncDir,
    Rename,
    Remove,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultError {
    /// The device failed.
    Eio,
    /// No space is left.
    Enospc,
}

impl FaultError {
    pub(super) fn to_io(self) -> io::Error {
        io::Error::from_raw_os_error(match self {
            FaultError::Eio => libc::EIO,
            FaultError::Enospc => libc::ENOSPC,
        })
    }
}

/// One error to come: `Fault::eio(FaultPoint::Sync).after(2).on(".wal")` fails the third sync from now on a
/// file whose path holds `.wal`, once.
#[derive(Clone)]
pub struct Fault {
    point: FaultPoint,
    error: FaultError,
    path_part: String,
    /// Matching calls that still succeed.
    left: u64,
}

impl Fault {
    pub fn new(point: FaultPoint, error: FaultError) -> Fault {
        Fault { point, error, path_part: String::new(), left: 0 }
    }

    pub fn eio(point: FaultPoint) -> Fault {
        Fault::new(point, FaultError::Eio)
    }

    pub fn enospc(point: FaultPoint) -> Fault {
        Fault::new(point, FaultError::Enospc)
    }

    /// Lets that many matching calls succeed first.
    pub fn after(mut self, calls: u64) -> Fault {
        self.left = calls;
        self
    }

    /// Strikes only where the path contains this text.
    pub fn on(mut self, path_part: &str) -> Fault {
        path_part.clone_into(&mut self.path_part);
        self
    }
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} at {:?} after {} on {:?}", self.error, self.point, self.left, self.path_part)
    }
}

/// Faults to come and how often each point was passed.
#[derive(Default)]
pub(super) struct Faults {
    armed: Vec<Fault>,
    passed: std::collections::BTreeMap<FaultPoint, u64>,
}

impl Faults {
    pub(super) fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    pub(super) fn passed(&self, point: FaultPoint) -> u64 {
        self.passed.get(&point).copied().unwrap_or(0)
    }

    pub(super) fn pass(&mut self, point: FaultPoint, path: &Path) -> io::Result<()> {
        *self.passed.entry(point).or_default() += 1;
        let path = path.to_string_lossy();
        let mut struck = None;
        for (position, fault) in self.armed.iter_mut().enumerate() {
            if fault.point != point || !path.contains(fault.path_part.as_str()) {
                continue;
            }
            if fault.left == 0 {
                struck = Some(position);
                break;
            }
            fault.left -= 1;
        }
        match struck {
            Some(position) => Err(self.armed.remove(position).error.to_io()),
            None => Ok(()),
        }
    }
}
