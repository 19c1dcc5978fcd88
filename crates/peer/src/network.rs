//! The network of a member, with everything it knows of the others.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, OnceLock};
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use membership::{ClusterId, Member, MemberId};
use parking_lot::{Mutex, RwLock};
use prometheus::Registry;
use raft::Message;
use server::{Asked, HashKvAnswer, Network, RemoteCluster, RemoteVersion, Server, SnapshotReader};
use tokio::runtime::{Builder, Handle};
use tokio::sync::watch;

use crate::config::PeerConfig;
use crate::dialer::Dialer;
use crate::headers::Identity;
use crate::listener::{self, BindError, Bound};
use crate::metrics::PeerMetrics;
use crate::peer::{Peer, Sent, Standing};
use crate::questions;
use crate::snapshot::{self, InFlight};

/// Members that have called without being known, and are answered. A further one takes another's place.
const REMOTES_MAX: usize = 64;

/// Senders that are no members, in metrics: were each one told by its id, they would grow without bound.
const UNKNOWN_LABEL: &str = "unknown";

/// What the tasks of the peer thread share.
pub struct Shared {
    pub config: PeerConfig,
    pub dialer: Dialer,
    pub metrics: PeerMetrics,
    pub runtime: Handle,
    /// Snapshots.
    pub sending: InFlight,
    pub receiving: InFlight,
    server: OnceLock<(Server, Identity)>,
    peers: RwLock<Peers>,
}

#[derive(Default)]
struct Peers {
    known: BTreeMap<MemberId, Arc<Peer>>,
    remotes: BTreeMap<MemberId, Arc<Peer>>,
}

/// Etcd's peer protocol, as [`server::Network`] and on the peer listeners.
pub struct PeerNetwork {
    shared: Arc<Shared>,
    bound: Mutex<Option<Vec<Bound>>>,
    stop: watch::Sender<bool>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl PeerNetwork {
    /// Binds the listeners and starts the peer thread. Nobody is served before [`PeerNetwork::serve`]; messages
    /// before that are dropped, and questions work already.
    ///
    /// # Errors
    /// The first listener or file that does not work.
    pub fn start(config: PeerConfig, registry: &Registry) -> Result<Arc<PeerNetwork>, BindError> {
        let bound = listener::bind(&config)?;
        let metrics = PeerMetrics::register(registry).map_err(|error| BindError::Start(error.to_string()))?;
        let started = |error: io::Error| BindError::Start(error.to_string());
        let runtime = Builder::new_current_thread().enable_all().build().map_err(started)?;
        let shared = Arc::new(Shared {
            dialer: Dialer::new(&config).map_err(BindError::Tls)?,
            config,
            metrics,
            runtime: runtime.handle().clone(),
            sending: InFlight::default(),
            receiving: InFlight::default(),
            server: OnceLock::new(),
            peers: RwLock::default(),
        });
        let (stop, mut stopping) = watch::channel(false);
        let thread = std::thread::Builder::new()
            .name("peer".to_owned())
            .spawn(move || {
                // An error means that nobody can say "stop" any more: the same.
                runtime.block_on(async { stopping.wait_for(|stop| *stop).await.map(drop) }).ok();
                // Tasks that block on a disk are not waited for.
                runtime.shutdown_background();
            })
            .map_err(started)?;
        Ok(Arc::new(PeerNetwork {
            shared,
            bound: Mutex::new(Some(bound)),
            stop,
            thread: Mutex::new(Some(thread)),
        }))
    }

    /// Serves the listeners for this member, and begins to talk to the others. Once.
    pub fn serve(&self, server: Server) -> io::Result<()> {
        let identity = Identity {
            member_id: server.member_id(),
            cluster_id: server.cluster_id(),
            advertise_urls: server.config().initial_advertise_peer_urls.clone(),
        };
        assert!(self.shared.server.set((server, identity)).is_ok(), "a network serves one member");
        if let Some(bound) = self.bound.lock().take() {
            listener::serve(&self.shared, bound)?;
        }
        for peer in self.shared.peers.read().known.values() {
            peer.start(&self.shared);
        }
        Ok(())
    }

    /// The addresses that are listened on, with the real ports where the URLs had 0.
    pub fn addresses(&self) -> Vec<String> {
        self.bound.lock().iter().flatten().map(Bound::address).collect()
    }

    /// Ends all connections and the thread.
    pub fn stop(&self) {
        for peer in self.shared.peers.write().take_all() {
            peer.stop();
        }
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the peer thread ended by a panic");
        }
    }
}

impl Peers {
    fn take_all(&mut self) -> Vec<Arc<Peer>> {
        let known = std::mem::take(&mut self.known).into_values();
        let remotes = std::mem::take(&mut self.remotes).into_values();
        known.chain(remotes).collect()
    }

    fn all(&self) -> impl Iterator<Item = &Arc<Peer>> {
        self.known.values().chain(self.remotes.values())
    }

    /// Whoever has not called for longest goes, and comes back with its next call.
    fn make_room_for_remote(&mut self) {
        if self.remotes.len() < REMOTES_MAX {
            return;
        }
        let silent = self.remotes.values().min_by_key(|remote| remote.called_at()).map(|remote| remote.id);
        if let Some(remote) = silent.and_then(|id| self.remotes.remove(&id)) {
            remote.stop();
        }
    }

    fn any(&self, id: MemberId) -> Option<&Arc<Peer>> {
        self.known.get(&id).or_else(|| self.remotes.get(&id))
    }
}

impl Shared {
    /// The member behind this network.
    ///
    /// # Panics
    /// Before [`PeerNetwork::serve`]; no task that asks runs before.
    pub fn server(&self) -> &Server {
        &self.server.get().expect("peers are started with the server").0
    }

    pub fn identity(&self) -> &Identity {
        &self.server.get().expect("peers are started with the server").1
    }

    /// As [`Shared::identity`], for questions that may come before.
    pub fn identity_if_known(&self) -> Option<&Identity> {
        self.server.get().map(|(_, identity)| identity)
    }

    pub fn known_peer(&self, id: MemberId) -> Option<Arc<Peer>> {
        self.peers.read().known.get(&id).cloned()
    }

    /// A member has called that is not known: it may be new, and this member behind.
    pub fn add_remote(self: &Arc<Shared>, id: MemberId, urls: Vec<String>) {
        if urls.is_empty() || id == self.identity().member_id {
            return;
        }
        let mut peers = self.peers.write();
        if peers.known.contains_key(&id) {
            return;
        }
        if let Some(remote) = peers.remotes.get(&id) {
            remote.note_call();
            return remote.set_urls(&urls);
        }
        peers.make_room_for_remote();
        tracing::info!(remote_peer_id = %id, ?urls, "added new remote peer");
        let remote = Arc::new(Peer::new(id, Standing::Remote, urls));
        remote.start(self);
        peers.remotes.insert(id, remote);
    }

    /// What metrics call a sender: an id is no more than the caller's word.
    pub fn label_of(&self, id: MemberId) -> String {
        if self.peers.read().known.contains_key(&id) { id.to_string() } else { UNKNOWN_LABEL.to_owned() }
    }

    /// A message was dropped or not delivered.
    pub fn report_unreachable(&self, id: MemberId) {
        if let Some((server, _)) = self.server.get() {
            server.report_unreachable(id);
        }
    }

    pub fn note_active(&self, peer: &Peer) {
        let (me, it) = (self.identity().member_id.to_string(), peer.id.to_string());
        self.metrics.active_peers.with_label_values(&[&me, &it]).set(1);
        tracing::info!(remote_peer_id = it, "peer became active");
    }

    pub fn note_inactive(&self, peer: &Peer) {
        let (me, it) = (self.identity().member_id.to_string(), peer.id.to_string());
        self.metrics.active_peers.with_label_values(&[&me, &it]).set(0);
        self.metrics.disconnected_peers.with_label_values(&[&me, &it]).inc();
        tracing::warn!(remote_peer_id = it, "peer became inactive (message send to peer failed)");
    }

    fn put(&self, message: Message) {
        let to = MemberId(message.to);
        let sent = match self.peers.read().any(to) {
            Some(peer) => peer.put(message),
            None => {
                tracing::debug!(remote_peer_id = %to, "ignored a message to an unknown member");
                return;
            }
        };
        if sent == Sent::Dropped {
            self.metrics.sent_failures.with_label_values(&[&to.to_string()]).inc();
            self.report_unreachable(to);
        }
    }

    /// Runs a question on the peer thread, where its connection lives.
    fn ask<T: Send + 'static>(
        self: &Arc<Shared>,
        limit: Duration,
        question: impl Future<Output = Result<T, server::AskError>> + Send + 'static,
    ) -> Asked<T> {
        // Whoever asks may be a thread without a runtime, so the clock starts over there.
        let asking = self.runtime.spawn(async move { tokio::time::timeout(limit, question).await });
        Box::pin(async move {
            match asking.await {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) => Err(server::AskError::Unreachable("no answer in time".to_owned())),
                Err(_) => Err(server::AskError::Unreachable("this member stops".to_owned())),
            }
        })
    }
}

/// The part of a URL that goes into `Host`.
pub fn authority(url: &str) -> String {
    let (scheme, address) = url.split_once("://").unwrap_or(("http", url));
    // A path is no host.
    if scheme.starts_with("unix") { "localhost".to_owned() } else { address.to_owned() }
}

impl Network for PeerNetwork {
    fn send(&self, messages: Vec<Message>) {
        if self.shared.server.get().is_none() {
            return;
        }
        for message in messages {
            self.shared.put(message);
        }
        self.shared.peers.read().all().for_each(|peer| peer.write_here());
    }

    fn has_room(&self, to: MemberId, bytes: u64) -> bool {
        self.shared.peers.read().any(to).is_none_or(|peer| peer.has_room(bytes))
    }

    fn send_snapshot(&self, message: Message, image: SnapshotReader) {
        let to = MemberId(message.to);
        let peer = self.shared.peers.read().any(to).cloned();
        let Some((server, _)) = self.shared.server.get() else { return };
        match peer {
            Some(peer) => snapshot::send(&self.shared, &peer, message, image),
            None => server.report_snapshot(to, raft::SnapshotStatus::Failed),
        }
    }

    fn set_peer(&self, id: MemberId, peer_urls: &[String]) {
        let shared = &self.shared;
        let mut peers = shared.peers.write();
        if let Some(peer) = peers.known.get(&id) {
            return peer.set_urls(peer_urls);
        }
        tracing::info!(remote_peer_id = %id, urls = ?peer_urls, "added remote peer");
        let peer = match peers.remotes.remove(&id) {
            Some(remote) => {
                remote.make_known();
                remote.set_urls(peer_urls);
                remote
            }
            None => Arc::new(Peer::new(id, Standing::Known, peer_urls.to_vec())),
        };
        if shared.server.get().is_some() {
            peer.start(shared);
        }
        peers.known.insert(id, peer);
    }

    fn remove_peer(&self, id: MemberId) {
        let removed = {
            let mut peers = self.shared.peers.write();
            peers.known.remove(&id).or_else(|| peers.remotes.remove(&id))
        };
        if let Some(peer) = removed {
            peer.stop();
            if self.shared.server.get().is_some() && peer.active_for().is_some() {
                let (me, it) = (self.shared.identity().member_id.to_string(), id.to_string());
                self.shared.metrics.active_peers.with_label_values(&[&me, &it]).set(0);
            }
            tracing::info!(remote_peer_id = %id, "removed remote peer");
        }
    }

    fn active_for(&self, id: MemberId) -> Option<Duration> {
        self.shared.peers.read().known.get(&id)?.active_for()
    }

    fn ask_members(&self, url: &str, limit: Duration) -> Asked<RemoteCluster> {
        self.shared.ask(limit, questions::members(self.shared.clone(), url.to_owned()))
    }

    fn ask_version(&self, url: &str, limit: Duration) -> Asked<RemoteVersion> {
        self.shared.ask(limit, questions::version(self.shared.clone(), url.to_owned()))
    }

    fn ask_downgrade_enabled(&self, url: &str, limit: Duration) -> Asked<bool> {
        self.shared.ask(limit, questions::downgrade_enabled(self.shared.clone(), url.to_owned()))
    }

    fn ask_promote(&self, url: &str, id: MemberId, limit: Duration) -> Asked<Vec<Member>> {
        self.shared.ask(limit, questions::promote(self.shared.clone(), url.to_owned(), id))
    }

    fn ask_renew(&self, url: &str, lease_id: i64, limit: Duration) -> Asked<i64> {
        self.shared.ask(limit, questions::renew(self.shared.clone(), url.to_owned(), lease_id))
    }

    fn ask_lease_times(&self, url: &str, request: Bytes, limit: Duration) -> Asked<Bytes> {
        self.shared.ask(limit, questions::lease_times(self.shared.clone(), url.to_owned(), request))
    }

    fn ask_hash_kv(
        &self,
        url: &str,
        cluster_id: ClusterId,
        revision: i64,
        limit: Duration,
    ) -> Asked<HashKvAnswer> {
        self.shared.ask(limit, questions::hash_kv(self.shared.clone(), url.to_owned(), cluster_id, revision))
    }
}
