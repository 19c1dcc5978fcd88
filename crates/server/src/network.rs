//! How a member reaches the others. `peer` speaks etcd's protocol over HTTP; the simulator brings a network
//! of its own, with faults.
//!
//! Two kinds of traffic. Raft messages are handed over and forgotten: what cannot be sent is dropped, and
//! raft is told that the member was unreachable. Questions are asked of a URL and answered, or not, within
//! a time. What comes *in* goes to [`crate::Server`]: see its methods under "what other members say".

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use membership::{ClusterId, Member, MemberId, Version};
use raft::Message;

use crate::backend::SnapshotReader;
use crate::handle::HashKvAnswer;

/// The answer to a question, some time later.
pub type Asked<T> = Pin<Box<dyn Future<Output = Result<T, AskError>> + Send>>;

/// The way to the other members. Calls come from the raft, wal and apply threads and from tasks: none may
/// block, and no message may wait for another member than its own.
pub trait Network: Send + Sync + 'static {
    /// Hands raft messages over, each to the member in its `to`, those for one member in order as far as
    /// they share a channel. Full queues and unknown members drop them.
    fn send(&self, messages: Vec<Message>);

    /// Whether a proposal of so many bytes, sent on to this member, would find room. One that does not is refused, not
    /// lost.
    fn has_room(&self, _to: MemberId, _bytes: u64) -> bool {
        true
    }

    /// Sends a `Snap` message and the file that belongs to it. How that ended is reported by
    /// [`crate::Server::report_snapshot`]; dropping the image ends its hold on the file.
    fn send_snapshot(&self, message: Message, image: SnapshotReader);

    /// Makes a member known, and connects to it. For one that is known: its URLs have changed.
    fn set_peer(&self, id: MemberId, peer_urls: &[String]);

    /// The member is gone for good: its connections end, and it is told why when it calls again.
    fn remove_peer(&self, id: MemberId);

    /// How long messages have been coming from this member without a break; `None` while they do not.
    fn active_for(&self, id: MemberId) -> Option<Duration>;

    /// Who is in the cluster, as the member behind `url` knows it. Source: `GET /members`.
    fn ask_members(&self, url: &str, limit: Duration) -> Asked<RemoteCluster>;

    /// Source: `GET /version`.
    fn ask_version(&self, url: &str, limit: Duration) -> Asked<RemoteVersion>;

    /// Whether a downgrade is under way. Source: `GET /downgrade/enabled`.
    fn ask_downgrade_enabled(&self, url: &str, limit: Duration) -> Asked<bool>;

    /// Asks the leader to make a voter of a learner; the members afterwards. Source: `POST /members/promote/<id>`.
    fn ask_promote(&self, url: &str, id: MemberId, limit: Duration) -> Asked<Vec<Member>>;

    /// Asks the leader to renew a lease; the answer is its time to live in seconds. Source: `POST /leases`.
    fn ask_renew(&self, url: &str, lease_id: i64, limit: Duration) -> Asked<i64>;

    /// Asks the leader for a lease's times: an encoded `etcdserverpb.LeaseTimeToLiveResponse` for an encoded
    /// `LeaseTimeToLiveRequest`. Source: `POST /leases/internal`.
    fn ask_lease_times(&self, url: &str, request: Bytes, limit: Duration) -> Asked<Bytes>;

    /// The hash of a member's keys up to a revision. The member refuses when it is of another cluster than
    /// `cluster_id`. Source: `GET /members/hashkv`.
    fn ask_hash_kv(
        &self,
        url: &str,
        cluster_id: ClusterId,
        revision: i64,
        limit: Duration,
    ) -> Asked<HashKvAnswer>;
}

/// A cluster as one of its members tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteCluster {
    pub cluster_id: ClusterId,
    /// Sorted by id.
    pub members: Vec<Member>,
}

/// The versions of a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RemoteVersion {
    /// Of its binary.
    pub server: Version,
    /// Of its cluster; `None` while that is not decided.
    pub cluster: Option<Version>,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AskError {
    /// Nobody was reached in time. The request may have arrived all the same.
    Unreachable(String),
    /// The member answered with an error: HTTP status and text.
    Refused { status: u16, text: String },
    /// The answer cannot be read.
    Malformed(String),
}

impl fmt::Display for AskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AskError::Unreachable(why) => write!(f, "member not reached: {why}"),
            AskError::Refused { status, text } => write!(f, "member refused with status {status}: {text}"),
            AskError::Malformed(why) => write!(f, "unreadable answer of a member: {why}"),
        }
    }
}

impl std::error::Error for AskError {}

/// What a broken connection says about the member at its other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConnectionLoss {
    /// The member's machine says that nobody listens there any more: its process has ended.
    Refused,
    /// The connection was closed or reset by the other side. A restart, or an end.
    Closed,
    /// Nothing came for too long, or nothing could be sent.
    Silent,
}

/// The network of a member that is alone: it reaches nobody.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoNetwork;

fn nobody<T: Send + 'static>() -> Asked<T> {
    Box::pin(std::future::ready(Err(AskError::Unreachable("this member has no network".to_owned()))))
}

impl Network for NoNetwork {
    fn send(&self, _: Vec<Message>) {}

    fn send_snapshot(&self, _: Message, _: SnapshotReader) {}

    fn set_peer(&self, _: MemberId, _: &[String]) {}

    fn remove_peer(&self, _: MemberId) {}

    fn active_for(&self, _: MemberId) -> Option<Duration> {
        None
    }

    fn ask_members(&self, _: &str, _: Duration) -> Asked<RemoteCluster> {
        nobody()
    }

    fn ask_version(&self, _: &str, _: Duration) -> Asked<RemoteVersion> {
        nobody()
    }

    fn ask_downgrade_enabled(&self, _: &str, _: Duration) -> Asked<bool> {
        nobody()
    }

    fn ask_promote(&self, _: &str, _: MemberId, _: Duration) -> Asked<Vec<Member>> {
        nobody()
    }

    fn ask_renew(&self, _: &str, _: i64, _: Duration) -> Asked<i64> {
        nobody()
    }

    fn ask_lease_times(&self, _: &str, _: Bytes, _: Duration) -> Asked<Bytes> {
        nobody()
    }

    fn ask_hash_kv(&self, _: &str, _: ClusterId, _: i64, _: Duration) -> Asked<HashKvAnswer> {
        nobody()
    }
}
