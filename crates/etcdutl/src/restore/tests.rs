//! Restores on a disk in memory: what comes out, what failures and power cuts leave, and hostile files.

use std::path::Path;

use bolt::Db;
use disk::mem::{Fault, FaultPoint};
use disk::{MemDisk, OpenMode};
use membership::MemberId;
use mvcc::{Record, RecordKey, Revision, RevisionPair};
use raft::{EntryId, Index, Term};
use sha2::{Digest, Sha256};
use storage::{Bucket, Buckets};

use super::*;

const SNAPSHOT: &str = "backup/s.db";
const LOG: wal::Options = wal::Options { segment_bytes: 16 << 10, zero_ahead_bytes: 0 };

fn record(key: &str, revision: u64) -> (Vec<u8>, Vec<u8>) {
    let revision_pair = RevisionPair::new(Revision::new(revision).unwrap(), 0);
    let record = Record {
        key: key.as_bytes(),
        create_revision: revision as i64,
        mod_revision: revision as i64,
        version: 1,
        value: b"value",
        lease: 0,
    };
    let mut value = Vec::new();
    record.encode(&mut value);
    (RecordKey::put(revision_pair).to_bytes().as_ref().to_vec(), value)
}

/// A database of another cluster, with keys at revisions 2 to 101.
fn snapshot_bytes() -> Vec<u8> {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("db"), OpenMode::CreateNew).unwrap();
    let db =
        Db::open(file, bolt::Options { layout: bolt::Layout::Flat, ..bolt::Options::default() }).unwrap();
    let mut tx = db.begin_write().unwrap();
    let buckets = Buckets::open(&mut tx).unwrap();
    for revision in 2..=101 {
        let (key, value) = record(&format!("key{revision}"), revision);
        tx.put(buckets.id(Bucket::Key), &key, &value).unwrap();
    }
    let old = br#"{"id":1,"peerURLs":["http://old:1"],"name":"old"}"#;
    tx.put(buckets.id(Bucket::Members), b"1", old).unwrap();
    tx.put(buckets.id(Bucket::MembersRemoved), b"2", b"removed").unwrap();
    tx.put(buckets.id(Bucket::Cluster), b"clusterVersion", b"3.7.0").unwrap();
    tx.put(buckets.id(Bucket::Meta), storage::CONSISTENT_INDEX, &777_u64.to_be_bytes()).unwrap();
    tx.commit().unwrap();
    let mut image = Vec::new();
    std::io::Read::read_to_end(&mut bolt::copy::snapshot(&db.begin_read()), &mut image).unwrap();
    let hash = Sha256::digest(&image);
    image.extend_from_slice(&hash);
    image
}

fn disk_with(snapshot: &[u8]) -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("backup")).unwrap();
    disk.write(Path::new(SNAPSHOT), snapshot).unwrap();
    disk
}

/// For member `name` of the cluster of a, b and c.
fn of_three(name: &str) -> Restore {
    let url = |name: &str| format!("http://{name}.example:2380");
    let cluster = ["b", "a", "c"].map(|name| (name.to_owned(), url(name)));
    Restore {
        snapshot: SNAPSHOT.into(),
        data_dir: "srv/data".into(),
        wal_dir: "srv/data/member/wal".into(),
        name: name.to_owned(),
        initial_cluster: cluster.to_vec(),
        initial_cluster_token: "token".to_owned(),
        initial_advertise_peer_urls: vec![url(name)],
        hash: Hash::Required,
        initial_memory_map_size_bytes: 0,
        bump: None,
    }
}

fn run(disk: &MemDisk, what: &Restore) -> Result<(), RestoreError> {
    let disk: Arc<dyn Disk> = Arc::new(disk.clone());
    restore(&disk, LOG, what)
}

/// A directory as a member's start finds it.
struct Found {
    metadata: proto::walpb::Metadata,
    log: wal::ReadLog,
    db: Db,
}

impl Found {
    /// Panics unless the directory is whole.
    fn at(disk: &MemDisk, what: &Restore) -> Found {
        let snapshots = wal::valid_snapshots(disk, &what.wal_dir).unwrap();
        let newest = snapshots.last().unwrap();
        assert_eq!(newest.id(), EntryId::new(Term(1), Index(3)));
        assert_eq!(newest.conf_state.as_ref().unwrap().voters.len(), 3);
        let log = wal::read(disk, &what.wal_dir, EntryId::default()).unwrap();
        let metadata = prost::Message::decode(log.metadata.clone()).unwrap();
        let path = what.data_dir.join("member/snap/db");
        let file = disk.open(&path, OpenMode::ReadWrite).unwrap();
        let db =
            Db::open(file, bolt::Options { layout: bolt::Layout::Flat, ..bolt::Options::default() }).unwrap();
        assert_eq!(bolt::check(&db.begin_read()), []);
        assert_eq!(storage::applied(&db.begin_read()).unwrap(), Applied { index: 3, term: 1 });
        Found { metadata, log, db }
    }

    fn keys(&self, bucket: Bucket) -> Vec<String> {
        let tx = self.db.begin_read();
        let pairs = storage::pairs(&tx, bucket).unwrap();
        pairs.into_iter().map(|(key, _)| String::from_utf8_lossy(key).into_owned()).collect()
    }
}

/// Nothing but the snapshot is left.
fn is_untouched(disk: &MemDisk) -> bool {
    disk.list(Path::new("/")).unwrap() == [PathBuf::from("backup")]
        && disk.list(Path::new("backup")).unwrap() == [PathBuf::from("s.db")]
}

#[test]
fn three_members_are_restored_into_one_cluster() {
    let snapshot = snapshot_bytes();
    let found = ["a", "b", "c"].map(|name| {
        let disk = disk_with(&snapshot);
        run(&disk, &of_three(name)).unwrap();
        Found::at(&disk, &of_three(name))
    });
    let url = |name: &str| vec![format!("http://{name}.example:2380")];
    let mut ids = ["a", "b", "c"].map(|name| MemberId::at_bootstrap(&url(name), "token"));
    for (member, id) in found.iter().zip(ids) {
        assert_eq!(member.metadata.node_id, id.0);
        assert_eq!(member.metadata.cluster_id, found[0].metadata.cluster_id);
        assert_eq!(member.log.entries, found[0].log.entries);
        assert_eq!(member.log.entries.len(), 3);
    }
    ids.sort();
    assert_eq!(found[0].log.hard_state.vote, Some(ids[0].0));
    assert_eq!(found[0].log.hard_state.commit, Index(3));
    let mut members = ids.map(|id| id.to_string());
    members.sort();
    assert_eq!(found[0].keys(Bucket::Members), members);
    assert_eq!(found[0].keys(Bucket::MembersRemoved), Vec::<String>::new());
    assert_eq!(found[0].keys(Bucket::Cluster), ["clusterVersion"]);
    assert_eq!(found[0].keys(Bucket::Key).len(), 100);
}

#[test]
fn a_bump_skips_revisions_and_marks_those_before_as_compacted() {
    let disk = disk_with(&snapshot_bytes());
    let what = Restore { bump: Some(RevisionBump { amount: 1000 }), ..of_three("a") };
    run(&disk, &what).unwrap();
    let db = Found::at(&disk, &what).db;
    let tx = db.begin_read();
    let compactions = storage::compactions(&tx).unwrap();
    assert_eq!((compactions.scheduled.map(Revision::get), compactions.finished), (Some(1101), None));
    let source = Arc::new(storage::FileSource::new(tx.clone()).unwrap());
    let store = mvcc::Store::restore(source, compactions, &mut |_, _| {}).unwrap().store;
    assert_eq!((store.revision().get(), store.compact_revision().map(Revision::get)), (1101, Some(1101)));
}

#[test]
fn a_bump_beyond_the_last_revision_is_refused() {
    let disk = disk_with(&snapshot_bytes());
    for amount in [u64::MAX, i64::MAX as u64, i64::MAX as u64 - 101] {
        let what = Restore { bump: Some(RevisionBump { amount }), ..of_three("a") };
        assert!(matches!(run(&disk, &what), Err(RestoreError::BumpTooLarge { latest: 101, .. })));
        assert!(is_untouched(&disk));
    }
}

#[test]
fn a_log_may_lie_elsewhere() {
    for wal_dir in ["var/log/wal", "srv/data/wal", "srv/data/member/log/wal"] {
        let disk = disk_with(&snapshot_bytes());
        let what = Restore { wal_dir: wal_dir.into(), ..of_three("a") };
        run(&disk, &what).unwrap();
        Found::at(&disk, &what);
        assert!(matches!(run(&disk, &what), Err(RestoreError::DataDirInUse(_))));
        let other = Restore { data_dir: "other".into(), ..what };
        assert!(matches!(run(&disk, &other), Err(RestoreError::WalDirExists(_))));
    }
}

#[test]
fn the_log_never_takes_the_place_of_the_database() {
    for wal_dir in ["srv/data/member/snap", "srv/data/member", "srv/data", "srv"] {
        let disk = disk_with(&snapshot_bytes());
        let what = Restore { wal_dir: wal_dir.into(), ..of_three("a") };
        assert!(run(&disk, &what).is_err(), "{wal_dir}");
        assert!(is_untouched(&disk), "{wal_dir}");
    }
}

#[test]
fn what_an_interrupted_restore_left_is_named_as_such() {
    let disk = disk_with(&snapshot_bytes());
    disk.create_dir_all(Path::new("srv/data/member.restoring/snap")).unwrap();
    assert!(matches!(run(&disk, &of_three("a")), Err(RestoreError::Unfinished(_))));
    disk.write(Path::new("srv/data/more"), b"").unwrap();
    assert!(matches!(run(&disk, &of_three("a")), Err(RestoreError::DataDirInUse(_))));
}

#[test]
fn an_error_takes_everything_back() {
    let snapshot = snapshot_bytes();
    let targets = ["srv/data/member/wal", "var/wal"];
    let points = [
        FaultPoint::Open,
        FaultPoint::Write,
        FaultPoint::SetLen,
        FaultPoint::Sync,
        FaultPoint::SyncDir,
        FaultPoint::Rename,
    ];
    for (wal_dir, point) in targets.iter().flat_map(|target| points.map(|point| (target, point))) {
        let what = Restore { wal_dir: wal_dir.into(), ..of_three("a") };
        for calls in 0.. {
            let disk = disk_with(&snapshot);
            disk.inject(Fault::eio(point).after(calls));
            match run(&disk, &what) {
                // The last sync comes when everything has its name.
                Err(_) if disk.exists(Path::new("srv/data/member")).unwrap() => {
                    Found::at(&disk, &what);
                }
                Err(_) => assert!(is_untouched(&disk), "{point:?} after {calls} calls, log in {wal_dir}"),
                Ok(()) => {
                    assert!(calls > 0, "{point:?} is never reached");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_power_cut_leaves_a_whole_member_or_none() {
    let snapshot = snapshot_bytes();
    for wal_dir in ["srv/data/member/wal", "var/wal"] {
        let disk = disk_with(&snapshot);
        disk.start_recording();
        let what = Restore { wal_dir: wal_dir.into(), ..of_three("a") };
        run(&disk, &what).unwrap();
        let recording = disk.recording();
        let (mut whole, mut none) = (0, 0);
        for point in 0..=recording.last_point() {
            for image in recording.crash_at(point).images(4, 4, point as u64) {
                match image.disk.exists(Path::new("srv/data/member")).unwrap() {
                    true => {
                        Found::at(&image.disk, &what);
                        whole += 1;
                    }
                    false => {
                        assert_ne!(point, recording.last_point(), "finished and lost: {image:?}");
                        none += 1;
                    }
                }
            }
        }
        assert!(whole > 0 && none > 0, "{whole} whole, {none} without a member");
    }
}

#[test]
fn a_bent_snapshot_is_refused_and_leaves_nothing() {
    let snapshot = snapshot_bytes();
    let mut bent: Vec<Vec<u8>> = vec![vec![], b"short".to_vec(), vec![0x5a; 4096], vec![0x5a; 4096 + 32]];
    bent.extend((0..snapshot.len()).step_by(1777).map(|len| snapshot[..len].to_vec()));
    bent.extend((0..snapshot.len()).step_by(131).map(|at| {
        let mut flipped = snapshot.clone();
        flipped[at] ^= 1 << (at % 8);
        flipped
    }));
    for bytes in &bent {
        let disk = disk_with(bytes);
        let error = run(&disk, &of_three("a")).unwrap_err();
        assert!(!error.to_string().is_empty());
        assert!(is_untouched(&disk), "{error}");
    }
}

#[test]
fn a_bent_snapshot_without_its_hash_gives_an_error_or_a_whole_member() {
    let snapshot = snapshot_bytes();
    let pages = snapshot.len() - 32;
    let mut refused = 0;
    for at in (0..pages).step_by(97) {
        let mut flipped = snapshot.clone();
        flipped[at] ^= 1 << (at % 8);
        let disk = disk_with(&flipped);
        let what = Restore { hash: Hash::Ignored, ..of_three("a") };
        match run(&disk, &what) {
            Ok(()) => drop(Found::at(&disk, &what)),
            Err(_) => {
                refused += 1;
                assert!(is_untouched(&disk));
            }
        }
    }
    assert!(refused > 0);
    for len in (0..pages).step_by(1024) {
        let disk = disk_with(&snapshot[..len]);
        let what = Restore { hash: Hash::Ignored, ..of_three("a") };
        assert!(run(&disk, &what).is_err(), "{len} bytes");
        assert!(is_untouched(&disk));
    }
}
