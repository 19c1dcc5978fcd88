#![allow(clippy::unwrap_used)]

//! One member from start to stop, over and over, on a real directory and on one that forgets.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::{Fault, FaultPoint, MemDisk};
use mvcc::{KeyRange, RangeQuery, Revision};
use proto::etcdserverpb::{CompactionRequest, DeleteRangeRequest, PutRequest};
use server::{Config, Environment, Error, LeaseKeys, Member, Server};
use tokio::runtime::{Handle, Runtime};

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn start(dir: &Path) -> Member {
    start_with(Config::single("default", dir.to_owned())).await
}

async fn start_with(mut config: Config) -> Member {
    config.heartbeat_interval = Duration::from_millis(10);
    config.election_timeout = Duration::from_millis(100);
    let member = Member::start(config, Environment::default(), &Handle::current()).unwrap();
    member.ready().await;
    member
}

fn put(key: &str, value: &str) -> PutRequest {
    PutRequest {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
        ..PutRequest::default()
    }
}

fn keys(server: &Server) -> Vec<String> {
    let result = server.view().range(&RangeQuery::latest(KeyRange::all())).unwrap();
    let key = |record: &[u8]| String::from_utf8(mvcc::Record::parse(record).unwrap().key.to_vec()).unwrap();
    result.iter().map(key).collect()
}

#[test]
fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let member = start(dir.path()).await;
        let server = member.server.clone();
        for at in 0..50 {
            let outcome = server.put(put(&format!("k{at:02}"), "v")).await.unwrap();
            assert_eq!(outcome.revision, Revision::new(at + 2).unwrap());
        }
        let delete = DeleteRangeRequest { key: "k10".into(), range_end: "k20".into(), prev_kv: true };
        let deleted = server.delete_range(delete).await.unwrap();
        assert_eq!((deleted.deleted, deleted.previous.len()), (10, 10));
        let view = server.linearizable_view().await.unwrap();
        assert_eq!(view.revision(), Revision::new(52).unwrap());
        let hash = server.hash_kv(None).await.unwrap();
        drop((server, view));
        tokio::task::block_in_place(|| member.stop());

        for _ in 0..3 {
            let member = start(dir.path()).await;
            assert_eq!(keys(&member.server).len(), 40);
            assert_eq!(member.server.hash_kv(None).await.unwrap(), hash);
            tokio::task::block_in_place(|| member.stop());
        }
    });
}

#[test]
fn leases_end_by_themselves_and_take_their_keys() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let member = start(dir.path()).await;
        let server = member.server.clone();
        let (id, ttl) = server.lease_grant(None, 1).await.unwrap();
        assert_eq!(ttl, 1);
        server.put(PutRequest { lease: id.0, ..put("leased", "v") }).await.unwrap();
        let times = server.lease_times(id, LeaseKeys::Listed).await.unwrap().unwrap();
        assert_eq!(times.keys, vec![Bytes::from_static(b"leased")]);
        assert_eq!(server.lease_renew(id).await.unwrap(), Some(1));
        let mut stopping = server.stopping();
        while !keys(&server).is_empty() {
            let pause = tokio::time::timeout(Duration::from_millis(50), stopping.changed()).await;
            assert!(pause.is_err(), "the member stopped");
        }
        assert_eq!(server.lease_renew(id).await.unwrap(), None);
        assert_eq!(server.lease_revoke(id).await, Err(Error::LeaseNotFound));
        tokio::task::block_in_place(|| member.stop());
    });
}

#[test]
fn maintenance_changes_nothing_that_can_be_read() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let member = start(dir.path()).await;
        let server = member.server.clone();
        for round in 0..300 {
            server.put(put(&format!("k{}", round % 7), &"x".repeat(500))).await.unwrap();
        }
        let before = server.hash_kv(None).await.unwrap();
        server.defragment().await.unwrap();
        assert_eq!(server.hash_kv(None).await.unwrap(), before);
        server.compact(CompactionRequest { revision: 290, physical: true }).await.unwrap();
        assert_eq!(
            server.compact(CompactionRequest { revision: 290, physical: true }).await,
            Err(Error::Compacted)
        );
        let compacted = server.hash_kv(None).await.unwrap();
        assert_eq!(compacted.compact_revision, 290);
        let file_hash = server.hash().await.unwrap();
        server.defragment().await.unwrap();
        assert_eq!(server.hash().await.unwrap(), file_hash);
        assert_eq!(keys(&server).len(), 7);
        let mut image = server.snapshot().await.unwrap();
        let (mut bytes, mut buf) = (0, vec![0; 32 << 10]);
        loop {
            match image.read(&mut buf).unwrap() {
                0 => break,
                read => bytes += read as u64,
            }
        }
        assert_eq!(bytes, image.size());
        drop((server, image));
        tokio::task::block_in_place(|| member.stop());
        let member = start(dir.path()).await;
        assert_eq!(member.server.hash_kv(None).await.unwrap(), compacted);
        tokio::task::block_in_place(|| member.stop());
    });
}

#[test]
fn many_snapshots_of_the_log_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut config = Config::single("default", dir.path().to_owned());
        config.snapshot_count = 20;
        config.snapshot_catchup_entries = 5;
        let member = start_with(config.clone()).await;
        for round in 0..500 {
            member.server.put(put(&format!("k{round:03}"), "v")).await.unwrap();
        }
        tokio::task::block_in_place(|| member.stop());
        let member = start_with(config).await;
        assert_eq!(keys(&member.server).len(), 500);
        tokio::task::block_in_place(|| member.stop());
    });
}

#[test]
fn a_full_file_raises_an_alarm_and_still_serves_reads_and_deletes() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let mut config = Config::single("default", dir.path().to_owned());
        config.quota_backend_bytes = 2 << 20;
        config.backend_batch_interval = Duration::from_millis(1);
        let member = start_with(config).await;
        let server = member.server.clone();
        let mut written = 0;
        let refused = loop {
            match server.put(put(&format!("k{written:04}"), &"x".repeat(100_000))).await {
                Ok(_) => written += 1,
                Err(error) => break error,
            }
            assert!(written < 1000, "the quota was never reached");
        };
        assert_eq!(refused, Error::NoSpace);
        while server.alarms().is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(server.put(put("a", "b")).await, Err(Error::NoSpace));
        let delete = DeleteRangeRequest { key: "k0000".into(), ..DeleteRangeRequest::default() };
        assert_eq!(server.delete_range(delete).await.unwrap().deleted, 1);
        assert!(!keys(&server).is_empty());
        tokio::task::block_in_place(|| member.stop());
    });
}

#[test]
fn operations_of_txns_are_counted_one_by_one() {
    use proto::etcdserverpb::{RequestOp, TxnRequest, request_op::Request};
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let member = start(dir.path()).await;
        let server = member.server.clone();
        let op = |request| RequestOp { request: Some(request) };
        let puts = |count: usize| -> Vec<RequestOp> {
            (0..count).map(|at| op(Request::RequestPut(put(&format!("k{at}"), "value")))).collect()
        };
        for count in 1..=2 {
            let txn = TxnRequest { success: puts(count), failure: puts(3), ..TxnRequest::default() };
            server.txn(txn).await.unwrap();
        }
        let metrics = &server.metrics().mvcc;
        assert_eq!((metrics.put.get(), metrics.txn.get(), metrics.range.get()), (3, 1, 0));
        assert!((metrics.total_put_size.get() - 3.0 * 7.0).abs() < 0.1);
        drop(server);
        tokio::task::block_in_place(|| member.stop());
    });
}

/// Compactions, defragmentations and hashes at once with writes: all of them end, and nothing is lost.
#[test]
fn maintenance_at_once_with_writes_comes_to_its_end() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let config = Config {
            backend_batch_interval: Duration::from_millis(1),
            compaction_batch_limit: 7,
            compaction_sleep_interval: Duration::ZERO,
            ..Config::single("default", dir.path().to_owned())
        };
        let member = start_with(config).await;
        let server = member.server.clone();
        let mut compactions = tokio::task::JoinSet::new();
        for round in 0..400_i64 {
            server.put(put(&format!("k{}", round % 13), &round.to_string())).await.unwrap();
            let server = server.clone();
            match round % 40 {
                10..=12 => {
                    let request = CompactionRequest { revision: round, physical: true };
                    compactions.spawn(async move {
                        match server.compact(request).await {
                            // Tasks have no order: the next one's compaction came first.
                            Err(Error::Compacted) => Ok(()),
                            outcome => outcome,
                        }
                    });
                }
                9 | 30 => {
                    compactions.spawn(async move { server.defragment().await });
                }
                20 => {
                    compactions.spawn(async move { server.hash().await.map(drop) });
                }
                _ => {}
            }
        }
        let all = tokio::time::timeout(Duration::from_secs(20), compactions.join_all()).await;
        let failed: Vec<_> =
            all.expect("some maintenance never ended").into_iter().filter_map(Result::err).collect();
        assert!(failed.is_empty(), "{failed:?}");
        let hash = server.hash_kv(None).await.unwrap();
        assert_eq!(hash.compact_revision, 372);
        drop(server);
        tokio::task::block_in_place(|| member.stop());
        let member = start(dir.path()).await;
        assert_eq!(member.server.hash_kv(None).await.unwrap(), hash);
        assert_eq!(keys(&member.server).len(), 13);
        tokio::task::block_in_place(|| member.stop());
    });
}

/// Raft hands out committed entries only so far ahead of what it knows to be applied, and a large one behind small
/// ones does not fit at once.
#[test]
fn large_values_among_small_ones_are_applied() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let member = start(dir.path()).await;
        let server = member.server.clone();
        for round in 0..30 {
            let mut puts = tokio::task::JoinSet::new();
            for client in 0..8 {
                let (server, len) = (server.clone(), if client == 4 { 1_300_000 } else { 1 });
                puts.spawn(async move { server.put(put(&format!("k{client}"), &"x".repeat(len))).await });
            }
            while let Some(put) = puts.join_next().await {
                assert!(put.unwrap().is_ok(), "round {round}");
            }
        }
        tokio::task::block_in_place(|| member.stop());
    });
}

/// The present segment has space of its own: a full disk need not stop the member that early.
#[test]
fn a_log_whose_next_segment_finds_no_space_goes_on() {
    let disk = MemDisk::new();
    runtime().block_on(async {
        let mut config = Config::single("default", "/data".into());
        (config.heartbeat_interval, config.election_timeout) =
            (Duration::from_millis(10), Duration::from_millis(100));
        let environment = Environment { disk: Arc::new(disk.clone()), ..Environment::default() };
        let member = Member::start(config, environment, &Handle::current()).unwrap();
        member.ready().await;
        let server = member.server.clone();
        disk.inject(Fault::enospc(FaultPoint::Write).on("next-"));
        let removed = disk.calls(FaultPoint::Remove);
        let value = "x".repeat(1_400_000);
        let filling = async {
            // What did not become ready is removed.
            while disk.calls(FaultPoint::Remove) == removed {
                server.put(put("k", &value)).await.unwrap();
            }
        };
        tokio::time::timeout(Duration::from_secs(60), filling).await.unwrap();
        for _ in 0..5 {
            server.put(put("k", &value)).await.unwrap();
        }
        assert!(server.stopping().borrow().is_none());
        tokio::task::block_in_place(|| member.stop());
    });
}
