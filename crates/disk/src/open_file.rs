//! An open file, shared by all that read, write or map it; and what becomes of its space in the end.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::thread;
use std::time::Duration;

/// Files up to this size are left to the file system.
const SMALL_BYTES: u64 = 16 << 20;

/// Bytes given back at a time, and the rest between two times.
const STEP_BYTES: u64 = 8 << 20;
const PAUSE: Duration = Duration::from_millis(20);

/// A file that nobody can open any more gives its space back step by step when it is closed: a file system that frees
/// gigabytes at once holds up the next sync of every other file, and with it the log.
pub(crate) struct OpenFile(fs::File);

impl OpenFile {
    pub(crate) fn new(file: fs::File) -> OpenFile {
        OpenFile(file)
    }
}

impl Deref for OpenFile {
    type Target = fs::File;

    fn deref(&self) -> &fs::File {
        &self.0
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Ok(Some(len)) = len_if_useless(&self.0) else { return };
        let Ok(file) = self.0.try_clone() else { return };
        // Without a thread the space goes all at once, as it would anyway.
        thread::Builder::new().name("free".to_owned()).spawn(move || free(&file, len)).ok();
    }
}

/// The length of a large file without a name that nobody else has open.
fn len_if_useless(file: &fs::File) -> io::Result<Option<u64>> {
    let metadata = file.metadata()?;
    let is_large = metadata.is_file() && metadata.len() > SMALL_BYTES;
    let is_useless = is_large && metadata.nlink() == 0 && is_open_nowhere_else(file);
    Ok(is_useless.then_some(metadata.len()))
}

fn free(file: &fs::File, mut len: u64) {
    while len > 0 {
        len = len.saturating_sub(STEP_BYTES);
        // What cannot be shortened goes at once when it is closed.
        if file.set_len(len).is_err() {
            return;
        }
        thread::sleep(PAUSE);
    }
}

/// Only then the kernel grants a lease for writing. Some file systems never do.
fn is_open_nowhere_else(file: &fs::File) -> bool {
    let set_lease = |kind: libc::c_int| {
        // SAFETY: the descriptor is open for the call, which takes its argument by value.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, kind) == 0 }
    };
    // Given back at once: to break one that is held, the kernel sends a signal.
    set_lease(libc::F_WRLCK) && set_lease(libc::F_UNLCK)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unnamed(len: u64) -> (tempfile::TempDir, fs::File, fs::File) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("db");
        let file = fs::File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        file.set_len(len).unwrap();
        let other = fs::File::open(&path).unwrap();
        fs::remove_file(&path).unwrap();
        (dir, file, other)
    }

    #[test]
    fn what_nobody_can_open_any_more_is_freed() {
        let (_dir, file, other) = unnamed(3 * SMALL_BYTES);
        drop(other);
        // The same open file: it is not counted as another.
        let same = file.try_clone().unwrap();
        drop(OpenFile::new(file));
        while same.metadata().unwrap().len() > 0 {
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn what_somebody_else_reads_stays_whole() {
        let (_dir, file, other) = unnamed(3 * SMALL_BYTES);
        assert_eq!(len_if_useless(&file).unwrap(), None);
        drop(other);
        assert_eq!(len_if_useless(&file).unwrap(), Some(3 * SMALL_BYTES));
    }

    #[test]
    fn named_and_small_files_are_left_alone() {
        let (_dir, small, other) = unnamed(SMALL_BYTES);
        drop(other);
        assert_eq!(len_if_useless(&small).unwrap(), None);
        let dir = tempfile::tempdir().unwrap();
        let named = fs::File::create_new(dir.path().join("db")).unwrap();
        named.set_len(3 * SMALL_BYTES).unwrap();
        assert_eq!(len_if_useless(&named).unwrap(), None);
    }
}
