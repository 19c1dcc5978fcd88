//! Files and directories as the log (`wal`) and the B+tree file (`bolt`) see them.
//!
//! Both are written against [`Disk`] and [`File`], never against `std::fs`: the server brings real
//! files, tests and the simulator bring ones that forget unsynced writes or fail.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How [`Disk::open`] treats a file that is, or is not, there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Must exist; writes are refused.
    ReadOnly,
    /// Must exist.
    ReadWrite,
    /// Made when absent (mode 0600), never truncated.
    Create,
    /// Made; an error when it exists.
    CreateNew,
}

/// A tree of directories. Renames and new names are durable only after [`Disk::sync_dir`].
pub trait Disk: Send + Sync + 'static {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Makes the directory and its missing parents, mode 0700.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// Names directly inside `path`, sorted.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Atomically replaces `to`.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    fn remove_file(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// One open file. All positions are byte offsets; no method moves a cursor.
pub trait File: Send + Sync + 'static {
    fn len(&self) -> io::Result<u64>;
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Reads up to `buf.len()` bytes; fewer only at the end of the file.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `buf`, extending the file when it ends before.
    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Data and what is needed to read it back (`fdatasync`). An error means that nothing written since
    /// the last success may be trusted: the caller stops, it never retries.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the advisory lock that etcd takes on this file, or fails at once with `WouldBlock`.
    fn try_lock(&self, kind: LockKind) -> io::Result<()>;
    /// Maps the file once, for reading, into `reserve_bytes` of address space. The mapping sees later
    /// writes and growth; it is never moved.
    fn map(&self, reserve_bytes: u64) -> io::Result<Arc<dyn Mapping>>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockKind {
    Shared,
    Exclusive,
}

/// A view of a whole file that stays at one address for its life.
pub trait Mapping: Send + Sync + 'static {
    /// The bytes at `offset..offset + len`. The range must lie within the file's present length, and no
    /// one may write to it while the slice lives: the B+tree's copy-on-write sees to that.
    fn bytes(&self, offset: u64, len: usize) -> &[u8];
}
