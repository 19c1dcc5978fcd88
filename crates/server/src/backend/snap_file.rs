//! `.snap` files: what etcd 3.6 and older start from, beside each snapshot record of the log.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use disk::{Disk, OpenMode};
use raft::{ConfState, EntryId, Index, Snapshot, SnapshotMetadata, Term};

use super::schema::Applied;
use crate::metrics::DiskMetrics;

const SUFFIX: &str = "snap";

/// Writes the file whole and durable under its final name.
pub fn save(
    disk: &dyn Disk,
    dir: &Path,
    applied: Applied,
    conf_state: &ConfState,
    v2_store: &[u8],
    metrics: &DiskMetrics,
) -> io::Result<()> {
    let id = EntryId::new(Term(applied.term), Index(applied.index));
    let metadata = SnapshotMetadata { conf_state: conf_state.clone(), index: id.index, term: id.term };
    let snapshot = Snapshot { data: Bytes::copy_from_slice(v2_store), metadata };
    let path = dir.join(wal::snap::file_name(id));
    let unfinished = path.with_extension("snap.tmp");
    if disk.exists(&unfinished)? {
        disk.remove_file(&unfinished)?;
    }
    let file = disk.open(&unfinished, OpenMode::CreateNew)?;
    let encoding = Instant::now();
    let bytes = wal::snap::encode(&snapshot);
    metrics.snap_save_marshalling.observe(encoding.elapsed().as_secs_f64());
    file.write_at(&bytes, 0)?;
    let syncing = Instant::now();
    file.sync_data()?;
    metrics.snap_fsync.observe(syncing.elapsed().as_secs_f64());
    disk.rename(&unfinished, &path)?;
    disk.sync_dir(dir)
}

/// Removes the oldest until `keep` are left; 0 keeps all. Names sort by term and index.
pub fn purge(disk: &dyn Disk, dir: &Path, keep: usize) -> io::Result<()> {
    if keep == 0 {
        return Ok(());
    }
    let is_snap = |name: &PathBuf| name.extension().is_some_and(|extension| extension == SUFFIX);
    let names: Vec<PathBuf> = disk.list(dir)?.into_iter().filter(is_snap).collect();
    let surplus = names.len().saturating_sub(keep);
    for name in &names[..surplus] {
        disk.remove_file(&dir.join(name))?;
    }
    Ok(())
}
