//! The way in: bind first, with errors that name the URL or the file; serve when the member is ready.

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use server::Server;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_rustls::TlsAcceptor;
use transport::tls::TlsError;
use transport::{BoundSocket, Connects, ListenUrl, Security, listen};

use crate::config::{ApiConfig, Listener, Serves};
use crate::connection::{self, HttpService, Shared, stopped};
use crate::grpc::Router;
use crate::grpc::metrics::GrpcMetrics;
use crate::http::Routes;
use crate::service::Services;

/// Between two tries to accept, when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Bound sockets that nobody is served on yet. Clients may connect; they wait.
pub struct Edge {
    pub(crate) config: ApiConfig,
    bound: Vec<Bound>,
    tls: Option<TlsAcceptor>,
}

struct Bound {
    socket: BoundSocket,
    serves: Serves,
    plain: bool,
    tls: bool,
}

/// A socket as it was bound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundAddress {
    /// With the real port, where the URL had 0. A path for unix sockets.
    pub address: String,
    pub serves: Serves,
}

impl Edge {
    /// Binds every listener and reads every TLS file. Takes no runtime.
    ///
    /// # Errors
    /// The first that does not work.
    pub fn bind(config: ApiConfig) -> Result<Edge, BindError> {
        let mut groups: Vec<(Listener, bool, bool)> = Vec::new();
        for listener in &config.listeners {
            let tls = listener.url.scheme.is_tls();
            if tls && !config.tls.has_certificate() {
                return Err(match listener.serves {
                    Serves::Metrics => BindError::MetricsCertificateMissing(listener.url.clone()),
                    Serves::GrpcAndHttp | Serves::GrpcOnly | Serves::HttpOnly => {
                        BindError::CertificateMissing(listener.url.clone())
                    }
                });
            }
            // `http://a:1` and `https://a:1` share a socket: the first byte tells them apart.
            let same = |(other, ..): &&mut (Listener, bool, bool)| {
                other.url.address == listener.url.address
                    && other.url.scheme.is_unix() == listener.url.scheme.is_unix()
                    && other.serves == listener.serves
                    && !has_port_zero(&listener.url)
            };
            match groups.iter_mut().find(same) {
                Some((_, plain, secure)) => {
                    *plain |= !tls;
                    *secure |= tls;
                }
                None => groups.push((listener.clone(), !tls, tls)),
            }
        }
        let hosts: Vec<String> = groups
            .iter()
            .filter(|(listener, _, tls)| *tls && !listener.url.scheme.is_unix())
            .map(|(listener, ..)| listener.url.address.clone())
            .collect();
        let tls = match groups.iter().any(|(.., tls)| *tls) {
            true => Some(TlsAcceptor::from(config.tls.server_config(&hosts).map_err(BindError::Tls)?)),
            false => None,
        };
        let mut bound = Vec::new();
        for (listener, plain, tls) in groups {
            // Compat: while etcd reads its data, clients and members wait, but who asks for metrics or health is
            // refused, so that a probe fails at once instead of waiting for its timeout.
            let connects = match listener.serves {
                Serves::Metrics => Connects::WhenServed,
                Serves::GrpcAndHttp | Serves::GrpcOnly | Serves::HttpOnly => Connects::AtOnce,
            };
            let socket = listen::bind(&listener.url, config.socket, connects)
                .map_err(|source| BindError::Listen { url: listener.url.clone(), source })?;
            bound.push(Bound { socket, serves: listener.serves, plain, tls });
        }
        Ok(Edge { config, bound, tls })
    }

    /// The sockets, in the order of the listeners.
    pub fn addresses(&self) -> Vec<BoundAddress> {
        self.bound
            .iter()
            .map(|bound| BoundAddress { address: bound.socket.local_address(), serves: bound.serves })
            .collect()
    }

    /// Serves `server` from the moment `ready` resolves (metrics listeners at once), until `shutdown` resolves
    /// and the calls under way are done, which is waited for as long as a request may take. Streams are
    /// ended by us.
    ///
    /// # Errors
    /// A listener cannot be used, or a metric is registered twice.
    pub async fn serve(
        self,
        server: Server,
        ready: impl Future<Output = ()>,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> io::Result<()> {
        let registry = server.metrics().registry.clone();
        let metrics = GrpcMetrics::register(&registry, self.config.metrics).map_err(io::Error::other)?;
        let metrics = Arc::new(metrics);
        let (stop, stopping) = watch::channel(false);
        tokio::spawn(async move {
            shutdown.await;
            stop.send_replace(true);
        });
        let http = Routes::new(&self.config, server.clone(), &registry).map_err(io::Error::other)?;
        let mut router = Router::new(
            Arc::clone(&metrics),
            self.config.receive_limit_bytes(),
            self.config.warning_unary_request_duration,
        );
        Services::new(&self.config, server, metrics, stopping.clone()).register(&mut router);
        self.serve_with(Arc::new(router), Arc::new(http), ready, stopping).await
    }

    /// Accepts clients until `stop` turns true, then waits until their calls are done, `patience` at most.
    pub(crate) async fn serve_with(
        self,
        router: Arc<Router>,
        http: Arc<dyn HttpService>,
        ready: impl Future<Output = ()>,
        stop: watch::Receiver<bool>,
    ) -> io::Result<()> {
        let patience = self.config.request_timeout;
        // Every connection holds a sender: the receiver ends when the last is gone.
        let (alive, mut all_gone) = mpsc::channel::<()>(1);
        let (at_once, when_ready): (Vec<_>, Vec<_>) =
            self.bound.into_iter().partition(|bound| bound.serves == Serves::Metrics);

        let spawn = |bound: Bound| -> io::Result<()> {
            let security = match (&self.tls, bound.plain, bound.tls) {
                (Some(tls), true, true) => Security::Either(tls.clone()),
                (Some(tls), false, _) => Security::Tls(tls.clone()),
                (None, ..) | (Some(_), true, false) => Security::Plain,
            };
            let address = bound.socket.local_address();
            let shared = Arc::new(Shared {
                router: Arc::clone(&router),
                http: Arc::clone(&http),
                serves: bound.serves,
                security,
                keepalive: self.config.keepalive,
                max_concurrent_streams: self.config.max_concurrent_streams,
            });
            log_serving(&shared, &address);
            let acceptor = bound.socket.into_acceptor()?;
            tokio::spawn(accept(acceptor, shared, stop.clone(), alive.clone()));
            Ok(())
        };
        for bound in at_once {
            spawn(bound)?;
        }
        tokio::select! {
            () = ready => {
                tracing::info!("ready to serve client requests");
                for bound in when_ready {
                    spawn(bound)?;
                }
            }
            () = stopped(stop.clone()) => {}
        }
        drop(alive);
        stopped(stop).await;
        if tokio::time::timeout(patience, all_gone.recv()).await.is_err() {
            tracing::warn!("some client connections did not end in time");
        }
        Ok(())
    }
}

fn has_port_zero(url: &ListenUrl) -> bool {
    !url.scheme.is_unix() && url.address.ends_with(":0")
}

fn log_serving(shared: &Shared, address: &str) {
    let traffic = match shared.serves {
        Serves::GrpcAndHttp => "grpc+http",
        Serves::GrpcOnly => "grpc",
        Serves::HttpOnly => "http",
        Serves::Metrics => {
            tracing::info!(address, "serving metrics");
            return;
        }
    };
    if shared.security.has_plain() {
        tracing::info!(traffic, address, "serving client traffic insecurely; this is strongly discouraged!");
    }
    if shared.security.has_tls() {
        tracing::info!(traffic, address, "serving client traffic securely");
    }
}

async fn accept(
    acceptor: listen::Acceptor,
    shared: Arc<Shared>,
    stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
) {
    // Full: further clients wait in the kernel's queue, as with etcd's limited listener.
    let slots = Arc::new(Semaphore::new(listen::connection_limit()));
    let accepting = async {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let (stream, remote) = match acceptor.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "failed to accept a client connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (shared, stop, alive) = (Arc::clone(&shared), stop.clone(), alive.clone());
            tokio::spawn(async move {
                connection::serve(shared, stream, remote, stop).await;
                drop((slot, alive));
            });
        }
    };
    tokio::select! {
        () = accepting => {}
        () = stopped(stop.clone()) => {}
    }
}

/// Why the member cannot listen.
#[derive(Debug)]
pub enum BindError {
    Listen { url: ListenUrl, source: io::Error },
    CertificateMissing(ListenUrl),
    MetricsCertificateMissing(ListenUrl),
    Tls(TlsError),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Listen { url, source } => write!(f, "listen on {url}: {source}"),
            BindError::CertificateMissing(url) => write!(
                f,
                "TLS key/cert (--cert-file, --key-file) must be provided for client url {url} with HTTPS scheme"
            ),
            BindError::MetricsCertificateMissing(url) => write!(
                f,
                "client TLS key/cert (--cert-file, --key-file) must be provided for metrics secure url {url}"
            ),
            BindError::Tls(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for BindError {}
