//! Maintenance: status, alarms, defragmentation, hashes, snapshots.

use membership::MemberId;
use mvcc::Revision;
use proto::etcdserverpb::downgrade_request::DowngradeAction;
use proto::etcdserverpb::{
    AlarmMember, AlarmRequest, AlarmResponse, DefragmentRequest, DefragmentResponse, DowngradeInfo,
    DowngradeRequest, DowngradeResponse, HashKvRequest, HashKvResponse, HashRequest, HashResponse,
    MoveLeaderRequest, MoveLeaderResponse, SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse,
};
use server::{DEFAULT_QUOTA_BYTES, Error, SERVER_VERSION, SnapshotReader, background};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::{OnLearner, Services};
use crate::grpc::{Call, Code, Message, Outbound, Router, Status};

const SERVICE: &str = "etcdserverpb.Maintenance";
/// Compat: largest blob of a snapshot message.
const SNAPSHOT_BLOB_BYTES: usize = 32 * 1024;
/// crc32c of `key`, the bucket that `HashKV` is about.
const HASH_OF_NOTHING: u32 = 1_084_519_789;
/// Blobs read ahead of the client.
const SNAPSHOT_AHEAD: usize = 8;

pub(super) fn register(services: &Services, router: &mut Router) {
    macro_rules! unary {
        ($name:literal, $method:ident) => {
            let services = services.clone();
            router.unary(SERVICE, $name, move |call, request| {
                let services = services.clone();
                async move { services.$method(call, request).await }
            });
        };
    }
    unary!("Status", status);
    unary!("Alarm", alarm);
    unary!("Defragment", defragment);
    unary!("Hash", hash);
    unary!("HashKV", hash_kv);
    unary!("MoveLeader", move_leader);
    unary!("Downgrade", downgrade);
    let services = services.clone();
    router.server_stream(SERVICE, "Snapshot", move |call, _: SnapshotRequest, out| {
        let services = services.clone();
        async move { services.snapshot(call, out).await }
    });
}

impl Services {
    async fn status(&self, call: Call, _: StatusRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Served)?;
        let server = &self.server;
        let (raft, file, cluster) = (server.raft(), server.file(), server.cluster());
        let leader = raft.leader();
        let mut errors = Vec::new();
        if leader.is_none() {
            errors.push(Error::NoLeader.to_string());
        }
        for alarm in server.alarms() {
            errors.push(format!("memberID:{} alarm:{}", alarm.member.0, alarm.kind.name()));
        }
        let downgrade = cluster.downgrade();
        let quota = server.config().quota_backend_bytes;
        Ok(Message::encode(&StatusResponse {
            header: Some(self.header_now().to_proto()),
            version: SERVER_VERSION.to_owned(),
            db_size: file.size(),
            leader: leader.map_or(0, |leader| leader.0),
            raft_index: raft.committed(),
            raft_term: raft.term(),
            raft_applied_index: raft.applied(),
            errors,
            db_size_in_use: file.size_in_use(),
            is_learner: server.is_learner(),
            storage_version: server.storage_version().map_or_else(String::new, |version| version.to_string()),
            db_size_quota: if quota == 0 { DEFAULT_QUOTA_BYTES } else { quota },
            downgrade_info: Some(DowngradeInfo {
                enabled: downgrade.is_some_and(|job| job.enabled),
                target_version: downgrade.map_or_else(String::new, |job| job.target_version.clone()),
            }),
        }))
    }

    async fn alarm(&self, call: Call, request: AlarmRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let alarms = self.server.alarm(request).await?;
        let alarms = alarms
            .into_iter()
            .map(|alarm| AlarmMember { member_id: alarm.member.0, alarm: alarm.kind.to_wire() })
            .collect();
        Ok(Message::encode(&AlarmResponse { header: Some(self.header_now().to_proto()), alarms }))
    }

    async fn defragment(&self, call: Call, _: DefragmentRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        tracing::info!("starting defragment");
        self.server.defragment().await?;
        tracing::info!("finished defragment");
        // Compat: the one answer without a header.
        Ok(Message::encode(&DefragmentResponse { header: None }))
    }

    async fn hash(&self, call: Call, _: HashRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let answer = self.server.hash().await?;
        let header = Some(self.header(answer.revision).to_proto());
        Ok(Message::encode(&HashResponse { header, hash: answer.hash }))
    }

    async fn hash_kv(&self, call: Call, request: HashKvRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        // Zero means now.
        let at = Revision::from_wire(request.revision).filter(|revision| *revision > Revision::ZERO);
        let answer = self.server.hash_kv(at).await?;
        if request.revision < 0 {
            // Compat: below zero etcd hashes no revision at all, so only the bucket's name.
            return Ok(Message::encode(&HashKvResponse {
                header: Some(self.header(answer.revision).to_proto()),
                hash: HASH_OF_NOTHING,
                compact_revision: answer.compact_revision,
                hash_revision: request.revision,
            }));
        }
        Ok(Message::encode(&HashKvResponse {
            header: Some(self.header(answer.revision).to_proto()),
            hash: answer.hash,
            compact_revision: answer.compact_revision,
            hash_revision: answer.hash_revision.to_wire(),
        }))
    }

    async fn move_leader(&self, call: Call, request: MoveLeaderRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        self.server.move_leader(MemberId(request.target_id)).await?;
        // Compat: like that of Defragment, an answer without a header.
        Ok(Message::encode(&MoveLeaderResponse { header: None }))
    }

    async fn downgrade(&self, call: Call, request: DowngradeRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        let target = &request.version;
        let version = match DowngradeAction::try_from(request.action) {
            Ok(DowngradeAction::Validate) => self.server.downgrade_validate(target).await?,
            Ok(DowngradeAction::Enable) => self.server.downgrade_enable(target).await?,
            Ok(DowngradeAction::Cancel) => self.server.downgrade_cancel().await?,
            Err(_) => return Err(Error::UnknownMethod.into()),
        };
        let header = Some(self.header_now().to_proto());
        Ok(Message::encode(&DowngradeResponse { header, version: version.major_minor() }))
    }

    /// The image in blobs, then its SHA-256: what a client concatenates is a snapshot file that can be checked.
    async fn snapshot(&self, call: Call, out: Outbound) -> Result<(), Status> {
        let wish = self.admit_stream(&call, OnLearner::Served)?;
        let reader = self.server.snapshot().await?;
        let size = reader.size();
        let remote = &call.connection.remote;
        tracing::info!("total-bytes" = size, remote, "sending database snapshot to client");
        let (queue, mut blobs) = mpsc::channel(SNAPSHOT_AHEAD);
        // Until the client has it all or is gone.
        let reading = background::spawn("snapshot", move || read_snapshot(reader, &queue));
        if let Err(error) = reading {
            tracing::warn!(%error, "failed to start a thread for a snapshot");
            return Err(Error::TooManyRequests.into());
        }
        let send_all = async {
            while let Some(message) = blobs.recv().await {
                out.send(Message::encode(&message?)).await?;
            }
            Ok(())
        };
        let outcome = tokio::select! {
            outcome = send_all => outcome,
            status = self.must_end(wish) => Err(status),
        };
        if outcome.is_ok() {
            tracing::info!("total-bytes" = size, remote, "successfully sent database snapshot to client");
        }
        outcome
    }
}

fn read_snapshot(mut reader: SnapshotReader, queue: &mpsc::Sender<Result<SnapshotResponse, Status>>) {
    let version = reader.version.map_or_else(String::new, |version| version.to_string());
    let mut hash = Sha256::new();
    let mut left = reader.size();
    while left > 0 {
        let mut blob = vec![0; SNAPSHOT_BLOB_BYTES];
        let read = match reader.read(&mut blob) {
            Ok(0) => Err(std::io::ErrorKind::UnexpectedEof.into()),
            other => other,
        };
        let message = match read {
            Ok(len) => {
                blob.truncate(len);
                hash.update(&blob);
                left = left.saturating_sub(len as u64);
                Ok(SnapshotResponse {
                    header: None,
                    remaining_bytes: left,
                    blob: blob.into(),
                    version: version.clone(),
                })
            }
            Err(error) => Err(Status::new(Code::Unknown, error.to_string())),
        };
        let failed = message.is_err();
        if queue.blocking_send(message).is_err() || failed {
            return;
        }
    }
    let blob = hash.finalize().to_vec().into();
    let last = SnapshotResponse { header: None, remaining_bytes: 0, blob, version };
    // Gone at the very end is as good as any time before.
    let _ = queue.blocking_send(Ok(last));
}
