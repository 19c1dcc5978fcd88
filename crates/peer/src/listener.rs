//! Other members call here.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use transport::tls::TlsError;
use transport::{Acceptor, BoundSocket, ListenUrl, Rejected, Secured, Security, listen};

use crate::config::PeerConfig;
use crate::network::Shared;
use crate::{routes, san};

/// Between two tries to accept, when the process is out of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Compat: etcd's `ReadTimeout` of peer listeners.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A socket that nobody is served on yet.
pub struct Bound {
    socket: BoundSocket,
    tls: Option<TlsAcceptor>,
}

impl Bound {
    pub fn address(&self) -> String {
        self.socket.local_address()
    }
}

/// Why the member cannot listen for others, or not speak to them.
#[derive(Debug)]
pub enum BindError {
    Listen { url: ListenUrl, source: io::Error },
    CertificateMissing(ListenUrl),
    Tls(TlsError),
    Start(String),
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BindError::Listen { url, source } => write!(f, "listen on {url}: {source}"),
            BindError::CertificateMissing(url) => {
                write!(f, "cannot listen on TLS for {}: KeyFile and CertFile are not presented", url.address)
            }
            BindError::Tls(error) => error.fmt(f),
            BindError::Start(why) => write!(f, "start the peer side: {why}"),
        }
    }
}

impl std::error::Error for BindError {}

pub fn bind(config: &PeerConfig) -> Result<Vec<Bound>, BindError> {
    let secure: Vec<&ListenUrl> = config.listen.iter().filter(|url| url.scheme.is_tls()).collect();
    if let Some(url) = secure.first()
        && !config.tls.has_certificate()
    {
        return Err(BindError::CertificateMissing((*url).clone()));
    }
    let tls = match secure.is_empty() {
        true => None,
        false => {
            let hosts: Vec<String> =
                secure.iter().filter(|url| !url.scheme.is_unix()).map(|url| url.address.clone()).collect();
            let mut tls = (*config.tls.server_config(&hosts).map_err(BindError::Tls)?).clone();
            // Streams are HTTP/1.1, and the rest is small.
            tls.alpn_protocols = vec![b"http/1.1".to_vec()];
            Some(TlsAcceptor::from(Arc::new(tls)))
        }
    };
    let bind_one = |url: &ListenUrl| {
        let socket = listen::bind(url, config.socket)
            .map_err(|source| BindError::Listen { url: url.clone(), source })?;
        let tls = url.scheme.is_tls().then(|| tls.clone()).flatten();
        Ok(Bound { socket, tls })
    };
    config.listen.iter().map(bind_one).collect()
}

pub fn serve(shared: &Arc<Shared>, bound: Vec<Bound>) -> io::Result<()> {
    let _on_peer_thread = shared.runtime.enter();
    for Bound { socket, tls } in bound {
        tracing::info!(address = socket.local_address(), "serving peer traffic");
        let security = match tls {
            Some(tls) => Security::Tls(tls),
            None => Security::Plain,
        };
        let acceptor = socket.into_acceptor()?;
        shared.runtime.spawn(accept(shared.clone(), acceptor, Arc::new(security)));
    }
    Ok(())
}

async fn accept(shared: Arc<Shared>, acceptor: Acceptor, security: Arc<Security>) {
    // Full: further callers wait in the kernel's queue.
    let slots = Arc::new(Semaphore::new(listen::connection_limit()));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let (stream, remote) = match acceptor.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "failed to accept a connection of another member");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (shared, security) = (shared.clone(), security.clone());
        tokio::spawn(async move {
            let rejected = match security.secure(stream).await {
                Ok(Secured::Plain(stream)) => return serve_http(shared, stream, slot).await,
                Ok(Secured::Tls(stream)) => match san::check(&shared.config, &stream, &remote).await {
                    Ok(()) => return serve_http(shared, *stream, slot).await,
                    Err(error) => Rejected::Handshake { server_name: String::new(), error },
                },
                Err(rejected) => rejected,
            };
            if let Rejected::Handshake { server_name, error } = rejected {
                tracing::warn!(
                    "remote-addr" = remote,
                    "server-name" = server_name,
                    error,
                    "rejected connection on peer endpoint"
                );
            }
        });
    }
}

async fn serve_http<S>(shared: Arc<Shared>, stream: S, slot: tokio::sync::OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request| {
        let shared = shared.clone();
        async move { Ok::<_, Infallible>(routes::respond(&shared, request).await) }
    });
    let mut builder = hyper::server::conn::http1::Builder::new();
    // Names as Go spells them; and whoever shuts its sending side down may still read.
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT).title_case_headers(true);
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        tracing::debug!(%error, "a connection of another member ended");
    }
    drop(slot);
}
