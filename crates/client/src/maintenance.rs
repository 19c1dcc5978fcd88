//! Maintenance of members. Calls that mean one member take its endpoint and dial it for themselves.

use proto::etcdserverpb::*;
use tonic::{Code, Status, Streaming};

use crate::call::{calls, clean};
use crate::retry::Repeat;
use crate::{Client, Error};

calls! {
    alarm(AlarmRequest) -> AlarmResponse: "/etcdserverpb.Maintenance/Alarm", Harmless;
    move_leader(MoveLeaderRequest) -> MoveLeaderResponse: "/etcdserverpb.Maintenance/MoveLeader", Harmless;
    downgrade(DowngradeRequest) -> DowngradeResponse: "/etcdserverpb.Maintenance/Downgrade", OnlyUnsent;
    hash(HashRequest) -> HashResponse: "/etcdserverpb.Maintenance/Hash", Harmless;
}

impl Client {
    pub async fn status(&self, endpoint: &str) -> Result<StatusResponse, Error> {
        let member = self.dial(endpoint)?;
        member.unary("/etcdserverpb.Maintenance/Status", Repeat::Harmless, StatusRequest {}).await
    }

    pub async fn hash_kv(&self, endpoint: &str, revision: i64) -> Result<HashKvResponse, Error> {
        let member = self.dial(endpoint)?;
        member.unary("/etcdserverpb.Maintenance/HashKV", Repeat::Harmless, HashKvRequest { revision }).await
    }

    pub async fn defragment(&self, endpoint: &str) -> Result<DefragmentResponse, Error> {
        let member = self.dial(endpoint)?;
        member.unary("/etcdserverpb.Maintenance/Defragment", Repeat::OnlyUnsent, DefragmentRequest {}).await
    }

    /// Begins a snapshot of the member that happens to answer: give the client one endpoint.
    pub async fn snapshot(&self) -> Result<SnapshotStream, Error> {
        let mut attempt = 0;
        loop {
            match self.open_snapshot().await {
                // Compat: tried again for ever, as nothing was received yet.
                Err(Error::Rpc(status)) if Repeat::Harmless.allows(&status) => {
                    attempt += 1;
                    let pause = crate::retry::pause_before(attempt, self.endpoints().count(), 0.5);
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome,
            }
        }
    }

    async fn open_snapshot(&self) -> Result<SnapshotStream, Error> {
        let method = "/etcdserverpb.Maintenance/Snapshot";
        let mut pieces = self.server_streaming(method, SnapshotRequest {}).await?;
        match pieces.message().await.map_err(clean)? {
            Some(first) => Ok(SnapshotStream { first: Some(first), pieces }),
            None => Err(Status::new(Code::Internal, "snapshot stream ended before its first piece").into()),
        }
    }
}

/// The pieces of a snapshot, ending with the SHA-256 of all before.
pub struct SnapshotStream {
    first: Option<SnapshotResponse>,
    pieces: Streaming<SnapshotResponse>,
}

impl SnapshotStream {
    /// The storage version that the member gave; empty from old members.
    pub fn version(&self) -> &str {
        self.first.as_ref().map_or("", |first| first.version.as_str())
    }

    /// The next piece; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<SnapshotResponse>, Error> {
        match self.first.take() {
            Some(first) => Ok(Some(first)),
            None => Ok(self.pieces.message().await.map_err(clean)?),
        }
    }
}
