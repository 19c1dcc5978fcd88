//! Walks the client's HTTP/2 frames: finds header blocks and pings, leaves the rest alone.

use super::hpack::{Authorities, Decoder};

pub(super) const FRAME_HEADER_BYTES: usize = 9;
/// Length of "PRI * HTTP/2.0 …", which goes before the first frame.
const PREFACE_BYTES: usize = 24;
/// Frames we write are never larger than what every receiver must take.
const FRAME_PAYLOAD_MAX: usize = 16 * 1024;
/// Octets of one header block with its frames. Token and cookie sizes are far below; grpc-go allows 16 MiB decoded.
const BLOCK_BYTES_MAX: usize = 1 << 20;
/// Frames one header block may come in: an endless row of empty ones is an attack.
const BLOCK_FRAMES_MAX: usize = 1024;

pub(super) const HEADERS: u8 = 1;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;

const ACK: u8 = 0x1;
const END_STREAM: u8 = 0x1;
const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

/// Why a connection cannot go on, with HTTP/2's error code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Violation {
    pub(super) code: u32,
    pub(super) debug: &'static str,
}

const PROTOCOL_ERROR: u32 = 0x1;
const FRAME_SIZE_ERROR: u32 = 0x6;
const COMPRESSION_ERROR: u32 = 0x9;
pub(super) const ENHANCE_YOUR_CALM: u32 = 0xb;

pub(super) const TOO_MANY_PINGS: Violation = Violation { code: ENHANCE_YOUR_CALM, debug: "too_many_pings" };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// All authorities were valid so far: bytes stay as they are.
    Passing,
    /// One was not: header blocks are written anew, for good.
    Mending,
}

/// What became of the bytes given to [`Scanner::scan`]. Those from `consumed` on are the beginning of
/// something unfinished: give them again with what follows.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Scanned {
    /// The first so many go on untouched, before anything in `mended`.
    pub(super) passed: usize,
    pub(super) consumed: usize,
    /// Pings (not answers to ours) among the consumed.
    pub(super) pings: u32,
}

pub(super) struct Scanner {
    decoder: Decoder,
    mode: Mode,
    preface_left: usize,
    /// Octets left of a frame's payload that needs no look.
    payload_left: usize,
    /// Highest stream the client opened.
    last_stream: u32,
    literals: Vec<u8>,
    block: Vec<u8>,
}

#[derive(Clone, Copy)]
pub(super) struct FrameHeader {
    pub(super) length: usize,
    pub(super) kind: u8,
    flags: u8,
    stream: u32,
}

impl FrameHeader {
    pub(super) fn read(input: &[u8]) -> Option<FrameHeader> {
        let h = input.first_chunk::<FRAME_HEADER_BYTES>()?;
        Some(FrameHeader {
            length: usize::from(h[0]) << 16 | usize::from(h[1]) << 8 | usize::from(h[2]),
            kind: h[3],
            flags: h[4],
            stream: u32::from_be_bytes([h[5], h[6], h[7], h[8]]) & 0x7fff_ffff,
        })
    }

    fn write(self, out: &mut Vec<u8>) {
        let length = self.length as u32;
        out.extend_from_slice(&length.to_be_bytes()[1..]);
        out.extend_from_slice(&[self.kind, self.flags]);
        out.extend_from_slice(&self.stream.to_be_bytes());
    }
}

impl Scanner {
    pub(super) fn new() -> Scanner {
        Scanner {
            decoder: Decoder::default(),
            mode: Mode::Passing,
            preface_left: PREFACE_BYTES,
            payload_left: 0,
            last_stream: 0,
            literals: Vec::new(),
            block: Vec::new(),
        }
    }

    pub(super) fn is_passing(&self) -> bool {
        self.mode == Mode::Passing
    }

    /// A GOAWAY frame for this connection.
    pub(super) fn go_away(&self, why: Violation) -> Vec<u8> {
        let mut frame = Vec::with_capacity(64);
        FrameHeader { length: 8 + why.debug.len(), kind: 7, flags: 0, stream: 0 }.write(&mut frame);
        frame.extend_from_slice(&self.last_stream.to_be_bytes());
        frame.extend_from_slice(&why.code.to_be_bytes());
        frame.extend_from_slice(why.debug.as_bytes());
        frame
    }

    /// Looks at what the client sent next. Mended bytes are appended to `mended`.
    pub(super) fn scan(&mut self, input: &[u8], mended: &mut Vec<u8>) -> Result<Scanned, Violation> {
        let mut done = Scanned { passed: 0, consumed: 0, pings: 0 };
        while done.consumed < input.len() {
            let rest = &input[done.consumed..];
            if self.preface_left > 0 {
                let n = rest.len().min(self.preface_left);
                self.preface_left -= n;
                self.hand_on(&rest[..n], mended, &mut done);
                continue;
            }
            if self.payload_left > 0 {
                let n = rest.len().min(self.payload_left);
                self.payload_left -= n;
                self.hand_on(&rest[..n], mended, &mut done);
                continue;
            }
            let Some(header) = FrameHeader::read(rest) else { break };
            if header.kind == HEADERS {
                let Some(frames_len) = self.read_block(header, rest)? else { break };
                let block = std::mem::take(&mut self.block);
                let found = self.decoder.decode(&block, &mut self.literals);
                self.block = block;
                let found = found.map_err(|bad| Violation { code: COMPRESSION_ERROR, debug: bad.0 })?;
                self.last_stream = self.last_stream.max(header.stream);
                if found == Authorities::Bad {
                    self.mode = Mode::Mending;
                }
                match self.mode {
                    Mode::Passing => self.hand_on(&rest[..frames_len], mended, &mut done),
                    Mode::Mending => {
                        self.write_block(header, rest, mended);
                        done.consumed += frames_len;
                    }
                }
                continue;
            }
            if header.kind == PING && header.flags & ACK == 0 {
                done.pings += 1;
            }
            self.payload_left = header.length;
            self.hand_on(&rest[..FRAME_HEADER_BYTES], mended, &mut done);
        }
        Ok(done)
    }

    fn hand_on(&self, bytes: &[u8], mended: &mut Vec<u8>, done: &mut Scanned) {
        match self.mode {
            Mode::Passing => done.passed += bytes.len(),
            Mode::Mending => mended.extend_from_slice(bytes),
        }
        done.consumed += bytes.len();
    }

    /// Gathers a whole header block into `self.block`. Returns how many octets its frames take, or
    /// `None` while they are not all here.
    fn read_block(&mut self, first: FrameHeader, input: &[u8]) -> Result<Option<usize>, Violation> {
        const SIZE: Violation = Violation { code: FRAME_SIZE_ERROR, debug: "header frame size" };
        const ORDER: Violation = Violation { code: PROTOCOL_ERROR, debug: "header block interrupted" };
        const TOO_LARGE: Violation = Violation { code: ENHANCE_YOUR_CALM, debug: "header block too large" };
        self.block.clear();
        let mut end = 0;
        for nth in 0..BLOCK_FRAMES_MAX {
            let Some(header) = FrameHeader::read(&input[end..]) else { return Ok(None) };
            if nth > 0 && (header.kind != CONTINUATION || header.stream != first.stream) {
                return Err(ORDER);
            }
            if header.length > FRAME_PAYLOAD_MAX {
                return Err(SIZE);
            }
            let from = end + FRAME_HEADER_BYTES;
            end = from + header.length;
            if end > BLOCK_BYTES_MAX {
                return Err(TOO_LARGE);
            }
            let Some(payload) = input.get(from..end) else { return Ok(None) };
            let fragment = if nth == 0 { fragment_of_headers(header, payload).ok_or(SIZE)? } else { payload };
            self.block.extend_from_slice(fragment);
            if header.flags & END_HEADERS != 0 {
                return Ok(Some(end));
            }
        }
        Err(TOO_LARGE)
    }

    /// Writes `self.literals` as HEADERS and CONTINUATION frames. Padding goes, priority stays.
    fn write_block(&self, first: FrameHeader, input: &[u8], mended: &mut Vec<u8>) {
        let priority = if first.flags & PRIORITY == 0 {
            &[]
        } else {
            let from = FRAME_HEADER_BYTES + usize::from(first.flags & PADDED != 0);
            &input[from..from + 5] // read_block saw that they are there
        };
        let (head, mut tail) =
            self.literals.split_at(self.literals.len().min(FRAME_PAYLOAD_MAX - priority.len()));
        let end_headers = |rest: &[u8]| if rest.is_empty() { END_HEADERS } else { 0 };
        FrameHeader {
            length: priority.len() + head.len(),
            kind: HEADERS,
            flags: first.flags & (END_STREAM | PRIORITY) | end_headers(tail),
            stream: first.stream,
        }
        .write(mended);
        mended.extend_from_slice(priority);
        mended.extend_from_slice(head);
        while !tail.is_empty() {
            let (piece, rest) = tail.split_at(tail.len().min(FRAME_PAYLOAD_MAX));
            tail = rest;
            FrameHeader {
                length: piece.len(),
                kind: CONTINUATION,
                flags: end_headers(tail),
                stream: first.stream,
            }
            .write(mended);
            mended.extend_from_slice(piece);
        }
    }
}

/// The payload of a HEADERS frame without padding and priority.
fn fragment_of_headers(header: FrameHeader, payload: &[u8]) -> Option<&[u8]> {
    let mut fragment = payload;
    if header.flags & PADDED != 0 {
        let (&padding, rest) = fragment.split_first()?;
        fragment = rest.get(..rest.len().checked_sub(usize::from(padding))?)?;
    }
    if header.flags & PRIORITY != 0 {
        fragment = fragment.get(5..)?;
    }
    Some(fragment)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::authority) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        FrameHeader { length: payload.len(), kind, flags, stream }.write(&mut out);
        out.extend_from_slice(payload);
        out
    }

    /// `:authority` with incremental indexing, plain octets.
    pub(in crate::authority) fn authority(value: &str) -> Vec<u8> {
        let mut block = vec![0x41, value.len() as u8];
        block.extend_from_slice(value.as_bytes());
        block
    }

    fn literal_authority(value: &str) -> Vec<u8> {
        let mut block = vec![0x00, 10];
        block.extend_from_slice(b":authority");
        block.push(value.len() as u8);
        block.extend_from_slice(value.as_bytes());
        block
    }

    fn started() -> Scanner {
        let mut scanner = Scanner::new();
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        let done = scanner.scan(preface, &mut Vec::new()).unwrap();
        assert_eq!((done.passed, done.consumed), (24, 24));
        scanner
    }

    #[test]
    fn valid_bytes_pass_and_an_unfinished_block_waits() {
        let mut scanner = started();
        let data = frame(0, 0, 1, b"abc");
        let headers = frame(HEADERS, END_HEADERS, 3, &authority("a:1"));
        let input = [data.clone(), headers.clone()].concat();
        let cut = data.len() + 5;
        let mut mended = Vec::new();
        let done = scanner.scan(&input[..cut], &mut mended).unwrap();
        assert_eq!((done.passed, done.consumed), (data.len(), data.len()));
        let done = scanner.scan(&input[done.consumed..], &mut mended).unwrap();
        assert_eq!((done.passed, done.consumed), (headers.len(), headers.len()));
        assert!(mended.is_empty());
    }

    #[test]
    fn a_bad_authority_switches_to_mending_for_good() {
        let mut scanner = started();
        let mut mended = Vec::new();
        // Padded, with priority, split by a CONTINUATION.
        let block = authority("http://a:1");
        let mut payload = vec![2, 1, 2, 3, 4, 5];
        payload.extend_from_slice(&block[..4]);
        payload.extend_from_slice(&[0, 0]);
        let input = [
            frame(HEADERS, PADDED | PRIORITY | END_STREAM, 1, &payload),
            frame(CONTINUATION, END_HEADERS, 1, &block[4..]),
            frame(0, 1, 1, b"xyz"),
            frame(HEADERS, END_HEADERS, 3, &[0xbe]),
        ]
        .concat();
        let done = scanner.scan(&input, &mut mended).unwrap();
        assert_eq!((done.passed, done.consumed), (0, input.len()));
        let mut first = vec![1, 2, 3, 4, 5];
        first.extend(literal_authority("a:1"));
        let expected = [
            frame(HEADERS, END_HEADERS | PRIORITY | END_STREAM, 1, &first),
            frame(0, 1, 1, b"xyz"),
            frame(HEADERS, END_HEADERS, 3, &literal_authority("a:1")),
        ]
        .concat();
        assert_eq!(mended, expected);
        // A good one is written anew too, as h2's table knows nothing of ours.
        mended.clear();
        scanner.scan(&frame(HEADERS, END_HEADERS, 5, &authority("b:2")), &mut mended).unwrap();
        assert_eq!(mended, frame(HEADERS, END_HEADERS, 5, &literal_authority("b:2")));
    }

    #[test]
    fn a_block_that_grows_is_split() {
        let mut scanner = started();
        let mut block = authority("http://a:1");
        // One long entry, then many references to it.
        block.extend_from_slice(&[0x40, 1, b'x', 0x7f, 0x81, 0x0f]);
        block.extend_from_slice(&[b'y'; 2048]);
        block.extend_from_slice(&[0xbe; 20]);
        let mut mended = Vec::new();
        scanner.scan(&frame(HEADERS, END_HEADERS, 1, &block), &mut mended).unwrap();
        let first = FrameHeader::read(&mended).unwrap();
        assert_eq!((first.length, first.flags), (FRAME_PAYLOAD_MAX, 0));
        let mut check = started();
        let block_len = check.read_block(first, &mended).unwrap().unwrap();
        assert_eq!(block_len, mended.len());
        assert!(check.block.len() > 21 * 2048);
    }

    #[test]
    fn violations() {
        let bomb = {
            let mut block = vec![0x40, 1, b'x', 0x7f, 0x81, 0x0f];
            block.extend_from_slice(&[b'y'; 2048]);
            block.extend_from_slice(&[0xbe; 8000]);
            block
        };
        let cases: Vec<(Vec<u8>, u32)> = vec![
            (frame(HEADERS, END_HEADERS, 1, &[0x80]), COMPRESSION_ERROR),
            (frame(HEADERS, END_HEADERS, 1, &bomb), COMPRESSION_ERROR),
            (frame(HEADERS, END_HEADERS | PADDED, 1, &[9, 0x82]), FRAME_SIZE_ERROR),
            (frame(HEADERS, END_HEADERS | PRIORITY, 1, &[1, 2]), FRAME_SIZE_ERROR),
            ([frame(HEADERS, 0, 1, &[0x82]), frame(0, 0, 1, b"")].concat(), PROTOCOL_ERROR),
            ([frame(HEADERS, 0, 1, &[0x82]), frame(CONTINUATION, 0, 3, b"")].concat(), PROTOCOL_ERROR),
            (
                [frame(HEADERS, 0, 1, &[0x82]), frame(CONTINUATION, 0, 1, b"").repeat(2000)].concat(),
                ENHANCE_YOUR_CALM,
            ),
        ];
        for (input, code) in cases {
            let error = started().scan(&input, &mut Vec::new()).unwrap_err();
            assert_eq!(error.code, code, "{error:?}");
        }
    }

    #[test]
    fn pings_are_counted_but_not_their_answers() {
        let input = [frame(PING, 0, 0, &[0; 8]), frame(PING, ACK, 0, &[0; 8])].concat();
        assert_eq!(started().scan(&input, &mut Vec::new()).unwrap().pings, 1);
    }

    proptest::proptest! {
        /// However the bytes are cut, the outcome is the same, and nothing panics.
        #[test]
        fn cuts_do_not_matter(
            frames in proptest::collection::vec(
                (0u8..11, proptest::arbitrary::any::<u8>(), 0u32..4, proptest::collection::vec(0u8.., 0..40)), 0..12),
            bad in 0usize..12,
            cuts in proptest::collection::vec(1usize..30, 1..20),
        ) {
            let mut input = Vec::new();
            for (n, (kind, flags, stream, payload)) in frames.iter().enumerate() {
                input.extend(frame(*kind, *flags, *stream, payload));
                if n == bad {
                    input.extend(frame(HEADERS, END_HEADERS, 1, &authority("http://a:1")));
                }
            }
            let whole = run(&input, &[usize::MAX]);
            let pieces = run(&input, &cuts);
            proptest::prop_assert_eq!(whole, pieces);
        }
    }

    fn run(input: &[u8], cuts: &[usize]) -> (Vec<u8>, bool) {
        let mut scanner = started();
        let (mut out, mut held) = (Vec::new(), Vec::new());
        let mut rest = input;
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (piece, after) = rest.split_at((*cut).min(rest.len()));
            rest = after;
            held.extend_from_slice(piece);
            let mut mended = Vec::new();
            match scanner.scan(&held, &mut mended) {
                Ok(done) => {
                    out.extend_from_slice(&held[..done.passed]);
                    out.extend_from_slice(&mended);
                    held.drain(..done.consumed);
                }
                // What went before an error in the same piece is lost: the connection is over anyway.
                Err(_) => return (Vec::new(), true),
            }
        }
        (out, false)
    }
}
