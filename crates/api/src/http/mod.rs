//! What is not gRPC: health, metrics, versions, variables. Texts and headers are those of etcd.

mod access;
mod health;
mod variables;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_ENCODING, CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use prometheus::{Encoder, Registry, TextEncoder};
use server::{SERVER_VERSION, Server};

use self::access::Access;
use self::health::HealthMetrics;
use crate::config::ApiConfig;
use crate::connection::{HttpService, Via};
use crate::grpc::Body;
use crate::grpc::body::BoxFuture;

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Every HTTP route. `/v3/…` will go to the JSON gateway; until then it is not found.
#[derive(Clone)]
pub(crate) struct Routes {
    shared: Arc<Shared>,
}

struct Shared {
    server: Server,
    registry: Registry,
    health: HealthMetrics,
    access: Access,
    request_timeout: Duration,
}

impl Routes {
    pub(crate) fn new(config: &ApiConfig, server: Server, registry: &Registry) -> prometheus::Result<Routes> {
        Ok(Routes {
            shared: Arc::new(Shared {
                server,
                registry: registry.clone(),
                health: HealthMetrics::register(registry)?,
                access: Access::new(&config.cors, &config.host_whitelist),
                request_timeout: config.request_timeout,
            }),
        })
    }
}

impl HttpService for Routes {
    fn respond(&self, request: Request<Incoming>, via: Via) -> BoxFuture<Response<Body>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(async move {
            // The metrics listeners have neither CORS nor a host list.
            if via == Via::Metrics {
                return shared.route(&request, via).await;
            }
            match shared.access.check(&request, via) {
                Err(refusal) => *refusal,
                Ok(headers) => {
                    let mut response = if request.method() == Method::OPTIONS && !headers.is_empty() {
                        Response::new(Body::Empty)
                    } else {
                        shared.route(&request, via).await
                    };
                    response.headers_mut().extend(headers);
                    response
                }
            }
        })
    }
}

impl Shared {
    async fn route(&self, request: &Request<Incoming>, via: Via) -> Response<Body> {
        match request.uri().path() {
            "/metrics" => self.metrics(request),
            "/health" => self.health(request).await,
            path if path.starts_with("/livez") || path.starts_with("/readyz") => {
                self.checks(path, request).await
            }
            _ if via == Via::Metrics => not_found(),
            "/version" => version(&self.server, request),
            "/debug/vars" => json(self.variables()),
            _ => not_found(),
        }
    }

    fn metrics(&self, request: &Request<Incoming>) -> Response<Body> {
        self.server.refresh_metrics();
        let mut text = Vec::new();
        let encoder = TextEncoder::new();
        if let Err(error) = encoder.encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%error, "failed to write metrics");
            return plain_error(StatusCode::INTERNAL_SERVER_ERROR, "metrics cannot be written");
        }
        let gzip = request
            .headers()
            .get(http::header::ACCEPT_ENCODING)
            .and_then(|value| value.to_str().ok())
            .is_some_and(|accepted| accepted.split(',').any(|part| part.trim().starts_with("gzip")));
        let mut response = Response::new(Body::Empty);
        let content_type = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        if gzip {
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            let mut encoder = flate2::read::GzEncoder::new(&text[..], flate2::Compression::fast());
            let mut compressed = Vec::new();
            std::io::Read::read_to_end(&mut encoder, &mut compressed).expect("reading memory does not fail");
            text = compressed;
        }
        *response.body_mut() = Body::Http(text.into());
        response
    }
}

fn version(server: &Server, request: &Request<Incoming>) -> Response<Body> {
    if request.method() != Method::GET {
        return method_not_allowed();
    }
    let cluster = server.cluster().version().map_or("not_decided".to_owned(), |v| v.to_string());
    let storage = server.storage_version().map_or("unknown".to_owned(), |v| v.to_string());
    json(format!(r#"{{"etcdserver":"{SERVER_VERSION}","etcdcluster":"{cluster}","storage":"{storage}"}}"#))
}

fn json(body: String) -> Response<Body> {
    let mut response = Response::new(Body::Http(body.into()));
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// As Go's `http.Error`: plain text, not to be guessed at, with a newline behind it.
fn plain_error(status: StatusCode, text: &str) -> Response<Body> {
    let mut response = Response::new(Body::Http(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, TEXT);
    response.headers_mut().insert(http::header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn not_found() -> Response<Body> {
    plain_error(StatusCode::NOT_FOUND, "404 page not found")
}

fn method_not_allowed() -> Response<Body> {
    let mut response = plain_error(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
    response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
    response
}

/// Values of one query parameter, percent-decoded, in order.
fn query_values(request: &Request<Incoming>, name: &str) -> Vec<String> {
    query_pairs(request.uri().query().unwrap_or_default())
        .filter(|(key, _)| key == name)
        .map(|(_, value)| value)
        .collect()
}

fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (percent_decode(key), percent_decode(value))
    })
}

fn percent_decode(text: &str) -> String {
    let mut decoded = Vec::with_capacity(text.len());
    let mut octets = text.bytes();
    while let Some(octet) = octets.next() {
        let mut ahead = octets.clone();
        let hex = |b: Option<u8>| b.and_then(|b| char::from(b).to_digit(16));
        match (octet, hex(ahead.next()), hex(ahead.next())) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                octets = ahead;
            }
            (b'+', ..) => decoded.push(b' '),
            _ => decoded.push(octet),
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let pairs: Vec<_> = query_pairs("exclude=NO%53PACE&exclude=a+b&verbose&x=%zz").collect();
        let expected = [("exclude", "NOSPACE"), ("exclude", "a b"), ("verbose", ""), ("x", "%zz")];
        assert_eq!(pairs, expected.map(|(k, v)| (k.to_owned(), v.to_owned())));
    }
}
