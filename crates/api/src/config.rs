//! What the edge is told: addresses, TLS, limits. The binary fills it from flags; nothing here parses a flag.

use std::time::Duration;

use transport::tls::TlsOptions;
use transport::{ListenUrl, SocketOptions};

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
    /// `--listen-metrics-urls`: /metrics and the health routes, before the member is ready.
    Metrics,
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
