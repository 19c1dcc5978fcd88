//! Bodies of answers and requests: whole, or piece by piece from a queue.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, DuplexStream, ReadBuf};
use tokio::sync::mpsc;

/// Bytes that are read from a pipe at once.
const PIPE_READ_BYTES: usize = 8 << 10;

/// A body of ours.
pub enum Body {
    /// `None` once it is sent.
    Whole(Option<Bytes>),
    /// Ends when the senders are gone, or with an error when one says that it must not count as whole.
    Pieces(mpsc::Receiver<Piece>),
    /// Ends with the pipe.
    Pipe(DuplexStream),
}

/// Part of a body.
pub enum Piece {
    Bytes(Bytes),
    /// What was sent so far is of no use: the connection is cut.
    Broken,
}

/// A body that must not be taken for whole.
#[derive(Debug)]
pub struct BrokenBody;

impl std::fmt::Display for BrokenBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body could not be sent to its end")
    }
}

impl std::error::Error for BrokenBody {}

impl From<Infallible> for BrokenBody {
    fn from(never: Infallible) -> BrokenBody {
        match never {}
    }
}

impl Body {
    pub fn empty() -> Body {
        Body::Whole(None)
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Body {
        Body::Whole(Some(bytes.into()).filter(|bytes| !bytes.is_empty()))
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = BrokenBody;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenBody>>> {
        match self.get_mut() {
            Body::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Body::Pieces(pieces) => pieces.poll_recv(cx).map(|piece| match piece {
                Some(Piece::Bytes(bytes)) => Some(Ok(Frame::data(bytes))),
                Some(Piece::Broken) => Some(Err(BrokenBody)),
                None => None,
            }),
            Body::Pipe(pipe) => {
                let mut bytes = vec![0; PIPE_READ_BYTES];
                let mut read = ReadBuf::new(&mut bytes);
                if ready!(Pin::new(pipe).poll_read(cx, &mut read)).is_err() {
                    return Poll::Ready(Some(Err(BrokenBody)));
                }
                let len = read.filled().len();
                bytes.truncate(len);
                Poll::Ready((len > 0).then(|| Ok(Frame::data(bytes.into()))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Body::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Body::Pieces(_) | Body::Pipe(_) => SizeHint::new(),
        }
    }
}
