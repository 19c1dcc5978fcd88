//! Messages cut out of a stream of octets: five of prefix, then the payload, perhaps packed.

use std::io::Read;

use bytes::{Buf, Bytes, BytesMut};

use super::message::PREFIX_BYTES;
use super::status::{Code, Status};

/// How a request's messages may be compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
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

/// Octets that came in, and the messages that are whole among them.
pub(crate) struct Framing {
    /// Read, not yet part of a message given out. Bounded by the limit and HTTP/2's window.
    buffer: Buffer,
    /// Largest message, packed or not.
    limit: usize,
    encoding: Encoding,
}

impl Framing {
    pub(crate) fn new(limit: usize, encoding: Encoding) -> Framing {
        Framing { buffer: Buffer::default(), limit, encoding }
    }

    pub(crate) fn push(&mut self, data: Bytes) {
        self.buffer.push(data);
    }

    /// No octet of an unfinished message is left.
    pub(super) fn is_empty(&self) -> bool {
        self.buffer.len() == 0
    }

    /// The next message, unpacked, once it is all there.
    ///
    /// # Errors
    /// grpc-go's: a message too large, before or after unpacking, or badly framed or packed.
    pub(crate) fn next(&mut self) -> Result<Option<Bytes>, Status> {
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
