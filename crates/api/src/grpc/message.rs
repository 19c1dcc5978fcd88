//! One outgoing message, ready for the wire: prefix and payload as pieces that are never copied together.

use std::io::Write;

use bytes::{BufMut, Bytes, BytesMut};

/// Compression flag and length.
pub(crate) const PREFIX_BYTES: usize = 5;
/// Data frames handed to HTTP/2 are about this large: big enough to be cheap, small enough that a slow
/// client holds little memory.
pub(crate) const PIECE_BYTES: usize = 64 * 1024;
/// Room for the record that passes the mark, if it is a usual one.
const PIECE_SLACK_BYTES: usize = 8 * 1024;

/// The part of a message that is written when it is sent.
pub(crate) trait PieceSource: Send {
    /// Appends octets until `out` holds about [`PIECE_BYTES`]. False once nothing is left.
    fn fill(&mut self, out: &mut BytesMut) -> bool;
}

/// An encoded message.
pub(crate) struct Message {
    /// Begins with the prefix.
    head: Bytes,
    /// Behind it.
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
        Message { head: buffer.freeze(), source: None, payload_len, log_count: -1 }
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
        Message { head: head.freeze(), source: Some(source), payload_len, log_count: -1 }
    }

    pub(crate) fn counting(mut self, count: i64) -> Message {
        self.log_count = count;
        self
    }

    pub(crate) fn payload_len(&self) -> usize {
        self.payload_len
    }

    /// Compat: who sends gzip is answered in gzip. The whole message is in memory then; no known client asks for it.
    pub(super) fn gzip(self) -> Message {
        let (payload_len, log_count) = (self.payload_len, self.log_count);
        let mut compressor = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        compressor.write_all(&self.into_payload()).expect("writing to memory does not fail");
        let compressed = compressor.finish().expect("writing to memory does not fail");
        let head = [&prefix(Compression::Gzip, compressed.len())[..], &compressed].concat().into();
        Message { head, source: None, payload_len, log_count }
    }

    /// The payload in one piece.
    pub(crate) fn into_payload(mut self) -> Bytes {
        let mut all = BytesMut::with_capacity(PREFIX_BYTES + self.payload_len);
        while let Some(piece) = self.next_piece() {
            all.put_slice(&piece);
        }
        all.freeze().slice(PREFIX_BYTES..)
    }

    /// The next octets to send, about [`PIECE_BYTES`]; `None` once all are out.
    pub(super) fn next_piece(&mut self) -> Option<Bytes> {
        let Some(source) = &mut self.source else {
            let piece = self.head.split_to(self.head.len().min(PIECE_BYTES));
            return (!piece.is_empty()).then_some(piece);
        };
        let mut piece = BytesMut::with_capacity(PIECE_BYTES + PIECE_SLACK_BYTES);
        piece.put(std::mem::take(&mut self.head));
        if !source.fill(&mut piece) {
            self.source = None;
        }
        (!piece.is_empty()).then(|| piece.freeze())
    }

    /// Nothing is left to send.
    pub(super) fn is_drained(&self) -> bool {
        self.head.is_empty() && self.source.is_none()
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
    use std::collections::VecDeque;

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

    struct Records(VecDeque<Vec<u8>>);

    impl PieceSource for Records {
        fn fill(&mut self, out: &mut BytesMut) -> bool {
            while let Some(record) = self.0.pop_front() {
                out.put_slice(&record);
                if out.len() >= PIECE_BYTES {
                    break;
                }
            }
            !self.0.is_empty()
        }
    }

    #[test]
    fn large_messages_come_in_pieces() {
        let records = Records((0..300u32).map(|n| vec![n as u8; 1000]).collect());
        let message = Message::from_source(300_002, |head| head.put_slice(b"ab"), Box::new(records));
        let (sizes, all) = drain(message);
        assert_eq!(sizes, [66_007, 66_000, 66_000, 66_000, 36_000]);
        assert_eq!(all[1..5], 300_002u32.to_be_bytes());
        assert_eq!((&all[5..7], all[7], all[300_006]), (&b"ab"[..], 0, 299u32 as u8));

        let (sizes, all) = drain(Message::write(100_000, |out| out.put_bytes(7, 100_000)));
        assert_eq!((sizes, all.len()), (vec![65_536, 34_469], 100_005));
    }

    #[test]
    fn gzip_keeps_the_payload() {
        let records = Records((0..3u32).map(|n| vec![n as u8; 50_000]).collect());
        let message = Message::from_source(150_000, |_| {}, Box::new(records)).gzip();
        let (_, all) = drain(message);
        assert_eq!(all[0], 1);
        let mut plain = Vec::new();
        std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(&all[5..]), &mut plain).unwrap();
        assert_eq!(plain.len(), 150_000);
    }
}
