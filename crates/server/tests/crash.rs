//! The power goes, at any moment of a member's life: what was acknowledged is there afterwards, nothing
//! that was never asked for is, and the member goes on.

#![allow(clippy::unwrap_used)]

mod gated_disk;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::{Fault, FaultPoint};
use disk::{Disk, MemDisk};
use mvcc::{KeyRange, RangeQuery};
use proto::etcdserverpb::{CompactionRequest, PutRequest};
use server::{Config, Environment, Error, Member, Server, StopReason};
use tokio::runtime::{Builder, Handle};

use gated_disk::GatedDisk;

fn config() -> Config {
    Config {
        heartbeat_interval: Duration::from_millis(10),
        election_timeout: Duration::from_millis(100),
        backend_batch_interval: Duration::from_millis(2),
        compaction_sleep_interval: Duration::ZERO,
        snapshot_count: 10,
        snapshot_catchup_entries: 5,
        ..Config::single("default", PathBuf::from("/data"))
    }
}

async fn start(disk: &MemDisk) -> Member {
    start_on(disk.clone()).await
}

async fn start_on(disk: impl Disk) -> Member {
    // Small segments, so that the log is cut and purged within a few writes.
    let log = wal::Options { segment_bytes: 2048, zero_ahead_bytes: 512 };
    let disk = Arc::new(disk);
    let environment = Environment { disk, log, ..Environment::default() };
    let member = Member::start(config(), environment, &Handle::current()).unwrap();
    member.ready().await;
    member
}

fn put(at: usize) -> PutRequest {
    PutRequest {
        key: Bytes::from(format!("key{:02}", at % 20)),
        value: Bytes::from(at.to_string()),
        ..PutRequest::default()
    }
}

/// The number of the last put that the store shows; puts are numbered from 1.
fn last_put(server: &Server) -> usize {
    let result = server.view().range(&RangeQuery::latest(KeyRange::all())).unwrap();
    let value = |record: &[u8]| {
        let value = mvcc::Record::parse(record).unwrap().value.to_vec();
        String::from_utf8(value).unwrap().parse::<usize>().unwrap()
    };
    result.iter().map(value).max().unwrap_or(0)
}

/// A member's first start, writes, a compaction, a defragmentation with writes and checkpoints beside it, and
/// a restart, on a recording disk.
/// Returns, for each acknowledged put, how many operations the disk had seen when it was acknowledged.
async fn live(disk: &MemDisk, puts: usize) -> Vec<usize> {
    let mut acknowledged = Vec::new();
    for run in 0..2 {
        let (gated, gate) = GatedDisk::new(disk.clone());
        let member = start_on(gated).await;
        let server = member.server.clone();
        let first = run * (puts / 2) + 1;
        let (before, beside) = (first..first + puts / 4, first + puts / 4..first + puts / 2);
        for at in before {
            server.put(put(at)).await.unwrap();
            acknowledged.push(disk.op_count());
        }
        let revision = server.view().revision().to_wire();
        server.compact(CompactionRequest { revision: revision - 3, physical: true }).await.unwrap();
        let defragmenting = server.clone();
        let defragmenting = tokio::spawn(async move { defragmenting.defragment().await });
        gate.wait_for_arrival();
        for at in beside {
            server.put(put(at)).await.unwrap();
            acknowledged.push(disk.op_count());
        }
        gate.open();
        defragmenting.await.unwrap().unwrap();
        drop(server);
        tokio::task::block_in_place(|| member.stop());
    }
    acknowledged
}

#[test]
fn a_power_cut_at_any_operation_loses_nothing_acknowledged() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        const PUTS: usize = 60;
        let disk = MemDisk::new();
        disk.start_recording();
        let acknowledged = live(&disk, PUTS).await;
        let recording = disk.recording();
        // Every fifth point: with several images each that is some two hundred restarts.
        let points = (0..=recording.last_point()).step_by(5).chain([recording.last_point()]);
        let mut images = 0;
        for point in points {
            let acked = acknowledged.partition_point(|ops| *ops <= point);
            let crash = recording.crash_at(point);
            let nothing = vec![false; crash.pending().len()];
            let everything = vec![true; crash.pending().len()];
            let every_other = (0..crash.pending().len()).map(|at| at % 2 == point % 2).collect();
            for survived in [nothing, everything, every_other] {
                let image = crash.image(&survived);
                let context = format!("power cut after operation {point}, survivors {survived:?}");
                check(&image.disk, acked, PUTS, &context).await;
                images += 1;
            }
        }
        assert!(images > 100, "only {images} images");
    });
}

async fn check(disk: &MemDisk, acknowledged: usize, submitted: usize, context: &str) {
    let member = start(disk).await;
    let server = member.server.clone();
    let last = last_put(&server);
    assert!(last >= acknowledged, "{context}: put {acknowledged} was acknowledged, the last there is {last}");
    assert!(last <= submitted, "{context}: put {last} was never asked for");
    // One revision per put, from 2 on: none may be there twice or be missing in the middle.
    assert_eq!(server.view().revision().get() as usize, last + 1, "{context}: revision");
    server.put(put(last + 1)).await.unwrap();
    drop(server);
    tokio::task::block_in_place(|| member.stop());
}

#[test]
fn a_failed_sync_of_the_log_stops_the_member_and_acknowledges_nothing() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = MemDisk::new();
        let member = start(&disk).await;
        let server = member.server.clone();
        server.put(put(1)).await.unwrap();
        disk.inject(Fault::eio(FaultPoint::Sync).on(".wal"));
        let put = tokio::spawn({
            let server = server.clone();
            async move { server.put(put(2)).await }
        });
        let mut stopping = server.stopping();
        let reason = stopping.wait_for(Option::is_some).await.unwrap().clone().unwrap();
        assert!(
            matches!(&reason, StopReason::Failed(text) if text.contains("write-ahead log")),
            "{reason:?}"
        );
        tokio::task::block_in_place(|| member.stop());
        assert_eq!(put.await.unwrap(), Err(Error::Stopped));
    });
}

#[test]
fn a_member_that_fails_before_it_is_ready_does_not_wait_for_ever() {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let disk = MemDisk::new();
        let member = {
            let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
            Member::start(config(), environment, &Handle::current()).unwrap()
        };
        disk.inject(Fault::eio(FaultPoint::Sync).on(".wal"));
        let ready = tokio::time::timeout(Duration::from_secs(5), member.ready()).await;
        assert!(ready.is_ok(), "still waiting to be ready");
        let reason = member.server.stopping().borrow().clone();
        assert!(matches!(reason, Some(StopReason::Failed(_))), "{reason:?}");
        tokio::task::block_in_place(|| member.stop());
    });
}
