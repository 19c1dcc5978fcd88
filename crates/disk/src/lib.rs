//! Files and directories as the log (`wal`) and the B+tree file (`bolt`) see them.
//!
//! Both are written against [`Disk`] and [`File`], never against `std::fs`: the server brings real
//! files, tests and the simulator bring ones that forget unsynced writes or fail.

mod mapping;
pub mod mem;
mod open_file;
mod real;

pub use mem::MemDisk;
pub use real::RealDisk;

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
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    fn remove_dir_all(&self, path: &Path) -> io::Result<()>;
    fn sync_dir(&self, path: &Path) -> io::Result<()>;
}

/// Makes a directory and its missing parents, each durable in the one above: a power cut must not take away
/// the directory that everything acknowledged lies in.
pub fn make_dirs(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    let missing = missing_dirs(disk, path)?;
    disk.create_dir_all(path)?;
    missing.iter().try_for_each(|dir| disk.sync_dir(parent_of(dir)))
}

/// What [`make_dirs`] would make: the directory and those of its parents that are not there, the deepest first.
pub fn missing_dirs(disk: &dyn Disk, path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut missing = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        if disk.exists(ancestor)? {
            break;
        }
        missing.push(ancestor.to_path_buf());
    }
    Ok(missing)
}

/// The directory that holds the name.
pub fn parent_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    /// Reserves space and grows the file to `len` bytes of zeros; never shortens it. Space that was only
    /// reserved costs a later flush more than space that was once written.
    fn allocate(&self, len: u64) -> io::Result<()> {
        if self.len()? < len { self.set_len(len) } else { Ok(()) }
    }
    /// Data and what is needed to read it back (`fdatasync`). An error means that nothing written since
    /// the last success may be trusted: the caller stops, it never retries.
    fn sync_data(&self) -> io::Result<()>;
    /// Takes the whole-file lock (`flock`) that bbolt takes on the database, or fails at once with
    /// `WouldBlock`. It is held until the last reference to this open file goes.
    fn try_lock(&self, kind: LockKind) -> io::Result<()>;
    /// Takes the open-file-description record lock that etcd takes on log segments, or fails at once with
    /// `WouldBlock`; `flock` where the system has no such locks, as etcd does. Held like [`File::try_lock`].
    fn try_record_lock(&self, kind: LockKind) -> io::Result<()> {
        self.try_lock(kind)
    }
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
