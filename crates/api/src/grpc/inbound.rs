//! Messages of a request's body, one after the other.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Body as _;
use hyper::body::Incoming;

use super::framing::{Encoding, Framing};
use super::metrics::{ByteCounters, MethodMetrics};
use super::status::{Code, Status};

/// The client's side of a call.
pub(crate) struct Inbound {
    body: Incoming,
    framing: Framing,
    ended: bool,
    bytes: ByteCounters,
    method: Option<Arc<MethodMetrics>>,
}

impl Inbound {
    pub(super) fn new(body: Incoming, limit: usize, encoding: Encoding, bytes: ByteCounters) -> Inbound {
        Inbound { body, framing: Framing::new(limit, encoding), ended: false, bytes, method: None }
    }

    /// From now on messages count for this method.
    pub(super) fn count_for(&mut self, method: Arc<MethodMetrics>) {
        self.method = Some(method);
    }

    /// The next message, decoded. `None`: the client has sent its last.
    ///
    /// # Errors
    /// A message too large, badly framed or badly encoded; or the client is gone.
    pub(crate) async fn next<M: prost::Message + Default>(&mut self) -> Result<Option<M>, Status> {
        match self.next_payload().await? {
            Some(payload) => decode(payload).map(Some),
            None => Ok(None),
        }
    }

    pub(super) async fn next_payload(&mut self) -> Result<Option<Bytes>, Status> {
        std::future::poll_fn(|cx| self.poll_payload(cx)).await
    }

    pub(super) fn poll_payload(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, Status>> {
        loop {
            if let Some(payload) = self.framing.next()? {
                self.bytes.received.inc_by(payload.len() as u64);
                if let Some(method) = &self.method {
                    method.msg_received.inc();
                }
                return Poll::Ready(Ok(Some(payload)));
            }
            if self.ended {
                return Poll::Ready(if self.framing.is_empty() {
                    Ok(None)
                } else {
                    Err(Status::new(Code::Internal, "unexpected EOF"))
                });
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.framing.push(data);
                    }
                }
                // Nobody is there to read this.
                Some(Err(_)) => return Poll::Ready(Err(Status::new(Code::Canceled, "context canceled"))),
            }
        }
    }
}

pub(super) fn decode<M: prost::Message + Default>(payload: Bytes) -> Result<M, Status> {
    M::decode(payload)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}
