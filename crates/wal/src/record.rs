//! Records: `walpb.Record{1 type, 2 crc, 3 data}`, and what their data holds.
//!
//! The crc is the running CRC-32C over the data of all records since the log began. A crc record carries the
//! chain into a new segment and adds nothing to it.

use bytes::{BufMut, Bytes};
use crc32c::crc32c_append;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};
use proto::walpb;
use raft::{ConfState, Entry, EntryId, HardState, Index, Term, codec};

use crate::error::Damage;
use crate::frame::{FRAME_ALIGN, LENGTH_BYTES, length_field};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    Metadata = 1,
    Entry = 2,
    State = 3,
    Crc = 4,
    Snapshot = 5,
}

impl RecordKind {
    pub(crate) fn from_wire(kind: i64) -> Result<RecordKind, Damage> {
        Ok(match kind {
            1 => RecordKind::Metadata,
            2 => RecordKind::Entry,
            3 => RecordKind::State,
            4 => RecordKind::Crc,
            5 => RecordKind::Snapshot,
            other => return Err(Damage::UnknownType(other)),
        })
    }
}

/// A record that was read and whose checksum holds.
#[derive(Debug)]
pub(crate) struct Record {
    pub(crate) kind: RecordKind,
    pub(crate) data: Bytes,
}

/// The state up to `index` is in the database file; entries after it follow in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRecord {
    pub index: Index,
    pub term: Term,
    /// Members as of `index`. Absent at index 0 and in logs older than etcd 3.5.
    pub conf_state: Option<ConfState>,
}

impl SnapshotRecord {
    /// What a new log begins with.
    pub const ZERO: SnapshotRecord =
        SnapshotRecord { index: Index::ZERO, term: Term::ZERO, conf_state: None };

    pub fn id(&self) -> EntryId {
        EntryId { term: self.term, index: self.index }
    }

    pub(crate) fn decode(data: Bytes) -> Result<SnapshotRecord, Damage> {
        let wire = walpb::Snapshot::decode(data).map_err(|_| Damage::Content("snapshot record"))?;
        Ok(SnapshotRecord {
            index: Index(wire.index),
            term: Term(wire.term),
            conf_state: wire.conf_state.map(codec::conf_state_from_proto),
        })
    }
}

/// Encodes records, framed and chained, one behind the other.
pub(crate) struct Encoder {
    /// The chain up to and including the last record.
    crc: u32,
    bytes: Vec<u8>,
}

impl Encoder {
    pub(crate) fn new(crc: u32) -> Encoder {
        Encoder { crc, bytes: Vec::new() }
    }

    pub(crate) fn crc(&self) -> u32 {
        self.crc
    }

    /// Everything encoded since the last [`Encoder::clear`].
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Forgets what was written out. Memory of an unusually large batch is given back.
    pub(crate) fn clear(&mut self) {
        const KEEP_BYTES: usize = 4 << 20;
        self.bytes.clear();
        self.bytes.shrink_to(KEEP_BYTES);
    }

    pub(crate) fn crc_record(&mut self) {
        // The data is empty, so the chain is carried over as it is.
        self.record(RecordKind::Crc, 0, |_| {});
    }

    pub(crate) fn metadata(&mut self, metadata: &[u8]) {
        self.record(RecordKind::Metadata, metadata.len(), |out| out.put_slice(metadata));
    }

    pub(crate) fn entry(&mut self, entry: &Entry) {
        self.record(RecordKind::Entry, entry.encoded_bytes() as usize, |out| {
            codec::encode_entry_to(entry, out);
        });
    }

    pub(crate) fn state(&mut self, state: &HardState) {
        let state = codec::hard_state_to_proto(state);
        self.record(RecordKind::State, state.encoded_len(), |out| put_message(&state, out));
    }

    pub(crate) fn snapshot(&mut self, snapshot: &SnapshotRecord) {
        let conf_state = snapshot.conf_state.as_ref().map(codec::conf_state_to_proto);
        let wire = walpb::Snapshot { index: snapshot.index.0, term: snapshot.term.0, conf_state };
        self.record(RecordKind::Snapshot, wire.encoded_len(), |out| put_message(&wire, out));
    }

    /// The data is encoded in its final place, so a large entry is copied once: the header before it has a
    /// known size except for the varint of the crc, which is known only afterwards.
    fn record(&mut self, kind: RecordKind, data_bytes: usize, put_data: impl FnOnce(&mut Vec<u8>)) {
        const CRC_VARINT_MAX: usize = 5;
        let frame_start = self.bytes.len();
        debug_assert_eq!(frame_start % FRAME_ALIGN, 0, "frames are aligned");
        // Tag and type, tag and crc, and tag and length unless the data is empty.
        let data_header = if data_bytes == 0 { 0 } else { 1 + encoded_len_varint(data_bytes as u64) };
        let header_max = 2 + 1 + CRC_VARINT_MAX + data_header;
        let data_start = frame_start + LENGTH_BYTES + header_max;
        self.bytes.resize(data_start, 0);
        put_data(&mut self.bytes);
        assert_eq!(
            self.bytes.len() - data_start,
            data_bytes,
            "a {kind:?} record's encoded size was foretold wrongly"
        );
        self.crc = crc32c_append(self.crc, &self.bytes[data_start..]);

        let spare = CRC_VARINT_MAX - encoded_len_varint(u64::from(self.crc));
        if spare > 0 {
            self.bytes.copy_within(data_start.., data_start - spare);
            self.bytes.truncate(self.bytes.len() - spare);
        }
        let record_bytes = header_max - spare + data_bytes;
        let (field, pad) = length_field(record_bytes);
        let mut head = &mut self.bytes[frame_start..data_start - spare];
        head.put_u64_le(field);
        head.put_slice(&[0x08, kind as u8, 0x10]);
        encode_varint(u64::from(self.crc), &mut head);
        if data_bytes > 0 {
            head.put_u8(0x1a);
            encode_varint(data_bytes as u64, &mut head);
        }
        assert!(head.is_empty(), "{} bytes of the record header were left unwritten", head.len());
        self.bytes.resize(self.bytes.len() + pad, 0);
    }
}

fn put_message(message: &impl Message, out: &mut Vec<u8>) {
    message.encode(out).expect("a Vec takes any length");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The obvious way: protobuf message, then frame.
    fn encode_obviously(crc: u32, kind: RecordKind, data: &[u8]) -> (u32, Vec<u8>) {
        let crc = crc32c_append(crc, data);
        let data = (!data.is_empty()).then(|| Bytes::copy_from_slice(data));
        let record = walpb::Record { r#type: kind as i64, crc, data }.encode_to_vec();
        let (field, pad) = length_field(record.len());
        let mut bytes = field.to_le_bytes().to_vec();
        bytes.extend(record);
        bytes.extend(vec![0; pad]);
        (crc, bytes)
    }

    proptest! {
        #[test]
        fn encoding_in_place_equals_encoding_obviously(
            start: u32,
            datas in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 1..8),
        ) {
            let mut encoder = Encoder::new(start);
            let (mut crc, mut expected) = (start, Vec::new());
            for data in &datas {
                encoder.metadata(data);
                let (next, bytes) = encode_obviously(crc, RecordKind::Metadata, data);
                crc = next;
                expected.extend(bytes);
            }
            prop_assert_eq!(encoder.bytes(), &expected[..]);
            prop_assert_eq!(encoder.crc(), crc);
        }
    }

    #[test]
    fn short_crc_varints_are_written_short() {
        // An empty data leaves the chain alone, so the crc's width can be chosen.
        for crc in [0, 1, 0x7f, 0x80, 0x3fff, 0x4000, 0x1f_ffff, 0x20_0000, 0xfff_ffff, 0x1000_0000, u32::MAX]
        {
            let mut encoder = Encoder::new(crc);
            encoder.crc_record();
            assert_eq!(encoder.bytes(), encode_obviously(crc, RecordKind::Crc, b"").1, "crc {crc:#x}");
        }
    }
}
