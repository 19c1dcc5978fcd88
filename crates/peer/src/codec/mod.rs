//! How raft messages lie in streams.
//!
//! | stream | frame |
//! |---|---|
//! | [`message`] | length (8 bytes, big-endian), message |
//! | [`msgapp`] | one byte that tells a heartbeat, entries that follow those before, or a whole message |
//!
//! Decoders are fed what the network gives and never hold more than has arrived: a length that is announced
//! reserves nothing.

pub mod message;
pub mod msgapp;

use std::fmt;

use bytes::{Buf, Bytes, BytesMut};
use raft::Message;
use raft::codec::CodecError;

/// The longest message of a stream. Source: etcd `server/etcdserver/api/rafthttp/msg_codec.go`.
pub const MESSAGE_BYTES_MAX: u64 = 512 << 20;

/// What one frame says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// The stream is alive.
    Heartbeat,
    Message(Box<Message>),
}

/// The other side does not speak the protocol, or lies.
#[derive(Debug, PartialEq, Eq)]
pub enum FrameError {
    TooLong { announced: u64 },
    UnknownType { kind: u8 },
    Codec(CodecError),
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FrameError::TooLong { announced } => {
                write!(f, "a message of {announced} bytes is longer than {MESSAGE_BYTES_MAX}")
            }
            FrameError::UnknownType { kind } => write!(f, "a frame of the unknown type {kind}"),
            FrameError::Codec(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for FrameError {}

impl From<CodecError> for FrameError {
    fn from(error: CodecError) -> FrameError {
        FrameError::Codec(error)
    }
}

/// Turns frames into bytes.
pub trait Encode: Send + 'static {
    fn message(&mut self, message: &Message, out: &mut BytesMut);
    fn heartbeat(&mut self, out: &mut BytesMut);
}

/// Turns bytes into frames.
pub trait Decode: Send + 'static {
    /// Adds what has arrived.
    fn feed(&mut self, bytes: Bytes);

    /// The next frame; `None` until more has arrived.
    ///
    /// # Errors
    /// Nothing that follows can be understood: the stream must end.
    fn next(&mut self) -> Result<Option<Frame>, FrameError>;
}

/// What has arrived and is not decoded yet.
#[derive(Default)]
struct Inflow {
    bytes: BytesMut,
}

impl Inflow {
    fn feed(&mut self, bytes: Bytes) {
        if self.bytes.is_empty() {
            // The common case: a piece holds whole frames, which stay slices of it.
            self.bytes = BytesMut::from(bytes);
        } else {
            self.bytes.extend_from_slice(&bytes);
        }
    }

    /// A number at an offset, if it is there.
    fn number_at(&self, offset: usize) -> Option<u64> {
        let bytes = self.bytes.get(offset..offset + 8)?;
        Some(u64::from_be_bytes(bytes.try_into().expect("eight bytes")))
    }

    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn skip(&mut self, len: usize) {
        self.bytes.advance(len);
    }

    fn take(&mut self, len: usize) -> Bytes {
        self.bytes.split_to(len).freeze()
    }
}

fn checked_len(announced: u64) -> Result<usize, FrameError> {
    match usize::try_from(announced) {
        Ok(len) if announced <= MESSAGE_BYTES_MAX => Ok(len),
        _ => Err(FrameError::TooLong { announced }),
    }
}
