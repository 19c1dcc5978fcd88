//! Legacy `.snap` files: raft snapshots beside the log, which etcd up to 3.6 reads at start.
//!
//! The file is `snappb.snapshot{1 crc, 2 data}`: the CRC-32C of the data, and the data, an encoded
//! `raftpb.Snapshot` whose own data is a JSON tree that the server makes.

use std::fmt;

use bytes::Bytes;
use crc32c::crc32c;
use prost::Message;
use proto::snappb;
use raft::{EntryId, Snapshot, codec};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapError {
    /// A file of no bytes, as a crash before the first flush leaves it.
    Empty,
    /// Not the envelope, or an envelope of nothing.
    Malformed,
    Checksum {
        recorded: u32,
        computed: u32,
    },
}

impl fmt::Display for SnapError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapError::Empty => f.write_str("snap: empty snapshot"),
            SnapError::Malformed => f.write_str("snap: not a snapshot"),
            SnapError::Checksum { recorded, computed } => {
                write!(f, "snap: crc mismatch: expected {recorded:x}, computed {computed:x}")
            }
        }
    }
}

impl std::error::Error for SnapError {}

/// `<term %016x>-<index %016x>.snap`
pub fn file_name(id: EntryId) -> String {
    format!("{:016x}-{:016x}.snap", id.term.0, id.index.0)
}

pub fn encode(snapshot: &Snapshot) -> Bytes {
    let data = codec::encode_snapshot(snapshot);
    snappb::Snapshot { crc: crc32c(&data), data: Some(data) }.encode_to_vec().into()
}

pub fn decode(file: Bytes) -> Result<Snapshot, SnapError> {
    if file.is_empty() {
        return Err(SnapError::Empty);
    }
    let envelope = snappb::Snapshot::decode(file).map_err(|_| SnapError::Malformed)?;
    let data = envelope.data.filter(|data| !data.is_empty()).ok_or(SnapError::Malformed)?;
    let computed = crc32c(&data);
    if computed != envelope.crc {
        return Err(SnapError::Checksum { recorded: envelope.crc, computed });
    }
    codec::decode_snapshot(data).map_err(|_| SnapError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use raft::{ConfState, Index, SnapshotMetadata, Term};

    #[test]
    fn snapshots_read_back_and_damage_is_told() {
        let snapshot = Snapshot {
            data: Bytes::from_static(b"{}"),
            metadata: SnapshotMetadata {
                conf_state: ConfState::of_voters([1, u64::MAX]),
                index: Index(7),
                term: Term(2),
            },
        };
        assert_eq!(file_name(snapshot.entry_id()), "0000000000000002-0000000000000007.snap");
        let file = encode(&snapshot);
        assert_eq!(decode(file.clone()), Ok(snapshot));
        assert_eq!(decode(Bytes::new()), Err(SnapError::Empty));
        for at in 0..file.len() {
            let mut bent = file.to_vec();
            bent[at] ^= 1;
            assert!(decode(bent.into()).is_err(), "flipped bit in byte {at}");
            assert!(decode(file.slice(..at)).is_err(), "cut at {at}");
        }
    }
}
