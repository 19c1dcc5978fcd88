//! An endpoint as users write it, and what it means for dialling.

use std::fmt;
use std::path::PathBuf;

/// Where the bytes go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `host:port`, the host in brackets when it is an IPv6 address.
    Tcp(String),
    Unix(PathBuf),
}

/// Whether a connection is wrapped in TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Security {
    /// `http`: never, even when certificates are configured.
    Plain,
    /// `https`, `unixs`: always.
    Tls,
    /// `unix` and plain `host:port`: when the configuration brings TLS.
    AsConfigured,
}

/// `http://`, `https://`, `unix://`, `unixs://` or a bare `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// As given; what messages show.
    text: String,
    address: Address,
    security: Security,
    /// What goes out as `:authority`: the address, or the last part of a socket's path.
    authority: String,
}

impl Endpoint {
    /// Reads an endpoint. Any text is one: what has no known scheme is taken for `host:port`, and
    /// the mistake shows when it is dialled.
    pub fn parse(text: &str) -> Endpoint {
        // Compat: client/v3/internal/endpoint (3.7.3): unix sockets are written `unix:path`,
        // `unix://relative/path` and `unix:///absolute/path`.
        for (scheme, security) in [("unixs:", Security::Tls), ("unix:", Security::AsConfigured)] {
            if let Some(rest) = text.strip_prefix(scheme) {
                let path = rest.strip_prefix("//").unwrap_or(rest);
                let authority = path.rsplit('/').next().unwrap_or(path).to_owned();
                return Endpoint {
                    text: text.to_owned(),
                    address: Address::Unix(path.into()),
                    security,
                    authority,
                };
            }
        }
        let (security, rest) = match text.split_once("://") {
            Some(("http", rest)) => (Security::Plain, rest),
            Some(("https", rest)) => (Security::Tls, rest),
            Some((_, rest)) => (Security::AsConfigured, rest),
            None => (Security::AsConfigured, text),
        };
        let host_port = rest.split(['/', '?', '#']).next().unwrap_or(rest);
        let host_port = host_port.rsplit('@').next().unwrap_or(host_port).to_owned();
        Endpoint {
            text: text.to_owned(),
            address: Address::Tcp(host_port.clone()),
            security,
            authority: host_port,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    pub fn address(&self) -> &Address {
        &self.address
    }

    pub fn security(&self) -> Security {
        self.security
    }

    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The name that the member's certificate must carry.
    pub fn server_name(&self) -> &str {
        let authority = self.authority.as_str();
        if let Some(rest) = authority.strip_prefix('[') {
            return rest.split(']').next().unwrap_or(rest);
        }
        match authority.rsplit_once(':') {
            Some((host, _)) if !host.contains(':') => host,
            _ => authority,
        }
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host_port: &str) -> Address {
        Address::Tcp(host_port.into())
    }

    #[test]
    fn endpoints_as_users_write_them() {
        let cases = [
            ("127.0.0.1:2379", tcp("127.0.0.1:2379"), Security::AsConfigured, "127.0.0.1"),
            ("http://a.b:2379", tcp("a.b:2379"), Security::Plain, "a.b"),
            ("https://a.b:2379/", tcp("a.b:2379"), Security::Tls, "a.b"),
            ("https://[::1]:2379", tcp("[::1]:2379"), Security::Tls, "::1"),
            (
                "unix:///run/etcd.sock",
                Address::Unix("/run/etcd.sock".into()),
                Security::AsConfigured,
                "etcd.sock",
            ),
            (
                "unix://localhost:20001",
                Address::Unix("localhost:20001".into()),
                Security::AsConfigured,
                "localhost",
            ),
            ("unixs:sub/m0:1", Address::Unix("sub/m0:1".into()), Security::Tls, "m0"),
        ];
        for (text, address, security, name) in cases {
            let endpoint = Endpoint::parse(text);
            assert_eq!(
                (endpoint.address(), endpoint.security(), endpoint.server_name(), endpoint.as_str()),
                (&address, security, name, text)
            );
        }
    }
}
