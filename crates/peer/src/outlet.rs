//! The way out to one stream, and who writes on it.
//!
//! Waking the peer thread costs more than most writes. So whoever has put messages in writes them, as long as
//! the connection takes them and they are small. The stream's own task does the rest: what the connection
//! does not take at once, large messages, heartbeats, and noticing that the other side has left.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::{Buf, BufMut, BytesMut};
use parking_lot::Mutex;
use prometheus::Counter;
use raft::Message;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::codec::Encode;
use crate::peer::Sent;

/// Messages that may wait for one stream. Full: dropped, and raft is told that the member is unreachable.
/// Source: etcd `server/etcdserver/api/rafthttp/stream.go`, `streamBufSize`.
pub const QUEUE: usize = 4096;

/// Bytes that these may carry: what a follower forwards has no other bound. One message always finds room.
const QUEUE_BYTES: u64 = 64 << 20;

/// Bytes that are collected before they are written, give or take the last message.
const BATCH_BYTES: usize = 256 << 10;

/// With more bytes, what waits is left to the stream's task: others must not wait while they are copied.
const LARGE: u64 = 64 << 10;

/// A connection that takes so many bytes within the time for writes is slow, but works.
const PIECE_BYTES: usize = 64 << 10;

/// Digits of the length before a chunk.
const LEN_DIGITS: usize = 8;

/// One end of a connection.
pub trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// How the bytes of a stream lie on its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// In chunks of HTTP/1.1.
    Chunks,
    /// As they are: whoever reads them frames them.
    Plain,
}

/// Times of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// For [`PIECE_BYTES`].
    pub write_timeout: Duration,
    pub heartbeat_interval: Duration,
}

/// What waits for one stream, and its connection.
pub struct Outlet {
    queue: Mutex<Queue>,
    /// Whoever holds it writes, and looks into the queue again after letting go: others that have put something
    /// in meanwhile did not wait.
    line: Mutex<Line>,
    /// Tells the stream's task that something is left to it.
    left_over: Notify,
    is_closed: AtomicBool,
}

#[derive(Default)]
struct Queue {
    messages: VecDeque<Message>,
    payload_bytes: u64,
}

/// The connection.
struct Line {
    wire: Box<dyn Wire>,
    framing: Framing,
    encoder: Box<dyn Encode>,
    /// Encoded, and not yet taken by the connection.
    bytes: BytesMut,
    /// The connection may hold back what it has taken.
    must_flush: bool,
    sent_bytes: Counter,
}

impl Outlet {
    /// `head` goes before all else.
    pub fn new(
        wire: Box<dyn Wire>,
        head: BytesMut,
        framing: Framing,
        encoder: Box<dyn Encode>,
        sent_bytes: Counter,
    ) -> Outlet {
        Outlet {
            queue: Mutex::default(),
            line: Mutex::new(Line { wire, framing, encoder, bytes: head, must_flush: true, sent_bytes }),
            left_over: Notify::new(),
            is_closed: AtomicBool::new(false),
        }
    }

    /// Puts a message in; [`Outlet::write_here`] must follow. Never blocks. Gives the message back when the
    /// stream has ended.
    #[expect(clippy::result_large_err, reason = "the message goes on to the next channel")]
    pub fn put(&self, message: Message) -> Result<Sent, Message> {
        if self.is_closed() {
            return Err(message);
        }
        let mut queue = self.queue.lock();
        if !queue.has_room(payload_bytes(&message)) {
            return Ok(Sent::Dropped);
        }
        queue.put(message);
        Ok(Sent::Queued)
    }

    /// Whether a message that carries so many bytes would be taken.
    pub fn has_room(&self, bytes: u64) -> bool {
        self.queue.lock().has_room(bytes)
    }

    /// Writes what waits, on this thread, as far as the connection takes it at once. Never blocks.
    pub fn write_here(&self) {
        match self.queue.lock().size() {
            None => return,
            Some(0..=LARGE) => {}
            Some(_) => return self.left_over.notify_one(),
        }
        // Somebody else is at it, and sees what waits.
        let Some(mut line) = self.line.try_lock() else { return };
        if !line.is_idle() {
            // The task is at it, or was told to be.
            return;
        }
        line.encode(&self.queue);
        let written = line.poll_write(&mut Context::from_waker(Waker::noop()), &mut { usize::MAX });
        drop(line);
        match written {
            Poll::Ready(Ok(())) if self.is_empty() => {}
            Poll::Ready(Ok(())) | Poll::Pending => self.left_over.notify_one(),
            Poll::Ready(Err(_)) => self.close(),
        }
    }

    /// Ends the stream, behind what waits.
    pub fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        self.left_over.notify_one();
    }

    /// Kinds of the messages that wait.
    #[cfg(test)]
    pub fn waiting(&self) -> Vec<raft::MessageType> {
        self.queue.lock().messages.iter().map(|message| message.kind).collect()
    }

    fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::SeqCst)
    }

    /// Whether no message waits.
    fn is_empty(&self) -> bool {
        self.queue.lock().messages.is_empty()
    }

    /// The stream's task: returns when the stream is closed, or the other side has left, or does not read for
    /// too long.
    pub async fn serve(&self, times: Times) {
        let mut heartbeats = interval(times.heartbeat_interval);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while self.write_all(times.write_timeout).await.is_some() && !self.is_closed() {
            tokio::select! {
                // First, so that heartbeats come behind what waits.
                biased;
                () = self.left_over.notified() => {}
                () = self.left() => break,
                _ = heartbeats.tick() => self.line.lock().heartbeat(),
            }
        }
        self.close();
        self.line.lock().end();
    }

    /// Writes until nothing waits. `None` when that cannot be done.
    async fn write_all(&self, limit: Duration) -> Option<()> {
        loop {
            let is_idle = {
                let mut line = self.line.lock();
                line.encode(&self.queue);
                line.is_idle()
            };
            if is_idle && self.is_empty() {
                return Some(());
            }
            let mut left = PIECE_BYTES;
            let writing = std::future::poll_fn(|cx| self.line.lock().poll_write(cx, &mut left));
            timeout(limit, writing).await.ok()?.ok()?;
        }
    }

    /// Waits until the other side ends the connection, or says something that it has no business to say.
    async fn left(&self) {
        std::future::poll_fn(|cx| {
            let mut byte = [0];
            let read = Pin::new(&mut self.line.lock().wire).poll_read(cx, &mut ReadBuf::new(&mut byte));
            if !self.is_empty() {
                self.left_over.notify_one();
            }
            read.map(drop)
        })
        .await;
    }
}

impl Queue {
    /// Bytes of what the messages carry; `None` when no message waits.
    fn size(&self) -> Option<u64> {
        (!self.messages.is_empty()).then_some(self.payload_bytes)
    }

    fn has_room(&self, bytes: u64) -> bool {
        self.messages.is_empty()
            || (self.messages.len() < QUEUE && self.payload_bytes.saturating_add(bytes) <= QUEUE_BYTES)
    }

    fn put(&mut self, message: Message) {
        self.payload_bytes += payload_bytes(&message);
        self.messages.push_back(message);
    }

    fn take(&mut self) -> Option<Message> {
        let message = self.messages.pop_front()?;
        self.payload_bytes -= payload_bytes(&message);
        Some(message)
    }
}

fn payload_bytes(message: &Message) -> u64 {
    let entries: u64 = message.entries.iter().map(raft::Entry::payload_bytes).sum();
    entries + message.context.len() as u64
}

impl Line {
    fn is_idle(&self) -> bool {
        self.bytes.is_empty() && !self.must_flush
    }

    /// Takes messages out of the queue until there is enough to write.
    fn encode(&mut self, queue: &Mutex<Queue>) {
        let next = |bytes: &BytesMut| if bytes.len() < BATCH_BYTES { queue.lock().take() } else { None };
        let Some(first) = next(&self.bytes) else { return };
        self.framed(|encoder, bytes| {
            encoder.message(&first, bytes);
            while let Some(message) = next(bytes) {
                encoder.message(&message, bytes);
            }
        });
    }

    fn heartbeat(&mut self) {
        self.framed(|encoder, bytes| encoder.heartbeat(bytes));
    }

    fn framed(&mut self, encode: impl FnOnce(&mut dyn Encode, &mut BytesMut)) {
        let before = self.bytes.len();
        if self.framing == Framing::Chunks {
            self.bytes.put_bytes(b'0', LEN_DIGITS);
            self.bytes.put_slice(b"\r\n");
        }
        let at = self.bytes.len();
        encode(self.encoder.as_mut(), &mut self.bytes);
        let len = self.bytes.len() - at;
        self.sent_bytes.inc_by(len as f64);
        if self.framing == Framing::Chunks {
            let digits = format!("{len:0LEN_DIGITS$x}");
            self.bytes[before..before + LEN_DIGITS].copy_from_slice(digits.as_bytes());
            self.bytes.put_slice(b"\r\n");
        }
    }

    /// Writes up to `limit` bytes of those that wait.
    fn poll_write(&mut self, cx: &mut Context<'_>, limit: &mut usize) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() && *limit > 0 {
            let len = self.bytes.len().min(*limit);
            let written = ready!(Pin::new(&mut self.wire).poll_write(cx, &self.bytes[..len]))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.bytes.advance(written);
            *limit -= written;
            self.must_flush = true;
        }
        if self.bytes.is_empty() && self.bytes.capacity() > 2 * BATCH_BYTES {
            // A large message is rare: its room is given back.
            self.bytes = BytesMut::new();
        }
        ready!(Pin::new(&mut self.wire).poll_flush(cx))?;
        self.must_flush = false;
        Poll::Ready(Ok(()))
    }

    /// Nothing more follows. In the middle of a message, or to somebody who does not read, that is not said.
    fn end(&mut self) {
        if !self.is_idle() {
            return;
        }
        if self.framing == Framing::Chunks {
            self.bytes.put_slice(b"0\r\n\r\n");
        }
        let cx = &mut Context::from_waker(Waker::noop());
        if self.poll_write(cx, &mut { usize::MAX }).is_ready() {
            let _ = Pin::new(&mut self.wire).poll_shutdown(cx);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use raft::{Entry, Index, MessageType};
    use tokio::io::{AsyncReadExt, DuplexStream};
    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::codec::message::{MessageDecoder, MessageEncoder};
    use crate::codec::{Decode, Frame};

    const TIMES: Times =
        Times { write_timeout: Duration::from_secs(60), heartbeat_interval: Duration::from_secs(3600) };

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    fn outlet(framing: Framing, pipe_bytes: usize) -> (Arc<Outlet>, FarEnd) {
        let (wire, pipe) = tokio::io::duplex(pipe_bytes);
        let sent_bytes = Counter::new("bytes", "sent").unwrap();
        let head = BytesMut::from("head");
        let outlet = Outlet::new(Box::new(wire), head, framing, Box::new(MessageEncoder), sent_bytes);
        (Arc::new(outlet), FarEnd { pipe, decoder: MessageDecoder::default() })
    }

    fn message(index: u64, payload: usize) -> Message {
        let entry = Entry { data: Bytes::from(vec![7; payload]), ..Entry::default() };
        let entries = if payload > 0 { vec![entry] } else { Vec::new() };
        Message { index: Index(index), entries, ..Message::new(MessageType::App, 2) }
    }

    /// Who reads the stream.
    struct FarEnd {
        pipe: DuplexStream,
        decoder: MessageDecoder,
    }

    impl FarEnd {
        async fn read(&mut self, len: usize) -> Vec<u8> {
            let mut bytes = vec![0; len];
            self.pipe.read_exact(&mut bytes).await.unwrap();
            bytes
        }

        /// The index of the next message, passing over heartbeats.
        async fn next(&mut self) -> u64 {
            loop {
                match self.decoder.next().unwrap() {
                    Some(Frame::Message(message)) => return message.index.0,
                    Some(Frame::Heartbeat) => {}
                    None => {
                        let mut bytes = BytesMut::new();
                        assert!(self.pipe.read_buf(&mut bytes).await.unwrap() > 0, "the stream has ended");
                        self.decoder.feed(bytes.freeze());
                    }
                }
            }
        }

        /// As [`FarEnd::next`], of what is there already.
        fn next_now(&mut self) -> Option<u64> {
            let next = std::pin::pin!(self.next());
            match next.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(index) => Some(index),
                Poll::Pending => None,
            }
        }
    }

    fn send(outlet: &Outlet, index: u64, payload: usize) {
        assert_eq!(outlet.put(message(index, payload)), Ok(Sent::Queued));
        outlet.write_here();
    }

    #[test]
    fn whoever_puts_a_small_message_in_writes_it() {
        runtime().block_on(async {
            let (outlet, mut far_end) = outlet(Framing::Plain, 1 << 20);
            // Before the head nothing goes out.
            send(&outlet, 1, 10);
            assert_eq!(outlet.waiting().len(), 1);
            let serving = outlet.clone();
            tokio::spawn(async move { serving.serve(TIMES).await });
            assert_eq!(far_end.read(4).await, b"head");
            assert_eq!(far_end.next().await, 1);
            send(&outlet, 2, 0);
            send(&outlet, 3, 1000);
            // Nobody else has had a turn in between.
            assert_eq!((far_end.next_now(), far_end.next_now()), (Some(2), Some(3)));
            send(&outlet, 4, LARGE as usize + 1);
            assert_eq!(far_end.next_now(), None);
            assert_eq!(far_end.next().await, 4);
        });
    }

    #[test]
    fn what_the_connection_does_not_take_at_once_is_left_to_the_task() {
        runtime().block_on(async {
            let (outlet, mut far_end) = outlet(Framing::Plain, 64);
            let serving = outlet.clone();
            tokio::spawn(async move { serving.serve(TIMES).await });
            assert_eq!(far_end.read(4).await, b"head");
            for index in 1..=100 {
                send(&outlet, index, 50);
            }
            for index in 1..=100 {
                assert_eq!(far_end.next().await, index);
            }
        });
    }

    #[test]
    fn nothing_is_left_behind_however_many_write() {
        const EACH: u64 = 2_000;
        let (outlet, mut far_end) = outlet(Framing::Plain, 4096);
        let senders: Vec<_> = (0..4)
            .map(|_| {
                let outlet = outlet.clone();
                std::thread::spawn(move || {
                    for index in 0..EACH {
                        while outlet.put(message(index, 20)) == Ok(Sent::Dropped) {
                            std::thread::yield_now();
                        }
                        outlet.write_here();
                    }
                })
            })
            .collect();
        runtime().block_on(async {
            tokio::spawn(async move { outlet.serve(TIMES).await });
            far_end.read(4).await;
            for _ in 0..4 * EACH {
                far_end.next().await;
            }
        });
        for sender in senders {
            sender.join().unwrap();
        }
    }

    #[test]
    fn who_does_not_read_or_leaves_ends_the_stream() {
        runtime().block_on(async {
            let (deaf, _far_end) = outlet(Framing::Plain, 16);
            send(&deaf, 1, 100);
            deaf.serve(Times { write_timeout: Duration::from_millis(10), ..TIMES }).await;
            assert!(deaf.put(message(2, 0)).is_err());

            let (left, far_end) = outlet(Framing::Plain, 1024);
            drop(far_end);
            left.serve(TIMES).await;
            assert!(left.put(message(1, 0)).is_err());
        });
    }

    #[test]
    fn chunks_say_where_the_stream_ends_behind_all_that_waited() {
        let chunk = |encode: &dyn Fn(&mut BytesMut)| {
            let mut bytes = BytesMut::new();
            encode(&mut bytes);
            [format!("{:08x}\r\n", bytes.len()).as_bytes(), &bytes, b"\r\n"].concat()
        };
        let heartbeat = chunk(&|bytes| MessageEncoder.heartbeat(bytes));
        let last = chunk(&|bytes| MessageEncoder.message(&message(1, 100), bytes));
        runtime().block_on(async {
            let (outlet, mut far_end) = outlet(Framing::Chunks, 1024);
            let serving = outlet.clone();
            let served = tokio::spawn(async move { serving.serve(TIMES).await });
            assert_eq!(far_end.read(4).await, b"head");
            assert_eq!(far_end.read(heartbeat.len()).await, heartbeat);
            assert_eq!(outlet.put(message(1, 100)), Ok(Sent::Queued));
            outlet.close();
            assert!(outlet.put(message(2, 100)).is_err());
            served.await.unwrap();
            assert_eq!(far_end.read(last.len()).await, last);
            assert_eq!(far_end.read(5).await, b"0\r\n\r\n");
        });
    }

    #[test]
    fn a_queue_takes_so_many_bytes_and_always_one_message() {
        let half = || {
            let entry =
                raft::Entry { data: vec![0; QUEUE_BYTES as usize / 2].into(), ..raft::Entry::default() };
            Message { entries: vec![entry], ..Message::new(raft::MessageType::Prop, 1) }
        };
        let mut queue = Queue::default();
        assert!(queue.has_room(u64::MAX));
        queue.put(half());
        let left = QUEUE_BYTES - payload_bytes(&half());
        assert!(queue.has_room(left) && !queue.has_room(left + 1));
        queue.take();
        assert!(queue.has_room(u64::MAX));
    }
}
