//! Damaged files: an error or findings, never a panic, never an endless walk.

use std::ops::ControlFlow;
use std::path::Path;

use bolt::{BucketId, Db, Layout, Options, ReadTx};
use disk::{Disk, MemDisk, OpenMode};
use proptest::prelude::*;

use crate::model::{cases, open, options};

/// A file with all there is: inline and nested buckets, two levels of branches, overflow, free pages.
fn sample(page_size: u32, close: bool) -> Vec<u8> {
    let disk = MemDisk::new();
    let db = open(&disk, &options(page_size)).unwrap();
    for round in 0..3u32 {
        let mut tx = db.begin_write().unwrap();
        let id = tx.create_bucket_if_missing(b"key").unwrap();
        for number in 0..120u32 {
            tx.put(id, &(number * 3 + round).to_be_bytes(), &[round as u8; 20]).unwrap();
        }
        tx.put(id, b"large", &vec![1; 3000]).unwrap();
        let inner = tx.create_bucket_in_if_missing(id, b"inner").unwrap();
        for number in 0..40u32 {
            tx.put(inner, &number.to_be_bytes(), &[2; 30]).unwrap();
        }
        let small = tx.create_bucket_if_missing(b"small").unwrap();
        tx.put(small, b"a", b"b").unwrap();
        for number in 0..50u32 {
            tx.delete(id, &(number * 3).to_be_bytes()).unwrap();
        }
        tx.commit().unwrap();
    }
    if close {
        db.close().unwrap();
    }
    disk.read(Path::new("db")).unwrap()
}

/// Every way to read and write; errors are fine.
fn use_all(disk: &MemDisk, layout: Layout) {
    let Ok(db) = open(disk, &Options { layout, ..options(512) }) else { return };
    let tx = db.begin_read();
    let _ = db.check();
    let _ = bolt::check(&tx);
    let _ = walk(&tx);
    let _ = write(&db);
    let copy = disk.open(Path::new("copy"), OpenMode::CreateNew).unwrap();
    let _ = bolt::copy::compact_into(&tx, copy.as_ref(), &mut |_| ControlFlow::Continue(()));
    let mut image = Vec::new();
    let _ = std::io::Read::read_to_end(&mut bolt::copy::snapshot(&tx), &mut image);
    drop(tx);
    let _ = write(&db);
    let _ = db.close();
}

fn walk(tx: &ReadTx) -> Result<(), bolt::Error> {
    let mut handles = vec![tx.root().handle()];
    let mut left = 1000_i32;
    while let Some(handle) = handles.pop() {
        let bucket = tx.bucket_at(handle);
        let mut cursor = bucket.cursor();
        let mut finder = bucket.finder();
        let mut entry = cursor.first()?;
        while let Some(found) = entry {
            left -= 1;
            if left <= 0 {
                return Ok(());
            }
            if found.is_bucket() {
                handles.push(found.bucket()?);
            } else if let Some(range) = finder.find(found.key())? {
                tx.bytes(range);
            }
            bucket.get(found.key())?;
            entry = cursor.next()?;
        }
        let mut entry = cursor.last()?;
        while entry.is_some() && left > 0 {
            left -= 1;
            entry = cursor.prev()?;
        }
        cursor.seek(b"m")?;
    }
    Ok(())
}

fn write(db: &Db) -> Result<(), bolt::Error> {
    let mut tx = db.begin_write()?;
    if let Some(id) = tx.bucket_in(BucketId::ROOT, b"key")? {
        for number in (0..400u32).step_by(3) {
            tx.delete(id, &number.to_be_bytes())?;
        }
        tx.put(id, b"new", &[3; 700])?;
        tx.delete_bucket_in(id, b"inner")?;
    }
    let id = tx.create_bucket_if_missing(b"small")?;
    tx.put(id, b"b", b"c")?;
    tx.commit()
}

fn on_disk(bytes: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    disk.write(Path::new("db"), bytes).unwrap();
    disk
}

proptest! {
    #![proptest_config(cases(250))]

    #[test]
    fn flipped_bytes_never_panic(
        close in any::<bool>(),
        flat in any::<bool>(),
        // Most damage where the structure is: headers and elements at the start of pages.
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0..64usize, any::<bool>(), any::<u8>()), 1..8),
        length in prop::option::weighted(0.1, any::<prop::sample::Index>()),
    ) {
        let mut bytes = sample(512, close);
        for (at, near, structure, value) in flips {
            let at = if structure { at.index(bytes.len() / 512) * 512 + near } else { at.index(bytes.len()) };
            // The metas are covered by their checksum: damage the tree most of the time.
            if at >= 1024 || structure {
                bytes[at] = value;
            }
        }
        if let Some(length) = length {
            bytes.truncate(length.index(bytes.len()));
        }
        use_all(&on_disk(&bytes), if flat { Layout::Flat } else { Layout::Nested });
    }

    /// Branches that point at each other, at themselves, at freed pages.
    #[test]
    fn wrong_children_never_loop(
        rewires in prop::collection::vec((any::<prop::sample::Index>(), 0..12usize, any::<prop::sample::Index>()), 1..12),
        flat in any::<bool>(),
    ) {
        let mut bytes = sample(512, true);
        let pages = bytes.len() / 512;
        let branches: Vec<usize> = (2..pages).filter(|page| bytes[page * 512 + 8] == 1).collect();
        for (branch, element, target) in rewires {
            let page = branches[branch.index(branches.len())];
            let at = page * 512 + 16 + element * 16 + 8;
            let target = if element % 3 == 0 { branches[target.index(branches.len())] } else { target.index(pages) };
            bytes[at..at + 8].copy_from_slice(&(target as u64).to_le_bytes());
        }
        use_all(&on_disk(&bytes), if flat { Layout::Flat } else { Layout::Nested });
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 1..3000)) {
        prop_assert!(open(&on_disk(&bytes), &options(512)).is_err());
    }
}

#[test]
fn every_truncation_is_an_error_or_the_file_itself() {
    let bytes = sample(512, false);
    for length in (1..bytes.len()).step_by(97) {
        let result = open(&on_disk(&bytes[..length]), &options(512));
        // The tail behind the high-water mark may be missing.
        if let Ok(db) = result {
            assert!(length as u64 >= db.begin_read().size(), "opened {length} bytes");
        }
    }
}

#[test]
fn one_lost_meta_page_leaves_the_other() {
    let bytes = sample(512, false);
    for page in 0..2 {
        let mut damaged = bytes.clone();
        damaged[page * 512 + 40] ^= 1;
        let db = open(&on_disk(&damaged), &options(512)).unwrap();
        crate::model::assert_clean(&db);
    }
    let mut damaged = bytes;
    damaged[40] ^= 1;
    damaged[552] ^= 1;
    assert!(matches!(open(&on_disk(&damaged), &options(512)), Err(bolt::Error::NoMeta { .. })));
}
