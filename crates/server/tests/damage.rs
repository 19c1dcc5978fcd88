//! Damaged files, a full disk, a foreign or a newer directory: a clear refusal or full service, and never a
//! panic, a hang, or a member that serves less than it acknowledged without a word.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::{Fault, FaultPoint};
use disk::{Disk, MemDisk};
use mvcc::{KeyRange, RangeQuery};
use proto::etcdserverpb::PutRequest;
use server::{BootError, Config, Environment, Error, Member, Server, StopReason};
use tokio::runtime::{Builder, Handle, Runtime};

const WAL: &str = "/data/member/wal/0000000000000000-0000000000000000.wal";
const DB: &str = "/data/member/snap/db";

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        backend_batch_interval: Duration::from_millis(2),
        ..Config::single("default", PathBuf::from("/data"))
    }
}

fn start_with(disk: &MemDisk, config: Config) -> Result<Member, BootError> {
    let log = wal::Options { segment_bytes: 64 << 10, zero_ahead_bytes: 512 };
    Member::start(
        config,
        Environment { disk: Arc::new(disk.clone()), log, ..Environment::default() },
        &Handle::current(),
    )
}

fn start(disk: &MemDisk) -> Result<Member, BootError> {
    start_with(disk, config())
}

fn put(at: usize) -> PutRequest {
    PutRequest {
        key: Bytes::from(format!("key{at:03}")),
        value: Bytes::from(vec![b'v'; 100]),
        ..PutRequest::default()
    }
}

fn key_count(server: &Server) -> usize {
    server.view().count(&KeyRange::all())
}

fn stop(member: Member) {
    tokio::task::block_in_place(|| member.stop());
}

/// A stopped member's disk with 40 keys.
async fn filled() -> MemDisk {
    let disk = MemDisk::new();
    let member = start(&disk).unwrap();
    member.ready().await;
    for at in 0..40 {
        member.server.put(put(at)).await.unwrap();
    }
    stop(member);
    disk
}

/// A disk of the same files, for one experiment.
fn copy_of(disk: &MemDisk) -> MemDisk {
    let copy = MemDisk::new();
    for dir in ["/data/member/wal", "/data/member/snap"] {
        copy.create_dir_all(Path::new(dir)).unwrap();
        for name in disk.list(Path::new(dir)).unwrap() {
            let path = Path::new(dir).join(name);
            copy.write(&path, &disk.read(&path).unwrap()).unwrap();
        }
    }
    copy
}

/// Positions spread over a file, the same in each run.
fn positions(len: usize, count: usize) -> impl Iterator<Item = usize> {
    let mut state = 0x9E37_79B9_u64;
    (0..count).map(move |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % len as u64) as usize
    })
}

/// Starts on a damaged disk: a refusal with a reason, or a member that can be asked and stopped.
async fn survives(disk: &MemDisk) -> Option<usize> {
    let member = match start(disk) {
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return None;
        }
        Ok(member) => member,
    };
    let server = member.server.clone();
    let mut stopping = server.stopping();
    tokio::select! {
        () = member.ready() => {}
        _ = stopping.wait_for(Option::is_some) => {}
    }
    let keys = key_count(&server);
    // Reading all of it may find the damage: then the answer is an error.
    let _ = server.view().range(&RangeQuery::latest(KeyRange::all()));
    drop((server, stopping));
    stop(member);
    Some(keys)
}

#[test]
fn a_flipped_bit_in_the_log_is_refused_or_harmless() {
    runtime().block_on(async {
        let disk = filled().await;
        let log = disk.read(Path::new(WAL)).unwrap();
        let used = log.iter().rposition(|byte| *byte != 0).unwrap();
        let mut refused = 0;
        for at in positions(used, 40) {
            let damaged = copy_of(&disk);
            let mut bytes = log.clone();
            bytes[at] ^= 1 << (at % 8);
            damaged.write(Path::new(WAL), &bytes).unwrap();
            match survives(&damaged).await {
                None => refused += 1,
                Some(keys) => assert_eq!(keys, 40, "byte {at} of the log"),
            }
        }
        assert!(refused > 20, "only {refused} of 40 flips were noticed");
    });
}

#[test]
fn a_flipped_bit_in_the_file_never_breaks_the_process() {
    runtime().block_on(async {
        let disk = filled().await;
        let file = disk.read(Path::new(DB)).unwrap();
        for at in positions(file.len(), 30) {
            let damaged = copy_of(&disk);
            let mut bytes = file.clone();
            bytes[at] ^= 1 << (at % 8);
            damaged.write(Path::new(DB), &bytes).unwrap();
            survives(&damaged).await;
        }
    });
}

#[test]
fn truncated_files_are_refused_or_mended_from_the_log() {
    runtime().block_on(async {
        let disk = filled().await;
        for path in [DB, WAL] {
            let bytes = disk.read(Path::new(path)).unwrap();
            for at in positions(bytes.len(), 15) {
                let damaged = copy_of(&disk);
                damaged.write(Path::new(path), &bytes[..at]).unwrap();
                let keys = survives(&damaged).await;
                // The log's tail may be lost with the bytes; the file alone never loses anything.
                if path == DB {
                    assert!(keys.is_none_or(|keys| keys == 40), "{path} cut to {at}: {keys:?} keys");
                }
            }
        }
    });
}

#[test]
fn a_log_that_is_gone_is_not_begun_anew() {
    runtime().block_on(async {
        let disk = filled().await;
        disk.remove_dir_all(Path::new("/data/member/wal")).unwrap();
        let error = start(&disk).err().expect("nothing may start over acknowledged data").to_string();
        assert!(error.contains("there is no write-ahead log"), "{error}");
    });
}

#[test]
fn a_full_disk_stops_the_member_before_it_acknowledges() {
    runtime().block_on(async {
        let disk = filled().await;
        let member = start(&disk).unwrap();
        member.ready().await;
        let server = member.server.clone();
        disk.inject(Fault::enospc(FaultPoint::Write).on(".wal"));
        let refused = server.put(put(100)).await;
        assert!(refused.is_err(), "{refused:?}");
        let reason = server.stopping().wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(matches!(reason, StopReason::Failed(_)), "{reason:?}");
        drop(server);
        stop(member);
        let member = start(&disk).unwrap();
        member.ready().await;
        assert!(key_count(&member.server) >= 40);
        stop(member);
    });
}

#[test]
fn configurations_that_do_not_fit_are_refused_with_etcds_words() {
    runtime().block_on(async {
        let refusal = |change: fn(&mut Config)| {
            let mut config = config();
            change(&mut config);
            start_with(&MemDisk::new(), config).err().expect("refused").to_string()
        };
        let unknown = refusal(|config| config.name = "other".to_owned());
        assert_eq!(unknown, "couldn't find local name \"other\" in the initial cluster configuration");
        let advertised = refusal(|config| {
            config.initial_advertise_peer_urls = vec!["http://10.0.0.1:2380".to_owned()];
        });
        assert!(
            advertised.starts_with("--initial-cluster has default=http://localhost:2380"),
            "{advertised}"
        );
        let twice = refusal(|config| {
            config.initial_cluster.push(("b".to_owned(), "http://localhost:2380".to_owned()));
        });
        assert!(twice.ends_with("has duplicate url"), "{twice}");
    });
}

#[test]
fn absurd_requests_are_refused() {
    runtime().block_on(async {
        let member = start(&MemDisk::new()).unwrap();
        member.ready().await;
        let server = member.server.clone();
        let huge = PutRequest { key: "k".into(), value: vec![0; 2 << 20].into(), ..PutRequest::default() };
        assert_eq!(server.put(huge).await, Err(Error::RequestTooLarge));
        let unleased = PutRequest { lease: i64::MIN, ..put(1) };
        assert_eq!(server.put(unleased).await, Err(Error::LeaseNotFound));
        for revision in [i64::MIN, -1, i64::MAX] {
            let compaction = proto::etcdserverpb::CompactionRequest { revision, physical: false };
            assert!(server.compact(compaction).await.is_err(), "{revision}");
        }
        assert_eq!(server.lease_grant(None, i64::MAX).await, Err(Error::LeaseTtlTooLarge));
        drop(server);
        stop(member);
    });
}
