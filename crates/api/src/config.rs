//! What the edge is told: addresses, TLS, limits. The binary fills it from flags; nothing here parses a flag.

use std::fmt;
use std::time::Duration;

use crate::tls::TlsOptions;

/// Bytes that gRPC may receive on top of the largest request: room for the message around the value.
pub const GRPC_OVERHEAD_BYTES: usize = 512 * 1024;

/// Everything the edge needs besides the server it fronts.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// Where to listen. Order is the order of the log lines.
    pub listeners: Vec<Listener>,
    /// For every `https` and `unixs` listener, metrics listeners included.
    pub tls: TlsOptions,
    pub socket: SocketOptions,
    /// `--max-request-bytes`. A gRPC message may be [`GRPC_OVERHEAD_BYTES`] larger.
    pub max_request_bytes: usize,
    /// `--max-txn-ops`.
    pub max_txn_ops: usize,
    /// `--max-concurrent-streams`, per connection.
    pub max_concurrent_streams: u32,
    pub keepalive: Keepalive,
    /// `--cors`: origins, or `*`. Empty means no CORS headers at all.
    pub cors: Vec<String>,
    /// `--host-whitelist`: host names, or `*` (also when empty). Looked at on plain listeners only.
    pub host_whitelist: Vec<String>,
    pub metrics: MetricsLevel,
    /// `--watch-progress-notify-interval`.
    pub watch_progress_notify_interval: Duration,
    /// `--warning-unary-request-duration`. Slower unary calls are logged at WARN.
    pub warning_unary_request_duration: Duration,
    /// The election timeout: how often a stream with `hasleader` looks for the leader.
    pub election_timeout: Duration,
    /// 5 s + 2 × election timeout: how long the health checks wait for a read.
    pub request_timeout: Duration,
}

impl Default for ApiConfig {
    /// etcd's defaults, listening nowhere.
    fn default() -> ApiConfig {
        ApiConfig {
            listeners: Vec::new(),
            tls: TlsOptions::default(),
            socket: SocketOptions::default(),
            max_request_bytes: 1536 * 1024,
            max_txn_ops: 128,
            max_concurrent_streams: u32::MAX,
            keepalive: Keepalive::default(),
            cors: vec!["*".to_owned()],
            host_whitelist: vec!["*".to_owned()],
            metrics: MetricsLevel::Basic,
            watch_progress_notify_interval: Duration::from_secs(600),
            warning_unary_request_duration: Duration::from_millis(300),
            election_timeout: Duration::from_secs(1),
            request_timeout: Duration::from_secs(7),
        }
    }
}

impl ApiConfig {
    /// Largest gRPC message a client may send.
    pub fn receive_limit_bytes(&self) -> usize {
        self.max_request_bytes.saturating_add(GRPC_OVERHEAD_BYTES)
    }
}

/// One address with what is served there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    pub url: ListenUrl,
    pub serves: Serves,
}

/// What a listener answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// `--listen-client-urls`: gRPC and HTTP on one port.
    GrpcAndHttp,
    /// `--listen-client-urls` when `--listen-client-http-urls` is given.
    GrpcOnly,
    /// `--listen-client-http-urls`.
    HttpOnly,
    /// `--listen-peer-urls`: what members ask each other over HTTP. See [`crate::Edge::serve_peers`].
    Peer,
    /// `--listen-metrics-urls`: /metrics and the health routes, before the member is ready.
    Metrics,
}

/// `scheme://address` as the flags give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    pub scheme: Scheme,
    /// `host:port`, or a socket's path.
    pub address: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

impl Scheme {
    pub fn is_tls(self) -> bool {
        matches!(self, Scheme::Https | Scheme::Unixs)
    }

    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
            Scheme::Unix => "unix",
            Scheme::Unixs => "unixs",
        }
    }
}

impl ListenUrl {
    /// Splits a listen URL. `unix://localhost:20001` is the file `localhost:20001` in the working
    /// directory, `unix:///run/e.sock` an absolute path.
    ///
    /// # Errors
    /// An unknown scheme or an empty address; the text says which URL.
    pub fn parse(url: &str) -> Result<ListenUrl, ListenUrlError> {
        let bad = |why| ListenUrlError { url: url.to_owned(), why };
        let (scheme, rest) = url.split_once("://").ok_or_else(|| bad("has no scheme"))?;
        let scheme = match scheme {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(bad("has a scheme that is none of http, https, unix, unixs")),
        };
        let address = if scheme.is_unix() { rest } else { rest.trim_end_matches('/') };
        if address.is_empty() {
            return Err(bad("has no address"));
        }
        if !scheme.is_unix() && !address.contains(':') {
            return Err(bad("has no port"));
        }
        Ok(ListenUrl { scheme, address: address.to_owned() })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.address)
    }
}

/// A listen URL that cannot be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenUrlError {
    pub url: String,
    pub why: &'static str,
}

impl fmt::Display for ListenUrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "listen URL {:?} {}", self.url, self.why)
    }
}

impl std::error::Error for ListenUrlError {}

/// `--socket-reuse-port`, `--socket-reuse-address`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    pub reuse_port: bool,
    pub reuse_address: bool,
}

/// gRPC keepalive, both directions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keepalive {
    /// `--grpc-keepalive-min-time`: clients that ping more often are sent away.
    pub min_time: Duration,
    /// `--grpc-keepalive-interval`: how long a quiet connection is left before the server pings. `None`: never.
    pub interval: Option<Duration>,
    /// `--grpc-keepalive-timeout`: how long that ping may take.
    pub timeout: Duration,
}

impl Default for Keepalive {
    fn default() -> Keepalive {
        Keepalive {
            min_time: Duration::from_secs(5),
            interval: Some(Duration::from_secs(7200)),
            timeout: Duration::from_secs(20),
        }
    }
}

/// `--metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsLevel {
    Basic,
    /// Adds `grpc_server_handling_seconds`.
    Extensive,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = ListenUrl::parse("unix://localhost:20001").unwrap();
        assert_eq!((url.scheme, url.address.as_str()), (Scheme::Unix, "localhost:20001"));
        let url = ListenUrl::parse("unix:///run/etcd.sock").unwrap();
        assert_eq!(url.address, "/run/etcd.sock");
        let url = ListenUrl::parse("https://[::1]:2379/").unwrap();
        assert_eq!(url.to_string(), "https://[::1]:2379");
        for bad in ["", "localhost:2379", "tcp://a:1", "http://", "http://localhost"] {
            assert!(ListenUrl::parse(bad).is_err(), "{bad}");
        }
    }
}
