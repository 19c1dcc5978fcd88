//! One entry of the replicated log.

use bytes::Bytes;

use crate::position::{EntryId, Index, Term};

/// What `data` holds. An entry of any other kind is refused by the codec.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum EntryKind {
    /// Opaque to raft; empty for the entry that opens a leader's term.
    #[default]
    Normal,
    /// An encoded [`crate::ConfChange`].
    ConfChange,
    /// An encoded [`crate::ConfChangeV2`]; empty data leaves a joint configuration.
    ConfChangeV2,
}

/// Cheap to clone: `data` is shared, and its bytes are those that the proposer sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub term: Term,
    pub index: Index,
    pub kind: EntryKind,
    pub data: Bytes,
}

impl Entry {
    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    /// Size in bytes of the encoded entry: what message and apply limits count.
    pub fn encoded_bytes(&self) -> u64 {
        let kind = if self.kind == EntryKind::Normal { 0 } else { 2 };
        let data = match self.data.len() as u64 {
            0 => 0,
            len => 1 + varint_bytes(len) + len,
        };
        kind + 1 + varint_bytes(self.term.0) + 1 + varint_bytes(self.index.0) + data
    }

    /// Size in bytes of the payload alone: what the limit on uncommitted entries and inflights count.
    /// Zero for the entries that raft itself proposes, so no limit can refuse those.
    pub fn payload_bytes(&self) -> u64 {
        self.data.len() as u64
    }
}

fn varint_bytes(value: u64) -> u64 {
    u64::from(64 - (value | 1).leading_zeros()).div_ceil(7)
}

/// How many of `entries`, from the front, fit into `bytes_max`. At least one when there is any: an entry
/// larger than the limit still has to travel.
pub(crate) fn count_within(entries: &[Entry], bytes_max: u64) -> usize {
    let mut bytes = 0u64;
    for (count, entry) in entries.iter().enumerate() {
        bytes = bytes.saturating_add(entry.encoded_bytes());
        if bytes > bytes_max && count > 0 {
            return count;
        }
    }
    entries.len()
}

pub(crate) fn encoded_bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::encoded_bytes).sum()
}

pub(crate) fn payload_bytes_of(entries: &[Entry]) -> u64 {
    entries.iter().map(Entry::payload_bytes).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;

    fn entry(index: u64, data: &'static [u8]) -> Entry {
        Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data: Bytes::from_static(data) }
    }

    #[test]
    fn encoded_bytes_agree_with_the_codec_at_varint_edges() {
        for number in [0, 1, 127, 128, 16_383, 16_384, u64::MAX] {
            for kind in [EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2] {
                for len in [0, 1, 127, 128] {
                    let entry = Entry {
                        term: Term(number),
                        index: Index(number),
                        kind,
                        data: Bytes::from(vec![7; len]),
                    };
                    assert_eq!(entry.encoded_bytes(), codec::encode_entry(&entry).len() as u64);
                }
            }
        }
    }

    #[test]
    fn the_first_entry_always_fits() {
        let entries = [entry(1, b"abc"), entry(2, b"abc"), entry(3, b"abc")];
        let one = entries[0].encoded_bytes();
        assert_eq!(count_within(&entries, 0), 1);
        assert_eq!(count_within(&entries, 2 * one - 1), 1);
        assert_eq!(count_within(&entries, 2 * one), 2);
        assert_eq!(count_within(&entries, u64::MAX), 3);
        assert_eq!(count_within(&[], 0), 0);
    }
}
