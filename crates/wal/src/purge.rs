//! Removing segments that nobody needs any more.

use std::path::Path;

use disk::{Disk, OpenMode};

use crate::error::{Context, Error};
use crate::name::segments;
use crate::wal::{Wal, lock};

/// Removes the oldest segments until `segments_max` are left (0: no limit), stopping at the first that is
/// locked, by this process ([`Wal::release_to`] unlocks) or by another. Returns how many went.
///
/// May run beside the log on another thread: freeing 64 MB can take a file system a while.
pub fn purge(disk: &dyn Disk, dir: &Path, segments_max: usize) -> Result<usize, Error> {
    if segments_max == 0 {
        return Ok(0);
    }
    let all = segments(disk, dir)?;
    let surplus = all.len().saturating_sub(segments_max);
    let mut removed = 0;
    for name in &all[..surplus] {
        let path = name.path_in(dir);
        let file = disk.open(&path, OpenMode::ReadWrite).context("open", &path)?;
        match lock(&*file, &path) {
            Ok(()) => disk.remove_file(&path).context("remove", &path)?,
            Err(Error::Locked { .. }) => break,
            Err(error) => return Err(error),
        }
        removed += 1;
    }
    if removed > 0 {
        disk.sync_dir(dir).context("sync", dir)?;
    }
    Ok(removed)
}

impl Wal {
    /// [`purge`] of this log's directory.
    pub fn purge(&self, segments_max: usize) -> Result<usize, Error> {
        purge(&*self.disk, &self.dir, segments_max)
    }
}
