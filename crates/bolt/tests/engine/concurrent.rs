//! Readers on other threads while the writer commits and pages are reused.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bolt::{Db, ReadTx};
use disk::MemDisk;

use crate::model::{assert_clean, open, options};

const KEYS: u64 = 400;

/// Every value tells the round that wrote it, and each commit writes all of them.
fn commit_round(db: &Db, round: u64) {
    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    for number in 0..KEYS {
        let size = 8 + (number * 37 + round) as usize % 500;
        tx.put(id, &number.to_be_bytes(), &round.to_be_bytes().repeat(size / 8)).unwrap();
    }
    tx.commit().unwrap();
}

fn assert_one_round(tx: &ReadTx) {
    let bucket = tx.bucket(b"key").unwrap().unwrap();
    let mut cursor = bucket.cursor();
    let mut entry = cursor.first().unwrap();
    let round = entry.unwrap().value()[..8].to_vec();
    let mut keys = 0;
    while let Some(found) = entry {
        assert!(found.value().chunks(8).all(|part| part == round), "a page changed under a reader");
        keys += 1;
        entry = cursor.next().unwrap();
    }
    assert_eq!(keys, KEYS);
}

#[test]
fn readers_on_other_threads_see_one_state_each() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(512)).unwrap();
    commit_round(&db, 0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut kept = db.begin_read();
                while !done.load(Ordering::Relaxed) {
                    let tx = db.begin_read();
                    assert_one_round(&tx);
                    assert_one_round(&kept);
                    kept = tx;
                }
            });
        }
        // Joined before the readers are told, so that they end also when it fails.
        let written = scope.spawn(|| (1..60).for_each(|round| commit_round(&db, round))).join();
        done.store(true, Ordering::Relaxed);
        written.unwrap();
    });
    assert_eq!(db.stats().open_readers, 0);
    assert_clean(&db);
}
