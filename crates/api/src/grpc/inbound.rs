//! Messages of a request's body, one after the other, within the receive limit.

use std::io::Read;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use http_body::Body as _;
use hyper::body::Incoming;

use super::message::PREFIX_BYTES;
use super::metrics::{ByteCounters, MethodMetrics};
use super::status::{Code, Status};
use std::sync::Arc;

/// How a request's messages may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
}

impl Encoding {
    /// By the request's `grpc-encoding`.
    pub(super) fn of(headers: &http::HeaderMap) -> Result<Encoding, Status> {
        match headers.get("grpc-encoding").map(|value| value.as_bytes()) {
            None | Some(b"" | b"identity") => Ok(Encoding::Identity),
            Some(b"gzip") => Ok(Encoding::Gzip),
            Some(other) => Err(Status::new(
                Code::Unimplemented,
                format!(
                    "grpc: Decompressor is not installed for grpc-encoding {:?}",
                    String::from_utf8_lossy(other)
                ),
            )),
        }
    }
}

/// The client's side of a call.
pub(crate) struct Inbound {
    body: Incoming,
    /// Read, not yet part of a message given out. Bounded by the receive limit and HTTP/2's window.
    buffer: Buffer,
    limit: usize,
    encoding: Encoding,
    ended: bool,
    bytes: ByteCounters,
    method: Option<Arc<MethodMetrics>>,
}

/// Octets read so far. A chunk that holds whole messages is cut, not copied.
#[derive(Default)]
struct Buffer {
    chunk: Bytes,
    gathered: BytesMut,
}

impl Buffer {
    fn len(&self) -> usize {
        if self.gathered.is_empty() { self.chunk.len() } else { self.gathered.len() }
    }

    fn push(&mut self, data: Bytes) {
        if self.len() == 0 {
            self.chunk = data;
            return;
        }
        if self.gathered.is_empty() {
            self.gathered = BytesMut::with_capacity(self.chunk.len() + data.len());
            self.gathered.extend_from_slice(&std::mem::take(&mut self.chunk));
        }
        self.gathered.extend_from_slice(&data);
    }

    fn prefix(&self) -> Option<[u8; PREFIX_BYTES]> {
        let octets: &[u8] = if self.gathered.is_empty() { &self.chunk } else { &self.gathered };
        octets.first_chunk().copied()
    }

    /// The caller saw that so many octets are there.
    fn take(&mut self, len: usize) -> Bytes {
        if self.gathered.is_empty() { self.chunk.split_to(len) } else { self.gathered.split_to(len).freeze() }
    }
}

impl Inbound {
    pub(super) fn new(body: Incoming, limit: usize, encoding: Encoding, bytes: ByteCounters) -> Inbound {
        Inbound { body, buffer: Buffer::default(), limit, encoding, ended: false, bytes, method: None }
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
            if let Some(payload) = self.cut()? {
                self.bytes.received.inc_by(payload.len() as u64);
                if let Some(method) = &self.method {
                    method.msg_received.inc();
                }
                return Poll::Ready(Ok(Some(payload)));
            }
            if self.ended {
                return Poll::Ready(if self.buffer.len() == 0 {
                    Ok(None)
                } else {
                    Err(Status::new(Code::Internal, "unexpected EOF"))
                });
            }
            match ready!(Pin::new(&mut self.body).poll_frame(cx)) {
                None => self.ended = true,
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.push(data);
                    }
                }
                // Nobody is there to read this.
                Some(Err(_)) => return Poll::Ready(Err(Status::new(Code::Canceled, "context canceled"))),
            }
        }
    }

    /// One message off the buffer, if it is all there.
    fn cut(&mut self) -> Result<Option<Bytes>, Status> {
        let Some([flag, length @ ..]) = self.buffer.prefix() else { return Ok(None) };
        let length = u32::from_be_bytes(length) as usize;
        if length > self.limit {
            let text = format!("grpc: received message larger than max ({length} vs. {})", self.limit);
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        if self.buffer.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let mut payload = self.buffer.take(PREFIX_BYTES + length);
        payload.advance(PREFIX_BYTES);
        match (flag, self.encoding) {
            (0, _) => Ok(Some(payload)),
            (1, Encoding::Gzip) => self.gunzip(&payload).map(Some),
            (1, Encoding::Identity) => {
                Err(Status::new(Code::Internal, "grpc: compressed flag set with identity or empty encoding"))
            }
            (flag, _) => {
                Err(Status::new(Code::Internal, format!("grpc: received unexpected payload format {flag}")))
            }
        }
    }

    fn gunzip(&self, payload: &[u8]) -> Result<Bytes, Status> {
        let mut plain = Vec::new();
        let limit = self.limit as u64;
        flate2::read::MultiGzDecoder::new(payload).take(limit + 1).read_to_end(&mut plain).map_err(
            |error| {
                Status::new(
                    Code::Internal,
                    format!("grpc: failed to decompress the received message: {error}"),
                )
            },
        )?;
        if plain.len() as u64 > limit {
            let text = format!("grpc: received message after decompression larger than max {limit}");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        Ok(plain.into())
    }
}

pub(super) fn decode<M: prost::Message + Default>(payload: Bytes) -> Result<M, Status> {
    M::decode(payload)
        .map_err(|error| Status::new(Code::Internal, format!("grpc: error unmarshalling request: {error}")))
}
