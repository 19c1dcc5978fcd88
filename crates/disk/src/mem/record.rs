//! What was asked of the in-memory disk, in order: the raw material of crash images.

use std::ffi::OsString;
use std::fmt;
use std::sync::Arc;

use super::crash::Crash;
use super::tree::{InodeId, Tree};

/// One change, or one promise that changes are durable.
#[derive(Clone)]
pub enum Op {
    /// A new file or directory, empty, under a name.
    Create {
        dir: InodeId,
        name: OsString,
        inode: InodeId,
        is_dir: bool,
    },
    Write {
        inode: InodeId,
        offset: u64,
        data: Arc<[u8]>,
    },
    SetLen {
        inode: InodeId,
        len: u64,
    },
    Sync {
        inode: InodeId,
    },
    /// A sync that reported an error: what it should have saved is in doubt for ever.
    SyncFailed {
        inode: InodeId,
    },
    Rename {
        from_dir: InodeId,
        from_name: OsString,
        to_dir: InodeId,
        to_name: OsString,
        inode: InodeId,
    },
    Remove {
        dir: InodeId,
        name: OsString,
    },
    SyncDir {
        dir: InodeId,
    },
}

impl fmt::Debug for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Create { dir, name, inode, is_dir } => {
                let kind = if *is_dir { "directory" } else { "file" };
                write!(f, "create {kind} #{} as {name:?} in #{}", inode.0, dir.0)
            }
            Op::Write { inode, offset, data } => write!(f, "write #{} {offset}+{}", inode.0, data.len()),
            Op::SetLen { inode, len } => write!(f, "set length of #{} to {len}", inode.0),
            Op::Sync { inode } => write!(f, "sync #{}", inode.0),
            Op::SyncFailed { inode } => write!(f, "failed sync #{}", inode.0),
            Op::Rename { from_name, to_name, inode, .. } => {
                write!(f, "rename #{} {from_name:?} to {to_name:?}", inode.0)
            }
            Op::Remove { dir, name } => write!(f, "remove {name:?} from #{}", dir.0),
            Op::SyncDir { dir } => write!(f, "sync directory #{}", dir.0),
        }
    }
}

/// All operations since [`MemDisk::start_recording`](super::MemDisk::start_recording), and the disk before.
#[derive(Clone)]
pub struct Recording {
    pub(super) base: Tree,
    pub(super) ops: Vec<Op>,
}

impl Recording {
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }

    /// Crash points run from 0 (nothing was asked) to this (all was asked), both included.
    pub fn last_point(&self) -> usize {
        self.ops.len()
    }

    /// The power goes after the first `point` operations were asked for.
    pub fn crash_at(&self, point: usize) -> Crash {
        assert!(point <= self.ops.len(), "crash point {point} behind the last operation {}", self.ops.len());
        Crash::new(&self.base, &self.ops[..point])
    }
}
