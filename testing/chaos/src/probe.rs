//! Whether a request ever left: a transport that notices when its body is taken.
//!
//! A call may fail while it waits for a connection. Then it surely had no effect, and knowing that keeps
//! histories of times without a member free of writes that might have happened. HTTP/2 sends a request's
//! message as its body; until the body is asked for, no member can have seen the message.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use client::Transport;
use http::Request;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

/// A transport for one call.
#[derive(Clone)]
pub struct Probe {
    inner: Transport,
    taken: Arc<AtomicBool>,
}

/// What tells afterwards.
#[derive(Clone)]
pub struct Taken(Arc<AtomicBool>);

impl Probe {
    pub fn new(inner: Transport) -> (Probe, Taken) {
        let taken = Arc::new(AtomicBool::new(false));
        (Probe { inner, taken: Arc::clone(&taken) }, Taken(taken))
    }
}

impl Taken {
    pub fn get(&self) -> bool {
        self.0.load(Ordering::SeqCst)
    }
}

impl Service<Request<Body>> for Probe {
    type Response = <Transport as Service<Request<Body>>>::Response;
    type Error = Status;
    type Future = <Transport as Service<Request<Body>>>::Future;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let taken = Arc::clone(&self.taken);
        self.inner.call(request.map(|body| Body::new(Noticed { body, taken })))
    }
}

struct Noticed {
    body: Body,
    taken: Arc<AtomicBool>,
}

impl http_body::Body for Noticed {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        self.taken.store(true, Ordering::SeqCst);
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
