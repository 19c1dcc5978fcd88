//! A disk in memory: for tests and for the simulator.
//!
//! It behaves as a file system does, maps files, returns errors on request ([`Fault`]) and, once told to,
//! records every operation, so that the disk can be rebuilt as a power cut at any point may leave it:
//!
//! ```
//! use disk::{Disk, MemDisk, OpenMode};
//! use std::path::Path;
//!
//! let disk = MemDisk::new();
//! disk.create_dir_all(Path::new("member")).unwrap();
//! disk.start_recording(); // what is there now counts as durable
//!
//! let file = disk.open(Path::new("member/log"), OpenMode::CreateNew).unwrap();
//! disk.sync_dir(Path::new("member")).unwrap();
//! file.write_at(b"promised", 0).unwrap();
//! file.sync_data().unwrap();
//! let promised_at = disk.op_count(); // remember which promises hold from which point on
//! file.write_at(b"hoped", 4096).unwrap();
//!
//! let recording = disk.recording();
//! for point in promised_at..=recording.last_point() {
//!     for image in recording.crash_at(point).images(8, 16, 1) {
//!         let file = image.disk.open(Path::new("member/log"), OpenMode::ReadOnly).unwrap();
//!         let mut found = [0; 8];
//!         file.read_at(&mut found, 0).unwrap();
//!         assert_eq!(&found, b"promised", "crash point {point}, {image:?}");
//!     }
//! }
//! ```

mod crash;
mod fault;
mod record;
mod tree;

pub use crash::{Crash, CrashImage, Pending, SECTOR_BYTES};
pub use fault::{Fault, FaultError, FaultPoint};
pub use record::{Op, Recording};
pub use tree::InodeId;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::{Disk, File, LockKind, Mapping, OpenMode};
use fault::Faults;
use tree::{Content, Inode, ROOT, Tree, names};

/// An in-memory disk; clones are the same disk. Paths start at its root, whether written absolute or not.
#[derive(Clone)]
pub struct MemDisk {
    state: Arc<Mutex<State>>,
}

struct State {
    tree: Tree,
    recording: Option<Recording>,
    faults: Faults,
    locks: Vec<Lock>,
    opened: u64,
}

struct Lock {
    inode: InodeId,
    handle: u64,
    style: LockStyle,
    kind: LockKind,
}

/// The two kinds do not see each other, as on Linux.
#[derive(Clone, Copy, PartialEq, Eq)]
enum LockStyle {
    Whole,
    Record,
}

impl Default for MemDisk {
    fn default() -> MemDisk {
        MemDisk::new()
    }
}

impl MemDisk {
    /// An empty disk that does not record.
    pub fn new() -> MemDisk {
        MemDisk::from_tree(Tree::new())
    }

    fn from_tree(tree: Tree) -> MemDisk {
        let state = State { tree, recording: None, faults: Faults::default(), locks: Vec::new(), opened: 0 };
        MemDisk { state: Arc::new(Mutex::new(state)) }
    }

    /// Takes the disk as it is now for durable and records every operation from here on.
    pub fn start_recording(&self) {
        let mut state = self.lock();
        state.recording = Some(Recording { base: state.tree.clone(), ops: Vec::new() });
    }

    /// Operations recorded so far: the crash point "now".
    pub fn op_count(&self) -> usize {
        self.lock().recording.as_ref().map_or(0, |recording| recording.ops.len())
    }

    /// A copy of what was recorded so far; panics when [`MemDisk::start_recording`] was never called.
    pub fn recording(&self) -> Recording {
        self.lock().recording.clone().expect("start_recording comes first")
    }

    /// Arms one error. Several may be armed; each strikes once.
    pub fn inject(&self, fault: Fault) {
        self.lock().faults.arm(fault);
    }

    /// How many calls reached this point so far, failed ones included.
    pub fn calls(&self, point: FaultPoint) -> u64 {
        self.lock().faults.passed(point)
    }

    /// The whole file, for tests to look at.
    pub fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = self.lock();
        let inode = state.tree.get(path)?;
        if state.tree.is_dir(inode) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let content = state.tree.content(inode);
        let mut bytes = vec![0; content.len() as usize];
        content.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Replaces the whole file, made when absent, for tests that damage files.
    pub fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.open(path, OpenMode::Create)?;
        file.set_len(0)?;
        file.write_at(bytes, 0)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A test that panicked while holding it left no half-made change: each is one call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn record(&mut self, op: impl FnOnce() -> Op) {
        if let Some(recording) = &mut self.recording {
            recording.ops.push(op());
        }
    }

    fn create(&mut self, dir: InodeId, name: std::ffi::OsString, is_dir: bool) -> InodeId {
        let made =
            if is_dir { Inode::Dir(Default::default()) } else { Inode::File(Content::Heap(Vec::new())) };
        let inode = self.tree.push(made);
        self.tree.dir_mut(dir).insert(name.clone(), inode);
        self.record(|| Op::Create { dir, name, inode, is_dir });
        inode
    }

    fn remove_below(&mut self, dir: InodeId) {
        let entries = self.tree.dir_mut(dir).clone();
        for (name, inode) in entries {
            if self.tree.is_dir(inode) {
                self.remove_below(inode);
            }
            self.tree.dir_mut(dir).remove(&name);
            self.record(|| Op::Remove { dir, name });
        }
    }
}

impl Disk for MemDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::Open, path)?;
        let found = state.tree.find(path)?;
        let inode = match (found, mode) {
            (Some(_), OpenMode::CreateNew) => return Err(io::ErrorKind::AlreadyExists.into()),
            (Some(inode), _) if state.tree.is_dir(inode) => return Err(io::ErrorKind::IsADirectory.into()),
            (Some(inode), _) => inode,
            (None, OpenMode::Create | OpenMode::CreateNew) => {
                let (dir, name) = state.tree.parent_of(path)?;
                state.create(dir, name, false)
            }
            (None, OpenMode::ReadOnly | OpenMode::ReadWrite) => return Err(io::ErrorKind::NotFound.into()),
        };
        state.opened += 1;
        let handle = state.opened;
        drop(state);
        let writable = mode != OpenMode::ReadOnly;
        Ok(Arc::new(MemFile { disk: self.clone(), inode, handle, path: path.to_path_buf(), writable }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        let mut at = ROOT;
        for name in names(path)? {
            at = match state.tree.dir(at)?.get(name) {
                Some(&next) => next,
                None => state.create(at, name.to_os_string(), true),
            };
        }
        state.tree.dir(at).map(|_| ())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.lock();
        let dir = state.tree.get(path)?;
        Ok(state.tree.dir(dir)?.keys().map(PathBuf::from).collect())
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        Ok(self.lock().tree.find(path)?.is_some())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::Rename, to)?;
        let (from_dir, from_name) = state.tree.parent_of(from)?;
        let (to_dir, to_name) = state.tree.parent_of(to)?;
        let inode = state.tree.get(from)?;
        if let Some(replaced) = state.tree.find(to)? {
            match (state.tree.is_dir(inode), state.tree.is_dir(replaced)) {
                (true, true) if state.tree.dir(replaced)?.is_empty() => {}
                (true, true) => return Err(io::ErrorKind::DirectoryNotEmpty.into()),
                (true, false) => return Err(io::ErrorKind::NotADirectory.into()),
                (false, true) => return Err(io::ErrorKind::IsADirectory.into()),
                (false, false) => {}
            }
        }
        state.tree.dir_mut(from_dir).remove(&from_name);
        state.tree.dir_mut(to_dir).insert(to_name.clone(), inode);
        state.record(|| Op::Rename { from_dir, from_name, to_dir, to_name, inode });
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::Remove, path)?;
        let inode = state.tree.get(path)?;
        if state.tree.is_dir(inode) {
            return Err(io::ErrorKind::IsADirectory.into());
        }
        let (dir, name) = state.tree.parent_of(path)?;
        state.tree.dir_mut(dir).remove(&name);
        state.record(|| Op::Remove { dir, name });
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::Remove, path)?;
        let inode = state.tree.get(path)?;
        if !state.tree.dir(inode)?.is_empty() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (dir, name) = state.tree.parent_of(path)?;
        state.tree.dir_mut(dir).remove(&name);
        state.record(|| Op::Remove { dir, name });
        Ok(())
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::Remove, path)?;
        let inode = state.tree.get(path)?;
        state.tree.dir(inode)?;
        let (dir, name) = state.tree.parent_of(path)?;
        state.remove_below(inode);
        state.tree.dir_mut(dir).remove(&name);
        state.record(|| Op::Remove { dir, name });
        Ok(())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        let mut state = self.lock();
        state.faults.pass(FaultPoint::SyncDir, path)?;
        let dir = state.tree.get(path)?;
        state.tree.dir(dir)?;
        state.record(|| Op::SyncDir { dir });
        Ok(())
    }
}

struct MemFile {
    disk: MemDisk,
    inode: InodeId,
    /// Tells this open of the file from others, for locks.
    handle: u64,
    /// As it was opened; a fault is aimed by it.
    path: PathBuf,
    writable: bool,
}

impl MemFile {
    fn may_write(&self) -> io::Result<()> {
        if self.writable { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EBADF)) }
    }

    fn lock_as(&self, style: LockStyle, kind: LockKind) -> io::Result<()> {
        let mut state = self.disk.lock();
        let clashes = |lock: &Lock| {
            lock.inode == self.inode
                && lock.style == style
                && lock.handle != self.handle
                && (kind == LockKind::Exclusive || lock.kind == LockKind::Exclusive)
        };
        if state.locks.iter().any(clashes) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        state.locks.retain(|lock| lock.handle != self.handle || lock.style != style);
        state.locks.push(Lock { inode: self.inode, handle: self.handle, style, kind });
        Ok(())
    }
}

impl Drop for MemFile {
    fn drop(&mut self) {
        self.disk.lock().locks.retain(|lock| lock.handle != self.handle);
    }
}

impl File for MemFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.disk.lock().tree.content(self.inode).len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.lock();
        state.faults.pass(FaultPoint::Read, &self.path)?;
        state.tree.content(self.inode).read_at(buf, offset)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.disk.lock();
        let struck = state.faults.pass(FaultPoint::Write, &self.path);
        let written = if struck.is_err() { &buf[..whole_sectors(offset, buf.len() / 2)] } else { buf };
        state.tree.content_mut(self.inode).write_at(written, offset)?;
        state.record(|| Op::Write { inode: self.inode, offset, data: written.into() });
        struck
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.may_write()?;
        let mut state = self.disk.lock();
        state.faults.pass(FaultPoint::SetLen, &self.path)?;
        state.tree.content_mut(self.inode).set_len(len)?;
        state.record(|| Op::SetLen { inode: self.inode, len });
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.disk.lock();
        match state.faults.pass(FaultPoint::Sync, &self.path) {
            Ok(()) => {
                state.record(|| Op::Sync { inode: self.inode });
                Ok(())
            }
            Err(error) => {
                state.record(|| Op::SyncFailed { inode: self.inode });
                Err(error)
            }
        }
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<()> {
        self.lock_as(LockStyle::Whole, kind)
    }

    fn try_record_lock(&self, kind: LockKind) -> io::Result<()> {
        self.lock_as(LockStyle::Record, kind)
    }

    fn map(&self, reserve_bytes: u64) -> io::Result<Arc<dyn Mapping>> {
        self.disk.lock().tree.content_mut(self.inode).map(reserve_bytes)
    }
}

/// How much of a write is done that stops after `len` bytes: no device leaves a sector half-written.
fn whole_sectors(offset: u64, len: usize) -> usize {
    let end = (offset + len as u64) / SECTOR_BYTES * SECTOR_BYTES;
    end.saturating_sub(offset) as usize
}

#[cfg(test)]
mod tests;
