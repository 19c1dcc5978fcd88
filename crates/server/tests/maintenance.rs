//! Maintenance of the file while the member serves, and on a disk that fails.

#![allow(clippy::unwrap_used)]

mod gated_disk;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::{Fault, FaultPoint};
use disk::{Disk, MemDisk, OpenMode};
use lease::LeaseId;
use proto::etcdserverpb::PutRequest;
use server::{Config, Environment, Error, Member, Server, StopReason};
use tokio::runtime::{Builder, Handle, Runtime};

use gated_disk::GatedDisk;

const DB: &str = "/data/member/snap/db";
const COPY: &str = "/data/member/snap/db.tmp.defrag";

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn start(disk: impl Disk) -> Member {
    let config = Config {
        heartbeat_interval: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        backend_batch_interval: Duration::from_millis(2),
        ..Config::single("default", PathBuf::from("/data"))
    };
    let log = wal::Options { segment_bytes: 16 << 20, zero_ahead_bytes: 512 };
    let environment = Environment { disk: Arc::new(disk), log, ..Environment::default() };
    let member = Member::start(config, environment, &Handle::current()).unwrap();
    member.ready().await;
    member
}

fn put(at: usize, value_len: usize) -> PutRequest {
    PutRequest {
        key: Bytes::from(format!("key{at:03}")),
        value: Bytes::from(vec![b'v'; value_len]),
        ..PutRequest::default()
    }
}

async fn puts(server: &Server, count: usize, value_len: usize) {
    for at in 0..count {
        server.put(put(at, value_len)).await.unwrap();
    }
}

fn stop(member: Member) {
    tokio::task::block_in_place(|| member.stop());
}

async fn failure(server: &Server) -> String {
    match server.stopping().wait_for(Option::is_some).await.unwrap().clone() {
        Some(StopReason::Failed(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_written_during_a_defragmentation_is_in_the_file_at_once_and_in_the_copy_at_its_end() {
    runtime().block_on(async {
        let disk = MemDisk::new();
        let (gated, gate) = GatedDisk::new(disk.clone());
        let member = start(gated).await;
        let server = member.server.clone();
        puts(&server, 50, 100).await;
        let (leaving, _) = server.lease_grant(Some(LeaseId(7)), 600).await.unwrap();
        let defragmenting = server.clone();
        let defragmenting = tokio::spawn(async move { defragmenting.defragment().await });
        gate.wait_for_arrival();

        // More than one slice and more than one pass.
        puts(&server, 300, 10_000).await;
        server.lease_revoke(leaving).await.unwrap();
        server.lease_grant(Some(LeaseId(3)), 600).await.unwrap();
        server.lease_grant(Some(LeaseId(9)), 600).await.unwrap();
        // What needs the file does not wait for the copy, and nothing is kept in memory for its sake.
        let hash = server.hash().await.unwrap();
        assert!(server.view().is_folded());
        assert!(server.snapshot().await.unwrap().size() > 3_000_000);
        assert!(server.file().is_defragmenting());

        gate.open();
        defragmenting.await.unwrap().unwrap();
        assert!(!server.file().is_defragmenting());
        assert_eq!(server.hash().await.unwrap(), hash);
        let keys = server.hash_kv(None).await.unwrap();
        drop(server);
        stop(member);

        let member = start(disk).await;
        assert_eq!(member.server.hash().await.unwrap(), hash);
        assert_eq!(member.server.hash_kv(None).await.unwrap(), keys);
        let mut leases = member.server.leases();
        leases.sort_unstable();
        assert_eq!(leases, [LeaseId(3), LeaseId(9)]);
        stop(member);
    });
}

#[test]
fn those_who_ask_during_a_defragmentation_get_one_together() {
    runtime().block_on(async {
        let (gated, gate) = GatedDisk::new(MemDisk::new());
        let member = start(gated).await;
        let mut askers = Vec::new();
        for asker in 0..4 {
            let server = member.server.clone();
            let mut asking = Box::pin(async move { server.defragment().await });
            // Polled once, it has asked.
            let early = std::future::poll_fn(|cx| Poll::Ready(asking.as_mut().poll(cx))).await;
            assert!(early.is_pending());
            askers.push(asking);
            if asker == 0 {
                gate.wait_for_arrival();
            }
        }
        // Answered behind the askers: they have been heard by then, however slow the backend thread is.
        member.server.hash().await.unwrap();
        gate.open();
        gate.wait_for_arrival();
        gate.open();
        for asking in askers {
            asking.await.unwrap();
        }
        let metrics = &member.server.metrics().disk;
        assert_eq!(metrics.backend_defrag.get_sample_count(), 2);
        stop(member);
    });
}

#[test]
fn a_defragmentation_that_fails_says_why_and_leaves_the_file_as_it_was() {
    runtime().block_on(async {
        let disk = MemDisk::new();
        let member = start(disk.clone()).await;
        let server = member.server.clone();
        puts(&server, 300, 10_000).await;
        let hash = server.hash().await.unwrap();
        let no_space = "No space left on device";
        let bad_device = "Input/output error";
        let faults = [
            (Fault::enospc(FaultPoint::Write).on(COPY), no_space),
            (Fault::enospc(FaultPoint::Write).on(COPY).after(2), no_space),
            (Fault::eio(FaultPoint::Write).on(COPY), bad_device),
            (Fault::eio(FaultPoint::Sync).on(COPY).after(1), bad_device),
            (Fault::eio(FaultPoint::Open).on(COPY), bad_device),
            (Fault::enospc(FaultPoint::Open).on(COPY).after(1), no_space),
            (Fault::eio(FaultPoint::Rename).on(DB), bad_device),
        ];
        for (fault, wanted) in faults {
            let context = format!("{fault:?}");
            disk.inject(fault);
            match server.defragment().await {
                Err(Error::DefragmentFailed { reason }) => {
                    assert!(reason.contains(COPY) && reason.contains(wanted), "{context}: {reason}");
                }
                other => panic!("{context}: {other:?}"),
            }
            assert!(!disk.exists(Path::new(COPY)).unwrap(), "{context}");
            assert!(!server.file().is_defragmenting(), "{context}");
            assert_eq!(server.hash().await.unwrap(), hash, "{context}");
        }
        server.put(put(0, 10)).await.unwrap();
        let hash = server.hash().await.unwrap();
        server.defragment().await.unwrap();
        assert_eq!(server.hash().await.unwrap(), hash);
        drop(server);
        stop(member);
    });
}

/// The file's new name may be lost with the power, and the log be cut by what only the new file holds.
#[test]
fn a_copy_whose_name_is_not_durable_stops_the_member() {
    runtime().block_on(async {
        let disk = MemDisk::new();
        let member = start(disk.clone()).await;
        let server = member.server.clone();
        disk.inject(Fault::eio(FaultPoint::SyncDir).on("snap"));
        assert_eq!(server.defragment().await, Err(Error::Stopped));
        assert!(failure(&server).await.contains("sync the snap directory"));
        drop(server);
        stop(member);
    });
}

#[test]
fn a_file_that_cannot_be_read_stops_the_member_whoever_reads_it() {
    for asked in ["hash", "defragment"] {
        runtime().block_on(async {
            let disk = MemDisk::new();
            let member = start(disk.clone()).await;
            let server = member.server.clone();
            puts(&server, 300, 1_000).await;
            server.hash().await.unwrap();
            let file = disk.open(Path::new(DB), OpenMode::ReadWrite).unwrap();
            let metas = 2 * 4096;
            file.write_at(&vec![0xFF; file.len().unwrap() as usize - metas], metas as u64).unwrap();
            let refused = match asked {
                "hash" => server.hash().await.map(drop),
                _ => server.defragment().await,
            };
            assert_eq!(refused, Err(Error::Corrupt), "{asked}");
            let reason = failure(&server).await;
            assert!(reason.contains("database file"), "{asked}: {reason}");
            drop(server);
            stop(member);
        });
    }
}
