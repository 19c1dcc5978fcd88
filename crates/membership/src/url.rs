//! Peer and client URLs, checked and written the one way that ids are derived from.

use std::fmt;

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
            let authority = match rest.split_once('/') {
                None => rest,
                Some((authority, "")) => authority,
                Some(_) => return Err(UrlError::Path(text.to_owned())),
            };
            let (_, port) = authority.rsplit_once(':').ok_or_else(|| UrlError::HostPort(text.to_owned()))?;
            if port.parse::<u16>().is_err() {
                return Err(UrlError::HostPort(text.to_owned()));
            }
            Ok(format!("{scheme}://{authority}"))
        }
        _ => Err(UrlError::Scheme(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_need_a_scheme_a_port_and_no_path() {
        assert_eq!(normalize_url("http://10.0.0.1:2380/").unwrap(), "http://10.0.0.1:2380");
        assert_eq!(normalize_url("https://[::1]:2380").unwrap(), "https://[::1]:2380");
        assert_eq!(normalize_url("unix://localhost:20001").unwrap(), "unix://localhost:20001");
        for bad in ["10.0.0.1:2380", "ftp://a:1", "http://a", "http://a:b", "http://a:1/x", "unix://"] {
            assert!(normalize_url(bad).is_err(), "{bad}");
        }
    }
}
