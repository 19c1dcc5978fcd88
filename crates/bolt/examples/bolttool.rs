//! Does with our engine what `testing/interop/bolt/main.go` does with bbolt: dump, check, work, bench;
//! and takes copies. The work for a seed is the same in both, so both must end with the same dump.

#![allow(clippy::disallowed_methods)] // a tool, not the core

use std::env;
use std::error::Error;
use std::io::{Read, Write, stdout};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Instant;

use bolt::{Bucket, BucketId, Db, FILL_PERCENT_APPEND, Layout, Options, ReadTx, WriteTx};
use disk::{Disk, OpenMode, RealDisk};

/// xorshift64*, as in main.go.
struct Random(u64);

impl Random {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 11) % below
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = env::args().collect();
    let [_, command, path, rest @ ..] = args.as_slice() else {
        return Err("usage: bolttool dump|check|work|bench|lookups|copy|compact FILE [...]".into());
    };
    let number = |at: usize| -> Result<u64, Box<dyn Error>> {
        Ok(rest.get(at).ok_or("a number is missing")?.parse()?)
    };
    let stored = rest.last().is_some_and(|last| last == "freelist");
    let flat = rest.last().is_some_and(|last| last == "flat");
    let writes = matches!(command.as_str(), "work" | "bench" | "open" | "thin");
    let options = Options {
        read_only: !writes,
        sync_freelist: stored && number(0)?.is_multiple_of(2),
        layout: if flat { Layout::Flat } else { Layout::Nested },
        ..Options::default()
    };
    let mode = if writes { OpenMode::Create } else { OpenMode::ReadOnly };
    let started = Instant::now();
    let db = Db::open(RealDisk.open(Path::new(path), mode)?, options)?;
    match command.as_str() {
        "open" => println!("opened in {:?}: {:?}", started.elapsed(), db.stats()),
        "dump" => {
            let tx = db.begin_read();
            let mut out = Vec::new();
            dump(&mut out, "", &tx, tx.root())?;
            stdout().write_all(&out)?;
        }
        "check" => {
            let findings = bolt::check(&db.begin_read());
            findings.iter().for_each(|finding| println!("{finding}"));
            if !findings.is_empty() {
                return Err("the check found something".into());
            }
        }
        "work" => {
            let mut random = Random(number(0)? | 1);
            for _ in 0..number(1)? {
                let mut tx = db.begin_write()?;
                work(&mut tx, &mut random, number(2)?)?;
                tx.commit()?;
                let findings = db.check()?;
                assert!(findings.is_empty(), "{findings:#?}");
            }
            if stored {
                db.close()?;
            }
        }
        "bench" => {
            bench(&db, number(0)?)?;
            lookups(&db.begin_read(), number(0)?)?;
        }
        "thin" => thin(&db, number(0)?)?,
        "lookups" => lookups(&db.begin_read(), number(0)?)?,
        "snapshot" => {
            let copy = RealDisk.open(Path::new(rest.first().ok_or("to where?")?), OpenMode::CreateNew)?;
            let mut snapshot = bolt::copy::snapshot(&db.begin_read());
            let (mut chunk, mut at) = (vec![0; 64 << 10], 0);
            loop {
                let count = snapshot.read(&mut chunk)?;
                if count == 0 {
                    break;
                }
                copy.write_at(&chunk[..count], at)?;
                at += count as u64;
            }
        }
        "compact" => {
            let copy = RealDisk.open(Path::new(rest.first().ok_or("to where?")?), OpenMode::CreateNew)?;
            let tx = db.begin_read();
            let done = bolt::copy::compact_into(&tx, copy.as_ref(), &mut |_| ControlFlow::Continue(()))?;
            eprintln!("{done:?} in {:?}", started.elapsed());
        }
        other => return Err(format!("no command {other:?}").into()),
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn dump(out: &mut Vec<u8>, path: &str, tx: &ReadTx, bucket: Bucket<'_>) -> Result<(), Box<dyn Error>> {
    if !path.is_empty() {
        writeln!(out, "{path} bucket {}", bucket.sequence())?;
    }
    let mut cursor = bucket.cursor();
    let mut entry = cursor.first()?;
    while let Some(found) = entry {
        if found.is_bucket() {
            let slash = if path.is_empty() { "" } else { "/" };
            let path = format!("{path}{slash}{}", hex(found.key()));
            dump(out, &path, tx, tx.bucket_at(found.bucket()?))?;
        } else {
            let hash = found.value().iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
                (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
            });
            writeln!(out, "{path} {} {} {hash:016x}", hex(found.key()), found.value().len())?;
        }
        entry = cursor.next()?;
    }
    Ok(())
}

fn value(number: u64, size: u64) -> Vec<u8> {
    (0..size).map(|at| number.wrapping_add(at * 7) as u8).collect()
}

/// One transaction; main.go has the same steps in the same order.
fn work(tx: &mut WriteTx, random: &mut Random, operations: u64) -> Result<(), bolt::Error> {
    let top: [&[u8]; 3] = [b"key", b"lease", b"nest"];
    let mut buckets = [BucketId::ROOT; 3];
    for (bucket, name) in buckets.iter_mut().zip(top) {
        *bucket = tx.create_bucket_if_missing(name)?;
    }
    tx.set_fill_percent(buckets[0], FILL_PERCENT_APPEND)?;
    for _ in 0..operations {
        let (what, which) = (random.next(100), random.next(3));
        let bucket = buckets[which as usize];
        match what {
            0..60 => {
                let number = tx.sequence(bucket)? + 1;
                tx.set_sequence(bucket, number)?;
                let mut size = random.next(1300);
                if random.next(60) == 0 {
                    size = random.next(60000);
                }
                tx.put(bucket, &number.to_be_bytes(), &value(number, size))?;
            }
            60..80 => {
                let number = random.next(3000);
                let mut key = b"r".to_vec();
                key.extend_from_slice(&number.to_be_bytes());
                key.truncate(9 - (number % 3) as usize);
                let size = random.next(80);
                tx.put(bucket, &key, &value(number, size))?;
            }
            80..86 => {
                let start = random.next(tx.sequence(bucket)? + 1);
                let (step, count) = (1 + random.next(4), random.next(40));
                for index in 0..count {
                    tx.delete(bucket, &(start + index * step).to_be_bytes())?;
                }
            }
            86..97 => {
                let name = format!("in-{}", random.next(6));
                let inner = tx.create_bucket_in_if_missing(buckets[2], name.as_bytes())?;
                for _ in 0..random.next(20) {
                    let number = random.next(400);
                    let size = random.next(30);
                    tx.put(inner, &number.to_be_bytes(), &value(number, size))?;
                }
            }
            _ => {
                let name = format!("in-{}", random.next(6));
                if tx.bucket_in(buckets[2], name.as_bytes())?.is_some() {
                    tx.delete_bucket_in(buckets[2], name.as_bytes())?;
                }
            }
        }
    }
    Ok(())
}

fn revision_key(number: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..8].copy_from_slice(&number.to_be_bytes());
    key[8] = b'_';
    key
}

/// Appends records of 1 KiB in transactions of 10k, as etcd's backend would.
fn bench(db: &Db, records: u64) -> Result<(), bolt::Error> {
    let started = Instant::now();
    let value = value(1, 1024);
    let mut first = 0;
    while first < records {
        let mut tx = db.begin_write()?;
        let bucket = tx.create_bucket_if_missing(b"key")?;
        tx.set_fill_percent(bucket, FILL_PERCENT_APPEND)?;
        for number in first..(first + 10_000).min(records) {
            tx.put(bucket, &revision_key(number), &value)?;
        }
        tx.commit()?;
        first += 10_000;
    }
    println!("append: {:?}", started.elapsed());
    println!("{:?}", db.stats());
    Ok(())
}

/// Deletes nine of ten records in transactions of 10k, as compaction would.
fn thin(db: &Db, records: u64) -> Result<(), bolt::Error> {
    let started = Instant::now();
    for first in (0..records).step_by(10_000) {
        let mut tx = db.begin_write()?;
        let bucket = tx.create_bucket_if_missing(b"key")?;
        tx.set_fill_percent(bucket, FILL_PERCENT_APPEND)?;
        for number in (first..first + 10_000).filter(|number| number % 10 != 0) {
            tx.delete(bucket, &revision_key(number))?;
        }
        tx.commit()?;
    }
    println!("thin: {:?}", started.elapsed());
    println!("{:?}", db.stats());
    Ok(())
}

fn lookups(tx: &ReadTx, records: u64) -> Result<(), bolt::Error> {
    const LOOKUPS: u64 = 1_000_000;
    let Some(bucket) = tx.bucket(b"key")? else { return Err(bolt::Error::BucketNotFound) };
    println!("size: {}", tx.size());
    for sequential in [false, true] {
        let mut random = Random(77);
        let started = Instant::now();
        let mut found = 0;
        let mut finder = bucket.finder();
        for number in 0..LOOKUPS {
            let hit = match sequential {
                true => finder.find(&revision_key(number % records))?.is_some(),
                false => bucket.find(&revision_key(random.next(records)))?.is_some(),
            };
            found += u64::from(hit);
        }
        let rate = LOOKUPS as f64 / started.elapsed().as_secs_f64();
        let how = if sequential { "finder in order" } else { "random" };
        println!("lookups, {how}: {found} found, {rate:.0}/s");
    }
    Ok(())
}
