//! The snapshot's bytes, without the checksum behind them.

use std::path::Path;

use disk::{Disk, OpenMode};
use sha2::{Digest, Sha256};

use super::{Hash, RestoreError};
use crate::progress::Progress;

/// Behind the last page of a saved snapshot: the SHA-256 of all before.
const HASH_BYTES: u64 = 32;
/// Pages are multiples of this, so that a rest tells a hash. Source: etcd `hasChecksum`.
const SECTOR_BYTES: u64 = 512;
const CHUNK_BYTES: usize = 1 << 20;

/// Copies the database of a snapshot file to `target`, synced, and compares the hash.
pub(super) fn copy(disk: &dyn Disk, snapshot: &Path, target: &Path, hash: Hash) -> Result<(), RestoreError> {
    let failed = |call| move |error| RestoreError::Snapshot { call, path: snapshot.to_path_buf(), error };
    let source = disk.open(snapshot, OpenMode::ReadOnly).map_err(failed("open"))?;
    let size = source.len().map_err(failed("stat"))?;
    let has_hash = size % SECTOR_BYTES == HASH_BYTES;
    // A directory cannot be read, whatever it says of its size.
    source.read_at(&mut [0], 0).map_err(failed("read"))?;
    if !has_hash && hash == Hash::Required {
        return Err(RestoreError::HashMissing);
    }
    let data_bytes = if has_hash { size - HASH_BYTES } else { size };
    let copy = disk.open(target, OpenMode::CreateNew).map_err(RestoreError::io("open", target))?;
    let progress = Progress::of("copying the snapshot", data_bytes);
    let mut sha = Sha256::new();
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut at = 0;
    while at < data_bytes {
        let wanted = (data_bytes - at).min(CHUNK_BYTES as u64) as usize;
        let read = source.read_at(&mut chunk[..wanted], at).map_err(failed("read"))?;
        if read == 0 {
            return Err(RestoreError::SnapshotShrank(snapshot.to_path_buf()));
        }
        sha.update(&chunk[..read]);
        copy.write_at(&chunk[..read], at).map_err(RestoreError::io("write", target))?;
        at += read as u64;
        progress.set(at);
    }
    if has_hash && hash == Hash::Required {
        let mut expected = vec![0; HASH_BYTES as usize];
        let read = source.read_at(&mut expected, data_bytes).map_err(failed("read"))?;
        if read < expected.len() {
            return Err(RestoreError::SnapshotShrank(snapshot.to_path_buf()));
        }
        let got = sha.finalize().to_vec();
        if expected != got {
            return Err(RestoreError::HashMismatch { expected, got });
        }
    }
    copy.sync_data().map_err(RestoreError::io("fsync", target))
}
