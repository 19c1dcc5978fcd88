//! The body of a response: pieces of messages as HTTP/2 asks for them, then the status as trailers.
//!
//! A streaming handler is a future that runs inside its response's body: it moves only when the client
//! has room for more, and it ends when the client goes away. No task, no unbounded queue.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut, Bytes, BytesMut};
use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tokio::sync::mpsc;

use super::call::CallGuard;
use super::framing::Encoding;
use super::message::Message;
use super::status::{Code, Status};

pub(crate) type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Small messages of a stream share a data frame up to this size.
const GATHER_BYTES: usize = 32 * 1024;
/// A message from this size on gets frames of its own.
const GATHER_MESSAGE_BYTES: usize = 8 * 1024;

/// What hyper sends.
pub(crate) enum Body {
    Empty,
    /// An HTTP answer, whole.
    Http(Bytes),
    Grpc(Box<GrpcBody>),
}

/// Messages, then trailers.
pub(crate) struct GrpcBody {
    /// Being sent.
    current: Option<Message>,
    source: Source,
    encoding: Encoding,
    guard: CallGuard,
}

enum Source {
    /// A unary answer: nothing follows the current message but the status OK.
    One,
    Many(Stream),
    /// The trailers are out.
    Ended,
}

/// A streaming handler with what it has sent so far.
pub(super) struct Stream {
    /// `None` once it has ended.
    handler: Option<BoxFuture<Result<(), Status>>>,
    sent: mpsc::Receiver<Message>,
    outcome: Status,
}

impl Stream {
    pub(super) fn new(handler: BoxFuture<Result<(), Status>>, sent: mpsc::Receiver<Message>) -> Stream {
        Stream { handler: Some(handler), sent, outcome: Status::OK }
    }

    /// The next message, or the outcome once there are no more.
    pub(super) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Message, Status>> {
        // The handler goes first, so that what it has to say now leaves in one frame.
        if let Some(handler) = &mut self.handler
            && let Poll::Ready(outcome) = handler.as_mut().poll(cx)
        {
            self.handler = None;
            self.outcome = outcome.err().unwrap_or(Status::OK);
        }
        match self.sent.poll_recv(cx) {
            Poll::Ready(Some(message)) => Poll::Ready(Ok(message)),
            Poll::Ready(None) => Poll::Ready(Err(self.outcome.clone())),
            Poll::Pending if self.handler.is_none() => Poll::Ready(Err(self.outcome.clone())),
            Poll::Pending => Poll::Pending,
        }
    }

    fn take_waiting(&mut self) -> Option<Message> {
        self.sent.try_recv().ok()
    }
}

impl GrpcBody {
    pub(super) fn unary(message: Message, encoding: Encoding, guard: CallGuard) -> GrpcBody {
        let mut body = GrpcBody { current: None, source: Source::One, encoding, guard };
        body.begin(message);
        body
    }

    /// `first` was sent already, which is why there is a response at all.
    pub(super) fn stream(first: Message, stream: Stream, encoding: Encoding, guard: CallGuard) -> GrpcBody {
        let mut body = GrpcBody { current: None, source: Source::Many(stream), encoding, guard };
        body.begin(first);
        body
    }

    fn begin(&mut self, message: Message) {
        self.guard.count_sent(message.payload_len());
        self.current = Some(match self.encoding {
            Encoding::Identity => message,
            Encoding::Gzip => message.gzip(),
        });
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Frame<Bytes>>> {
        loop {
            if let Some(message) = &mut self.current {
                match message.next_piece() {
                    Some(piece) => return Poll::Ready(Some(Frame::data(self.gather(piece)))),
                    None => self.current = None,
                }
                continue;
            }
            match &mut self.source {
                Source::Ended => return Poll::Ready(None),
                Source::One => return Poll::Ready(Some(self.trailers(Status::OK))),
                Source::Many(stream) => match stream.poll_next(cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Ok(message)) => self.begin(message),
                    Poll::Ready(Err(status)) => return Poll::Ready(Some(self.trailers(status))),
                },
            }
        }
    }

    /// Adds waiting small messages of a stream to a small piece: one frame is cheaper than many.
    fn gather(&mut self, piece: Bytes) -> Bytes {
        let Source::Many(stream) = &mut self.source else { return piece };
        if piece.len() >= GATHER_MESSAGE_BYTES || stream.sent.is_empty() {
            return piece;
        }
        let mut gathered: Option<BytesMut> = None;
        loop {
            let current_done = self.current.as_mut().is_none_or(|message| message.is_drained());
            let Source::Many(stream) = &mut self.source else { break };
            let len = gathered.as_ref().map_or(piece.len(), BytesMut::len);
            if !current_done || len >= GATHER_BYTES {
                break;
            }
            let Some(next) = stream.take_waiting() else { break };
            self.begin(next);
            let Some(message) = &mut self.current else { break };
            if message.payload_len() >= GATHER_MESSAGE_BYTES {
                break;
            }
            let buffer = gathered.get_or_insert_with(|| {
                let mut buffer = BytesMut::with_capacity(GATHER_BYTES + GATHER_MESSAGE_BYTES);
                buffer.put_slice(&piece);
                buffer
            });
            if let Some(next_piece) = message.next_piece() {
                buffer.put_slice(&next_piece);
            }
        }
        gathered.map_or(piece, BytesMut::freeze)
    }

    fn trailers(&mut self, status: Status) -> Frame<Bytes> {
        self.source = Source::Ended;
        self.guard.end(status.code);
        let mut trailers = HeaderMap::with_capacity(2);
        status.write(&mut trailers);
        Frame::trailers(trailers)
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = self.get_mut();
        match this {
            Body::Empty => Poll::Ready(None),
            Body::Http(bytes) => {
                let bytes = std::mem::take(bytes);
                *this = Body::Empty;
                Poll::Ready((!bytes.is_empty()).then(|| Ok(Frame::data(bytes))))
            }
            Body::Grpc(body) => body.poll(cx).map(|frame| frame.map(Ok)),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Body::Empty => true,
            Body::Http(bytes) => bytes.is_empty(),
            Body::Grpc(body) => matches!(body.source, Source::Ended),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Body::Empty => SizeHint::with_exact(0),
            Body::Http(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Body::Grpc(_) => SizeHint::default(),
        }
    }
}

/// A trailers-only answer: headers that are the trailers.
pub(super) fn status_response(status: &Status) -> http::Response<Body> {
    debug_assert_ne!(status.code, Code::Ok);
    let mut response = http::Response::new(Body::Empty);
    response.headers_mut().insert(http::header::CONTENT_TYPE, CONTENT_TYPE);
    status.write(response.headers_mut());
    response
}

pub(super) const CONTENT_TYPE: http::HeaderValue = http::HeaderValue::from_static("application/grpc");
