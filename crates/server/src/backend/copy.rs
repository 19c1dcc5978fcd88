//! A compacted copy of the file that is brought up to date while the file goes on being written.
//!
//! The file only ever gains records behind the newest one: revisions grow, and compactions rest while there is
//! a copy under way. So what the copy lacks of the `key` bucket is what lies behind its own newest record. The
//! other buckets are small and change anywhere: they are compared, once, at the very end.

use std::cmp::Ordering;
use std::ops::ControlFlow;
use std::path::Path;

use bolt::{BucketId, Cursor, Db, Entry, ReadTx, WriteTx};
use disk::{Disk, OpenMode};

use super::defrag::{io_error, options};
use storage::Bucket;

/// Keys and values of one transaction on the copy: what it holds in memory until it is committed, and what
/// one sync covers.
const SLICE_BYTES: usize = 1 << 20;

/// Asked between slices: it may sleep, and it may stop the copying.
pub type Pace<'a> = &'a mut dyn FnMut() -> ControlFlow<()>;

/// Writes the live pages of `tx` to a new file, complete and durable.
pub fn copy_to(disk: &dyn Disk, tx: &ReadTx, path: &Path, pace: Pace<'_>) -> bolt::Result<()> {
    if disk.exists(path).unwrap_or(false) {
        disk.remove_file(path).map_err(|error| io_error("remove an older copy", error))?;
    }
    let file = disk.open(path, OpenMode::CreateNew).map_err(|error| io_error("make the copy", error))?;
    bolt::copy::compact_into(tx, file.as_ref(), &mut |_| pace()).map(|_| ())
}

/// A copy that may still lack what was written since. Not the file yet: a crash leaves it to be removed.
pub struct Copy {
    db: Db,
    /// Key of its newest record; `None` when it has none.
    newest: Option<Vec<u8>>,
}

impl Copy {
    /// Copies what `tx` sees to `path`.
    pub fn make(
        disk: &dyn Disk,
        tx: &ReadTx,
        path: &Path,
        no_sync: bool,
        pace: Pace<'_>,
    ) -> bolt::Result<Copy> {
        copy_to(disk, tx, path, pace)?;
        let file = disk.open(path, OpenMode::ReadWrite).map_err(|error| io_error("open the copy", error))?;
        let db = Db::open(file, options(no_sync))?;
        let newest = match tx.bucket(Bucket::Key.name())? {
            Some(records) => records.cursor().last()?.map(|record| record.key().to_vec()),
            None => None,
        };
        Ok(Copy { db, newest })
    }

    /// Adds the records that `tx` sees behind the copy's newest; gives their bytes.
    pub fn add_records(&mut self, tx: &ReadTx, pace: Pace<'_>) -> bolt::Result<u64> {
        let Some(records) = tx.bucket(Bucket::Key.name())? else { return Ok(0) };
        let mut cursor = records.cursor();
        let mut next = match &self.newest {
            None => cursor.first()?,
            Some(newest) => match cursor.seek(newest)? {
                Some(record) if record.key() == &newest[..] => cursor.next()?,
                other => other,
            },
        };
        let mut writer = SliceWriter::new(&self.db, Bucket::Key.name());
        let mut newest = None;
        while let Some(record) = next {
            writer.put(record.key(), record.value(), pace)?;
            newest = Some(record.key());
            next = cursor.next()?;
        }
        let bytes = writer.finish()?;
        if let Some(newest) = newest {
            self.newest = Some(newest.to_vec());
        }
        Ok(bytes)
    }

    /// Adds all that `tx` sees and the copy lacks. From here on it may take the file's place.
    pub fn complete(mut self, tx: &ReadTx) -> bolt::Result<Db> {
        let pace: Pace<'_> = &mut || ControlFlow::Continue(());
        self.add_records(tx, pace)?;
        let before = self.db.begin_read();
        let mut buckets = tx.root().cursor();
        let mut bucket = buckets.first()?;
        while let Some(entry) = bucket {
            let name = entry.key();
            if name != Bucket::Key.name() {
                let mut writer = SliceWriter::new(&self.db, name);
                let mut here = before.bucket(name)?.map(|bucket| bucket.cursor());
                let mut there = tx.bucket_at(entry.bucket()?).cursor();
                carry_over(&mut there, here.as_mut(), &mut writer, pace)?;
                writer.finish()?;
            }
            bucket = buckets.next()?;
        }
        Ok(self.db)
    }
}

/// Writes what makes the pairs of `here` those of `there`.
fn carry_over(
    there: &mut Cursor<'_>,
    here: Option<&mut Cursor<'_>>,
    writer: &mut SliceWriter<'_>,
    pace: Pace<'_>,
) -> bolt::Result<()> {
    let mut wanted = there.first()?;
    let (mut here, mut present) = match here {
        Some(cursor) => {
            let first = cursor.first()?;
            (Some(cursor), first)
        }
        None => (None, None),
    };
    loop {
        let order = match (&wanted, &present) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(wanted), Some(present)) => wanted.key().cmp(present.key()),
        };
        if let Some(pair) = wanted.filter(|_| order.is_le()) {
            if present.filter(|_| order.is_eq()).map(|pair| pair.value()) != Some(pair.value()) {
                writer.put(pair.key(), pair.value(), pace)?;
            }
            wanted = there.next()?;
        }
        if let Some(pair) = present.filter(|_| order.is_ge()) {
            if order.is_gt() {
                writer.delete(pair.key(), pace)?;
            }
            present = advance(here.as_deref_mut())?;
        }
    }
}

fn advance<'tx>(cursor: Option<&mut Cursor<'tx>>) -> bolt::Result<Option<Entry<'tx>>> {
    cursor.map_or(Ok(None), Cursor::next)
}

/// Changes of one bucket, in transactions of limited size.
struct SliceWriter<'a> {
    db: &'a Db,
    bucket: &'a [u8],
    slice: Option<(WriteTx, BucketId)>,
    slice_bytes: usize,
    bytes: u64,
}

impl<'a> SliceWriter<'a> {
    fn new(db: &'a Db, bucket: &'a [u8]) -> SliceWriter<'a> {
        SliceWriter { db, bucket, slice: None, slice_bytes: 0, bytes: 0 }
    }

    fn put(&mut self, key: &[u8], value: &[u8], pace: Pace<'_>) -> bolt::Result<()> {
        let (tx, bucket) = self.slice()?;
        tx.put(*bucket, key, value)?;
        self.count(key.len() + value.len(), pace)
    }

    fn delete(&mut self, key: &[u8], pace: Pace<'_>) -> bolt::Result<()> {
        let (tx, bucket) = self.slice()?;
        tx.delete(*bucket, key)?;
        self.count(key.len(), pace)
    }

    fn slice(&mut self) -> bolt::Result<&mut (WriteTx, BucketId)> {
        let slice = match self.slice.take() {
            Some(slice) => slice,
            None => {
                let mut tx = self.db.begin_write()?;
                let bucket = tx.create_bucket_if_missing(self.bucket)?;
                if self.bucket == Bucket::Key.name() {
                    tx.set_fill_percent(bucket, bolt::FILL_PERCENT_APPEND)?;
                }
                (tx, bucket)
            }
        };
        Ok(self.slice.insert(slice))
    }

    fn count(&mut self, bytes: usize, pace: Pace<'_>) -> bolt::Result<()> {
        self.bytes += bytes as u64;
        self.slice_bytes += bytes;
        if self.slice_bytes < SLICE_BYTES {
            return Ok(());
        }
        self.commit()?;
        match pace() {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(bolt::Error::Stopped),
        }
    }

    fn commit(&mut self) -> bolt::Result<()> {
        self.slice_bytes = 0;
        match self.slice.take() {
            Some((tx, _)) => tx.commit(),
            None => Ok(()),
        }
    }

    /// Commits the rest; gives the bytes of all keys and values.
    fn finish(mut self) -> bolt::Result<u64> {
        self.commit()?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use disk::MemDisk;

    use super::*;
    use storage::{Buckets, Write, make_buckets, pairs};

    /// A generator for choices: the same in each run.
    struct Choices(u64);

    impl Choices {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0 % bound
        }
    }

    /// What folds do: records behind all others, and any change of the other buckets.
    fn fold(db: &Db, choices: &mut Choices, revision: &mut u64) {
        let mut tx = db.begin_write().unwrap();
        let buckets = Buckets::open(&mut tx).unwrap();
        for _ in 0..choices.below(20) {
            *revision += 1 + choices.below(2);
            let value = vec![7; choices.below(60_000) as usize];
            tx.put(buckets.id(Bucket::Key), &revision.to_be_bytes(), &value).unwrap();
        }
        for bucket in [Bucket::Lease, Bucket::Meta, Bucket::Members] {
            for _ in 0..choices.below(40) {
                let key = choices.below(30).to_be_bytes().to_vec().into();
                let value = (choices.below(3) > 0).then(|| vec![8; choices.below(300) as usize].into());
                buckets.apply(&mut tx, &Write { bucket, key, value }).unwrap();
            }
        }
        tx.commit().unwrap();
    }

    #[test]
    fn a_completed_copy_holds_what_the_file_holds() {
        for seed in 1..=40 {
            let mut choices = Choices(seed);
            let disk = MemDisk::new();
            let file = disk.open(Path::new("db"), OpenMode::CreateNew).unwrap();
            let db = Db::open(file, options(false)).unwrap();
            make_buckets(&db).unwrap();
            let mut revision = 0;
            (0..choices.below(4)).for_each(|_| fold(&db, &mut choices, &mut revision));

            let first = db.begin_read();
            let mut pace = || ControlFlow::Continue(());
            let mut copy = Copy::make(&disk, &first, Path::new("copy"), false, &mut pace).unwrap();
            for _ in 0..choices.below(4) {
                fold(&db, &mut choices, &mut revision);
                copy.add_records(&db.begin_read(), &mut pace).unwrap();
            }
            (0..choices.below(3)).for_each(|_| fold(&db, &mut choices, &mut revision));

            let copied = copy.complete(&db.begin_read()).unwrap();
            let (wanted, found) = (db.begin_read(), copied.begin_read());
            for bucket in Bucket::ALL {
                assert_eq!(pairs(&found, bucket).unwrap(), pairs(&wanted, bucket).unwrap(), "{bucket:?}");
            }
            assert!(copied.check().unwrap().is_empty(), "seed {seed}");
        }
    }

    #[test]
    fn a_copy_stops_between_slices() {
        let disk = MemDisk::new();
        let file = disk.open(Path::new("db"), OpenMode::CreateNew).unwrap();
        let db = Db::open(file, options(false)).unwrap();
        make_buckets(&db).unwrap();
        let (mut choices, mut revision) = (Choices(5), 0);
        let mut go_on = || ControlFlow::Continue(());
        let mut copy = Copy::make(&disk, &db.begin_read(), Path::new("copy"), false, &mut go_on).unwrap();
        (0..20).for_each(|_| fold(&db, &mut choices, &mut revision));
        let stopped = copy.add_records(&db.begin_read(), &mut || ControlFlow::Break(()));
        assert!(matches!(stopped, Err(bolt::Error::Stopped)));
    }
}
