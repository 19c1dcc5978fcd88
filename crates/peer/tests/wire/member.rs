//! A member with everything but a process of its own.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::MemDisk;
use membership::MemberId;
use peer::{PeerConfig, PeerNetwork};
use proto::etcdserverpb::PutRequest;
use server::{ClusterState, Config, Environment, Error, Member, Metrics, Server};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::{sleep, timeout};
use transport::{ListenUrl, Scheme};

/// A machine under load may take its time; nothing waits this long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// Waits for something that will be true, however long the machine takes.
pub async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} in time"));
}

/// As [`until`], for calls.
pub async fn eventually<T, F: Future<Output = Option<T>>>(what: &str, mut call: impl FnMut() -> F) -> T {
    let waiting = async {
        loop {
            if let Some(value) = call().await {
                return value;
            }
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{what} in time"))
}

/// A peer side that is bound, and no member yet.
pub struct Site {
    pub network: Arc<PeerNetwork>,
    pub metrics: Metrics,
    /// `127.0.0.1:port`
    pub address: String,
    pub url: String,
}

impl Site {
    pub fn plain() -> Site {
        Site::of(Scheme::Http, PeerConfig::default())
    }

    /// Listens on a free port of the loopback.
    pub fn of(scheme: Scheme, config: PeerConfig) -> Site {
        let metrics = Metrics::new();
        let listen = vec![ListenUrl { scheme, address: "127.0.0.1:0".to_owned() }];
        let network =
            PeerNetwork::start(PeerConfig { listen, ..config }, &metrics.registry).expect("it binds");
        let address = network.addresses().remove(0);
        let url = format!("{}://{address}", if scheme == Scheme::Https { "https" } else { "http" });
        Site { network, metrics, address, url }
    }

    /// Lets a member live here, in the cluster of these URLs. Names are positions.
    pub async fn settle(self, cluster: &[String], state: ClusterState) -> TestMember {
        self.settle_with(cluster, state, |_| {}).await
    }

    pub async fn settle_with(
        self,
        cluster: &[String],
        state: ClusterState,
        change: impl FnOnce(&mut Config),
    ) -> TestMember {
        let own = cluster.iter().position(|url| *url == self.url).expect("the cluster knows this URL");
        let mut config = Config::single(&format!("m{own}"), PathBuf::from("/data"));
        config.initial_advertise_peer_urls = vec![self.url.clone()];
        config.initial_cluster =
            cluster.iter().enumerate().map(|(n, url)| (format!("m{n}"), url.clone())).collect();
        config.initial_cluster_state = state;
        config.heartbeat_interval = Duration::from_millis(20);
        config.election_timeout = Duration::from_millis(400);
        change(&mut config);
        let environment = Environment {
            disk: Arc::new(MemDisk::new()),
            network: self.network.clone(),
            metrics: self.metrics,
            ..Environment::default()
        };
        let runtime = Handle::current();
        let starting = tokio::task::spawn_blocking(move || Member::start(config, environment, &runtime));
        let member = starting.await.expect("no panic").expect("it starts");
        self.network.serve(member.server.clone()).expect("it serves");
        TestMember { member: Some(member), network: self.network, address: self.address, url: self.url }
    }
}

pub struct TestMember {
    member: Option<Member>,
    pub network: Arc<PeerNetwork>,
    pub address: String,
    pub url: String,
}

impl TestMember {
    /// The only one of its cluster.
    pub async fn alone() -> TestMember {
        let site = Site::plain();
        let cluster = [site.url.clone()];
        let member = site.settle(&cluster, ClusterState::New).await;
        member.ready().await;
        member
    }

    /// One of two, of which the other is at `other`.
    pub async fn beside(other: &str) -> TestMember {
        TestMember::beside_with(other, PeerConfig::default()).await
    }

    pub async fn beside_with(other: &str, config: PeerConfig) -> TestMember {
        let site = Site::of(Scheme::Http, config);
        let cluster = [site.url.clone(), other.to_owned()];
        site.settle(&cluster, ClusterState::New).await
    }

    pub fn server(&self) -> &Server {
        &self.member.as_ref().expect("it runs").server
    }

    pub fn id(&self) -> MemberId {
        self.server().member_id()
    }

    /// The other one of a cluster of two, once this one knows that it is in it.
    pub async fn other_id(&self) -> MemberId {
        eventually("the cluster is known", || async {
            let cluster = self.server().cluster();
            cluster.members().map(|member| member.id).find(|id| *id != self.id())
        })
        .await
    }

    pub async fn ready(&self) {
        let member = self.member.as_ref().expect("it runs");
        timeout(PATIENCE, member.ready()).await.expect("ready in time");
    }

    /// What the registry says of a counter or gauge, all labels together.
    pub fn metric(&self, name: &str) -> f64 {
        let families = self.server().metrics().registry.gather();
        let family = families.iter().find(|family| family.name() == name);
        let values = family.into_iter().flat_map(|family| family.get_metric());
        values.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
    }
}

impl Drop for TestMember {
    fn drop(&mut self) {
        if let Some(member) = self.member.take() {
            let network = self.network.clone();
            // Both wait for threads, which a runtime's own thread may not.
            let stopping = std::thread::spawn(move || {
                member.stop();
                network.stop();
            });
            let stopped = stopping.join();
            assert!(stopped.is_ok() || std::thread::panicking(), "the member stops without a panic");
        }
    }
}

pub async fn put(server: &Server, key: &str, value: &[u8]) {
    let request = PutRequest {
        key: key.to_owned().into(),
        value: Bytes::copy_from_slice(value),
        ..PutRequest::default()
    };
    eventually("a put", || {
        let request = request.clone();
        async move {
            match server.put(request).await {
                Ok(_) => Some(()),
                // A machine that is too slow for heartbeats has elections all the time.
                Err(
                    Error::NoLeader
                    | Error::LeaderChanged
                    | Error::Timeout
                    | Error::TimeoutLeaderFailure
                    | Error::TimeoutConnectionLost,
                ) => None,
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await;
}
