//! The wires: messages take their time, get lost, come twice or out of order, and ways are cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use membership::{ClusterId, Member, MemberId, Version};
use parking_lot::Mutex;
use prost::Message as _;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use raft::{Message, MessageType, SnapshotStatus};
use server::{
    AskError, Asked, Clock, ConnectionLoss, Error, HashKvAnswer, LeaseKeys, Network, RemoteCluster,
    RemoteVersion, Server, SnapshotReader,
};

use crate::rng::Rng;

/// A message is under way for so long, and seldom for longer.
const DELAY_MICROS_MAX: usize = 3_000;
const LONG_DELAY_MICROS_MAX: usize = 300_000;

#[derive(Clone)]
pub struct Wires {
    pub state: Arc<Mutex<State>>,
}

pub struct State {
    rng: Rng,
    clock: Clock,
    servers: BTreeMap<MemberId, Server>,
    urls: BTreeMap<String, MemberId>,
    /// From, to.
    cut: BTreeSet<(MemberId, MemberId)>,
    flying: Vec<Flying>,
    /// Messages of a thousand that are lost, and that come twice.
    pub loss: u64,
    pub doubles: u64,
    pub delivered: u64,
}

struct Flying {
    due: Duration,
    from: MemberId,
    to: MemberId,
    load: Load,
}

#[derive(Clone)]
enum Load {
    Message(Message),
    Snapshot(Message, Bytes),
    Lost(ConnectionLoss),
}

impl Wires {
    pub fn new(rng: Rng, clock: Clock) -> Wires {
        let state = State {
            rng,
            clock,
            servers: BTreeMap::new(),
            urls: BTreeMap::new(),
            cut: BTreeSet::new(),
            flying: Vec::new(),
            loss: 0,
            doubles: 0,
            delivered: 0,
        };
        Wires { state: Arc::new(Mutex::new(state)) }
    }

    pub fn join(&self, url: &str, server: &Server) {
        let mut state = self.state.lock();
        state.urls.insert(url.to_owned(), server.member_id());
        state.servers.insert(server.member_id(), server.clone());
    }

    /// Its process is gone. The others notice by their connections, if they have any.
    pub fn leave(&self, id: MemberId) {
        let mut state = self.state.lock();
        state.servers.remove(&id);
        let others: Vec<MemberId> = state.servers.keys().copied().collect();
        for other in others {
            if !state.cut.contains(&(id, other)) {
                let due = state.delay();
                let load = Load::Lost(ConnectionLoss::Refused);
                state.flying.push(Flying { due, from: id, to: other, load });
            }
        }
    }

    /// Nothing is connected or under way any more.
    pub fn take_down(&self) {
        let mut state = self.state.lock();
        let servers = std::mem::take(&mut state.servers);
        state.flying.clear();
        drop(state);
        drop(servers);
    }

    /// The members whose processes run.
    pub fn servers(&self) -> Vec<Server> {
        self.state.lock().servers.values().cloned().collect()
    }

    /// One of them, whichever.
    pub fn any_server(&self) -> Option<Server> {
        let running = self.servers();
        self.state.lock().rng.pick(&running).cloned()
    }

    pub fn cut(&self, from: MemberId, to: MemberId) {
        self.state.lock().cut.insert((from, to));
    }

    pub fn heal(&self) {
        self.state.lock().cut.clear();
    }

    /// A word about a broken connection that need not be true.
    pub fn hint(&self, about: MemberId, to: MemberId) {
        let mut state = self.state.lock();
        let due = state.delay();
        state.flying.push(Flying { due, from: about, to, load: Load::Lost(ConnectionLoss::Refused) });
    }

    /// Delivers one of the messages that are due, if any is.
    pub fn deliver_one(&self) -> bool {
        let (flying, server) = {
            let mut state = self.state.lock();
            let now = state.clock.elapsed();
            let due: Vec<usize> = (0..state.flying.len()).filter(|&at| state.flying[at].due <= now).collect();
            let Some(&at) = state.rng.pick(&due) else { return false };
            let flying = state.flying.swap_remove(at);
            let is_cut = state.cut.contains(&(flying.from, flying.to));
            let server = if is_cut { None } else { state.servers.get(&flying.to).cloned() };
            state.delivered += 1;
            (flying, server)
        };
        self.arrive(flying, server);
        true
    }

    fn arrive(&self, flying: Flying, server: Option<Server>) {
        let Flying { from, to, load, .. } = flying;
        let sender = self.state.lock().servers.get(&from).cloned();
        match (load, server) {
            (Load::Message(message), Some(server)) => drop(server.receive(message)),
            (Load::Message(_), None) => {
                if let Some(sender) = sender {
                    sender.report_unreachable(to);
                }
            }
            (Load::Lost(loss), Some(server)) => server.connection_lost(from, loss),
            (Load::Lost(_), None) => {}
            (Load::Snapshot(message, file), server) => {
                let taken = server.is_some_and(|server| take_snapshot(&server, message, &file));
                let status = if taken { SnapshotStatus::Finished } else { SnapshotStatus::Failed };
                if let Some(sender) = sender {
                    sender.report_snapshot(to, status);
                }
            }
        }
    }

    pub fn end_of(&self, url: &str) -> WireEnd {
        WireEnd { wires: self.clone(), own_url: url.to_owned() }
    }
}

fn take_snapshot(server: &Server, message: Message, file: &[u8]) -> bool {
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index().0);
    let written = server.receive_snapshot(index).and_then(|mut writer| {
        for piece in file.chunks(64 << 10) {
            writer.write(piece)?;
        }
        writer.finish()
    });
    written.is_ok() && server.receive(message).is_ok()
}

impl State {
    fn delay(&mut self) -> Duration {
        let limit = if self.rng.chance(5) { LONG_DELAY_MICROS_MAX } else { DELAY_MICROS_MAX };
        self.clock.elapsed() + Duration::from_micros(self.rng.below(limit) as u64)
    }

    fn launch(&mut self, from: MemberId, load: &Load, to: MemberId) {
        if self.cut.contains(&(from, to)) || self.rng.chance(self.loss) {
            return;
        }
        // A proposal that came twice would rightly be carried out twice, which is why none is ever sent again.
        let is_proposal = matches!(load, Load::Message(message) if message.kind == MessageType::Prop);
        let count = 1 + usize::from(!is_proposal && self.rng.chance(self.doubles));
        for _ in 0..count {
            let due = self.delay();
            self.flying.push(Flying { due, from, to, load: load.clone() });
        }
    }
}

/// One member's network.
pub struct WireEnd {
    wires: Wires,
    own_url: String,
}

impl WireEnd {
    fn own_id(&self) -> Option<MemberId> {
        self.wires.state.lock().urls.get(&self.own_url).copied()
    }

    /// The member behind a URL, when both ways are open.
    fn reach_url(&self, url: &str) -> Result<Server, AskError> {
        let state = self.wires.state.lock();
        let unreachable = || AskError::Unreachable(url.to_owned());
        let to = *state.urls.get(url).ok_or_else(unreachable)?;
        if let Some(&from) = state.urls.get(&self.own_url)
            && (state.cut.contains(&(from, to)) || state.cut.contains(&(to, from)))
        {
            return Err(unreachable());
        }
        state.servers.get(&to).cloned().ok_or_else(unreachable)
    }
}

fn refused(status: u16, error: &Error) -> AskError {
    AskError::Refused { status, text: error.to_string() }
}

impl Network for WireEnd {
    fn send(&self, messages: Vec<Message>) {
        let mut state = self.wires.state.lock();
        for message in messages {
            assert!(message.kind != MessageType::Snap, "a snapshot without its file");
            let (from, to) = (MemberId(message.from), MemberId(message.to));
            // What is forwarded bears another's name, and leaves from here all the same.
            let from = state.urls.get(&self.own_url).copied().unwrap_or(from);
            state.launch(from, &Load::Message(message), to);
        }
    }

    fn send_snapshot(&self, message: Message, mut image: SnapshotReader) {
        let mut file = Vec::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match image.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(len) => file.extend_from_slice(&buffer[..len]),
            }
        }
        let (Some(from), to) = (self.own_id(), MemberId(message.to)) else { return };
        let mut state = self.wires.state.lock();
        let due = state.delay();
        let load = Load::Snapshot(message, file.into());
        state.flying.push(Flying { due, from, to, load });
    }

    fn set_peer(&self, _: MemberId, _: &[String]) {}

    fn remove_peer(&self, _: MemberId) {}

    /// As if members had been connected for long, so that changes need not wait.
    fn active_for(&self, id: MemberId) -> Option<Duration> {
        let state = self.wires.state.lock();
        let own = state.urls.get(&self.own_url)?;
        let is_open = state.servers.contains_key(&id) && !state.cut.contains(&(id, *own));
        is_open.then_some(Duration::from_secs(60))
    }

    fn ask_members(&self, url: &str, _: Duration) -> Asked<RemoteCluster> {
        let answer = self.reach_url(url).map(|server| RemoteCluster {
            cluster_id: server.cluster_id(),
            members: server.cluster().members().cloned().collect(),
        });
        Box::pin(std::future::ready(answer))
    }

    fn ask_version(&self, url: &str, _: Duration) -> Asked<RemoteVersion> {
        let answer = self
            .reach_url(url)
            .map(|server| RemoteVersion { server: Version::new(3, 7), cluster: server.cluster().version() });
        Box::pin(std::future::ready(answer))
    }

    fn ask_downgrade_enabled(&self, _: &str, _: Duration) -> Asked<bool> {
        Box::pin(std::future::ready(Ok(false)))
    }

    fn ask_promote(&self, url: &str, id: MemberId, _: Duration) -> Asked<Vec<Member>> {
        let server = self.reach_url(url);
        Box::pin(async move {
            server?.promote_here(id).await.map_err(|error| match error {
                Error::MemberNotFound => refused(404, &error),
                Error::MemberNotLearner | Error::LearnerNotReady => refused(412, &error),
                _ => refused(500, &error),
            })
        })
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
            let request = LeaseTimeToLiveRequest::decode(request)
                .map_err(|error| AskError::Malformed(error.to_string()))?;
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

    fn ask_hash_kv(&self, url: &str, _: ClusterId, _: i64, _: Duration) -> Asked<HashKvAnswer> {
        // Members are compared by the checker itself.
        Box::pin(std::future::ready(Err(AskError::Unreachable(url.to_owned()))))
    }
}
