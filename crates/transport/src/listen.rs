//! Sockets to listen on: TCP as Go's `net.Listen` makes them, unix files, and how many connections fit.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::url::{ListenUrl, SocketOptions};

/// File descriptors left for the log, the backend and the peers. Source: etcd `embed/serve.go` reservedInternalFDNum.
const RESERVED_FDS: u64 = 150;
/// Connections the kernel completes before we accept them; it is cut to `net.core.somaxconn`.
const BACKLOG: i32 = 4096;
/// Silence before the system asks whether the other end is there, and between two such questions.
/// Source: etcd `client/pkg/transport/keepalive_listener.go`.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// A socket that is bound, outside of any runtime.
#[derive(Debug)]
pub enum BoundSocket {
    Tcp(std::net::TcpListener),
    Unix(std::os::unix::net::UnixListener),
}

/// From when on clients may connect to a bound address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connects {
    /// They wait to be served.
    AtOnce,
    /// Until then they are refused.
    WhenServed,
}

/// Binds the address of `url`.
///
/// # Errors
/// What the system says; a host that is neither an address nor `localhost` is looked up.
pub fn bind(url: &ListenUrl, options: SocketOptions, connects: Connects) -> io::Result<BoundSocket> {
    if url.scheme.is_unix() {
        return bind_unix(Path::new(&url.address), connects);
    }
    let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address for this host");
    for address in addresses(&url.address)? {
        match bind_tcp(address, options, connects) {
            Ok(listener) => return Ok(BoundSocket::Tcp(listener)),
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// Candidates in order. Compat: Go listens on both families for an unspecified address, and prefers IPv4 for names.
fn addresses(host_port: &str) -> io::Result<Vec<SocketAddr>> {
    // `:2379` is every address.
    let text = if host_port.starts_with(':') { format!("0.0.0.0{host_port}") } else { host_port.to_owned() };
    let mut found: Vec<SocketAddr> = text.to_socket_addrs()?.collect();
    found.sort_by_key(SocketAddr::is_ipv6);
    if let Some(port) =
        found.iter().find(|a| a.ip() == IpAddr::V4(Ipv4Addr::UNSPECIFIED)).map(SocketAddr::port)
    {
        found.insert(0, SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), port));
    }
    Ok(found)
}

fn bind_tcp(
    address: SocketAddr,
    options: SocketOptions,
    connects: Connects,
) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    // Go sets SO_REUSEADDR on every listener, whatever --socket-reuse-address says.
    socket.set_reuse_address(true)?;
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    socket.bind(&address.into())?;
    if connects == Connects::AtOnce {
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn bind_unix(path: &Path, connects: Connects) -> io::Result<BoundSocket> {
    // A socket file outlives its process; only a socket is removed, never a file that someone meant to keep.
    match std::fs::symlink_metadata(path) {
        Ok(found) if std::os::unix::fs::FileTypeExt::is_socket(&found.file_type()) => {
            std::fs::remove_file(path)?
        }
        Ok(_) | Err(_) => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if connects == Connects::AtOnce {
        socket.listen(BACKLOG)?;
    }
    socket.set_nonblocking(true)?;
    Ok(BoundSocket::Unix(socket.into()))
}

impl BoundSocket {
    /// The address with the port that was really taken; a path for unix sockets.
    pub fn local_address(&self) -> String {
        match self {
            BoundSocket::Tcp(listener) => listener.local_addr().map(|a| a.to_string()).unwrap_or_default(),
            BoundSocket::Unix(listener) => listener
                .local_addr()
                .ok()
                .and_then(|a| a.as_pathname().map(|p| p.display().to_string()))
                .unwrap_or_default(),
        }
    }

    /// Hands the socket to the running tokio runtime. From here on clients may connect in any case.
    pub fn into_acceptor(self) -> io::Result<Acceptor> {
        // One that listens already goes on as it did.
        match &self {
            BoundSocket::Tcp(listener) => SockRef::from(listener).listen(BACKLOG)?,
            BoundSocket::Unix(listener) => SockRef::from(listener).listen(BACKLOG)?,
        }
        Ok(match self {
            BoundSocket::Tcp(listener) => Acceptor::Tcp(TcpListener::from_std(listener)?),
            BoundSocket::Unix(listener) => {
                let path = listener.local_addr()?.as_pathname().map(Path::to_owned);
                Acceptor::Unix(UnixListener::from_std(listener)?, path)
            }
        })
    }
}

pub enum Acceptor {
    Tcp(TcpListener),
    /// With the file to remove in the end.
    Unix(UnixListener, Option<std::path::PathBuf>),
}

impl Acceptor {
    pub async fn accept(&self) -> io::Result<(Stream, String)> {
        match self {
            Acceptor::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                prepare(&stream)?;
                Ok((Stream::Tcp(stream), peer.to_string()))
            }
            Acceptor::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), "@".to_owned()))
            }
        }
    }
}

/// What every connection needs, accepted or dialled: small writes leave at once, and the other end's death is
/// noticed although nothing is said.
pub fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(KEEPALIVE);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        if let Acceptor::Unix(_, Some(path)) = self {
            // Gone already is as good as removed.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A connection of either kind.
pub enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream {
            Stream::Tcp($inner) => $call,
            Stream::Unix($inner) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), s => Pin::new(s).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self.get_mut(), s => Pin::new(s).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self.get_mut(), s => Pin::new(s).poll_shutdown(cx))
    }
}

/// Connections one listener takes at a time: what the descriptor limit leaves. More wait in the kernel's queue.
pub fn connection_limit() -> usize {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.unwrap_or(u64::MAX);
    let left = limit.saturating_sub(RESERVED_FDS).max(1);
    usize::try_from(left).unwrap_or(usize::MAX).min(tokio::sync::Semaphore::MAX_PERMITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unspecified_means_both_families() {
        let found = addresses("0.0.0.0:7").unwrap();
        assert_eq!(found[0], "[::]:7".parse::<SocketAddr>().unwrap());
        let found = addresses("localhost:7").unwrap();
        assert!(found[0].is_ipv4());
    }

    #[test]
    fn a_stale_socket_file_is_replaced_but_no_other_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("localhost:20001");
        drop(bind_unix(&path, Connects::AtOnce).unwrap());
        assert!(path.exists(), "the file stays when nobody removes it");
        drop(bind_unix(&path, Connects::AtOnce).unwrap());

        let plain = dir.path().join("notes");
        std::fs::write(&plain, "x").unwrap();
        assert!(bind_unix(&plain, Connects::AtOnce).is_err());
        assert_eq!(std::fs::read(&plain).unwrap(), b"x");
    }
}
