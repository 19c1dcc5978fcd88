//! [`storage::SnapFile`] with its time measured.

use std::io;
use std::path::Path;
use std::time::Instant;

use disk::Disk;
use raft::ConfState;
use storage::{Applied, SnapFile};

use crate::metrics::DiskMetrics;

/// Writes the file whole and durable under its final name.
pub fn save(
    disk: &dyn Disk,
    dir: &Path,
    applied: Applied,
    conf_state: &ConfState,
    v2_store: &[u8],
    metrics: &DiskMetrics,
) -> io::Result<()> {
    let encoding = Instant::now();
    let file = SnapFile::new(applied, conf_state, v2_store);
    metrics.snap_save_marshalling.observe(encoding.elapsed().as_secs_f64());
    // As etcd measures it: writing and syncing.
    let syncing = Instant::now();
    file.save(disk, dir)?;
    metrics.snap_fsync.observe(syncing.elapsed().as_secs_f64());
    Ok(())
}
