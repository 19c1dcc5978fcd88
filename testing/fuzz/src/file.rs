//! A damaged database file: read, checked, written to.

use std::path::Path;

use bolt::{Db, Layout, Options, ReadTx};
use disk::{Disk, MemDisk, OpenMode};

fn options(layout: Layout) -> Options {
    Options { page_size: 512, layout, reserve_bytes: 1 << 20, ..Options::default() }
}

pub fn bolt(data: &[u8]) {
    for layout in [Layout::Flat, Layout::Nested] {
        let disk = MemDisk::new();
        disk.write(Path::new("db"), data).expect("memory takes files");
        let file = disk.open(Path::new("db"), OpenMode::ReadWrite).expect("the file is there");
        let Ok(db) = Db::open(file, options(layout)) else { continue };
        let _ = db.check();
        let _ = walk(&db.begin_read());
        let _ = write(&db);
        let _ = db.close();
    }
}

fn walk(tx: &ReadTx) -> Result<(), bolt::Error> {
    let mut handles = vec![tx.root().handle()];
    // Damage may make a walk visit a page often; it never ends only when a budget says so.
    let mut left = 1000_u32;
    while let Some(handle) = handles.pop() {
        let mut cursor = tx.bucket_at(handle).cursor();
        let mut entry = cursor.first()?;
        while let Some(found) = entry {
            let Some(less) = left.checked_sub(1) else { return Ok(()) };
            left = less;
            if found.is_bucket() {
                handles.push(found.bucket()?);
            }
            entry = cursor.next()?;
        }
    }
    Ok(())
}

fn write(db: &Db) -> Result<(), bolt::Error> {
    let mut tx = db.begin_write()?;
    let id = tx.create_bucket_if_missing(b"key")?;
    tx.put(id, b"new", b"value")?;
    tx.delete(id, &3_u32.to_be_bytes())?;
    tx.commit()
}

pub fn bolt_seeds() -> Vec<Vec<u8>> {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("db"), OpenMode::Create).expect("memory takes files");
    let db = Db::open(file, options(Layout::Nested)).expect("a new file opens");
    for round in 0..3_u8 {
        let mut tx = db.begin_write().expect("nothing failed before");
        let id = tx.create_bucket_if_missing(b"key").expect("the name is free");
        for number in 0..60_u32 {
            tx.put(id, &(number * 3).to_be_bytes(), &[round; 20]).expect("the pair is small");
        }
        tx.put(id, b"large", &[1; 1500]).expect("the pair is small");
        tx.commit().expect("memory takes writes");
    }
    db.close().expect("memory takes writes");
    vec![disk.read(Path::new("db")).expect("the file is there")]
}
