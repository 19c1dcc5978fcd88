//! From an accepted socket to a stream that is plain or TLS, by the listener's URLs and the client's first byte.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::listen::Stream;
use crate::tls::{HANDSHAKE_TIMEOUT, words};

/// The first byte of a TLS client's hello.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

/// A stream whose first bytes may have been looked at.
pub type Raw = Prefixed<Stream>;

/// A stream to speak HTTP on.
pub enum Secured {
    Plain(Raw),
    Tls(Box<TlsStream<Raw>>),
}

/// Why a client is not served.
#[derive(Debug, PartialEq, Eq)]
pub enum Rejected {
    /// It left, or said nothing for too long.
    Silent,
    /// Its TLS handshake failed.
    Handshake {
        /// What it took us for; may be empty.
        server_name: String,
        error: String,
    },
}

/// `http`, `https`, or both on one address.
pub enum Security {
    Plain,
    Tls(TlsAcceptor),
    Either(TlsAcceptor),
}

impl Security {
    pub fn has_plain(&self) -> bool {
        !matches!(self, Security::Tls(_))
    }

    pub fn has_tls(&self) -> bool {
        !matches!(self, Security::Plain)
    }

    /// Does what the URLs of the listener ask for, within the time for a handshake.
    ///
    /// # Errors
    /// [`Rejected`]: the client is not served.
    pub async fn secure(&self, mut stream: Stream) -> Result<Secured, Rejected> {
        let acceptor = match self {
            Security::Plain => return Ok(Secured::Plain(Prefixed::new(Bytes::new(), stream))),
            Security::Tls(acceptor) => return handshake(acceptor, Prefixed::new(Bytes::new(), stream)).await,
            Security::Either(acceptor) => acceptor,
        };
        let mut first = [0];
        match tokio::time::timeout(HANDSHAKE_TIMEOUT, stream.read_exact(&mut first)).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) | Err(_) => return Err(Rejected::Silent),
        }
        let stream = Prefixed::new(Bytes::copy_from_slice(&first), stream);
        if first[0] == TLS_HANDSHAKE_RECORD {
            handshake(acceptor, stream).await
        } else {
            Ok(Secured::Plain(stream))
        }
    }
}

async fn handshake(acceptor: &TlsAcceptor, stream: Raw) -> Result<Secured, Rejected> {
    let mut server_name = None;
    let handshake = acceptor.accept_with(stream, |tls| server_name = tls.server_name().map(str::to_owned));
    let outcome = match tokio::time::timeout(HANDSHAKE_TIMEOUT, handshake).await {
        Ok(outcome) => outcome,
        Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "tls: handshake timed out")),
    };
    match outcome {
        Ok(stream) => Ok(Secured::Tls(Box::new(stream))),
        Err(error) => Err(Rejected::Handshake {
            server_name: server_name.unwrap_or_default(),
            error: handshake_error(&error),
        }),
    }
}

/// "EOF" for a client that went away, else Go's words.
fn handshake_error(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => "EOF".to_owned(),
        _ => words(error),
    }
}

/// A stream of which some bytes were read already.
pub struct Prefixed<S> {
    first: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// `first` comes before what the stream gives.
    pub fn new(first: Bytes, stream: S) -> Prefixed<S> {
        Prefixed { first, stream }
    }

    pub fn get_ref(&self) -> &S {
        &self.stream
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.first.is_empty() {
            return Pin::new(&mut this.stream).poll_read(cx, buf);
        }
        let n = this.first.len().min(buf.remaining());
        buf.put_slice(&this.first.split_to(n));
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}
