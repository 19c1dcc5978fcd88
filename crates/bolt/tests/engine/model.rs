//! A database as nested maps, and how the file is compared with it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bolt::{Bucket, BucketId, Db, Error, Layout, Options, ReadTx, WriteTx};
use disk::{Disk, File, MemDisk, OpenMode};
use proptest::prelude::ProptestConfig;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Model {
    pub values: BTreeMap<Vec<u8>, Vec<u8>>,
    pub buckets: BTreeMap<Vec<u8>, Model>,
    pub sequence: u64,
}

impl Model {
    pub fn at(&mut self, path: &[Vec<u8>]) -> Option<&mut Model> {
        path.iter().try_fold(self, |model, name| model.buckets.get_mut(name))
    }

    /// Reads everything, comparing the ways to read on the way.
    pub fn read(tx: &ReadTx) -> Result<Model, Error> {
        Model::read_bucket(tx, tx.root())
    }

    fn read_bucket(tx: &ReadTx, bucket: Bucket<'_>) -> Result<Model, Error> {
        let mut model = Model { sequence: bucket.sequence(), ..Model::default() };
        let mut cursor = bucket.cursor();
        let mut finder = bucket.finder();
        let mut keys = Vec::new();
        let mut entry = cursor.first()?;
        while let Some(found) = entry {
            keys.push(found.key().to_vec());
            if found.is_bucket() {
                let inner = Model::read_bucket(tx, tx.bucket_at(found.bucket()?))?;
                model.buckets.insert(found.key().to_vec(), inner);
                assert_eq!(bucket.get(found.key())?, None);
            } else {
                model.values.insert(found.key().to_vec(), found.value().to_vec());
                assert_eq!(bucket.get(found.key())?, Some(found.value()));
                assert_eq!(finder.find(found.key())?, Some(found.value_ref()));
                assert_eq!(tx.bytes(found.value_ref()), found.value());
            }
            entry = cursor.next()?;
        }
        let mut entry = cursor.last()?;
        for key in keys.iter().rev() {
            assert_eq!(entry.map(|entry| entry.key()), Some(key.as_slice()));
            entry = cursor.prev()?;
        }
        assert!(entry.is_none());
        for pair in keys.windows(2).step_by(7) {
            let mut between = pair[0].clone();
            between.push(0);
            let found = cursor.seek(&between)?.map(|entry| entry.key().to_vec());
            assert!(found.as_ref() == Some(&between) || found.as_ref() == Some(&pair[1]));
            assert!(model.values.contains_key(&between) || finder.get(&between)?.is_none());
        }
        Ok(model)
    }
}

pub fn options(page_size: u32) -> Options {
    Options { page_size, reserve_bytes: 64 << 20, layout: Layout::Nested, ..Options::default() }
}

pub fn file(disk: &MemDisk) -> Arc<dyn File> {
    disk.open(Path::new("db"), OpenMode::Create).unwrap()
}

pub fn open(disk: &MemDisk, options: &Options) -> Result<Db, Error> {
    Db::open(file(disk), options.clone())
}

/// The buckets along `path`, which are there.
pub fn bucket_at(tx: &mut WriteTx, path: &[Vec<u8>]) -> BucketId {
    path.iter().fold(BucketId::ROOT, |parent, name| tx.bucket_in(parent, name).unwrap().unwrap())
}

#[track_caller]
pub fn assert_clean(db: &Db) {
    let findings = db.check().unwrap();
    assert!(findings.is_empty(), "{findings:#?}");
    let findings = bolt::check(&db.begin_read());
    assert!(findings.is_empty(), "{findings:#?}");
}

/// `usual` cases, or as many as `PROPTEST_CASES` in the environment asks for.
pub fn cases(usual: u32) -> ProptestConfig {
    let asked = ProptestConfig::default();
    let unasked = ProptestConfig::with_cases(256).cases == asked.cases;
    ProptestConfig { cases: if unasked { usual } else { asked.cases }, failure_persistence: None, ..asked }
}
