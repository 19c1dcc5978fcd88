//! Writes and syncs that fail: nothing is written afterwards, and what was acknowledged is still there.

use bolt::{Db, Error};
use disk::MemDisk;
use disk::mem::{Fault, FaultPoint};

use crate::model::{Model, assert_clean, open, options};

fn put(db: &Db, round: u64) -> Result<(), Error> {
    let mut tx = db.begin_write()?;
    let id = tx.create_bucket_if_missing(b"key")?;
    for number in 0..50u64 {
        tx.put(id, &(round * 50 + number).to_be_bytes(), &[round as u8; 300])?;
    }
    tx.commit()
}

#[test]
fn the_first_error_ends_all_writing() {
    let points = [FaultPoint::Write, FaultPoint::SetLen, FaultPoint::Sync];
    for (point, after) in points.into_iter().flat_map(|point| (0..3).map(move |after| (point, after))) {
        let disk = MemDisk::new();
        let db = open(&disk, &options(4096)).unwrap();
        put(&db, 0).unwrap();
        disk.inject(Fault::enospc(point).after(after));
        let mut rounds = 1;
        let first = loop {
            match put(&db, rounds) {
                Ok(()) => rounds += 1,
                Err(error) => break error,
            }
            assert!(rounds < 100, "{point:?} was never reached");
        };
        assert!(matches!(&first, Error::Io { .. }), "{first}");
        let second = put(&db, rounds).unwrap_err();
        assert_eq!(first.to_string(), second.to_string());
        assert_eq!(db.poison().unwrap().to_string(), first.to_string());
        // Readers still see the last commit.
        let expected = Model::read(&db.begin_read()).unwrap();
        assert_eq!(expected.buckets[b"key".as_slice()].values.len(), rounds as usize * 50);
        assert!(db.clone().close().is_err());
        drop(db);
        let db = open(&disk, &options(4096)).unwrap();
        assert_clean(&db);
        let found = Model::read(&db.begin_read()).unwrap().buckets[b"key".as_slice()].values.len();
        assert!(found == rounds as usize * 50 || found == (rounds as usize + 1) * 50, "{found} keys");
    }
}

#[test]
fn a_file_that_outgrows_its_reserve_is_an_error() {
    let disk = MemDisk::new();
    let db = open(&disk, &bolt::Options { reserve_bytes: 128 << 10, ..options(4096) }).unwrap();
    let error = (0..100).find_map(|round| put(&db, round).err()).unwrap();
    assert!(matches!(error, Error::Full { .. }), "{error}");
}

#[test]
fn misuse_is_refused() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(4096)).unwrap();
    assert!(matches!(open(&disk, &options(4096)), Err(Error::Locked)));
    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    let inner = tx.create_bucket_in_if_missing(id, b"inner").unwrap();
    assert!(matches!(tx.put(id, b"", b""), Err(Error::KeyRequired)));
    assert!(matches!(tx.put(id, &vec![0; bolt::KEY_SIZE_MAX + 1], b""), Err(Error::KeyTooLarge { .. })));
    assert!(matches!(tx.put(id, b"inner", b""), Err(Error::IncompatibleValue)));
    assert!(matches!(tx.delete(id, b"inner"), Err(Error::IncompatibleValue)));
    assert!(matches!(tx.put(bolt::BucketId::ROOT, b"a", b""), Err(Error::IncompatibleValue)));
    tx.put(inner, b"a", b"b").unwrap();
    tx.delete_bucket(b"key").unwrap();
    assert!(matches!(tx.put(inner, b"a", b"b"), Err(Error::BucketNotFound)));
    assert!(matches!(tx.put(id, b"a", b"b"), Err(Error::BucketNotFound)));
    assert!(matches!(tx.delete_bucket(b"key"), Err(Error::BucketNotFound)));
    tx.commit().unwrap();
    assert_eq!(Model::read(&db.begin_read()).unwrap(), Model::default());
    drop(db);
    let read_only = bolt::Options { read_only: true, ..options(4096) };
    let db = open(&disk, &read_only).unwrap();
    assert!(matches!(db.begin_write(), Err(Error::ReadOnly)));
    let flat = bolt::Options { layout: bolt::Layout::Flat, ..options(4096) };
    drop(db);
    let db = open(&disk, &flat).unwrap();
    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    assert!(matches!(tx.create_bucket_in_if_missing(id, b"inner"), Err(Error::NestedBucket)));
}
