//! Random transactions: the file must always equal the model, for every reader at its own time.

use bolt::{BucketId, Db, Options, ReadTx, WriteTx};
use disk::MemDisk;
use proptest::prelude::*;

use crate::model::{Model, assert_clean, bucket_at, cases, open, options};

#[derive(Clone, Debug)]
enum Op {
    Put {
        path: u8,
        key: u16,
        size: usize,
    },
    Append {
        path: u8,
        count: u16,
        size: usize,
    },
    Delete {
        path: u8,
        key: u16,
    },
    /// All keys of a bucket from a place on, every `step`th.
    DeleteMany {
        path: u8,
        from: u8,
        count: u16,
        step: u8,
    },
    CreateBucket {
        path: u8,
        name: u8,
    },
    DeleteBucket {
        path: u8,
    },
    Sequence {
        path: u8,
        value: u64,
    },
    Fill {
        path: u8,
        percent: u8,
    },
    Commit,
    Rollback,
    Reopen {
        close: bool,
    },
    OpenReader,
    DropReader {
        which: u8,
    },
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![10 => 0..40usize, 4 => 40..400usize, 1 => 400..9000usize]
}

fn op() -> impl Strategy<Value = Op> {
    let path = any::<u8>;
    prop_oneof![
        8 => (path(), any::<u16>(), size()).prop_map(|(path, key, size)| Op::Put { path, key, size }),
        6 => (path(), 1..150u16, 0..200usize).prop_map(|(path, count, size)| Op::Append { path, count, size }),
        3 => (path(), any::<u16>()).prop_map(|(path, key)| Op::Delete { path, key }),
        6 => (path(), any::<u8>(), 1..200u16, 1..5u8)
            .prop_map(|(path, from, count, step)| Op::DeleteMany { path, from, count, step }),
        3 => (path(), any::<u8>()).prop_map(|(path, name)| Op::CreateBucket { path, name }),
        1 => path().prop_map(|path| Op::DeleteBucket { path }),
        1 => (path(), any::<u64>()).prop_map(|(path, value)| Op::Sequence { path, value }),
        1 => (path(), 10..100u8).prop_map(|(path, percent)| Op::Fill { path, percent }),
        8 => Just(Op::Commit),
        1 => Just(Op::Rollback),
        1 => any::<bool>().prop_map(|close| Op::Reopen { close }),
        2 => Just(Op::OpenReader),
        2 => any::<u8>().prop_map(|which| Op::DropReader { which }),
    ]
}

/// All buckets of the model but the root.
fn paths(model: &Model) -> Vec<Vec<Vec<u8>>> {
    let mut paths = Vec::new();
    for (name, inner) in &model.buckets {
        paths.push(vec![name.clone()]);
        for mut below in paths_of(inner) {
            below.insert(0, name.clone());
            paths.push(below);
        }
    }
    paths
}

fn paths_of(model: &Model) -> Vec<Vec<Vec<u8>>> {
    paths(model)
}

fn key(number: u16) -> Vec<u8> {
    let mut key = number.to_be_bytes().to_vec();
    key.extend(std::iter::repeat_n(b'k', usize::from(number % 23)));
    key
}

fn value(number: u64, size: usize) -> Vec<u8> {
    (0..size).map(|at| (number as usize * 31 + at) as u8).collect()
}

struct Run {
    disk: MemDisk,
    options: Options,
    db: Option<Db>,
    committed: Model,
    readers: Vec<(ReadTx, Model)>,
    puts: u64,
}

impl Run {
    fn db(&self) -> &Db {
        self.db.as_ref().unwrap()
    }

    /// Applies operations up to the next commit or rollback.
    fn transaction(&mut self, ops: &mut std::slice::Iter<'_, Op>) {
        let mut tx = self.db().begin_write().unwrap();
        let mut model = self.committed.clone();
        let mut commit = true;
        for op in ops.by_ref() {
            match op {
                Op::Commit => break,
                Op::Rollback => {
                    commit = false;
                    break;
                }
                Op::Reopen { .. } | Op::OpenReader | Op::DropReader { .. } => self.between(op),
                change => self.change(&mut tx, &mut model, change),
            }
        }
        if !commit {
            drop(tx);
        } else {
            tx.commit().unwrap();
            self.committed = model;
        }
        assert_clean(self.db());
        assert_eq!(Model::read(&self.db().begin_read()).unwrap(), self.committed);
    }

    fn between(&mut self, op: &Op) {
        match op {
            Op::OpenReader if self.readers.len() < 4 => {
                self.readers.push((self.db().begin_read(), self.committed.clone()));
            }
            Op::DropReader { which } if !self.readers.is_empty() => {
                let (tx, model) = self.readers.swap_remove(usize::from(*which) % self.readers.len());
                assert_eq!(Model::read(&tx).unwrap(), model);
            }
            _ => {}
        }
    }

    fn change(&mut self, tx: &mut WriteTx, model: &mut Model, op: &Op) {
        let all = paths(model);
        let pick = |which: u8| all.get(usize::from(which) % all.len().max(1)).cloned();
        match op {
            Op::CreateBucket { path, name } => {
                let path = pick(*path).filter(|path| name % 2 == 1 && path.len() < 3).unwrap_or_default();
                // Longer names than keys: no key of a value is ever the name of a bucket.
                let name = format!("bucket-{:030}", name % 8).into_bytes();
                let parent = bucket_at(tx, &path);
                tx.create_bucket_in_if_missing(parent, &name).unwrap();
                model.at(&path).unwrap().buckets.entry(name).or_default();
            }
            Op::DeleteBucket { path } => {
                let Some(path) = pick(*path) else { return };
                let (name, parent) = path.split_last().unwrap();
                let id = bucket_at(tx, parent);
                tx.delete_bucket_in(id, name).unwrap();
                model.at(parent).unwrap().buckets.remove(name);
            }
            Op::Put { path, key: number, size } => {
                let Some(path) = pick(*path) else { return };
                let id = bucket_at(tx, &path);
                self.put(tx, id, model.at(&path).unwrap(), key(*number), *size);
            }
            Op::Append { path, count, size } => {
                let Some(path) = pick(*path) else { return };
                let id = bucket_at(tx, &path);
                let model = model.at(&path).unwrap();
                for _ in 0..*count {
                    let key = format!("z{:012}", self.puts).into_bytes();
                    self.put(tx, id, model, key, *size);
                }
            }
            Op::Delete { path, key: number } => {
                let Some(path) = pick(*path) else { return };
                let id = bucket_at(tx, &path);
                let was = model.at(&path).unwrap().values.remove(&key(*number)).is_some();
                assert_eq!(tx.delete(id, &key(*number)).unwrap(), was);
            }
            Op::DeleteMany { path, from, count, step } => {
                let Some(path) = pick(*path) else { return };
                let id = bucket_at(tx, &path);
                let model = model.at(&path).unwrap();
                let start = model.values.len() * usize::from(*from) / 256;
                let keys: Vec<Vec<u8>> = model.values.keys().skip(start).cloned().collect();
                for key in keys.iter().step_by(usize::from(*step)).take(usize::from(*count)) {
                    assert!(tx.delete(id, key).unwrap());
                    model.values.remove(key);
                    assert_eq!(tx.get(id, key).unwrap(), None);
                }
            }
            Op::Sequence { path, value } => {
                let Some(path) = pick(*path) else { return };
                let id = bucket_at(tx, &path);
                tx.set_sequence(id, *value).unwrap();
                model.at(&path).unwrap().sequence = *value;
            }
            Op::Fill { path, percent } => {
                let id = pick(*path).map_or(BucketId::ROOT, |path| bucket_at(tx, &path));
                tx.set_fill_percent(id, f64::from(*percent) / 100.0).unwrap();
            }
            other => panic!("{other:?} is no change"),
        }
    }

    fn put(&mut self, tx: &mut WriteTx, id: BucketId, model: &mut Model, key: Vec<u8>, size: usize) {
        self.puts += 1;
        let value = value(self.puts, size);
        tx.put(id, &key, &value).unwrap();
        assert_eq!(tx.get(id, &key).unwrap(), Some(value.as_slice()));
        model.values.insert(key, value);
    }

    fn reopen(&mut self, close: bool) {
        for (tx, model) in self.readers.drain(..) {
            assert_eq!(Model::read(&tx).unwrap(), model);
        }
        if let Some(db) = self.db.take()
            && close
        {
            db.close().unwrap();
        }
        self.db = Some(open(&self.disk, &self.options).unwrap());
        assert_clean(self.db());
        assert_eq!(Model::read(&self.db().begin_read()).unwrap(), self.committed);
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn transactions_equal_the_model(
        ops in prop::collection::vec(op(), 1..120),
        page_size in prop_oneof![Just(512u32), Just(1024), Just(4096)],
        sync_freelist in any::<bool>(),
    ) {
        let disk = MemDisk::new();
        let options = Options { sync_freelist, ..options(page_size) };
        let db = Some(open(&disk, &options).unwrap());
        let mut run = Run { disk, options, db, committed: Model::default(), readers: Vec::new(), puts: 0 };
        let mut rest = ops.iter();
        while !rest.as_slice().is_empty() {
            run.transaction(&mut rest);
            if let [Op::Reopen { close }, ..] = rest.as_slice() {
                run.reopen(*close);
            }
        }
        run.reopen(true);
        run.reopen(false);
    }
}

/// Deleting all but a few keys of a large bucket must give nearly all pages back.
#[test]
fn scattered_deletes_leave_a_compact_tree() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(4096)).unwrap();
    let mut tx = db.begin_write().unwrap();
    let id = tx.create_bucket_if_missing(b"key").unwrap();
    tx.set_fill_percent(id, bolt::FILL_PERCENT_APPEND).unwrap();
    for number in 0..20_000u64 {
        tx.put(id, &number.to_be_bytes(), &[7; 100]).unwrap();
    }
    tx.commit().unwrap();
    for start in 0..10u64 {
        let mut tx = db.begin_write().unwrap();
        let id = tx.bucket(b"key").unwrap().unwrap();
        tx.set_fill_percent(id, bolt::FILL_PERCENT_APPEND).unwrap();
        for number in (start * 2000..(start + 1) * 2000).filter(|number| number % 10 != 0) {
            assert!(tx.delete(id, &number.to_be_bytes()).unwrap());
        }
        tx.commit().unwrap();
        assert_clean(&db);
    }
    let stats = db.stats();
    let used = stats.pages - stats.free_pages - stats.pending_pages;
    // 2000 records of 124 bytes are 61 full pages.
    assert!(used < 110, "{used} pages in use of {stats:?}");
}

/// A reader that stays must not make the file grow with every commit.
#[test]
fn a_long_reader_holds_back_its_own_pages_only() {
    let disk = MemDisk::new();
    let db = open(&disk, &options(4096)).unwrap();
    let mut reader = None;
    let mut pages = Vec::new();
    for round in 0..60u64 {
        let mut tx = db.begin_write().unwrap();
        let id = tx.create_bucket_if_missing(b"key").unwrap();
        for number in 0..500u64 {
            tx.put(id, &number.to_be_bytes(), &[round as u8; 64]).unwrap();
        }
        tx.commit().unwrap();
        reader.get_or_insert_with(|| db.begin_read());
        pages.push(db.stats().pages);
    }
    assert_eq!(pages[10], pages[59], "{pages:?}");
    let tx = reader.unwrap();
    assert_eq!(
        tx.bucket(b"key").unwrap().unwrap().get(&7u64.to_be_bytes()).unwrap(),
        Some([0; 64].as_slice())
    );
}
