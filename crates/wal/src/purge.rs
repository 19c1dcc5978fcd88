//! Removing segments that nobody needs any more.

use disk::OpenMode;

use crate::error::{Context, Error};
use crate::name::segments;
use crate::wal::{Wal, lock};

impl Wal {
    /// Removes the oldest segments until `segments_max` are left (0: no limit), stopping at the first that is
    /// still locked, by this log ([`Wal::release_to`]) or by another process. Returns how many went.
    pub fn purge(&self, segments_max: usize) -> Result<usize, Error> {
        if segments_max == 0 {
            return Ok(0);
        }
        let all = segments(&*self.disk, &self.dir)?;
        let surplus = all.len().saturating_sub(segments_max);
        let mut removed = 0;
        for name in &all[..surplus] {
            let path = name.path_in(&self.dir);
            let file = self.disk.open(&path, OpenMode::ReadWrite).context("open", &path)?;
            match lock(&*file, &path) {
                Ok(()) => self.disk.remove_file(&path).context("remove", &path)?,
                Err(Error::Locked { .. }) => break,
                Err(error) => return Err(error),
            }
            removed += 1;
        }
        if removed > 0 {
            self.disk.sync_dir(&self.dir).context("sync", &self.dir)?;
        }
        Ok(removed)
    }
}
