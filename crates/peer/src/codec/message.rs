//! The message stream: everything but appends while there is a stream for those.

use bytes::{BufMut, Bytes, BytesMut};
use raft::{Message, codec};

use super::{Decode, Encode, Frame, FrameError, Inflow, checked_len};

const LEN_BYTES: usize = 8;

#[derive(Default)]
pub struct MessageEncoder;

#[derive(Default)]
pub struct MessageDecoder {
    inflow: Inflow,
}

impl Encode for MessageEncoder {
    fn message(&mut self, message: &Message, out: &mut BytesMut) {
        let at = out.len();
        out.put_u64(0);
        codec::encode_message_to(message, out);
        let len = (out.len() - at - LEN_BYTES) as u64;
        out[at..at + LEN_BYTES].copy_from_slice(&len.to_be_bytes());
    }

    fn heartbeat(&mut self, out: &mut BytesMut) {
        self.message(&Message::link_heartbeat(), out);
    }
}

impl Decode for MessageDecoder {
    fn feed(&mut self, bytes: Bytes) {
        self.inflow.feed(bytes);
    }

    fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(announced) = self.inflow.number_at(0) else { return Ok(None) };
        let len = checked_len(announced)?;
        if self.inflow.len() - LEN_BYTES < len {
            return Ok(None);
        }
        self.inflow.skip(LEN_BYTES);
        let message = codec::decode_message(self.inflow.take(len))?;
        Ok(Some(if message.is_link_heartbeat() {
            Frame::Heartbeat
        } else {
            Frame::Message(Box::new(message))
        }))
    }
}

#[cfg(test)]
mod tests {
    use raft::{MessageType, Term};

    use super::*;

    #[test]
    fn frames_have_etcds_bytes_and_come_back_in_any_pieces() {
        let heartbeat = Message { from: 1, term: Term(2), ..Message::new(MessageType::Heartbeat, 3) };
        let mut out = BytesMut::new();
        MessageEncoder.message(&heartbeat, &mut out);
        MessageEncoder.heartbeat(&mut out);
        // type 8, to 3, from 1, term 2, commit 0; then type 8 alone.
        assert_eq!(
            &out[..],
            b"\0\0\0\0\0\0\0\x0a\x08\x08\x10\x03\x18\x01\x20\x02\x40\x00\0\0\0\0\0\0\0\x02\x08\x08"
        );
        for piece in 1..out.len() {
            let mut decoder = MessageDecoder::default();
            let mut frames = Vec::new();
            for bytes in out.chunks(piece) {
                decoder.feed(Bytes::copy_from_slice(bytes));
                while let Some(frame) = decoder.next().unwrap() {
                    frames.push(frame);
                }
            }
            assert_eq!(frames, [Frame::Message(Box::new(heartbeat.clone())), Frame::Heartbeat]);
        }
    }

    #[test]
    fn a_length_beyond_reason_ends_the_stream_and_reserves_nothing() {
        let mut decoder = MessageDecoder::default();
        decoder.feed(Bytes::copy_from_slice(&(1_u64 << 40).to_be_bytes()));
        assert_eq!(decoder.next(), Err(FrameError::TooLong { announced: 1 << 40 }));
        let mut decoder = MessageDecoder::default();
        decoder.feed(Bytes::copy_from_slice(&(400_u64 << 20).to_be_bytes()));
        assert_eq!(decoder.next(), Ok(None));
    }
}
