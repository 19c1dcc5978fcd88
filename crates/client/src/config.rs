//! What a client is told when it is made.

use std::sync::Arc;
use std::time::Duration;

use crate::{Endpoint, Tls, Warning};

/// Requests above this are refused here: a member takes 1.5 MiB and half a MiB of overhead.
/// Source: etcd client/v3/options.go.
pub const MAX_SEND_BYTES: usize = 2 << 20;

pub type OnWarning = Arc<dyn Fn(&Warning<'_>) + Send + Sync>;

#[derive(Clone)]
pub struct Config {
    /// Tried in turn; at least one.
    pub endpoints: Vec<Endpoint>,
    /// `None`: no TLS, except where an endpoint asks for it (then system roots are trusted).
    pub tls: Option<Tls>,
    /// For the first exchange of name and password for a token, and for one attempt to connect.
    pub dial_timeout: Duration,
    /// Time without traffic after which a connection with calls in flight is probed. Below ten
    /// seconds counts as ten: members close connections that probe more often than every five.
    pub keepalive_time: Duration,
    /// Time to wait for the answer to a probe before the connection counts as lost.
    pub keepalive_timeout: Duration,
    pub max_send_bytes: usize,
    pub max_recv_bytes: usize,
    /// Name and password; exchanged for a token before the first call.
    pub user: Option<(String, String)>,
    /// A token made elsewhere; excludes `user`.
    pub token: Option<String>,
    /// Told of each failed attempt of a call.
    pub on_warning: Option<OnWarning>,
}

impl Config {
    /// A configuration with the defaults and these endpoints.
    pub fn to<T: AsRef<str>>(endpoints: impl IntoIterator<Item = T>) -> Config {
        Config {
            endpoints: endpoints.into_iter().map(|text| Endpoint::parse(text.as_ref())).collect(),
            tls: None,
            dial_timeout: Duration::from_secs(2),
            keepalive_time: Duration::from_secs(10),
            keepalive_timeout: Duration::from_secs(6),
            max_send_bytes: MAX_SEND_BYTES,
            max_recv_bytes: i32::MAX as usize,
            user: None,
            token: None,
            on_warning: None,
        }
    }
}
