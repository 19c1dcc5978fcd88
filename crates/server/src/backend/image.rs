//! Answers that need the whole file: its hash, and a copy of it.

use std::time::Instant;

use bolt::ReadTx;
use membership::Version;
use mvcc::Revision;
use prometheus::Histogram;
use storage::{Bucket, Item, NOT_HASHED};

use crate::error::Error;
use crate::shared::Shared;

/// The hash over every bucket, and the store's revision when it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashAnswer {
    pub hash: u32,
    pub revision: Revision,
}

/// A state of the file whose hash is wanted.
pub struct HashSource {
    tx: ReadTx,
    revision: Revision,
}

impl HashSource {
    pub fn new(tx: ReadTx, revision: Revision) -> HashSource {
        HashSource { tx, revision }
    }

    /// Reads the whole file: call it where blocking is allowed. A file that does not give what it must hold
    /// stops the member, as for any reader.
    pub fn hash(self, shared: &Shared) -> Result<HashAnswer, Error> {
        let started = Instant::now();
        let hash = hash(&self.tx).map_err(|error| shared.file_error(&error))?;
        shared.metrics.mvcc.hash_duration.observe(started.elapsed().as_secs_f64());
        Ok(HashAnswer { hash, revision: self.revision })
    }
}

/// CRC-32C over all buckets in name order: each one's name, then its keys and values. What members differ
/// in by nature is left out.
fn hash(tx: &ReadTx) -> bolt::Result<u32> {
    let mut crc = 0;
    storage::for_each_item(tx, |item| {
        match item {
            Item::Bucket { name } => crc = crc32c::crc32c_append(crc, name),
            Item::Pair { bucket, key, .. } if bucket == Bucket::Meta.name() && NOT_HASHED.contains(&key) => {}
            Item::Pair { key, value, .. } => {
                crc = crc32c::crc32c_append(crc, key);
                crc = crc32c::crc32c_append(crc, value);
            }
        }
        Ok::<(), bolt::Error>(())
    })?;
    Ok(crc)
}

/// A copy of the file, read piece by piece. Reading blocks on the disk.
pub struct SnapshotReader {
    image: bolt::copy::Snapshot,
    /// Version of the file's layout.
    pub version: Option<Version>,
    opened: Instant,
    duration: Histogram,
}

impl SnapshotReader {
    /// `duration` observes how long the image was kept open.
    pub fn new(tx: ReadTx, version: Option<Version>, duration: Histogram) -> SnapshotReader {
        SnapshotReader { image: bolt::copy::snapshot(&tx), version, opened: Instant::now(), duration }
    }

    /// Bytes of the whole image.
    pub fn size(&self) -> u64 {
        self.image.size_bytes()
    }

    /// The next bytes of the image; 0 at its end.
    pub fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
        std::io::Read::read(&mut self.image, buf)
    }
}

impl Drop for SnapshotReader {
    fn drop(&mut self) {
        self.duration.observe(self.opened.elapsed().as_secs_f64());
    }
}
