//! Members in one process: messages are handed over directly, unless the way is cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use membership::{ClusterId, Member, MemberId, Version};
use parking_lot::Mutex;
use prost::Message as _;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use raft::{Message, SnapshotStatus};
use server::{
    AskError, Asked, Error, HashKvAnswer, LeaseKeys, Network, RemoteCluster, RemoteVersion, Server,
    SnapshotReader,
};

/// The wires between all members.
#[derive(Clone, Default)]
pub struct Wires {
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    servers: BTreeMap<MemberId, Server>,
    /// By peer URL, as members are known before they have an id.
    urls: BTreeMap<String, MemberId>,
    cut: BTreeSet<MemberId>,
    connected_since: BTreeMap<MemberId, Instant>,
    /// Ways to others find no room for proposals.
    are_full: bool,
    /// Snapshots that arrived.
    snapshots: usize,
}

impl Wires {
    pub fn join(&self, url: &str, server: &Server) {
        let mut state = self.state.lock();
        state.urls.insert(url.to_owned(), server.member_id());
        state.servers.insert(server.member_id(), server.clone());
        state.connected_since.insert(server.member_id(), Instant::now());
    }

    /// The process is gone.
    pub fn leave(&self, id: MemberId) {
        let mut state = self.state.lock();
        state.servers.remove(&id);
        state.connected_since.remove(&id);
    }

    pub fn cut(&self, id: MemberId) {
        self.state.lock().cut.insert(id);
    }

    pub fn fill(&self) {
        self.state.lock().are_full = true;
    }

    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    pub fn snapshots(&self) -> usize {
        self.state.lock().snapshots
    }

    pub fn end_of(&self, url: &str) -> WireEnd {
        WireEnd { wires: self.clone(), own_url: url.to_owned() }
    }
}

/// One member's network.
pub struct WireEnd {
    wires: Wires,
    own_url: String,
}

impl WireEnd {
    fn reach(&self, id: MemberId) -> Option<Server> {
        let state = self.wires.state.lock();
        let own = state.urls.get(&self.own_url);
        if state.cut.contains(&id) || own.is_some_and(|own| state.cut.contains(own)) {
            return None;
        }
        state.servers.get(&id).cloned()
    }

    fn reach_url(&self, url: &str) -> Result<Server, AskError> {
        let id = self.wires.state.lock().urls.get(url).copied();
        id.and_then(|id| self.reach(id)).ok_or_else(|| AskError::Unreachable(url.to_owned()))
    }

    fn own(&self) -> Option<Server> {
        let state = self.wires.state.lock();
        state.urls.get(&self.own_url).and_then(|id| state.servers.get(id)).cloned()
    }
}

fn refused(status: u16, error: &Error) -> AskError {
    AskError::Refused { status, text: error.to_string() }
}

impl Network for WireEnd {
    fn send(&self, messages: Vec<Message>) {
        for message in messages {
            let to = MemberId(message.to);
            match self.reach(to) {
                Some(server) => {
                    server.receive(message).ok();
                    server.step_received();
                }
                None => drop(self.own().map(|own| own.report_unreachable(to))),
            }
        }
    }

    fn has_room(&self, _: MemberId, _: u64) -> bool {
        !self.wires.state.lock().are_full
    }

    fn send_snapshot(&self, message: Message, mut image: SnapshotReader) {
        let to = MemberId(message.to);
        let Some(own) = self.own() else { return };
        let Some(server) = self.reach(to) else { return own.report_snapshot(to, SnapshotStatus::Failed) };
        let wires = self.wires.clone();
        std::thread::spawn(move || {
            let index = message.snapshot.as_ref().expect("it has one").index().0;
            let mut writer = server.receive_snapshot(index).expect("a file");
            let mut buffer = vec![0; 4096];
            loop {
                match image.read(&mut buffer).expect("readable") {
                    0 => break,
                    len => writer.write(&buffer[..len]).expect("written"),
                }
            }
            writer.finish().expect("durable");
            wires.state.lock().snapshots += 1;
            let status = match server.receive(message) {
                Ok(()) => SnapshotStatus::Finished,
                Err(_) => SnapshotStatus::Failed,
            };
            server.step_received();
            own.report_snapshot(to, status);
        });
    }

    fn set_peer(&self, _: MemberId, _: &[String]) {}

    fn remove_peer(&self, _: MemberId) {}

    /// As if members had been connected for long, so that changes need not wait.
    fn active_for(&self, id: MemberId) -> Option<Duration> {
        self.reach(id).map(|_| Duration::from_secs(60))
    }

    fn ask_members(&self, url: &str, _: Duration) -> Asked<RemoteCluster> {
        let server = self.reach_url(url);
        Box::pin(async move {
            let server = server?;
            let members = server.cluster().members().cloned().collect();
            Ok(RemoteCluster { cluster_id: server.cluster_id(), members })
        })
    }

    fn ask_version(&self, url: &str, _: Duration) -> Asked<RemoteVersion> {
        let server = self.reach_url(url);
        Box::pin(async move {
            Ok(RemoteVersion { server: Version::new(3, 7), cluster: server?.cluster().version() })
        })
    }

    fn ask_downgrade_enabled(&self, url: &str, _: Duration) -> Asked<bool> {
        let server = self.reach_url(url);
        Box::pin(async move { server?.is_downgrading().await.map_err(|error| refused(500, &error)) })
    }

    fn ask_promote(&self, url: &str, id: MemberId, _: Duration) -> Asked<Vec<Member>> {
        let server = self.reach_url(url);
        Box::pin(async move { server?.promote_here(id).await.map_err(|error| refused(412, &error)) })
    }

    fn ask_renew(&self, url: &str, lease_id: i64, _: Duration) -> Asked<i64> {
        let server = self.reach_url(url);
        Box::pin(async move {
            match server?.renew_here(lease::LeaseId(lease_id)).await {
                Ok(Some(ttl_secs)) => Ok(ttl_secs),
                Ok(None) => Err(refused(404, &Error::LeaseNotFound)),
                Err(error) => Err(refused(400, &error)),
            }
        })
    }

    fn ask_lease_times(&self, url: &str, request: Bytes, _: Duration) -> Asked<Bytes> {
        let server = self.reach_url(url);
        Box::pin(async move {
            let request = LeaseTimeToLiveRequest::decode(request).expect("well-formed");
            let keys = if request.keys { LeaseKeys::Listed } else { LeaseKeys::Omitted };
            match server?.lease_times_here(lease::LeaseId(request.id), keys).await {
                Ok(Some(times)) => {
                    let answer = LeaseTimeToLiveResponse {
                        id: request.id,
                        ttl: times.remaining_secs,
                        granted_ttl: times.granted_secs,
                        keys: times.keys,
                        ..Default::default()
                    };
                    Ok(answer.encode_to_vec().into())
                }
                Ok(None) => Err(refused(404, &Error::LeaseNotFound)),
                Err(error) => Err(refused(500, &error)),
            }
        })
    }

    fn ask_hash_kv(&self, url: &str, _: ClusterId, revision: i64, _: Duration) -> Asked<HashKvAnswer> {
        let server = self.reach_url(url);
        Box::pin(async move {
            let at = mvcc::Revision::from_wire(revision);
            server?.hash_kv(at).await.map_err(|error| refused(400, &error))
        })
    }
}
