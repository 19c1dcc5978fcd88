//! One attempt to reach one endpoint: socket, TLS, HTTP/2 preface.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::oneshot;
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

/// A fresh connection: requests go into the first, the second must be polled, and the third tells
/// once the peer has shown that it speaks HTTP/2.
pub(crate) type Connected = (http2::SendRequest<Body>, Connection, oneshot::Receiver<()>);
pub(crate) type Connection = http2::Connection<TokioIo<Greeted>, Body, TokioExecutor>;

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
        let (greeting, greeted) = oneshot::channel();
        let stream = Greeted { stream, seen: Vec::new(), greeting: Some(greeting) };
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .keep_alive_interval(self.keepalive_time.max(KEEPALIVE_TIME_MIN))
            .keep_alive_timeout(self.keepalive_timeout)
            .keep_alive_while_idle(false)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| format!("connection error: desc = \"{error}\""))?;
        Ok((sender, connection, greeted))
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

/// What every HTTP/2 server sends first: a SETTINGS frame, told by the fourth byte of its header.
const SETTINGS: (usize, u8) = (3, 4);

/// Watches for the peer's greeting. Without it a connection is no connection: the port may speak TLS,
/// or HTTP/1, and a write sent there would fail at once instead of waiting for a better endpoint.
pub(crate) struct Greeted {
    stream: Box<dyn Stream>,
    seen: Vec<u8>,
    greeting: Option<oneshot::Sender<()>>,
}

impl AsyncRead for Greeted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(cx, buffer);
        if self.greeting.is_some() {
            self.seen.extend_from_slice(&buffer.filled()[before..]);
            match self.seen.get(SETTINGS.0) {
                None => {}
                Some(&kind) if kind == SETTINGS.1 => {
                    if let Some(greeting) = self.greeting.take() {
                        // Nobody waiting any more is no matter: the attempt was given up.
                        let _given_up = greeting.send(());
                    }
                }
                Some(_) => self.greeting = None,
            }
        }
        polled
    }
}

impl AsyncWrite for Greeted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
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
