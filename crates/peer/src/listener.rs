//! Other members call here.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use transport::tls::TlsError;
use transport::tls::names::Names;
use transport::{Acceptor, BoundSocket, Connects, ListenUrl, Rejected, Secured, Security, listen};

use crate::config::PeerConfig;
use crate::network::Shared;
use crate::{routes, san, stream};

/// As it is negotiated in the handshake.
const HTTP_2: &[u8] = b"h2";

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
            // In our order: members speak HTTP/1.1, and only who knows nothing else gets HTTP/2.
            tls.alpn_protocols = vec![b"http/1.1".to_vec(), HTTP_2.to_vec()];
            Some(TlsAcceptor::from(Arc::new(tls)))
        }
    };
    let bind_one = |url: &ListenUrl| {
        let socket = listen::bind(url, config.socket, Connects::AtOnce)
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
            match security.secure(stream).await {
                Ok(Secured::Plain(stream)) => serve_http(shared, stream, Version::Http1, slot).await,
                Ok(Secured::Tls(stream)) => {
                    let names = san::names(&stream);
                    match san::check(&shared.config, names.as_ref(), &remote).await {
                        Ok(()) => {
                            let version = Version::negotiated(&stream);
                            serve_http(shared, *stream, version, slot).await;
                        }
                        Err(error) => {
                            let server_name = stream.get_ref().1.server_name().unwrap_or_default();
                            log_rejected(&remote, server_name, names.as_ref(), &error);
                        }
                    }
                }
                Err(Rejected::Handshake { server_name, error }) => {
                    log_rejected(&remote, &server_name, None, &error);
                }
                Err(Rejected::Silent) => {}
            }
        });
    }
}

/// Source: etcd `server/embed/config_logging.go`.
fn log_rejected(remote: &str, server_name: &str, names: Option<&Names>, error: &str) {
    match names {
        // Load balancers look in like this all the time.
        None if error == "EOF" => tracing::debug!(
            "remote-addr" = remote,
            "server-name" = server_name,
            error,
            "rejected connection on peer endpoint"
        ),
        None => tracing::warn!(
            "remote-addr" = remote,
            "server-name" = server_name,
            error,
            "rejected connection on peer endpoint"
        ),
        Some(names) => tracing::warn!(
            "remote-addr" = remote,
            "server-name" = server_name,
            "ip-addresses" = ?names.addresses,
            "dns-names" = ?names.dns,
            error,
            "rejected connection on peer endpoint"
        ),
    }
}

/// What to speak on a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    fn negotiated<S>(stream: &TlsStream<S>) -> Version {
        match stream.get_ref().1.alpn_protocol() {
            Some(HTTP_2) => Version::Http2,
            _ => Version::Http1,
        }
    }
}

async fn serve_http<S>(shared: Arc<Shared>, stream: S, version: Version, slot: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (taking, mut taken) = oneshot::channel();
    // For the first request only: before a later one, an answer may not have left yet.
    let takeover = Mutex::new((version == Version::Http1).then_some(taking));
    let responding = shared.clone();
    let service = service_fn(move |request| {
        let (shared, takeover) = (responding.clone(), takeover.lock().take());
        async move { Ok::<_, Infallible>(routes::respond(&shared, request, takeover).await) }
    });
    let stream = TokioIo::new(stream);
    let served = match version {
        Version::Http1 => {
            let mut builder = hyper::server::conn::http1::Builder::new();
            // Names as Go spells them.
            builder
                .timer(TokioTimer::new())
                .header_read_timeout(HEADER_READ_TIMEOUT)
                .title_case_headers(true);
            let mut connection = builder.serve_connection(stream, service);
            tokio::select! {
                served = &mut connection => served,
                Ok(admitted) = &mut taken => {
                    let parts = connection.into_parts();
                    // Nobody has anything to say behind the request for a stream.
                    if parts.read_buf.is_empty() {
                        stream::serve_on(&shared, admitted, Box::new(parts.io.into_inner())).await;
                    }
                    Ok(())
                }
            }
        }
        Version::Http2 => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(stream, service).await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of another member ended");
    }
    drop(slot);
}
