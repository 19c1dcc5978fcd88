//! Whether a request ever left: a transport that notices when its body is taken.
//!
//! A call may fail while it waits for a connection. Then it surely had no effect, and knowing that keeps
//! histories of times without a member free of writes that might have happened. HTTP/2 sends a request's
//! message as its body; until the body is asked for, no member can have seen the message. The connection
//! runs by itself, so asking whether the message left also decides that it will not leave any more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};

use client::Transport;
use http::Request;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use tower_service::Service;

const WAITING: u8 = 0;
const TAKEN: u8 = 1;
const WITHDRAWN: u8 = 2;

/// A transport for one call.
#[derive(Clone)]
pub struct Probe {
    inner: Transport,
    message: Arc<AtomicU8>,
}

/// The message of that call.
#[derive(Clone)]
pub struct Message(Arc<AtomicU8>);

impl Probe {
    pub fn new(inner: Transport) -> (Probe, Message) {
        let message = Arc::new(AtomicU8::new(WAITING));
        (Probe { inner, message: Arc::clone(&message) }, Message(message))
    }
}

impl Message {
    /// Whether it never left; from now on it never will.
    pub fn withdraw(&self) -> bool {
        swap(&self.0, WITHDRAWN)
    }
}

/// Whether the message is now what it was to become, and was not the other before.
fn swap(message: &AtomicU8, to: u8) -> bool {
    match message.compare_exchange(WAITING, to, Ordering::SeqCst, Ordering::SeqCst) {
        Ok(_) => true,
        Err(now) => now == to,
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
        let message = Arc::clone(&self.message);
        self.inner.call(request.map(|body| Body::new(Noticed { body, message })))
    }
}

struct Noticed {
    body: Body,
    message: Arc<AtomicU8>,
}

impl http_body::Body for Noticed {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<bytes::Bytes>, Status>>> {
        if !swap(&self.message, TAKEN) {
            return Poll::Ready(Some(Err(Status::cancelled("withdrawn before it left"))));
        }
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_taken_or_withdrawn_and_never_both() {
        let message = Message(Arc::new(AtomicU8::new(WAITING)));
        assert!(swap(&message.0, TAKEN) && swap(&message.0, TAKEN), "a body has many frames");
        assert!(!message.withdraw());
        let message = Message(Arc::new(AtomicU8::new(WAITING)));
        assert!(message.withdraw() && message.withdraw());
        assert!(!swap(&message.0, TAKEN));
    }
}
