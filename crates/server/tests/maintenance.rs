//! Maintenance of the file while the member serves, and on a disk that fails.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::{Disk, MemDisk, OpenMode};
use proto::etcdserverpb::PutRequest;
use server::{Config, Error, Member, Metrics, Server, StopReason};
use tokio::runtime::{Builder, Handle, Runtime};

const DB: &str = "/data/member/snap/db";

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
    let network = Arc::new(server::NoNetwork);
    let member =
        Member::start_with_log(config, log, Arc::new(disk), network, Metrics::new(), &Handle::current())
            .unwrap();
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
fn a_file_that_cannot_be_read_stops_the_member_that_hashes_it() {
    runtime().block_on(async {
        let disk = MemDisk::new();
        let member = start(disk.clone()).await;
        let server = member.server.clone();
        puts(&server, 300, 1_000).await;
        server.hash().await.unwrap();
        let file = disk.open(Path::new(DB), OpenMode::ReadWrite).unwrap();
        let metas = 2 * 4096;
        file.write_at(&vec![0xFF; file.len().unwrap() as usize - metas], metas as u64).unwrap();
        assert_eq!(server.hash().await, Err(Error::Corrupt));
        let reason = failure(&server).await;
        assert!(reason.contains("database file"), "{reason}");
        drop(server);
        stop(member);
    });
}
