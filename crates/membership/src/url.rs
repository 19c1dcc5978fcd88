//! Peer and client URLs, checked and written the one way that ids are derived from.

use std::fmt;
use std::net::Ipv6Addr;

/// Why a URL cannot be a member's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UrlError {
    Scheme(String),
    Empty(String),
    HostPort(String),
    Path(String),
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            UrlError::Scheme(url) => write!(f, "URL scheme must be http, https, unix, or unixs: {url}"),
            UrlError::Empty(url) => write!(f, "URL has no host: {url}"),
            UrlError::HostPort(url) => write!(f, r#"URL address does not have the form "host:port": {url}"#),
            UrlError::Path(url) => write!(f, "URL must not contain a path: {url}"),
        }
    }
}

impl std::error::Error for UrlError {}

/// Checks `scheme://host:port` and returns it as ids and comparisons use it.
pub fn normalize_url(text: &str) -> Result<String, UrlError> {
    let text = text.trim();
    let (scheme, rest) = text.split_once("://").ok_or_else(|| UrlError::Scheme(text.to_owned()))?;
    match scheme {
        "unix" | "unixs" if rest.is_empty() => Err(UrlError::Empty(text.to_owned())),
        "unix" | "unixs" => Ok(text.to_owned()),
        "http" | "https" => {
            if rest.contains('/') {
                return Err(UrlError::Path(text.to_owned()));
            }
            let (host, port) = rest.rsplit_once(':').ok_or_else(|| UrlError::HostPort(text.to_owned()))?;
            if !is_host(host) || port.parse::<u16>().is_err() {
                return Err(UrlError::HostPort(text.to_owned()));
            }
            Ok(text.to_owned())
        }
        _ => Err(UrlError::Scheme(text.to_owned())),
    }
}

/// Go's members end when they apply a URL that they cannot parse.
fn is_host(text: &str) -> bool {
    let host = text.rsplit_once('@').map_or(text, |(_, host)| host);
    match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|inner| {
            let address = inner.split_once("%25").map_or(inner, |(address, _zone)| address);
            address.parse::<Ipv6Addr>().is_ok()
        }),
        None => !host.chars().any(|c| c.is_control() || " \"%:<>[\\]^`{|}".contains(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_need_a_scheme_a_port_and_no_path() {
        assert_eq!(normalize_url(" http://10.0.0.1:2380").unwrap(), "http://10.0.0.1:2380");
        assert_eq!(normalize_url("http://u:p@10.0.0.1:2380").unwrap(), "http://u:p@10.0.0.1:2380");
        assert_eq!(normalize_url("https://[::1]:2380").unwrap(), "https://[::1]:2380");
        assert!(normalize_url("http://[fe80::1%25eth0]:2380").is_ok());
        assert_eq!(normalize_url("unix://localhost:20001").unwrap(), "unix://localhost:20001");
        for bad in [
            "10.0.0.1:2380",
            "ftp://a:1",
            "http://a",
            "http://a:b",
            "http://a:1/x",
            "http://a:1/",
            "unix://",
            "http://[::1",
            "http://[::1]",
            "http://::1:2380",
            "http://[a]:1",
            "http://a b:1",
            "http://%zz:1",
        ] {
            assert!(normalize_url(bad).is_err(), "{bad}");
        }
    }
}
