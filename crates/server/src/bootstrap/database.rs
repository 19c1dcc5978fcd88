//! Opening the database file.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bolt::Db;
use disk::OpenMode;

use super::{Dir, Result, io};
use crate::backend;

/// How long a file that another process holds is waited for, how often it is looked at, and when that is
/// said.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
const LOCK_WAIT_QUIET: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(20);

/// Whether a file may be one that a power cut left while it was being made.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum FileAge {
    MayBeUnborn,
    Old,
}

impl Dir<'_> {
    /// Another process that is just ending may still hold the file: that is waited for, with a word about
    /// it, but not for ever.
    pub(super) fn try_open_db(&self) -> std::result::Result<Db, bolt::Error> {
        let started = Instant::now();
        let mut told = false;
        loop {
            match self.try_open_db_now() {
                Err(bolt::Error::Locked) if started.elapsed() < LOCK_WAIT_MAX => {}
                opened => return opened,
            }
            if !told && started.elapsed() > LOCK_WAIT_QUIET {
                told = true;
                tracing::warn!(
                    path = %self.db_path.display(),
                    "db file is locked by another process, possibly another etcd; waiting for it to end"
                );
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn try_open_db_now(&self) -> std::result::Result<Db, bolt::Error> {
        let file = self
            .disk
            .open(&self.db_path, OpenMode::Create)
            .map_err(|error| bolt::Error::Io { action: "open", error: Arc::new(error) })?;
        Db::open(file, backend::options(self.config.unsafe_no_fsync))
    }

    pub(super) fn open_db(&self, age: FileAge) -> Result<Db> {
        let db = match self.try_open_db() {
            Err(bolt::Error::Unborn { .. }) if age == FileAge::MayBeUnborn => {
                tracing::warn!(
                    path = %self.db_path.display(),
                    "making the database file anew: it was never completely made"
                );
                self.disk
                    .remove_file(&self.db_path)
                    .map_err(io(format!("remove {}", self.db_path.display())))?;
                self.try_open_db()
            }
            opened => opened,
        };
        let db = db.map_err(|error| self.file_error(error))?;
        self.disk
            .sync_dir(&self.snap_dir)
            .map_err(io(format!("sync directory {}", self.snap_dir.display())))?;
        let db = self.defragment_when_sparse(db)?;
        backend::make_buckets(&db).map_err(|error| self.file_error(error))?;
        Ok(db)
    }

    /// `--bootstrap-defrag-threshold-megabytes`.
    fn defragment_when_sparse(&self, db: Db) -> Result<Db> {
        let threshold = self.config.bootstrap_defrag_threshold_megabytes;
        if threshold == 0 {
            return Ok(db);
        }
        let stats = db.stats();
        let free_megabytes = (stats.size_bytes() - stats.in_use_bytes()) >> 20;
        if free_megabytes < threshold {
            tracing::info!(free_megabytes, threshold, "Skipping defragmentation");
            return Ok(db);
        }
        let copy = self.snap_dir.join("db.tmp.bootstrap");
        backend::copy_to(self.disk.as_ref(), &db.begin_read(), &copy, &mut || ControlFlow::Continue(()))
            .map_err(|error| self.file_error(error))?;
        drop(db);
        self.disk
            .rename(&copy, &self.db_path)
            .and_then(|()| self.disk.sync_dir(&self.snap_dir))
            .map_err(io(format!("rename {}", copy.display())))?;
        tracing::info!(free_megabytes, "finished defragmenting directory");
        self.try_open_db().map_err(|error| self.file_error(error))
    }
}
