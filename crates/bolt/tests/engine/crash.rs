//! Power cuts at every write and sync, with any part of what was not synced lost or torn.

use bolt::{Error, Options};
use disk::MemDisk;

use crate::model::{Model, assert_clean, file, open, options};

/// Runs transactions and gives, for each, the number of disk operations after which it was acknowledged.
fn run(disk: &MemDisk, options: &Options) -> Vec<(usize, Model)> {
    let mut model = Model::default();
    let mut acknowledged = vec![(0, model.clone())];
    // The file's name is durable: that is its owner's affair.
    drop(file(disk));
    disk.start_recording();
    let db = open(disk, options).unwrap();
    acknowledged.push((disk.op_count(), model.clone()));
    for round in 0..6u32 {
        let mut tx = db.begin_write().unwrap();
        let id = tx.create_bucket_if_missing(b"key").unwrap();
        let inner = model.buckets.entry(b"key".to_vec()).or_default();
        for number in 0..30u32 {
            let key = (number * 7 + round).to_be_bytes();
            let value = vec![round as u8; (number as usize * 13) % 90];
            tx.put(id, &key, &value).unwrap();
            inner.values.insert(key.to_vec(), value);
        }
        for number in (round % 3..100).step_by(3) {
            tx.delete(id, &number.to_be_bytes()).unwrap();
            inner.values.remove(number.to_be_bytes().as_slice());
        }
        tx.commit().unwrap();
        acknowledged.push((disk.op_count(), model.clone()));
    }
    db.close().unwrap();
    acknowledged.push((disk.op_count(), model));
    acknowledged
}

#[test]
fn a_power_cut_leaves_the_last_or_the_next_state() {
    for sync_freelist in [false, true] {
        let options = Options { sync_freelist, ..options(512) };
        let disk = MemDisk::new();
        let acknowledged = run(&disk, &options);
        let recording = disk.recording();
        let (mut unborn, mut recovered) = (0, 0);
        for point in 0..=recording.last_point() {
            let last = acknowledged.iter().rposition(|(at, _)| *at <= point).unwrap();
            for image in recording.crash_at(point).images(6, 12, point as u64 + 1) {
                let db = match open(&image.disk, &options) {
                    Ok(db) => db,
                    // Only before the file was first synced.
                    Err(Error::Unborn { .. }) if last == 0 => {
                        unborn += 1;
                        continue;
                    }
                    Err(error) => panic!("crash point {point}, {image:?}: {error}"),
                };
                assert_clean(&db);
                let found = Model::read(&db.begin_read()).unwrap();
                let next = &acknowledged[(last + 1).min(acknowledged.len() - 1)].1;
                assert!(
                    found == acknowledged[last].1 || found == *next,
                    "crash point {point}, {image:?}: neither state {last} nor the next"
                );
                recovered += 1;
                // And it can be written again.
                if recovered % 16 == 0 {
                    let mut tx = db.begin_write().unwrap();
                    let id = tx.create_bucket_if_missing(b"after").unwrap();
                    tx.put(id, b"power", b"back").unwrap();
                    tx.commit().unwrap();
                    assert_clean(&db);
                }
            }
        }
        assert!(unborn > 10 && recovered > 100, "{unborn} unborn, {recovered} recovered");
    }
}
