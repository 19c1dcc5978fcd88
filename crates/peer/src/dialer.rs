//! Connections to other members, and requests on them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use server::ConnectionLoss;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use crate::body::Body;
use crate::config::PeerConfig;

/// Idle connections kept for one address. More are closed once their answer is read.
const IDLE_MAX: usize = 4;

/// Why another member was not reached.
#[derive(Debug)]
pub struct DialError {
    pub loss: ConnectionLoss,
    pub why: String,
}

impl fmt::Display for DialError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl DialError {
    fn of(error: &io::Error) -> DialError {
        let loss = match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectionLoss::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                ConnectionLoss::Closed
            }
            _ => ConnectionLoss::Silent,
        };
        DialError { loss, why: error.to_string() }
    }

    fn silent(why: impl Into<String>) -> DialError {
        DialError { loss: ConnectionLoss::Silent, why: why.into() }
    }

    fn request(error: &hyper::Error) -> DialError {
        let loss = if error.is_timeout() { ConnectionLoss::Silent } else { ConnectionLoss::Closed };
        DialError { loss, why: error.to_string() }
    }
}

/// Makes connections, and keeps a few for the next request.
pub struct Dialer {
    tls: Option<Arc<ClientConfig>>,
    local_address: Option<IpAddr>,
    dial_timeout: Duration,
    idle: Mutex<HashMap<String, Vec<SendRequest<Body>>>>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Dialer {
    pub fn new(config: &PeerConfig, tls: Option<Arc<ClientConfig>>) -> Dialer {
        Dialer {
            tls,
            local_address: config.local_address,
            dial_timeout: config.dial_timeout,
            idle: Mutex::default(),
        }
    }

    /// Sends a request to the member behind `url`, on a connection that waits or on a new one. The answer's
    /// body must be read to its end for the connection to be used again: see [`Dialer::give_back`].
    pub async fn send(
        &self,
        url: &str,
        request: Request<Body>,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), DialError> {
        let mut sender = match self.take_idle(url) {
            Some(sender) => sender,
            None => self.connect(url).await?,
        };
        let response = sender.send_request(request).await.map_err(|error| DialError::request(&error))?;
        Ok((response, sender))
    }

    /// As [`Dialer::send`], on a connection of its own: for streams.
    pub async fn open(&self, url: &str, request: Request<Body>) -> Result<Response<Incoming>, DialError> {
        let mut sender = self.connect(url).await?;
        sender.send_request(request).await.map_err(|error| DialError::request(&error))
    }

    fn take_idle(&self, url: &str) -> Option<SendRequest<Body>> {
        let mut idle = self.idle.lock();
        let waiting = idle.get_mut(url)?;
        while let Some(sender) = waiting.pop() {
            if sender.is_ready() {
                return Some(sender);
            }
        }
        None
    }

    pub fn give_back(&self, url: &str, sender: SendRequest<Body>) {
        if sender.is_closed() {
            return;
        }
        let mut idle = self.idle.lock();
        let waiting = idle.entry(url.to_owned()).or_default();
        if waiting.len() < IDLE_MAX {
            waiting.push(sender);
        }
    }

    async fn connect(&self, url: &str) -> Result<SendRequest<Body>, DialError> {
        match timeout(self.dial_timeout, self.connect_unlimited(url)).await {
            Ok(connected) => connected,
            Err(_) => Err(DialError::silent(format!("dial {url}: i/o timeout"))),
        }
    }

    async fn connect_unlimited(&self, url: &str) -> Result<SendRequest<Body>, DialError> {
        let (scheme, address) =
            url.split_once("://").ok_or_else(|| DialError::silent(format!("{url} is no URL")))?;
        let wire: Box<dyn Wire> = match scheme {
            "unix" | "unixs" => {
                Box::new(UnixStream::connect(address).await.map_err(|error| DialError::of(&error))?)
            }
            _ => Box::new(self.connect_tcp(address).await.map_err(|error| DialError::of(&error))?),
        };
        let wire = if scheme.ends_with('s') { self.secure(address, wire).await? } else { wire };
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| DialError::request(&error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another member ended");
            }
        });
        Ok(sender)
    }

    async fn connect_tcp(&self, address: &str) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address for this host");
        for address in lookup_host(address).await? {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(local) = self.local_address.filter(|local| local.is_ipv4() == address.is_ipv4()) {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            match socket.connect(address).await {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(stream);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn secure(&self, address: &str, wire: Box<dyn Wire>) -> Result<Box<dyn Wire>, DialError> {
        let Some(tls) = &self.tls else {
            return Err(DialError::silent(format!("TLS to {address} is not set up")));
        };
        // A socket's path is no name that a certificate could bear.
        let host = match address.rsplit_once(':') {
            Some((host, port)) if port.parse::<u16>().is_ok() => host.trim_matches(['[', ']']),
            _ => "localhost",
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::silent(format!("{host} is no name of a server")))?;
        let secured = TlsConnector::from(Arc::clone(tls)).connect(name, wire).await;
        Ok(Box::new(secured.map_err(|error| DialError::of(&error))?))
    }
}
