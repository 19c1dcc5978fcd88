//! What a member alone answers on its peer URLs. The peer protocol itself comes with replication.

use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response};
use hyper::body::Incoming;
use serde_json::{Map, Value, json};
use server::Server;

use super::{JSON, method_not_allowed, not_found, version};
use crate::connection::{HttpService, Via};
use crate::grpc::Body;
use crate::grpc::body::BoxFuture;

pub(crate) struct PeerRoutes {
    server: Server,
}

impl PeerRoutes {
    pub(crate) fn new(server: Server) -> PeerRoutes {
        PeerRoutes { server }
    }

    /// Fields that say nothing are left out, as Go's `omitempty` does.
    fn members(&self, request: &Request<Incoming>) -> Response<Body> {
        if request.method() != Method::GET {
            return method_not_allowed();
        }
        let cluster = self.server.cluster();
        let mut members: Vec<_> = cluster.members().collect();
        members.sort_by_key(|member| member.id);
        let members: Vec<Value> = members
            .into_iter()
            .map(|member| {
                let mut fields = Map::new();
                fields.insert("id".into(), json!(member.id.0));
                fields.insert("peerURLs".into(), json!(member.peer_urls));
                if member.is_learner {
                    fields.insert("isLearner".into(), json!(true));
                }
                if !member.attributes.name.is_empty() {
                    fields.insert("name".into(), json!(member.attributes.name));
                }
                if !member.attributes.client_urls.is_empty() {
                    fields.insert("clientURLs".into(), json!(member.attributes.client_urls));
                }
                Value::Object(fields)
            })
            .collect();
        let mut response = Response::new(Body::Http(format!("{}\n", Value::Array(members)).into()));
        response.headers_mut().insert(CONTENT_TYPE, JSON);
        if let Ok(id) = HeaderValue::from_str(&format!("{:x}", self.server.cluster_id().0)) {
            response.headers_mut().insert("x-etcd-cluster-id", id);
        }
        response
    }
}

impl HttpService for PeerRoutes {
    fn respond(&self, request: Request<Incoming>, _: Via) -> BoxFuture<Response<Body>> {
        let response = match request.uri().path() {
            "/version" => version(&self.server, &request),
            "/members" => self.members(&request),
            _ => not_found(),
        };
        Box::pin(std::future::ready(response))
    }
}
