//! The hash by which members compare their keys, computed from a file.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use mvcc::{Checksum, KEY_BUCKET, MvccError, ReadAt, Revision, SourceError, Store};
use storage::FileSource;

use crate::open::{Access, LockWait, OpenError, open};
use crate::progress::Progress;

/// As etcd's tool tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HashKv {
    pub hash: u32,
    /// Up to which records were hashed.
    pub revision: i64,
    /// -1 when the file was never compacted.
    pub compact_revision: i64,
}

#[derive(Debug)]
pub enum HashKvError {
    Open(OpenError),
    Database(bolt::Error),
    Records(SourceError),
    Revision(MvccError),
}

impl fmt::Display for HashKvError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            HashKvError::Open(error) => error.fmt(f),
            HashKvError::Database(error) => error.fmt(f),
            HashKvError::Records(error) => error.fmt(f),
            HashKvError::Revision(MvccError::Compacted { .. }) => {
                f.write_str("mvcc: required revision has been compacted")
            }
            HashKvError::Revision(MvccError::FutureRevision { .. }) => {
                f.write_str("mvcc: required revision is a future revision")
            }
            HashKvError::Revision(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for HashKvError {}

/// Hashes the records up to a revision; 0 is the latest. Compat: below 0 etcd hashes no record at all.
///
/// The file is only read. (etcd's tool opens it for writing, which spoils the checksum of a snapshot.)
pub fn hash_kv(file: &Path, revision: i64, wait: LockWait) -> Result<HashKv, HashKvError> {
    let db = open(file, Access::Read, wait, None).map_err(HashKvError::Open)?;
    let _progress = Progress::of("hashing keys", 0);
    let tx = db.begin_read();
    let compactions = storage::compactions(&tx).map_err(HashKvError::Database)?;
    let source = Arc::new(FileSource::new(tx).map_err(HashKvError::Database)?);
    let restored = Store::restore(source, compactions, &mut |_, _| {}).map_err(HashKvError::Records)?;
    let view = restored.store.cell().load();
    let compact_revision = view.compact_revision().map_or(-1, Revision::to_wire);
    if revision < 0 {
        let mut nothing = Checksum::default();
        nothing.write(KEY_BUCKET);
        return Ok(HashKv { hash: nothing.sum(), revision, compact_revision });
    }
    let hash = mvcc::hash_kv(&view, ReadAt::from_wire(revision)).map_err(HashKvError::Revision)?;
    Ok(HashKv { hash: hash.hash, revision: hash.revision.to_wire(), compact_revision })
}
