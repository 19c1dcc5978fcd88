//! Snapshots and compacted copies, taken while the writer goes on.

use std::io::Read;
use std::ops::ControlFlow;
use std::path::Path;

use bolt::{Db, Error, Layout, Options, copy};
use disk::{Disk, MemDisk, OpenMode};

use crate::model::{Model, assert_clean, open, options};

fn fill(db: &Db, round: u32) {
    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    for number in 0..3000u32 {
        let size = if number % 97 == 0 { 6000 } else { (number as usize * 7) % 250 };
        tx.put(id, &(number * 5 + round).to_be_bytes(), &vec![round as u8; size]).unwrap();
    }
    for number in (0..3000u32).filter(|number| number % 4 != round % 4) {
        tx.delete(id, &(number * 5 + round).to_be_bytes()).unwrap();
    }
    let inner = tx.create_bucket_in_if_missing(id, b"\xffinner").unwrap();
    tx.set_sequence(inner, u64::from(round) + 40).unwrap();
    for number in 0..600u32 {
        tx.put(inner, &[number.to_be_bytes(), round.to_be_bytes()].concat(), &[8; 9]).unwrap();
    }
    let small = tx.create_bucket_if_missing(b"small").unwrap();
    tx.put(small, &round.to_be_bytes(), b"inline").unwrap();
    tx.create_bucket_if_missing(b"empty").unwrap();
    tx.commit().unwrap();
}

#[test]
fn a_snapshot_is_the_state_of_its_transaction() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(4096)).unwrap();
    fill(&db, 0);
    fill(&db, 1);
    let tx = db.begin_read();
    let expected = Model::read(&tx).unwrap();
    let mut snapshot = copy::snapshot(&tx);
    assert_eq!(snapshot.size_bytes(), tx.size());
    let mut image = Vec::new();
    let mut chunk = vec![0; 10_000];
    let mut round = 2;
    loop {
        let count = snapshot.read(&mut chunk).unwrap();
        if count == 0 {
            break;
        }
        image.extend_from_slice(&chunk[..count]);
        // The writer goes on meanwhile.
        if round < 8 {
            fill(&db, round);
            round += 1;
        }
    }
    assert_eq!(image.len() as u64, tx.size());
    disk.write(Path::new("image"), &image).unwrap();
    let file = disk.open(Path::new("image"), OpenMode::ReadWrite).unwrap();
    let copied = Db::open(file, options(4096)).unwrap();
    assert_clean(&copied);
    assert_eq!(copied.begin_read().txid(), tx.txid());
    assert_eq!(Model::read(&copied.begin_read()).unwrap(), expected);
}

#[test]
fn a_compacted_copy_holds_the_same_in_fewer_pages() {
    for page_size in [512, 4096] {
        let disk = MemDisk::new();
        let db = open(&disk, &options(page_size)).unwrap();
        (0..5).for_each(|round| fill(&db, round));
        let tx = db.begin_read();
        let file = disk.open(Path::new("copy"), OpenMode::CreateNew).unwrap();
        let last = copy::compact_into(&tx, file.as_ref(), &mut |_| ControlFlow::Continue(())).unwrap();
        assert_eq!(last.source_bytes, tx.size());
        let copied = Db::open(file, options(page_size)).unwrap();
        assert_clean(&copied);
        assert_eq!(Model::read(&copied.begin_read()).unwrap(), Model::read(&tx).unwrap());
        assert!(
            copied.begin_read().size() < tx.size() * 3 / 4,
            "{} of {}",
            copied.begin_read().size(),
            tx.size()
        );
        assert_eq!(copied.stats().free_pages, 0);
        // It takes the changes that were missed.
        fill(&db, 9);
        fill(&copied, 9);
        assert_clean(&copied);
        assert_eq!(Model::read(&copied.begin_read()).unwrap(), Model::read(&db.begin_read()).unwrap());
    }
}

#[test]
fn an_empty_file_and_a_stopped_copy() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(4096)).unwrap();
    let file = disk.open(Path::new("copy"), OpenMode::CreateNew).unwrap();
    copy::compact_into(&db.begin_read(), file.as_ref(), &mut |_| ControlFlow::Continue(())).unwrap();
    let copied = Db::open(file, options(4096)).unwrap();
    assert_clean(&copied);
    assert_eq!(Model::read(&copied.begin_read()).unwrap(), Model::default());

    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    for number in 0..20u32 {
        tx.put(id, &number.to_be_bytes(), &vec![0; 1 << 20]).unwrap();
    }
    tx.commit().unwrap();
    let file = disk.open(Path::new("other"), OpenMode::CreateNew).unwrap();
    let mut calls = 0;
    let stopped = copy::compact_into(&db.begin_read(), file.as_ref(), &mut |_| {
        calls += 1;
        ControlFlow::Break(())
    });
    assert!(matches!(stopped, Err(Error::Stopped)));
    assert_eq!(calls, 1);
}

/// A flat file's free pages are found without reading its leaves; the result must be the same.
#[test]
fn flat_and_nested_openings_find_the_same_free_pages() {
    let disk = MemDisk::new();
    let flat = Options { layout: Layout::Flat, ..options(512) };
    let db = open(&disk, &flat).unwrap();
    for round in 0..6u32 {
        let mut tx = db.begin_write().unwrap();
        for name in [b"key".as_slice(), b"lease", b"meta"] {
            let id = tx.create_bucket_if_missing(name).unwrap();
            let count = if name == b"meta" { 2 } else { 700 };
            for number in 0..count {
                let size = if number % 31 == 0 { 1700 } else { 20 };
                tx.put(id, &u32::to_be_bytes(number * 3 + round), &vec![1; size]).unwrap();
            }
            for number in (0..count).filter(|number| number % 5 == round % 5) {
                tx.delete(id, &u32::to_be_bytes(number * 3 + round)).unwrap();
            }
        }
        tx.commit().unwrap();
    }
    drop(db);
    let nested = open(&disk, &options(512)).unwrap().stats();
    let db = open(&disk, &flat).unwrap();
    assert_clean(&db);
    assert!(nested.free_pages > 50, "{nested:?}");
    assert_eq!(db.stats(), nested);
}
