//! `.snap` files: what etcd 3.6 and older start from, beside each snapshot record of the log.

use std::io;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use disk::{Disk, OpenMode};
use raft::{ConfState, EntryId, Index, Snapshot, SnapshotMetadata, Term};

use crate::schema::Applied;

const SUFFIX: &str = "snap";

/// One file, encoded but not yet written.
pub struct SnapFile {
    name: String,
    bytes: Bytes,
}

impl SnapFile {
    /// `v2_store` is what [`crate::v2_store::dump`] gives, or what a leader sent in its place.
    pub fn new(applied: Applied, conf_state: &ConfState, v2_store: &[u8]) -> SnapFile {
        let id = EntryId::new(Term(applied.term), Index(applied.index));
        let metadata = SnapshotMetadata { conf_state: conf_state.clone(), index: id.index, term: id.term };
        let snapshot = Snapshot { data: Bytes::copy_from_slice(v2_store), metadata };
        SnapFile { name: wal::snap::file_name(id), bytes: wal::snap::encode(&snapshot) }
    }

    /// Writes the file whole and durable under its final name.
    pub fn save(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let path = dir.join(&self.name);
        let unfinished = path.with_extension("snap.tmp");
        if disk.exists(&unfinished)? {
            disk.remove_file(&unfinished)?;
        }
        let file = disk.open(&unfinished, OpenMode::CreateNew)?;
        file.write_at(&self.bytes, 0)?;
        file.sync_data()?;
        disk.rename(&unfinished, &path)?;
        disk.sync_dir(dir)
    }
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
