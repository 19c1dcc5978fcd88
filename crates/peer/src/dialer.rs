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
use tokio::net::{TcpSocket, TcpStream, UnixStream, lookup_host};
use tokio::sync::OnceCell;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use transport::listen;
use transport::tls::TlsError;
use transport::tls::dial::DialOptions;
use transport::tls::words;

use crate::body::Body;
use crate::config::PeerConfig;
use crate::outlet::Wire;

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
    fn of(url: &str, error: &io::Error) -> DialError {
        let loss = match error.kind() {
            // A unix socket that nobody has made is a port that nobody listens on.
            io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound => ConnectionLoss::Refused,
            io::ErrorKind::ConnectionReset | io::ErrorKind::UnexpectedEof | io::ErrorKind::BrokenPipe => {
                ConnectionLoss::Closed
            }
            _ => ConnectionLoss::Silent,
        };
        DialError { loss, why: format!("dial {url}: {}", words(error)) }
    }

    fn silent(why: impl Into<String>) -> DialError {
        DialError { loss: ConnectionLoss::Silent, why: why.into() }
    }

    fn request(error: &hyper::Error) -> DialError {
        let loss = if error.is_timeout() { ConnectionLoss::Silent } else { ConnectionLoss::Closed };
        DialError { loss, why: words(error) }
    }
}

/// An answer, and the connection on which its body comes.
pub struct Opened {
    pub response: Response<Incoming>,
    pub connection: Connection,
}

/// A connection, which is closed when this is dropped: also one whose other side takes no more of the request.
pub struct Connection(Option<JoinHandle<()>>);

impl Connection {
    fn detach(mut self) {
        self.0.take();
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if let Some(task) = self.0.take() {
            task.abort();
        }
    }
}

/// Makes connections, and keeps a few for the next request.
pub struct Dialer {
    options: DialOptions,
    /// Made when it is needed first: without options that means reading all roots of the system.
    tls: OnceCell<Arc<ClientConfig>>,
    local_address: Option<IpAddr>,
    dial_timeout: Duration,
    /// By URL; those that ended are dropped when the next one comes back.
    idle: Mutex<HashMap<String, Vec<SendRequest<Body>>>>,
}

impl Dialer {
    /// # Errors
    /// Files that are named do not work: the member must not start.
    pub fn new(config: &PeerConfig) -> Result<Dialer, TlsError> {
        let options = config.dial_tls.clone();
        let names_files = options.cert_file.is_some() || options.trusted_ca_file.is_some();
        let tls = if names_files { Some(options.client_config()?) } else { None };
        Ok(Dialer {
            options,
            tls: OnceCell::new_with(tls),
            local_address: config.local_address,
            dial_timeout: config.dial_timeout,
            idle: Mutex::default(),
        })
    }

    /// Sends a request to the member behind `url`, on a connection that waits or on a new one. The answer's
    /// body must be read to its end for the connection to be used again: see [`Dialer::give_back`].
    pub async fn send(
        &self,
        url: &str,
        mut request: Request<Body>,
    ) -> Result<(Response<Incoming>, SendRequest<Body>), DialError> {
        while let Some(mut sender) = self.take_idle(url) {
            match sender.try_send_request(request).await {
                Ok(response) => return Ok((response, sender)),
                // Nothing of it was sent when it comes back: the connection had ended while it waited.
                Err(mut error) => match error.take_message() {
                    Some(unsent) => request = unsent,
                    None => return Err(DialError::request(error.error())),
                },
            }
        }
        let (mut sender, connection) = self.connect(url).await?;
        // It ends by itself once nobody has the sender.
        connection.detach();
        let response = sender.send_request(request).await.map_err(|error| DialError::request(&error))?;
        Ok((response, sender))
    }

    /// As [`Dialer::send`], on a connection of its own: for streams and files.
    pub async fn open(&self, url: &str, request: Request<Body>) -> Result<Opened, DialError> {
        let (mut sender, connection) = self.connect(url).await?;
        let response = sender.send_request(request).await.map_err(|error| DialError::request(&error))?;
        Ok(Opened { response, connection })
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
        let mut idle = self.idle.lock();
        idle.retain(|_, waiting| {
            waiting.retain(|sender| !sender.is_closed());
            !waiting.is_empty()
        });
        if sender.is_closed() {
            return;
        }
        let waiting = idle.entry(url.to_owned()).or_default();
        if waiting.len() < IDLE_MAX {
            waiting.push(sender);
        }
    }

    async fn connect(&self, url: &str) -> Result<(SendRequest<Body>, Connection), DialError> {
        match timeout(self.dial_timeout, self.connect_unlimited(url)).await {
            Ok(connected) => connected,
            Err(_) => Err(DialError::silent(format!("dial {url}: i/o timeout"))),
        }
    }

    async fn connect_unlimited(&self, url: &str) -> Result<(SendRequest<Body>, Connection), DialError> {
        let (scheme, address) =
            url.split_once("://").ok_or_else(|| DialError::silent(format!("{url} is no URL")))?;
        let failed = |error: io::Error| DialError::of(url, &error);
        let wire: Box<dyn Wire> = match scheme {
            "unix" | "unixs" => Box::new(UnixStream::connect(address).await.map_err(failed)?),
            _ => Box::new(self.connect_tcp(address).await.map_err(failed)?),
        };
        let wire = if scheme.ends_with('s') { self.secure(url, address, wire).await? } else { wire };
        let (sender, connection) = hyper::client::conn::http1::Builder::new()
            .title_case_headers(true)
            .handshake(TokioIo::new(wire))
            .await
            .map_err(|error| DialError::request(&error))?;
        let task = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another member ended");
            }
        });
        Ok((sender, Connection(Some(task))))
    }

    async fn connect_tcp(&self, address: &str) -> io::Result<TcpStream> {
        let mut last = io::Error::new(io::ErrorKind::AddrNotAvailable, "no address for this host");
        let addresses: Vec<SocketAddr> = lookup_host(address).await?.collect();
        // One that swallows everything leaves time for the others.
        let share = self.dial_timeout / u32::try_from(addresses.len().max(1)).unwrap_or(u32::MAX);
        for address in addresses {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            if let Some(local) = self.local_address.filter(|local| local.is_ipv4() == address.is_ipv4()) {
                socket.bind(SocketAddr::new(local, 0))?;
            }
            match timeout(share, socket.connect(address)).await {
                Ok(Ok(stream)) => {
                    listen::prepare(&stream)?;
                    return Ok(stream);
                }
                Ok(Err(error)) => last = error,
                Err(_) => last = io::Error::new(io::ErrorKind::TimedOut, "i/o timeout"),
            }
        }
        Err(last)
    }

    async fn secure(
        &self,
        url: &str,
        address: &str,
        wire: Box<dyn Wire>,
    ) -> Result<Box<dyn Wire>, DialError> {
        let tls = self.tls.get_or_try_init(|| async {
            let options = self.options.clone();
            let reading = tokio::task::spawn_blocking(move || options.client_config());
            let made = reading.await.map_err(|error| DialError::silent(error.to_string()))?;
            made.map_err(|error| DialError::silent(format!("dial {url}: {error}")))
        });
        let tls = tls.await?.clone();
        let host = match (&self.options.server_name, address.rsplit_once(':')) {
            (Some(name), _) => name,
            (None, Some((host, port))) if port.parse::<u16>().is_ok() => host.trim_matches(['[', ']']),
            // A socket's path is no name that a certificate could bear.
            (None, _) => "localhost",
        };
        let name = ServerName::try_from(host.to_owned())
            .map_err(|_| DialError::silent(format!("dial {url}: {host} is no name of a server")))?;
        let secured = TlsConnector::from(tls).connect(name, wire).await;
        Ok(Box::new(secured.map_err(|error| DialError::of(url, &error))?))
    }
}
