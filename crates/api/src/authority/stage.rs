//! The stage as a byte stream: reads go through the [`Scanner`], writes pass.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::frames::{Scanner, TOO_MANY_PINGS, Violation};
use super::outgoing::Outgoing;
use super::ping::{Activity, PingPolicy, Verdict};

/// Read at once while bytes cannot go straight to the reader.
const READ_BYTES: usize = 8 * 1024;
/// Written bytes held until the connection's turn ends; h2 waits when there are more and the client is slow.
const HELD_WRITES_BYTES: usize = 64 * 1024;
/// From here on a write is a piece of a large answer.
const LARGE_WRITE_BYTES: usize = 8 * 1024;
/// A buffer that grew larger than this is given back once it is empty: most connections are idle.
const KEPT_WRITES_BYTES: usize = 16 * 1024;

/// A client's HTTP/2 connection with mended header blocks. See the module above.
///
/// Writes are gathered: h2 flushes after every data frame of some size, which would be a system call for each
/// answer. Whoever drives the connection calls [`Writes::poll_flush`] at the end of each turn instead.
pub(crate) struct MendedStream<S> {
    io: Writes<S>,
    scanner: Scanner,
    /// Read, but the beginning of something unfinished.
    held: Vec<u8>,
    /// `held` has bytes that the scanner has not seen yet.
    held_is_new: bool,
    /// Mended, to be read from `ready_from` on.
    ready: Vec<u8>,
    ready_from: usize,
    /// None: the ping policy is not enforced on this listener.
    pings: Option<PingPolicy>,
    activity: Arc<Activity>,
    outgoing: Outgoing,
    /// The connection is over: this is left to write, then the reader sees its end.
    farewell: Option<Vec<u8>>,
}

/// The connection's bytes on their way out.
pub(crate) struct Writes<S> {
    /// Taken by the one task that drives the connection: never contended.
    shared: Arc<Mutex<Io<S>>>,
}

struct Io<S> {
    stream: S,
    held: Vec<u8>,
    /// So many of `held` are out.
    sent: usize,
    /// The stream may hold back what it has taken: TLS does while the socket is full.
    must_flush: bool,
}

impl<S: AsyncWrite + Unpin> Io<S> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.sent < self.held.len() {
            let n = ready!(Pin::new(&mut self.stream).poll_write(cx, &self.held[self.sent..]))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.must_flush = true;
            self.sent += n;
        }
        self.sent = 0;
        if self.held.capacity() > KEPT_WRITES_BYTES {
            self.held = Vec::new();
        } else {
            self.held.clear();
        }
        if self.must_flush {
            ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
            self.must_flush = false;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> Writes<S> {
    /// Sends what was gathered. Ready once all of it is out.
    pub(crate) fn poll_flush(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.shared.lock().poll_drain(cx)
    }
}

impl<S> MendedStream<S> {
    /// `first` are the bytes that were read already, to know that this is HTTP/2.
    pub(crate) fn new(
        inner: S,
        first: &[u8],
        ping_min_time: Option<Duration>,
        activity: Arc<Activity>,
    ) -> Self {
        MendedStream {
            io: Writes {
                shared: Arc::new(Mutex::new(Io {
                    stream: inner,
                    held: Vec::new(),
                    sent: 0,
                    must_flush: false,
                })),
            },
            scanner: Scanner::new(),
            held: first.to_vec(),
            held_is_new: !first.is_empty(),
            ready: Vec::new(),
            ready_from: 0,
            pings: ping_min_time.map(PingPolicy::new),
            activity,
            outgoing: Outgoing::default(),
            farewell: None,
        }
    }

    pub(crate) fn writes(&self) -> Writes<S> {
        Writes { shared: Arc::clone(&self.io.shared) }
    }

    fn count_pings(&mut self, pings: u32) -> Result<(), Violation> {
        let Some(policy) = &mut self.pings else { return Ok(()) };
        for _ in 0..pings {
            if policy.ping(Instant::now(), &self.activity) == Verdict::TooMany {
                return Err(TOO_MANY_PINGS);
            }
        }
        Ok(())
    }

    /// Runs the scanner over `held`.
    fn scan_held(&mut self) -> Result<(), Violation> {
        self.held_is_new = false;
        let mut mended = Vec::new();
        let done = self.scanner.scan(&self.held, &mut mended)?;
        self.ready.extend_from_slice(&self.held[..done.passed]);
        self.ready.append(&mut mended);
        self.held.drain(..done.consumed);
        self.count_pings(done.pings)
    }

    fn deliver(&mut self, buf: &mut ReadBuf<'_>) {
        let left = &self.ready[self.ready_from..];
        let n = left.len().min(buf.remaining());
        buf.put_slice(&left[..n]);
        self.ready_from += n;
        if self.ready_from == self.ready.len() {
            self.ready.clear();
            self.ready_from = 0;
        }
    }

    fn end(&mut self, why: Violation) {
        tracing::debug!(code = why.code, reason = why.debug, "closing client connection");
        // Behind a frame that is half out nothing sensible can follow.
        let may_speak = self.outgoing.is_between_frames();
        self.farewell = Some(if may_speak { self.scanner.go_away(why) } else { Vec::new() });
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for MendedStream<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if let Some(farewell) = &mut this.farewell {
                let mut io = this.io.shared.lock();
                io.held.append(farewell);
                return io.poll_drain(cx);
            }
            if !this.ready.is_empty() {
                this.deliver(buf);
                return Poll::Ready(Ok(()));
            }
            if this.held_is_new {
                if let Err(why) = this.scan_held() {
                    this.end(why);
                }
                continue;
            }
            if this.held.is_empty() && this.scanner.is_passing() {
                // The common way: straight into the reader's buffer.
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.io.shared.lock().stream).poll_read(cx, buf))?;
                let fresh = &buf.filled()[before..];
                if fresh.is_empty() {
                    return Poll::Ready(Ok(()));
                }
                let verdict = match this.scanner.scan(fresh, &mut this.ready) {
                    Ok(done) => {
                        this.held.extend_from_slice(&fresh[done.consumed..]);
                        buf.set_filled(before + done.passed);
                        this.count_pings(done.pings)
                    }
                    Err(why) => {
                        buf.set_filled(before);
                        Err(why)
                    }
                };
                if let Err(why) = verdict {
                    this.end(why);
                }
                if buf.filled().len() > before {
                    return Poll::Ready(Ok(()));
                }
                continue;
            }
            let mut octets = [0; READ_BYTES];
            let mut scratch = ReadBuf::new(&mut octets);
            ready!(Pin::new(&mut this.io.shared.lock().stream).poll_read(cx, &mut scratch))?;
            if scratch.filled().is_empty() {
                return Poll::Ready(Ok(())); // cut off in the middle of a frame
            }
            this.held.extend_from_slice(scratch.filled());
            this.held_is_new = true;
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for MendedStream<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[io::IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let mut io = this.io.shared.lock();
        if io.held.len() >= HELD_WRITES_BYTES {
            ready!(io.poll_drain(cx))?;
        }
        let len: usize = bufs.iter().map(|buf| buf.len()).sum();
        if len >= LARGE_WRITE_BYTES {
            // More of its kind will follow: room for all at once instead of by doubling.
            let room = HELD_WRITES_BYTES + len - io.held.len();
            io.held.reserve(room);
        }
        for buf in bufs {
            io.held.extend_from_slice(buf);
            // Each frame of a large answer forgives: clients ping while it flows, to measure the way.
            if this.outgoing.follow(buf) {
                this.activity.mark_sent();
            }
        }
        Poll::Ready(Ok(len))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// h2 flushes when it has handed over every frame it holds. They leave at the end of the turn.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut io = self.io.shared.lock();
        ready!(io.poll_drain(cx))?;
        Pin::new(&mut io.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::super::frames::tests::{authority, frame};
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    #[tokio::test]
    async fn bytes_pass_one_by_one_and_a_bad_block_ends_with_goaway() {
        let (mut client, server) = tokio::io::duplex(1);
        let mut stage = MendedStream::new(server, b"", None, Arc::default());
        let good = [PREFACE.to_vec(), frame(1, 4, 1, &authority("a:1")), frame(0, 1, 1, b"abc")].concat();
        let sent = [good.clone(), frame(1, 4, 3, &[0x80])].concat();
        let client = tokio::spawn(async move {
            client.write_all(&sent).await.unwrap();
            let mut answer = Vec::new();
            client.read_to_end(&mut answer).await.unwrap();
            answer
        });
        let mut seen = Vec::new();
        stage.read_to_end(&mut seen).await.unwrap();
        drop(stage);
        assert_eq!(seen, good);
        let answer = client.await.unwrap();
        assert_eq!(answer[3], 7, "GOAWAY");
        assert_eq!(answer[9..17], [0, 0, 0, 1, 0, 0, 0, 9]);
    }

    #[tokio::test]
    async fn too_many_pings() {
        let (mut client, server) = tokio::io::duplex(4096);
        let mut stage = MendedStream::new(server, PREFACE, Some(Duration::from_secs(5)), Arc::default());
        client.write_all(&frame(6, 0, 0, &[0; 8]).repeat(4)).await.unwrap();
        let mut seen = Vec::new();
        stage.read_to_end(&mut seen).await.unwrap();
        let mut answer = [0; 31];
        client.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer[17..], b"too_many_pings");
    }

    /// As Go's clients do while a large answer flows.
    #[tokio::test]
    async fn a_ping_for_each_frame_of_an_answer_is_fine() {
        let (mut client, server) = tokio::io::duplex(1 << 20);
        let mut stage = MendedStream::new(server, PREFACE, Some(Duration::from_secs(5)), Arc::default());
        let ping = frame(6, 0, 0, &[0; 8]);
        let mut seen = vec![0; PREFACE.len()];
        stage.read_exact(&mut seen).await.unwrap();
        for _ in 0..10 {
            stage.write_all(&frame(0, 0, 1, &[0; 1000])).await.unwrap();
            client.write_all(&ping).await.unwrap();
            let mut seen = vec![0; ping.len()];
            stage.read_exact(&mut seen).await.unwrap();
            assert_eq!(seen, ping);
            // Its answer forgives nothing.
            stage.write_all(&frame(6, 1, 0, &[0; 8])).await.unwrap();
        }
        client.write_all(&ping.repeat(3)).await.unwrap();
        let mut rest = Vec::new();
        stage.read_to_end(&mut rest).await.unwrap();
        drop(stage);
        let mut sent = Vec::new();
        client.read_to_end(&mut sent).await.unwrap();
        assert!(sent.ends_with(b"too_many_pings"));
    }

    /// Takes all that is written, and is not ready with it at once.
    #[derive(Default)]
    struct SlowFlush {
        flushes: usize,
        is_held: bool,
    }

    impl AsyncRead for SlowFlush {
        fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Poll::Pending
        }
    }

    impl AsyncWrite for SlowFlush {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
            self.is_held = true;
            Poll::Ready(Ok(buf.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if std::mem::take(&mut self.is_held) { Poll::Pending } else { Poll::Ready(Ok(())) }
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// As TLS on a full socket: nobody else would write what it holds back.
    #[tokio::test]
    async fn what_the_stream_holds_back_is_flushed_until_it_is_out() {
        let mut stage = MendedStream::new(SlowFlush::default(), b"", None, Arc::default());
        let writes = stage.writes();
        let mut cx = Context::from_waker(std::task::Waker::noop());
        stage.write_all(&frame(0, 1, 1, b"abc")).await.unwrap();
        assert!(writes.poll_flush(&mut cx).is_pending());
        assert!(writes.poll_flush(&mut cx).is_ready());
        let flushes = writes.shared.lock().stream.flushes;
        assert!(writes.poll_flush(&mut cx).is_ready());
        assert_eq!((flushes, writes.shared.lock().stream.flushes), (2, 2));
    }
}
