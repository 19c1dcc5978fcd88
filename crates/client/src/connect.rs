//! One attempt to reach one endpoint: socket, TLS, HTTP/2 preface.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tonic::body::Body;

use crate::endpoint::{Address, Endpoint};

/// Bytes of one response that may be under way unread, and of all on a connection. Large, since
/// lists of many megabytes are the common big answer and members are near.
const STREAM_WINDOW_BYTES: u32 = 2 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 8 << 20;
/// Bound on names lookup, handshakes and preface of one attempt. Source: gRPC's connection backoff.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// Members close connections whose clients probe more often than every five seconds, so Go's gRPC
/// never probes more often than this, whatever it is told; neither do we.
const KEEPALIVE_TIME_MIN: Duration = Duration::from_secs(10);

/// What a connection needs beside the address.
#[derive(Clone)]
pub(crate) struct Connector {
    /// `None`: this endpoint is dialled in the clear.
    pub tls: Option<(Arc<ClientConfig>, String)>,
    pub keepalive_time: Duration,
    pub keepalive_timeout: Duration,
}

/// The two ends of a fresh connection: requests go into the first, the second must be polled.
pub(crate) type Connected = (http2::SendRequest<Body>, http2::Connection<Io, Body, TokioExecutor>);
type Io = TokioIo<Box<dyn Stream>>;

pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl Connector {
    /// Errors are texts in the manner of Go's: they end up in front of people only.
    pub async fn connect(&self, endpoint: &Endpoint) -> Result<Connected, String> {
        match tokio::time::timeout(CONNECT_TIMEOUT, self.attempt(endpoint)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(dial_error(endpoint, "i/o timeout")),
        }
    }

    async fn attempt(&self, endpoint: &Endpoint) -> Result<Connected, String> {
        let stream = self.open(endpoint).await.map_err(|error| dial_error(endpoint, &io_text(&error)))?;
        let stream = match &self.tls {
            None => stream,
            Some((config, name)) => {
                let name = ServerName::try_from(name.clone()).map_err(|error| handshake_error(&error))?;
                let tls = TlsConnector::from(config.clone());
                Box::new(tls.connect(name, stream).await.map_err(|error| handshake_error(&error))?)
            }
        };
        http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(self.keepalive_time.max(KEEPALIVE_TIME_MIN))
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("connection error: desc = \"{error}\""))
    }

    async fn open(&self, endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
        Ok(match endpoint.address() {
            Address::Tcp(host_port) => {
                let stream = TcpStream::connect(host_port.as_str()).await?;
                stream.set_nodelay(true)?;
                Box::new(stream)
            }
            Address::Unix(path) => Box::new(UnixStream::connect(path).await?),
        })
    }
}

fn dial_error(endpoint: &Endpoint, reason: &str) -> String {
    let target = match endpoint.address() {
        Address::Tcp(host_port) => format!("tcp {host_port}"),
        Address::Unix(path) => format!("unix {}", path.display()),
    };
    format!("connection error: desc = \"transport: Error while dialing: dial {target}: {reason}\"")
}

fn handshake_error(error: &dyn std::fmt::Display) -> String {
    format!("connection error: desc = \"transport: authentication handshake failed: {error}\"")
}

fn io_text(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        io::ErrorKind::NotFound => "connect: no such file or directory".into(),
        _ => error.to_string(),
    }
}
