//! The connections of a client: one for each endpoint, kept up in the background.
//!
//! Each endpoint has a task that dials, publishes the connection, waits for its end and dials again,
//! with growing pauses after failures. Calls take the next ready connection in turn; when none is
//! ready they wait, as etcd's clients do, until their own deadline.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use http::uri::{Authority, Scheme};
use hyper::client::conn::http2::SendRequest;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic::body::Body;

use crate::connect::Connector;
use crate::endpoint::Endpoint;

/// Pauses between attempts on a dead endpoint grow from the first to the second by half each time.
/// Shorter than gRPC's (1 s to 120 s): members restart in well under a second, and one attempt on a
/// closed port costs nothing.
const RETRY_PAUSE_MIN: Duration = Duration::from_millis(100);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a peer may take to greet. Source: gRPC's bound on one attempt.
const GREETING_TIMEOUT: Duration = Duration::from_secs(20);

pub(crate) struct Pool {
    nodes: Vec<(Endpoint, Connector)>,
    shared: Arc<Shared>,
    next: AtomicUsize,
    /// Started with the first call, since only that surely runs within a runtime.
    tasks: OnceLock<Vec<JoinHandle<()>>>,
}

struct Shared {
    ready: ArcSwap<Vec<Connection>>,
    changed: watch::Sender<()>,
    last_error: Mutex<Option<String>>,
}

/// A connection that takes requests.
#[derive(Clone)]
pub(crate) struct Connection {
    node: usize,
    pub sender: SendRequest<Body>,
    pub scheme: Scheme,
    pub authority: Authority,
}

impl Pool {
    pub fn new(nodes: Vec<(Endpoint, Connector)>) -> Pool {
        let shared = Shared {
            ready: ArcSwap::default(),
            changed: watch::Sender::new(()),
            last_error: Mutex::new(None),
        };
        Pool { nodes, shared: Arc::new(shared), next: AtomicUsize::new(0), tasks: OnceLock::new() }
    }

    /// The next ready connection; waits for one as long as it takes.
    pub async fn pick(&self) -> Connection {
        if let Some(connection) = self.try_pick() {
            return connection;
        }
        self.tasks.get_or_init(|| self.start());
        let mut changed = self.shared.changed.subscribe();
        loop {
            if let Some(connection) = self.try_pick() {
                return connection;
            }
            if changed.changed().await.is_err() {
                // The sender lives in `self`: never closed. Wait for the caller's deadline.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What went wrong last with any endpoint.
    pub fn last_error(&self) -> Option<String> {
        self.shared.last_error.lock().clone()
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    fn try_pick(&self) -> Option<Connection> {
        let ready = self.shared.ready.load();
        let count = ready.len();
        let start = if count > 1 { self.next.fetch_add(1, Ordering::Relaxed) } else { 0 };
        (0..count).map(|i| &ready[(start.wrapping_add(i)) % count]).find(|c| !c.sender.is_closed()).cloned()
    }

    fn start(&self) -> Vec<JoinHandle<()>> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(node, (endpoint, connector))| {
                let (endpoint, connector) = (endpoint.clone(), connector.clone());
                tokio::spawn(keep_connected(node, endpoint, connector, self.shared.clone()))
            })
            .collect()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        for task in self.tasks.get().into_iter().flatten() {
            task.abort();
        }
    }
}

async fn keep_connected(node: usize, endpoint: Endpoint, connector: Connector, shared: Arc<Shared>) {
    let scheme = if connector.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
    let authority =
        Authority::try_from(endpoint.authority()).unwrap_or_else(|_| Authority::from_static("localhost"));
    let mut pause = RETRY_PAUSE_MIN;
    loop {
        match connector.connect(&endpoint).await {
            Ok((sender, mut connection, greeted)) => {
                let trouble = tokio::select! {
                    greeting = greeted => greeting.err().map(|_| "unexpected bytes".to_owned()),
                    ended = &mut connection => Some(ended.map_or_else(|error| cause(&error), |()| "EOF".into())),
                    () = tokio::time::sleep(GREETING_TIMEOUT) => Some("i/o timeout".into()),
                };
                let Some(trouble) = trouble else {
                    pause = RETRY_PAUSE_MIN;
                    let (scheme, authority) = (scheme.clone(), authority.clone());
                    shared.publish(Connection { node, sender, scheme, authority });
                    // Its end is the news; requests in flight get their own errors.
                    let _ended = connection.await;
                    shared.withdraw(node);
                    continue;
                };
                shared.fail(format!("connection error: desc = \"error reading server preface: {trouble}\""));
            }
            Err(error) => shared.fail(error),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 3 / 2).min(RETRY_PAUSE_MAX);
    }
}

/// The innermost reason: the outer ones only say "connection error".
fn cause(error: &hyper::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

impl Shared {
    fn publish(&self, connection: Connection) {
        self.ready.rcu(|ready| {
            let mut next = Vec::clone(ready);
            next.push(connection.clone());
            next
        });
        self.changed.send_replace(());
    }

    fn withdraw(&self, node: usize) {
        self.ready.rcu(|ready| ready.iter().filter(|c| c.node != node).cloned().collect::<Vec<_>>());
        self.changed.send_replace(());
    }

    fn fail(&self, error: String) {
        *self.last_error.lock() = Some(error);
    }
}
