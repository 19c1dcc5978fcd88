//! What the peer side is told at start.

use std::net::IpAddr;
use std::time::Duration;

use transport::tls::TlsOptions;
use transport::tls::dial::DialOptions;
use transport::{ListenUrl, SocketOptions};

/// Everything but the server that it stands in front of.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// `--listen-peer-urls`.
    pub listen: Vec<ListenUrl>,
    pub socket: SocketOptions,
    /// For `https` and `unixs` listeners.
    pub tls: TlsOptions,
    /// Towards other members with `https` URLs.
    pub dial_tls: DialOptions,
    /// `--peer-skip-client-san-verification`: whether a member may come from an address that its certificate
    /// does not name.
    pub skip_client_san_verification: bool,
    /// The gate SetMemberLocalAddr: where connections to others begin.
    pub local_address: Option<IpAddr>,
    /// `--initial-advertise-peer-urls`, which others answer to while they do not know this member.
    pub advertise_urls: Vec<String>,
    /// `--raft-read-timeout`: how long a stream may be silent.
    pub read_timeout: Duration,
    /// `--raft-write-timeout`: how long a request to another member may take to be sent.
    pub write_timeout: Duration,
    /// How long a connection may take to be made. etcd: 1 s + the election timeout.
    pub dial_timeout: Duration,
}

impl Default for PeerConfig {
    /// etcd's defaults, listening nowhere.
    fn default() -> PeerConfig {
        PeerConfig {
            listen: Vec::new(),
            socket: SocketOptions::default(),
            tls: TlsOptions::default(),
            dial_tls: DialOptions::default(),
            skip_client_san_verification: false,
            local_address: None,
            advertise_urls: Vec::new(),
            read_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            dial_timeout: Duration::from_secs(2),
        }
    }
}
