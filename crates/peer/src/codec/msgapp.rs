//! The append stream. Appends of one leader to one follower differ in little but their entries, so what follows
//! the append before is sent as entries alone.
//!
//! Source: etcd `server/etcdserver/api/rafthttp/msgappv2_codec.go`. All numbers are big-endian.
//!
//! | first byte | then | means |
//! |---|---|---|
//! | 0 | | the stream is alive |
//! | 1 | count (8), as many times size (8) and entry, commit (8) | an append behind the last one, in its term |
//! | 2 | size (8), message | an append; the next may follow it |

use bytes::{BufMut, Bytes, BytesMut};
use membership::MemberId;
use raft::{Entry, Index, Message, MessageType, Term, codec};

use super::{Decode, Encode, Frame, FrameError, Inflow, checked_len};

const HEARTBEAT: u8 = 0;
const ENTRIES: u8 = 1;
const APPEND: u8 = 2;

const NUMBER_BYTES: usize = 8;

/// Where the last append of the stream ended: both sides keep it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    term: Term,
    index: Index,
}

impl Position {
    fn behind(message: &Message) -> Position {
        let index = message.entries.last().map_or(message.index, |entry| entry.index);
        Position { term: message.term, index }
    }

    /// Whether entries alone say all of this append.
    fn leads_to(self, message: &Message) -> bool {
        message.index == self.index && message.log_term == self.term && message.term == self.term
    }
}

#[derive(Default)]
pub struct AppendEncoder {
    position: Position,
}

impl Encode for AppendEncoder {
    fn message(&mut self, message: &Message, out: &mut BytesMut) {
        if self.position.leads_to(message) {
            out.put_u8(ENTRIES);
            out.put_u64(message.entries.len() as u64);
            for entry in &message.entries {
                put_sized(out, |out| codec::encode_entry_to(entry, out));
            }
            out.put_u64(message.commit.0);
            self.position.index = self.position.index.plus(message.entries.len() as u64);
        } else {
            out.put_u8(APPEND);
            put_sized(out, |out| codec::encode_message_to(message, out));
            self.position = Position::behind(message);
        }
    }

    fn heartbeat(&mut self, out: &mut BytesMut) {
        out.put_u8(HEARTBEAT);
    }
}

fn put_sized(out: &mut BytesMut, put: impl FnOnce(&mut BytesMut)) {
    let at = out.len();
    out.put_u64(0);
    put(out);
    let len = (out.len() - at - NUMBER_BYTES) as u64;
    out[at..at + NUMBER_BYTES].copy_from_slice(&len.to_be_bytes());
}

pub struct AppendDecoder {
    local: MemberId,
    remote: MemberId,
    position: Position,
    inflow: Inflow,
    /// Entries of the frame that is arriving.
    partial: Option<Partial>,
}

struct Partial {
    left: u64,
    entries: Vec<Entry>,
}

impl AppendDecoder {
    /// For what `remote` sends to `local`.
    pub fn new(local: MemberId, remote: MemberId) -> AppendDecoder {
        AppendDecoder {
            local,
            remote,
            position: Position::default(),
            inflow: Inflow::default(),
            partial: None,
        }
    }

    fn append(&mut self) -> Result<Option<Frame>, FrameError> {
        let Some(announced) = self.inflow.number_at(1) else { return Ok(None) };
        let len = checked_len(announced)?;
        let begin = 1 + NUMBER_BYTES;
        if self.inflow.len() - begin < len {
            return Ok(None);
        }
        self.inflow.skip(begin);
        let message = codec::decode_message(self.inflow.take(len))?;
        self.position = Position::behind(&message);
        Ok(Some(Frame::Message(Box::new(message))))
    }

    /// Entries are taken as they arrive, so a count that lies costs only what was sent.
    fn entries(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_none() {
            let Some(count) = self.inflow.number_at(1) else { return Ok(None) };
            self.inflow.skip(1 + NUMBER_BYTES);
            self.partial = Some(Partial { left: count, entries: Vec::new() });
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        while partial.left > 0 {
            let Some(announced) = self.inflow.number_at(0) else { return Ok(None) };
            let len = checked_len(announced)?;
            if self.inflow.len() - NUMBER_BYTES < len {
                return Ok(None);
            }
            self.inflow.skip(NUMBER_BYTES);
            partial.entries.push(codec::decode_entry(self.inflow.take(len))?);
            partial.left -= 1;
        }
        let Some(commit) = self.inflow.number_at(0) else { return Ok(None) };
        self.inflow.skip(NUMBER_BYTES);
        let entries = self.partial.take().map(|partial| partial.entries).unwrap_or_default();
        let message = Message {
            from: self.remote.0,
            term: self.position.term,
            log_term: self.position.term,
            index: self.position.index,
            commit: Index(commit),
            entries,
            ..Message::new(MessageType::App, self.local.0)
        };
        let count = message.entries.len() as u64;
        if self.position.index.0.checked_add(count).is_none() {
            return Err(FrameError::TooLong { announced: count });
        }
        self.position.index = self.position.index.plus(count);
        Ok(Some(Frame::Message(Box::new(message))))
    }
}

impl Decode for AppendDecoder {
    fn feed(&mut self, bytes: Bytes) {
        self.inflow.feed(bytes);
    }

    fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        if self.partial.is_some() {
            return self.entries();
        }
        let Some(&kind) = self.inflow.bytes.first() else { return Ok(None) };
        match kind {
            HEARTBEAT => {
                self.inflow.skip(1);
                Ok(Some(Frame::Heartbeat))
            }
            ENTRIES => self.entries(),
            APPEND => self.append(),
            kind => Err(FrameError::UnknownType { kind }),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LOCAL: MemberId = MemberId(2);
    const REMOTE: MemberId = MemberId(1);

    fn append(term: u64, log_term: u64, index: u64, count: u64, commit: u64) -> Message {
        let entry = |at| Entry {
            term: Term(term),
            index: Index(index + at),
            data: Bytes::from(vec![at as u8; at as usize]),
            ..Entry::default()
        };
        Message {
            from: REMOTE.0,
            term: Term(term),
            log_term: Term(log_term),
            index: Index(index),
            commit: Index(commit),
            entries: (1..=count).map(entry).collect(),
            ..Message::new(MessageType::App, LOCAL.0)
        }
    }

    fn decode(bytes: &[u8], piece: usize) -> Result<Vec<Frame>, FrameError> {
        let mut decoder = AppendDecoder::new(LOCAL, REMOTE);
        let mut frames = Vec::new();
        for bytes in bytes.chunks(piece) {
            decoder.feed(Bytes::copy_from_slice(bytes));
            while let Some(frame) = decoder.next()? {
                frames.push(frame);
            }
        }
        Ok(frames)
    }

    #[test]
    fn appends_that_follow_are_entries_alone() {
        let messages =
            [append(1, 1, 5, 2, 4), append(1, 1, 7, 1, 6), append(1, 1, 8, 0, 8), append(2, 1, 8, 1, 8)];
        let mut encoder = AppendEncoder::default();
        let mut out = BytesMut::new();
        let mut kinds = Vec::new();
        for message in &messages {
            kinds.push(out.len());
            encoder.message(message, &mut out);
        }
        let kinds: Vec<u8> = kinds.into_iter().map(|at| out[at]).collect();
        assert_eq!(kinds, [APPEND, ENTRIES, ENTRIES, APPEND]);
        encoder.heartbeat(&mut out);
        for piece in 1..40 {
            let frames = decode(&out, piece).unwrap();
            let (last, appends) = frames.split_last().unwrap();
            assert_eq!(*last, Frame::Heartbeat);
            let expected: Vec<Frame> =
                messages.iter().map(|message| Frame::Message(Box::new(message.clone()))).collect();
            assert_eq!(appends, expected);
        }
    }

    #[test]
    fn entries_have_etcds_bytes() {
        let mut encoder = AppendEncoder { position: Position { term: Term(1), index: Index(5) } };
        let mut out = BytesMut::new();
        encoder.message(&append(1, 1, 5, 1, 3), &mut out);
        assert_eq!(
            &out[..],
            b"\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x07\x10\x01\x18\x06\x22\x01\x01\0\0\0\0\0\0\0\x03"
        );
    }

    #[test]
    fn a_count_beyond_reason_reserves_nothing() {
        let mut bytes = vec![ENTRIES];
        bytes.extend(u64::MAX.to_be_bytes());
        assert_eq!(decode(&bytes, 3), Ok(vec![]));
        assert_eq!(decode(&[9], 1), Err(FrameError::UnknownType { kind: 9 }));
    }

    proptest! {
        #[test]
        fn any_bytes_are_frames_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..200), piece in 1..50_usize) {
            let _ = decode(&bytes, piece);
        }

        #[test]
        fn what_is_encoded_is_decoded(appends in proptest::collection::vec((1..4_u64, 0..5_u64, 0..20_u64), 1..20), piece in 1..100_usize) {
            let mut encoder = AppendEncoder::default();
            let mut out = BytesMut::new();
            let mut expected = Vec::new();
            for (term, count, index) in appends {
                let message = append(term, term, index, count, index);
                encoder.message(&message, &mut out);
                expected.push(Frame::Message(Box::new(message)));
            }
            prop_assert_eq!(decode(&out, piece).unwrap(), expected);
        }
    }
}
