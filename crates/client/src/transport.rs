//! The road from a stub to a connection, as a service that tonic's stubs run on.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HeaderValue, USER_AGENT};
use http::{Request, Response, Uri};
use http_body::Frame;
use hyper::body::Incoming;
use tonic::body::Body;
use tonic::{Code, Status};

use crate::pool::Pool;
use crate::retry::NOT_SENT;

/// Sends each request over the next ready connection of a client. Cheap to clone; any stub of
/// `proto` runs on it: `KvClient::new(client.transport())`. Stubs made so neither repeat nor
/// authenticate.
#[derive(Clone)]
pub struct Transport {
    pool: Arc<Pool>,
}

impl Transport {
    pub(crate) fn new(pool: Arc<Pool>) -> Transport {
        Transport { pool }
    }
}

impl tower_service::Service<Request<Body>> for Transport {
    type Response = Response<Reply>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Reply>, Status>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let pool = self.pool.clone();
        Box::pin(async move { send(&pool, request).await })
    }
}

async fn send(pool: &Pool, mut request: Request<Body>) -> Result<Response<Reply>, Status> {
    request.headers_mut().insert(USER_AGENT, HeaderValue::from_static("kelson/3.7.3"));
    loop {
        let mut connection = pool.pick().await;
        *request.uri_mut() = Uri::builder()
            .scheme(connection.scheme)
            .authority(connection.authority)
            .path_and_query(request.uri().path())
            .build()
            .map_err(|error| Status::internal(error.to_string()))?;
        match connection.sender.try_send_request(request).await {
            Ok(response) => return Ok(response.map(Reply)),
            // Handed back unsent, as the connection went away meanwhile: the next one, please. The
            // node's task withdraws the dead one; let it run.
            Err(mut refused) => match refused.take_message() {
                Some(unsent) => {
                    request = unsent;
                    tokio::task::yield_now().await;
                }
                None => return Err(status_of(refused.error())),
            },
        }
    }
}

/// A response's body whose failures are gRPC statuses.
pub struct Reply(Incoming);

impl http_body::Body for Reply {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = Pin::new(&mut self.0).poll_frame(cx);
        frame.map(|frame| frame.map(|frame| frame.map_err(|error| status_of(&error))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}

/// The status for a broken stream or connection, by the table in gRPC's HTTP/2 mapping.
fn status_of(error: &hyper::Error) -> Status {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(error) = source {
        if let Some(h2) = error.downcast_ref::<h2::Error>() {
            return status_of_h2(h2);
        }
        source = error.source();
    }
    Status::unavailable(format!("error reading from server: {error}"))
}

fn status_of_h2(error: &h2::Error) -> Status {
    if error.is_io() || error.is_go_away() {
        return Status::unavailable("error reading from server: EOF");
    }
    let Some(reason) = error.reason() else {
        return Status::unavailable(error.to_string());
    };
    let code = match reason {
        // The peer never looked at it: as good as unsent.
        h2::Reason::REFUSED_STREAM => return Status::unavailable(NOT_SENT),
        h2::Reason::CANCEL => Code::Cancelled,
        h2::Reason::ENHANCE_YOUR_CALM => Code::ResourceExhausted,
        h2::Reason::INADEQUATE_SECURITY => Code::PermissionDenied,
        _ => Code::Internal,
    };
    Status::new(code, format!("stream terminated by RST_STREAM with error code: {}", go_name(reason)))
}

fn go_name(reason: h2::Reason) -> &'static str {
    match reason {
        h2::Reason::NO_ERROR => "NO_ERROR",
        h2::Reason::PROTOCOL_ERROR => "PROTOCOL_ERROR",
        h2::Reason::INTERNAL_ERROR => "INTERNAL_ERROR",
        h2::Reason::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
        h2::Reason::STREAM_CLOSED => "STREAM_CLOSED",
        h2::Reason::FRAME_SIZE_ERROR => "FRAME_SIZE_ERROR",
        h2::Reason::CANCEL => "CANCEL",
        h2::Reason::COMPRESSION_ERROR => "COMPRESSION_ERROR",
        h2::Reason::ENHANCE_YOUR_CALM => "ENHANCE_YOUR_CALM",
        h2::Reason::INADEQUATE_SECURITY => "INADEQUATE_SECURITY",
        _ => "UNKNOWN",
    }
}
