//! Real files.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};

use crate::mapping::Reservation;
use crate::open_file::OpenFile;
use crate::{Disk, File, LockKind, Mapping, OpenMode};

/// The machine's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let mut options = fs::OpenOptions::new();
        options.read(true).mode(0o600);
        match mode {
            OpenMode::ReadOnly => &mut options,
            OpenMode::ReadWrite => options.write(true),
            OpenMode::Create => options.write(true).create(true),
            OpenMode::CreateNew => options.write(true).create_new(true),
        };
        Ok(Arc::new(RealFile { file: Arc::new(OpenFile::new(options.open(path)?)) }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let mut names = fs::read_dir(path)?
            .map(|entry| Ok(PathBuf::from(entry?.file_name())))
            .collect::<io::Result<Vec<_>>>()?;
        names.sort_unstable();
        Ok(names)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        path.try_exists()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let replaced = open_to_free(to);
        fs::rename(from, to)?;
        drop(replaced);
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        let removed = open_to_free(path);
        fs::remove_file(path)?;
        drop(removed);
        Ok(())
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        fs::File::open(path)?.sync_all()
    }
}

/// Frees the file step by step once it has lost its name. What cannot be opened goes as it goes.
fn open_to_free(path: &Path) -> Option<OpenFile> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|metadata| metadata.is_file());
    let opened = is_file.then(|| fs::File::options().write(true).open(path).ok()).flatten();
    opened.map(OpenFile::new)
}

struct RealFile {
    file: Arc<OpenFile>,
}

impl File for RealFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < buf.len() {
            match self.file.read_at(&mut buf[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn allocate(&self, len: u64) -> io::Result<()> {
        let present = self.len()?;
        if present >= len {
            return Ok(());
        }
        let reserve = || fallocate(&**self.file, FallocateFlags::empty(), present, len - present);
        // A signal may interrupt it, or a pause of the whole machine: that says nothing about the disk.
        match rustix::io::retry_on_intr(reserve) {
            Ok(()) => Ok(()),
            // Some file systems cannot reserve; a longer, sparse file serves as well.
            Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => self.set_len(len),
            Err(error) => Err(error.into()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn try_lock(&self, kind: LockKind) -> io::Result<()> {
        let locked = match kind {
            LockKind::Shared => self.file.try_lock_shared(),
            LockKind::Exclusive => self.file.try_lock(),
        };
        locked.map_err(io::Error::from)
    }

    fn try_record_lock(&self, kind: LockKind) -> io::Result<()> {
        match set_record_lock(&self.file, kind) {
            // Linux before 3.15 and some network file systems have no such locks; etcd falls back likewise.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.try_lock(kind),
            other => other,
        }
    }

    fn map(&self, reserve_bytes: u64) -> io::Result<Arc<dyn Mapping>> {
        let reservation = Reservation::new(&self.file, reserve_bytes)?;
        Ok(Arc::new(RealMapping { reservation, _file: self.file.clone() }))
    }
}

struct RealMapping {
    reservation: Reservation,
    /// Goes behind the mapping: what is still mapped may not be shortened.
    _file: Arc<OpenFile>,
}

impl Mapping for RealMapping {
    fn bytes(&self, offset: u64, len: usize) -> &[u8] {
        self.reservation.bytes(offset, len)
    }
}

/// `F_OFD_SETLK` over the whole file. rustix only offers the per-process kind, which another open of the
/// same file in this process would silently share and whose close would drop it.
fn set_record_lock(file: &fs::File, kind: LockKind) -> io::Result<()> {
    let lock_type = match kind {
        LockKind::Shared => libc::F_RDLCK,
        LockKind::Exclusive => libc::F_WRLCK,
    };
    let lock = libc::flock {
        l_type: lock_type as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0, // to the end, wherever that is
        l_pid: 0, // must be 0 for this kind
    };
    // SAFETY: the descriptor is open for the call, and `lock` is a whole, initialised struct that outlives it.
    let answer = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw const lock) };
    if answer == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EACCES | libc::EAGAIN) => Err(io::ErrorKind::WouldBlock.into()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_lock_keeps_others_out_until_the_file_is_dropped() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.wal");
        let first = RealDisk.open(&path, OpenMode::Create).unwrap();
        let second = RealDisk.open(&path, OpenMode::ReadWrite).unwrap();
        first.try_record_lock(LockKind::Exclusive).unwrap();
        let refused = second.try_record_lock(LockKind::Exclusive).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
        drop(first);
        second.try_record_lock(LockKind::Exclusive).unwrap();
    }

    #[test]
    fn a_whole_file_lock_is_shared_or_exclusive() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let first = RealDisk.open(&path, OpenMode::Create).unwrap();
        let second = RealDisk.open(&path, OpenMode::ReadOnly).unwrap();
        first.try_lock(LockKind::Shared).unwrap();
        second.try_lock(LockKind::Shared).unwrap();
        assert_eq!(first.try_lock(LockKind::Exclusive).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn a_mapping_sees_later_writes_and_growth() {
        let dir = tempfile::tempdir().unwrap();
        let file = RealDisk.open(&dir.path().join("db"), OpenMode::CreateNew).unwrap();
        file.write_at(b"one", 0).unwrap();
        let mapping = file.map(1 << 30).unwrap();
        assert_eq!(mapping.bytes(0, 3), b"one");
        file.allocate(10_000).unwrap();
        file.write_at(b"two", 9_000).unwrap();
        assert_eq!(mapping.bytes(9_000, 3), b"two");
        assert_eq!(file.len().unwrap(), 10_000);
    }

    #[test]
    fn names_are_listed_alone_and_sorted_and_renames_replace() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("x/y");
        RealDisk.create_dir_all(&inner).unwrap();
        for name in ["b", "a", "c"] {
            RealDisk
                .open(&inner.join(name), OpenMode::CreateNew)
                .unwrap()
                .write_at(name.as_bytes(), 0)
                .unwrap();
        }
        RealDisk.rename(&inner.join("c"), &inner.join("a")).unwrap();
        RealDisk.sync_dir(&inner).unwrap();
        assert_eq!(RealDisk.list(&inner).unwrap(), ["a", "b"].map(PathBuf::from));
        let mut byte = [0; 4];
        let file = RealDisk.open(&inner.join("a"), OpenMode::ReadOnly).unwrap();
        assert_eq!(file.read_at(&mut byte, 0).unwrap(), 1);
        assert_eq!(byte[0], b'c');
    }
}
