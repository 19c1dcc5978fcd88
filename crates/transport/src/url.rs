//! Where to listen, as URLs of four schemes, and with which socket options.

use std::fmt;

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
