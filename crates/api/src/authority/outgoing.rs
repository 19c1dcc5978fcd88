//! Follows the frames that go out to the client.

use super::frames::{FRAME_HEADER_BYTES, FrameHeader, HEADERS};

const DATA: u8 = 0;

/// Where the bytes that go out are within their frames.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The beginning of a frame's header that is not whole yet.
    header: [u8; FRAME_HEADER_BYTES],
    header_len: usize,
    /// Octets left of the present frame.
    payload_left: usize,
}

impl Outgoing {
    /// Takes the bytes that follow. True when a frame with headers or data begins among them.
    pub(super) fn follow(&mut self, mut bytes: &[u8]) -> bool {
        let mut answers = false;
        loop {
            let skipped = self.payload_left.min(bytes.len());
            self.payload_left -= skipped;
            bytes = &bytes[skipped..];
            if bytes.is_empty() {
                return answers;
            }
            let taken = (FRAME_HEADER_BYTES - self.header_len).min(bytes.len());
            self.header[self.header_len..][..taken].copy_from_slice(&bytes[..taken]);
            self.header_len += taken;
            bytes = &bytes[taken..];
            if self.header_len == FRAME_HEADER_BYTES {
                let frame = FrameHeader::read(&self.header).expect("it is whole");
                answers |= matches!(frame.kind, DATA | HEADERS);
                self.payload_left = frame.length;
                self.header_len = 0;
            }
        }
    }

    /// Whether all frames so far are whole, so that another one may follow.
    pub(super) fn is_between_frames(&self) -> bool {
        self.header_len == 0 && self.payload_left == 0
    }
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::frame;
    use super::*;

    const PING_ACK: u8 = 6;

    #[test]
    fn each_frame_is_seen_wherever_the_writes_are_cut() {
        let all = [
            frame(4, 0, 0, b""),
            frame(PING_ACK, 1, 0, &[0; 8]),
            frame(HEADERS, 4, 1, b"abc"),
            frame(DATA, 0, 1, &[0; 300]),
            frame(PING_ACK, 1, 0, &[0; 8]),
            frame(DATA, 1, 1, b""),
        ]
        .concat();
        for piece in 1..all.len() {
            let mut outgoing = Outgoing::default();
            let answers = all.chunks(piece).filter(|bytes| outgoing.follow(bytes)).count();
            assert!(outgoing.is_between_frames());
            let ends_of_headers = [9 + 17 + 9, 9 + 17 + 12 + 9, all.len()];
            let pieces: std::collections::BTreeSet<_> =
                ends_of_headers.iter().map(|end| (end - 1) / piece).collect();
            assert_eq!(answers, pieces.len(), "in pieces of {piece}");
        }
    }

    #[test]
    fn a_frame_that_is_cut_leaves_no_room_for_another() {
        let mut outgoing = Outgoing::default();
        assert!(outgoing.is_between_frames());
        let data = frame(DATA, 0, 1, b"abc");
        outgoing.follow(&data[..5]);
        assert!(!outgoing.is_between_frames());
        outgoing.follow(&data[5..11]);
        assert!(!outgoing.is_between_frames());
        outgoing.follow(&data[11..]);
        assert!(outgoing.is_between_frames());
    }
}
