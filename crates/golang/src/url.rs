//! Listen and advertise URLs: `http`, `https`, `unix` or `unixs`, a host with a port, no path.

use std::fmt;

use crate::quote::quote;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scheme {
    Http,
    Https,
    Unix,
    Unixs,
}

impl Scheme {
    pub fn is_unix(self) -> bool {
        matches!(self, Scheme::Unix | Scheme::Unixs)
    }
}

/// A URL that passed etcd's check for listen and advertise URLs. Ordered by its text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Url {
    /// As given, without surrounding blanks; etcd prints and hashes it so.
    text: String,
    scheme: Scheme,
    /// `host:port`, or the first part of a socket's path.
    authority: String,
    path: String,
}

impl Url {
    /// The error is etcd's text.
    pub fn parse(text: &str) -> Result<Url, String> {
        let text = text.trim();
        let (scheme, rest) = split_scheme(text)?;
        let (authority, path, has_authority) = match rest.strip_prefix("//") {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (&rest[..end], &rest[end..], true)
            }
            None => ("", rest, false),
        };
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if has_authority {
            check_authority(text, authority)?;
        }
        let path = &path[..path.find(['?', '#']).unwrap_or(path.len())];
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "unix" => Scheme::Unix,
            "unixs" => Scheme::Unixs,
            _ => return Err(format!("URL scheme must be http, https, unix, or unixs: {text}")),
        };
        if !scheme.is_unix() {
            if split_host_port(authority).is_none() {
                return Err(format!("URL address does not have the form \"host:port\": {text}"));
            }
            if !path.is_empty() {
                return Err(format!("URL must not contain a path: {text}"));
            }
        }
        Ok(Url { text: text.to_owned(), scheme, authority: authority.to_owned(), path: path.to_owned() })
    }

    /// A comma-separated list, sorted by text as etcd sorts it.
    pub fn parse_list(text: &str) -> Result<Vec<Url>, String> {
        let mut urls = text.split(',').map(Url::parse).collect::<Result<Vec<Url>, String>>()?;
        urls.sort();
        Ok(urls)
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Where to bind: `host:port`, or the path of a socket.
    pub fn address(&self) -> String {
        if self.scheme.is_unix() {
            format!("{}{}", self.authority, self.path)
        } else {
            self.authority.clone()
        }
    }

    /// Host without brackets, and port; `None` for sockets.
    pub fn host_port(&self) -> Option<(&str, &str)> {
        if self.scheme.is_unix() { None } else { split_host_port(&self.authority) }
    }

    /// The same URL at another host and port.
    pub fn at(&self, host: &str, port: &str) -> Url {
        let scheme = self.text.split(':').next().unwrap_or("http");
        let authority =
            if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        Url { text: format!("{scheme}://{authority}"), scheme: self.scheme, authority, path: String::new() }
    }

    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// As Go writes it back, and ids are made from it: the scheme in small letters.
    pub fn normalized(&self) -> String {
        match self.text.split_once(':') {
            Some((scheme, rest)) => format!("{}:{rest}", scheme.to_ascii_lowercase()),
            None => self.text.clone(),
        }
    }
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// The pairs of `name=url,name=url2`, in the order given: what `--initial-cluster` takes. The error is etcd's
/// text.
pub fn parse_named(text: &str) -> Result<Vec<(String, Url)>, String> {
    let parts = text.split(',').filter(|part| !part.is_empty());
    let pairs = parts.map(|part| {
        let (name, url) = part.split_once('=').unwrap_or((part, ""));
        Ok((name.to_owned(), Url::parse(url)?))
    });
    pairs.collect()
}

pub fn texts(urls: &[Url]) -> Vec<String> {
    urls.iter().map(|url| url.text.clone()).collect()
}

fn split_scheme(text: &str) -> Result<(&str, &str), String> {
    let parse_error = |why: &str| Err(format!("parse {}: {why}", quote(text.as_bytes())));
    if text.bytes().any(|b| b.is_ascii_control()) {
        return parse_error("net/url: invalid control character in URL");
    }
    let scheme_len = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.')))
        .unwrap_or(text.len());
    let (scheme, rest) = text.split_at(scheme_len);
    match rest.strip_prefix(':') {
        Some(_) if scheme.is_empty() => parse_error("missing protocol scheme"),
        Some(rest) if scheme.starts_with(|c: char| c.is_ascii_alphabetic()) => Ok((scheme, rest)),
        _ => {
            let segment = text.split('/').next().unwrap_or(text);
            if segment.contains(':') {
                return parse_error("first path segment in URL cannot contain colon");
            }
            Ok(("", text))
        }
    }
}

fn check_authority(text: &str, authority: &str) -> Result<(), String> {
    let parse_error = |why: String| Err(format!("parse {}: {why}", quote(text.as_bytes())));
    if let Some(bad) =
        authority.chars().find(|c| matches!(c, ' ' | '"' | '<' | '>' | '\\' | '^' | '`' | '{' | '|' | '}'))
    {
        return parse_error(format!("invalid character {} in host name", quote(bad.to_string().as_bytes())));
    }
    if let Some(start) = authority.find('%').filter(|_| !authority.starts_with('[')) {
        let escape: String = authority[start..].chars().take(3).collect();
        return parse_error(format!("invalid URL escape {}", quote(escape.as_bytes())));
    }
    let after_host = match authority.strip_prefix('[') {
        Some(rest) => match rest.find(']') {
            Some(end) => &rest[end + 1..],
            None => return parse_error("missing ']' in host".to_owned()),
        },
        None => authority.find(':').map_or("", |colon| &authority[colon..]),
    };
    let port_is_valid = after_host.is_empty()
        || after_host.strip_prefix(':').is_some_and(|p| p.bytes().all(|b| b.is_ascii_digit()));
    if !port_is_valid {
        return parse_error(format!("invalid port {} after host", quote(after_host.as_bytes())));
    }
    Ok(())
}

/// Host (brackets removed) and port; `None` without a port, or with colons outside brackets.
fn split_host_port(authority: &str) -> Option<(&str, &str)> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']')?;
        return Some((host, port.strip_prefix(':')?));
    }
    let (host, port) = authority.split_once(':')?;
    if port.contains(':') { None } else { Some((host, port)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_worded_as_etcd_words_them() {
        let error = |text: &str| Url::parse(text).expect_err(text);
        assert_eq!(error("foo"), "URL scheme must be http, https, unix, or unixs: foo");
        assert_eq!(error("localhost:2379"), "URL scheme must be http, https, unix, or unixs: localhost:2379");
        assert_eq!(
            error("127.0.0.1:2379"),
            "parse \"127.0.0.1:2379\": first path segment in URL cannot contain colon"
        );
        assert_eq!(error(":2379"), "parse \":2379\": missing protocol scheme");
        assert_eq!(error("http://a"), "URL address does not have the form \"host:port\": http://a");
        assert_eq!(error("http://a:1/x"), "URL must not contain a path: http://a:1/x");
        assert_eq!(
            error("http://a%z\u{e9}:1"),
            "parse \"http://a%z\u{e9}:1\": invalid URL escape \"%z\u{e9}\""
        );
        assert_eq!(error("http://a:b"), "parse \"http://a:b\": invalid port \":b\" after host");
        assert_eq!(
            error("http://::1:2379"),
            "parse \"http://::1:2379\": invalid port \"::1:2379\" after host"
        );
    }

    #[test]
    fn sockets_and_hosts_give_their_address() {
        let address = |text: &str| Url::parse(text).expect(text).address();
        assert_eq!(address("unix://localhost:20001"), "localhost:20001");
        assert_eq!(address("unix:///abs/path"), "/abs/path");
        assert_eq!(address("unix:/abs/path"), "/abs/path");
        assert_eq!(address(" https://[::1]:2379 "), "[::1]:2379");
        assert_eq!(Url::parse("HTTP://A:1").expect("valid").normalized(), "http://A:1");
        let url = Url::parse("http://[::1]:2379").expect("valid");
        assert_eq!(url.host_port(), Some(("::1", "2379")));
        assert_eq!(url.at("10.0.0.1", "1").as_str(), "http://10.0.0.1:1");
    }

    #[test]
    fn lists_are_sorted() {
        let urls = Url::parse_list("http://b:1,http://a:1").expect("valid");
        assert_eq!(texts(&urls), ["http://a:1", "http://b:1"]);
    }
}
