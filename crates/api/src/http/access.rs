//! Who may ask from where: CORS headers, and the host list that keeps web pages from reaching a plain listener.

use std::collections::BTreeSet;

use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderMap,
    HeaderValue, ORIGIN,
};
use http::{Request, Response, StatusCode};

use super::plain_error;
use crate::connection::Via;
use crate::grpc::Body;

pub(super) struct Access {
    origins: BTreeSet<String>,
    /// Empty: any host.
    hosts: BTreeSet<String>,
}

impl Access {
    pub(super) fn new(origins: &[String], hosts: &[String]) -> Access {
        let any_host = hosts.iter().any(|host| host == "*");
        Access {
            origins: origins.iter().cloned().collect(),
            hosts: if any_host { BTreeSet::new() } else { hosts.iter().cloned().collect() },
        }
    }

    /// CORS headers for the answer, or the refusal of a host that is not on the list.
    pub(super) fn check<B>(&self, request: &Request<B>, via: Via) -> Result<HeaderMap, Box<Response<Body>>> {
        if via == Via::Plain {
            let host = host_name(request);
            if !self.hosts.is_empty() && !self.hosts.contains(&host) {
                tracing::warn!(host, "rejecting HTTP request to prevent DNS rebinding attacks");
                return Err(Box::new(plain_error(StatusCode::MISDIRECTED_REQUEST, &misdirected(&host))));
            }
        }
        let origin = request.headers().get(ORIGIN).filter(|origin| !origin.is_empty());
        let allowed = match origin {
            _ if self.origins.contains("*") => Some(HeaderValue::from_static("*")),
            Some(origin) if origin.to_str().is_ok_and(|origin| self.origins.contains(origin)) => {
                Some(origin.clone())
            }
            _ => None,
        };
        let mut headers = HeaderMap::new();
        if let Some(origin) = allowed {
            let methods = HeaderValue::from_static("POST, GET, OPTIONS, PUT, DELETE");
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
            let accepted = HeaderValue::from_static("accept, content-type, authorization");
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, accepted);
        }
        Ok(headers)
    }
}

/// The host that was asked for, without its port.
fn host_name<B>(request: &Request<B>) -> String {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let host =
        host.or_else(|| request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
    let without_port = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    };
    without_port.trim_start_matches('[').trim_end_matches(']').to_owned()
}

/// Compat: the same three hints as etcd's page, which names the flag and the CVE.
fn misdirected(host: &str) -> String {
    format!(
        "\nthe request arrived, but its Host header {host:?} is not on the list of allowed hosts.\n\n\
         Either use TLS, where any host is allowed, or add the host to the list:\n\
         - etcd --host-whitelist {host:?}\n\n\
         The list protects against \"DNS Rebinding\" attacks (CVE-2018-5702).\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(access: &Access, host: &str, origin: Option<&str>, via: Via) -> Result<HeaderMap, StatusCode> {
        let mut request = Request::new(());
        request.headers_mut().insert(HOST, host.parse().unwrap());
        if let Some(origin) = origin {
            request.headers_mut().insert(ORIGIN, origin.parse().unwrap());
        }
        access.check(&request, via).map_err(|refusal| refusal.status())
    }

    fn list(items: &[&str]) -> Vec<String> {
        items.iter().map(|item| (*item).to_owned()).collect()
    }

    #[test]
    fn hosts() {
        let access = Access::new(&[], &list(&["good.example"]));
        assert!(ask(&access, "good.example:2379", None, Via::Plain).is_ok());
        for bad in ["localhost:2379", "evil.example", "127.0.0.1"] {
            assert_eq!(ask(&access, bad, None, Via::Plain), Err(StatusCode::MISDIRECTED_REQUEST));
            assert!(ask(&access, bad, None, Via::Tls).is_ok());
        }
        assert!(ask(&Access::new(&[], &list(&["*"])), "evil", None, Via::Plain).is_ok());
        assert!(ask(&Access::new(&[], &[]), "evil", None, Via::Plain).is_ok());
    }

    #[test]
    fn origins() {
        let any = Access::new(&list(&["*"]), &[]);
        assert_eq!(ask(&any, "h", None, Via::Plain).unwrap()[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        let one = Access::new(&list(&["http://a:1"]), &[]);
        assert!(ask(&one, "h", None, Via::Plain).unwrap().is_empty());
        assert!(ask(&one, "h", Some("http://b:1"), Via::Plain).unwrap().is_empty());
        let headers = ask(&one, "h", Some("http://a:1"), Via::Plain).unwrap();
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_ORIGIN], "http://a:1");
        assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "POST, GET, OPTIONS, PUT, DELETE");
    }
}
