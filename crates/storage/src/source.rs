//! The `key` bucket of one read transaction, as the store reads it.

use bolt::{Bucket as BoltBucket, BucketHandle, ReadTx, ValueRef};
use mvcc::{FileRef, FindHint, RecordSource, SourceError, Visit};

use crate::schema::Bucket;

/// Keeps its read transaction open, and with it every page that the transaction sees.
pub struct FileSource {
    tx: ReadTx,
    /// `None` in a file that has no `key` bucket yet.
    keys: Option<BucketHandle>,
}

impl FileSource {
    pub fn new(tx: ReadTx) -> bolt::Result<FileSource> {
        let keys = tx.bucket(Bucket::Key.name())?.map(|bucket| bucket.handle());
        Ok(FileSource { tx, keys })
    }

    fn bucket(&self) -> Option<BoltBucket<'_>> {
        self.keys.map(|keys| self.tx.bucket_at(keys))
    }
}

fn unreadable(error: bolt::Error) -> SourceError {
    SourceError::Unreadable(error.to_string())
}

impl RecordSource for FileSource {
    fn find(&self, key: &[u8], hint: &mut FindHint) -> Result<Option<FileRef>, SourceError> {
        let Some(bucket) = self.bucket() else { return Ok(None) };
        // A hint counts only within the transaction that gave it.
        if hint.words[0] != self.tx.txid() {
            hint.words = [self.tx.txid(), 0, 0, 0];
        }
        let [_, leaf, branch, _] = hint.words;
        let mut near = [leaf, branch];
        let found = bucket.find_near(key, &mut near).map_err(unreadable)?;
        [hint.words[1], hint.words[2]] = near;
        Ok(found.map(|value| FileRef { offset: value.offset, len: value.len }))
    }

    fn bytes(&self, at: FileRef) -> &[u8] {
        self.tx.bytes(ValueRef { offset: at.offset, len: at.len })
    }

    fn scan(&self, from: &[u8], visit: &mut Visit<'_>) -> Result<(), SourceError> {
        let Some(bucket) = self.bucket() else { return Ok(()) };
        let mut cursor = bucket.cursor();
        let mut entry = cursor.seek(from).map_err(unreadable)?;
        while let Some(pair) = entry {
            if visit(pair.key(), pair.value()).is_break() {
                return Ok(());
            }
            entry = cursor.next().map_err(unreadable)?;
        }
        Ok(())
    }
}
