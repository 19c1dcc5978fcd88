//! One outgoing message, ready for the wire: prefix and payload as pieces that are never copied together.

use std::collections::VecDeque;
use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// Compression flag and length.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Data frames handed to HTTP/2 are about this large: big enough to be cheap, small enough that a slow
/// client holds little memory.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// Pieces from this size on are worth a frame of their own; smaller ones are gathered.
const GATHER_BELOW_BYTES: usize = 8 * 1024;

/// The part of a message that is written when it is sent.
pub(crate) trait PieceSource: Send {
    /// Appends octets until `out` holds about [`PIECE_BYTES`]. False once nothing is left.
    fn fill(&mut self, out: &mut BytesMut) -> bool;
}

/// An encoded message.
pub(crate) struct Message {
    /// Begins with the prefix.
    head: Bytes,
    rest: VecDeque<Bytes>,
    /// Behind all that.
    source: Option<Box<dyn PieceSource>>,
    /// Octets of the payload, uncompressed: what the byte counters count.
    payload_len: usize,
    /// Keys in the answer, for the request log; −1 where that makes no sense.
    pub(crate) log_count: i64,
}

impl Message {
    pub(crate) fn encode(message: &impl prost::Message) -> Message {
        Message::write(message.encoded_len(), |out| {
            message.encode(out).expect("the buffer has the message's length");
        })
    }

    /// A message that `put` writes at once; it must write `payload_len` octets.
    pub(crate) fn write(payload_len: usize, put: impl FnOnce(&mut BytesMut)) -> Message {
        let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + payload_len);
        buffer.put_slice(&prefix(Compression::None, payload_len));
        put(&mut buffer);
        assert_eq!(buffer.len() - PREFIX_BYTES, payload_len, "a message's length was counted wrong");
        Message { head: buffer.freeze(), rest: VecDeque::new(), source: None, payload_len, log_count: -1 }
    }

    /// A message whose head `put` writes now and whose rest `source` writes later, `payload_len` octets together.
    pub(crate) fn from_source(
        payload_len: usize,
        put: impl FnOnce(&mut BytesMut),
        source: Box<dyn PieceSource>,
    ) -> Message {
        let mut head = BytesMut::with_capacity(64);
        head.put_slice(&prefix(Compression::None, payload_len));
        put(&mut head);
        Message {
            head: head.freeze(),
            rest: VecDeque::new(),
            source: Some(source),
            payload_len,
            log_count: -1,
        }
    }

    /// A message that is encoded already, in parts.
    pub(crate) fn from_pieces(pieces: VecDeque<Bytes>) -> Message {
        let payload_len = pieces.iter().map(Bytes::len).sum();
        let head = Bytes::copy_from_slice(&prefix(Compression::None, payload_len));
        Message { head, rest: pieces, source: None, payload_len, log_count: -1 }
    }

    pub(crate) fn counting(mut self, count: i64) -> Message {
        self.log_count = count;
        self
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Compat: who sends gzip is answered in gzip. The whole message is in memory then; no known client asks for it.
    pub(super) fn gzip(mut self) -> Message {
        let mut compressor = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        let mut compressed = || {
            compressor.write_all(&self.head[PREFIX_BYTES..])?;
            for piece in &self.rest {
                compressor.write_all(piece)?;
            }
            while let Some(mut source) = self.source.take() {
                let mut piece = BytesMut::with_capacity(PIECE_BYTES);
                if source.fill(&mut piece) {
                    self.source = Some(source);
                }
                compressor.write_all(&piece)?;
            }
            compressor.try_finish()
        };
        compressed().expect("writing to memory does not fail");
        let payload = compressor.finish().expect("writing to memory does not fail");
        self.head = Bytes::copy_from_slice(&prefix(Compression::Gzip, payload.len()));
        self.rest = VecDeque::from([Bytes::from(payload)]);
        self
    }

    /// The next octets to send, about [`PIECE_BYTES`]; `None` once all are out.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        if self.source.is_some() && self.rest.is_empty() {
            return self.fill_from_source();
        }
        if self.rest.is_empty() {
            return self.take_head();
        }
        if self.head.len() >= GATHER_BELOW_BYTES {
            return self.take_head();
        }
        // Small pieces: gather them. A large one that follows stays for the next time.
        let mut gathered = BytesMut::with_capacity(PIECE_BYTES.min(self.left_at_most(PIECE_BYTES)));
        loop {
            if self.head.is_empty() {
                match self.rest.pop_front() {
                    Some(next) => self.head = next,
                    None => break,
                }
            }
            if self.head.len() >= PIECE_BYTES && gathered.len() >= GATHER_BELOW_BYTES {
                break;
            }
            let room = PIECE_BYTES - gathered.len();
            gathered.put(self.head.split_to(room.min(self.head.len())));
            if gathered.len() == PIECE_BYTES {
                break;
            }
        }
        (!gathered.is_empty()).then(|| gathered.freeze())
    }

    fn fill_from_source(&mut self) -> Option<Bytes> {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + GATHER_BELOW_BYTES);
        piece.put(std::mem::take(&mut self.head));
        if let Some(source) = &mut self.source
            && !source.fill(&mut piece)
        {
            self.source = None;
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    /// Nothing is left to send.
    pub(super) fn is_drained(&self) -> bool {
        self.head.is_empty() && self.rest.is_empty() && self.source.is_none()
    }

    fn take_head(&mut self) -> Option<Bytes> {
        let piece = self.head.split_to(self.head.len().min(PIECE_BYTES));
        if self.head.is_empty() {
            self.head = self.rest.pop_front().unwrap_or_default();
        }
        (!piece.is_empty()).then_some(piece)
    }

    /// How much is left, counted up to `limit` only.
    fn left_at_most(&self, limit: usize) -> usize {
        let mut left = self.head.len();
        for piece in &self.rest {
            if left >= limit {
                break;
            }
            left += piece.len();
        }
        left
    }

    #[cfg(test)]
    pub(crate) fn to_payload(mut self) -> Bytes {
        let mut all = BytesMut::new();
        while let Some(piece) = self.next_piece() {
            all.put_slice(&piece);
        }
        all.freeze().slice(PREFIX_BYTES..)
    }
}

#[derive(Clone, Copy)]
enum Compression {
    None = 0,
    Gzip = 1,
}

fn prefix(compression: Compression, payload_len: usize) -> [u8; PREFIX_BYTES] {
    // A message is at most 2 GiB − 1 by then; see `router`.
    let [a, b, c, d] = (payload_len as u32).to_be_bytes();
    [compression as u8, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(mut message: Message) -> (Vec<usize>, Vec<u8>) {
        let (mut sizes, mut all) = (Vec::new(), Vec::new());
        while let Some(piece) = message.next_piece() {
            sizes.push(piece.len());
            all.extend_from_slice(&piece);
        }
        (sizes, all)
    }

    #[test]
    fn a_small_message_is_one_piece() {
        let request = proto::etcdserverpb::PutRequest { key: Bytes::from_static(b"k"), ..Default::default() };
        let (sizes, all) = drain(Message::encode(&request));
        assert_eq!((sizes, all), (vec![8], vec![0, 0, 0, 0, 3, 10, 1, b'k']));
        let (sizes, _) = drain(Message::encode(&proto::etcdserverpb::StatusRequest {}));
        assert_eq!(sizes, [5]);
    }

    #[test]
    fn large_messages_come_in_pieces_of_64_kib() {
        let records: VecDeque<Bytes> = (0..300u32).map(|n| Bytes::from(vec![n as u8; 1000])).collect();
        let (sizes, all) = drain(Message::from_pieces(records));
        assert_eq!(sizes, [65536, 65536, 65536, 65536, 37861]);
        assert_eq!(all.len(), 300_005);
        assert_eq!(all[1..5], 300_000u32.to_be_bytes());
        assert_eq!((all[5], all[5 + 299_999]), (0, 299u32 as u8));
    }

    proptest::proptest! {
        #[test]
        fn pieces_are_the_message(lens in proptest::collection::vec(0usize..100_000, 0..12)) {
            let pieces: VecDeque<Bytes> =
                lens.iter().enumerate().map(|(n, len)| Bytes::from(vec![n as u8; *len])).collect();
            let whole: Vec<u8> = pieces.iter().flatten().copied().collect();
            let (sizes, all) = drain(Message::from_pieces(pieces));
            proptest::prop_assert_eq!(&all[PREFIX_BYTES..], &whole[..]);
            proptest::prop_assert!(sizes.iter().all(|size| *size <= PIECE_BYTES));
        }
    }
}
