//! The least gRPC client that can load a server: one socket, many calls, precoded headers.
//!
//! It shares the machine with what it measures, so it does next to nothing: answers' headers are not
//! decoded (a call that ends without a message has failed), messages are counted and, where asked, kept.

use std::collections::HashMap;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER: usize = 9;
/// What a stream may send ahead, in bytes. A Go client's own estimate reaches this on loopback.
const STREAM_WINDOW: u32 = 4 << 20;
/// What a connection may send ahead, in bytes.
const CONNECTION_WINDOW: u32 = 16 << 20;
/// The window that a server starts with, for a stream and for the connection alike.
const SEND_WINDOW: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only count.
    Nothing,
    /// Give each whole message to the caller.
    Messages,
}

/// What came for the call of `client`.
pub enum Event<'a> {
    Message { client: usize, message: &'a [u8] },
    End { client: usize, started: Instant, bytes: u64 },
}

struct Call {
    client: usize,
    started: Instant,
    keep: Keep,
    bytes: u64,
    partial: Vec<u8>,
    /// Bytes taken since the last window update.
    taken: u32,
}

pub struct Connection {
    socket: TcpStream,
    out: Vec<u8>,
    input: Vec<u8>,
    /// Bytes of `input` that were read but not yet used: `input[used..filled]`.
    used: usize,
    filled: usize,
    calls: HashMap<u32, Call>,
    next_stream: u32,
    /// Header texts that the server remembers, oldest first.
    remembered: Vec<Vec<u8>>,
    taken: u32,
    send_window: i64,
}

impl Connection {
    pub fn open(address: SocketAddr) -> io::Result<Connection> {
        let socket = TcpStream::connect(address)?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let mut out = PREFACE.to_vec();
        frame(&mut out, SETTINGS, 0, 0, &[&[0, 4][..], &STREAM_WINDOW.to_be_bytes()[..]].concat());
        frame(&mut out, WINDOW_UPDATE, 0, 0, &(CONNECTION_WINDOW - 65_535).to_be_bytes());
        Ok(Connection {
            socket,
            out,
            input: vec![0; 256 << 10],
            used: 0,
            filled: 0,
            calls: HashMap::new(),
            next_stream: 1,
            remembered: Vec::new(),
            taken: 0,
            send_window: SEND_WINDOW,
        })
    }

    /// Starts a call with its one request message; `last` says that no more will follow.
    pub fn start(&mut self, client: usize, path: &str, message: &[u8], keep: Keep, last: bool) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let mut block = vec![0x83, 0x86]; // POST, http
        self.header(&mut block, 0x44, b"", path.as_bytes());
        self.header(&mut block, 0x41, b"", b"127.0.0.1");
        self.header(&mut block, 0x5f, b"", b"application/grpc");
        self.header(&mut block, 0x40, b"te", b"trailers");
        frame(&mut self.out, HEADERS, END_HEADERS, stream, &block);
        let call = Call { client, started: Instant::now(), keep, bytes: 0, partial: Vec::new(), taken: 0 };
        self.calls.insert(stream, call);
        self.send(stream, message, last);
        stream
    }

    /// One more message on a call. The caller keeps within the server's first window.
    pub fn send(&mut self, stream: u32, message: &[u8], last: bool) {
        let length = message.len() + 5;
        self.send_window -= length as i64;
        assert!(self.send_window >= 0, "{length} bytes past the server's window");
        frame_header(&mut self.out, DATA, if last { END_STREAM } else { 0 }, stream, length);
        self.out.push(0);
        self.out.extend_from_slice(&(message.len() as u32).to_be_bytes());
        self.out.extend_from_slice(message);
    }

    /// A header that the server is told in full once and by its index ever after.
    fn header(&mut self, block: &mut Vec<u8>, literal: u8, name: &[u8], value: &[u8]) {
        let mut text = vec![literal];
        if !name.is_empty() {
            text.push(name.len() as u8);
            text.extend_from_slice(name);
        }
        text.push(value.len() as u8);
        text.extend_from_slice(value);
        match self.remembered.iter().position(|known| *known == text) {
            Some(position) => block.push(0x80 | (62 + (self.remembered.len() - 1 - position)) as u8),
            None => {
                block.extend_from_slice(&text);
                self.remembered.push(text);
            }
        }
    }

    /// Sends what waits. Blocks when the server takes nothing, which with small requests it always does.
    pub fn flush(&mut self) -> io::Result<()> {
        let mut sent = 0;
        while sent < self.out.len() {
            match self.socket.write(&self.out[sent..]) {
                Ok(count) => sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => std::thread::yield_now(),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.out.clear();
        Ok(())
    }

    /// Reads once and hands out what came; the answer says whether there was anything.
    pub fn receive(&mut self, mut on: impl FnMut(&mut Connection, Event<'_>)) -> io::Result<bool> {
        let count = match self.socket.read(&mut self.input[self.filled..]) {
            Ok(0) => return Err(io::Error::new(ErrorKind::UnexpectedEof, "the server hung up")),
            Ok(count) => count,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return Ok(false);
            }
            Err(error) => return Err(error),
        };
        self.filled += count;
        // The buffer is lent to the frames, so that `on` may use the connection.
        let input = std::mem::take(&mut self.input);
        let result = self.frames(&input, &mut on);
        self.input = input;
        self.input.copy_within(self.used..self.filled, 0);
        self.filled -= self.used;
        self.used = 0;
        result.map(|()| true)
    }

    fn frames(&mut self, input: &[u8], on: &mut impl FnMut(&mut Connection, Event<'_>)) -> io::Result<()> {
        while self.filled - self.used >= FRAME_HEADER {
            let header = &input[self.used..self.used + FRAME_HEADER];
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let (kind, flags) = (header[3], header[4]);
            let stream = u32::from_be_bytes([header[5], header[6], header[7], header[8]]);
            let end = self.used + FRAME_HEADER + length;
            if end > self.filled {
                break;
            }
            let payload = &input[self.used + FRAME_HEADER..end];
            self.used = end;
            match kind {
                DATA => self.data(stream, payload, on),
                SETTINGS if flags & ACK == 0 => frame(&mut self.out, SETTINGS, ACK, 0, &[]),
                PING if flags & ACK == 0 => frame(&mut self.out, PING, ACK, 0, payload),
                WINDOW_UPDATE if stream == 0 && length == 4 => {
                    let more = u32::from_be_bytes([payload[0], payload[1], payload[2], payload[3]]);
                    self.send_window += i64::from(more);
                }
                RST_STREAM | GOAWAY => {
                    let text = format!("frame {kind}: {}", String::from_utf8_lossy(payload));
                    return Err(io::Error::other(text));
                }
                _ => {}
            }
            if matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0 {
                let Some(call) = self.calls.remove(&stream) else { continue };
                if call.bytes == 0 {
                    return Err(io::Error::other("a call failed; the server's log may say why"));
                }
                on(self, Event::End { client: call.client, started: call.started, bytes: call.bytes });
            }
        }
        Ok(())
    }

    fn data(&mut self, stream: u32, payload: &[u8], on: &mut impl FnMut(&mut Connection, Event<'_>)) {
        let length = payload.len() as u32;
        grant(&mut self.out, &mut self.taken, length, 0, CONNECTION_WINDOW / 4);
        let Some(call) = self.calls.get_mut(&stream) else { return };
        call.bytes += u64::from(length);
        grant(&mut self.out, &mut call.taken, length, stream, STREAM_WINDOW / 4);
        if call.keep == Keep::Nothing {
            return;
        }
        let client = call.client;
        let mut partial = std::mem::take(&mut call.partial);
        let mut rest: &[u8] = if partial.is_empty() {
            payload
        } else {
            partial.extend_from_slice(payload);
            &partial
        };
        while let Some(size) = rest.get(1..5) {
            let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]) as usize;
            let Some(message) = rest.get(5..5 + size) else { break };
            on(self, Event::Message { client, message });
            rest = &rest[5 + size..];
        }
        let rest = rest.to_vec();
        if let Some(call) = self.calls.get_mut(&stream) {
            call.partial = rest;
        }
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Lets the peer send on once a good part of its window is used.
fn grant(out: &mut Vec<u8>, taken: &mut u32, length: u32, stream: u32, step: u32) {
    *taken += length;
    if *taken >= step {
        frame(out, WINDOW_UPDATE, 0, stream, &taken.to_be_bytes());
        *taken = 0;
    }
}

fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    frame_header(out, kind, flags, stream, payload.len());
    out.extend_from_slice(payload);
}

fn frame_header(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, length: usize) {
    out.extend_from_slice(&(length as u32).to_be_bytes()[1..]);
    out.extend_from_slice(&[kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
}
