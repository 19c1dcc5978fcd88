//! Records: `mvccpb.KeyValue` as bytes. They are written once, when a key is put, and from then on only
//! referred to: the same bytes lie in the file, in answers and in events.
//!
//! The encoding is canonical (ascending fields, zero fields left out), because `HashKV` feeds it to a
//! checksum that must be equal on every member, Go's included.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

use crate::revision::Revision;

/// A lease's identity; never 0, which means "no lease" on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    pub fn from_wire(id: i64) -> Option<LeaseId> {
        (id != 0).then_some(LeaseId(id))
    }

    pub fn to_wire(lease: Option<LeaseId>) -> i64 {
        lease.map_or(0, |lease| lease.0)
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

const KEY: u8 = 1 << 3 | LENGTH_DELIMITED;
const CREATE_REVISION: u8 = 2 << 3;
const MOD_REVISION: u8 = 3 << 3;
const VERSION: u8 = 4 << 3;
const VALUE: u8 = 5 << 3 | LENGTH_DELIMITED;
const LEASE: u8 = 6 << 3;

const LENGTH_DELIMITED: u8 = 2;

/// One `mvccpb.KeyValue`, read without copying.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record<'a> {
    pub key: &'a [u8],
    pub create_revision: i64,
    pub mod_revision: i64,
    pub version: i64,
    pub value: &'a [u8],
    pub lease: i64,
}

/// The bytes are no `mvccpb.KeyValue`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedRecord;

impl<'a> Record<'a> {
    /// Reads what any encoder may have written: fields in any order, the last of a kind counts, unknown
    /// fields are skipped. No bytes at all are a record too (a restored snapshot may hold one).
    pub fn parse(mut bytes: &'a [u8]) -> Result<Record<'a>, MalformedRecord> {
        let mut record = Record::default();
        while !bytes.is_empty() {
            let tag = take_varint(&mut bytes)?;
            match u8::try_from(tag) {
                Ok(KEY) => record.key = take_delimited(&mut bytes)?,
                Ok(CREATE_REVISION) => record.create_revision = take_varint(&mut bytes)? as i64,
                Ok(MOD_REVISION) => record.mod_revision = take_varint(&mut bytes)? as i64,
                Ok(VERSION) => record.version = take_varint(&mut bytes)? as i64,
                Ok(VALUE) => record.value = take_delimited(&mut bytes)?,
                Ok(LEASE) => record.lease = take_varint(&mut bytes)? as i64,
                _ => skip_field(tag, &mut bytes)?,
            }
        }
        Ok(record)
    }

    pub fn encoded_len(&self) -> usize {
        delimited_len(self.key)
            + number_len(self.create_revision)
            + number_len(self.mod_revision)
            + number_len(self.version)
            + delimited_len(self.value)
            + number_len(self.lease)
    }

    pub fn encode(&self, buf: &mut impl BufMut) {
        put_delimited(buf, KEY, self.key);
        put_number(buf, CREATE_REVISION, self.create_revision);
        put_number(buf, MOD_REVISION, self.mod_revision);
        put_number(buf, VERSION, self.version);
        put_delimited(buf, VALUE, self.value);
        put_number(buf, LEASE, self.lease);
    }

    pub fn lease_id(&self) -> Option<LeaseId> {
        LeaseId::from_wire(self.lease)
    }
}

/// Bytes are taken from arenas of this size, so that small records share an allocation.
const ARENA_BYTES: usize = 64 * 1024;

/// Writes records one after the other into shared buffers and hands each out as its own [`Bytes`].
#[derive(Debug, Default)]
pub struct RecordWriter {
    arena: BytesMut,
}

/// A tombstone's two forms, which share their bytes.
pub struct Tombstone {
    /// What is stored: the key only.
    pub stored: Bytes,
    /// What a delete event carries: key and mod_revision.
    pub event: Bytes,
}

impl RecordWriter {
    pub fn write(&mut self, record: &Record<'_>) -> Bytes {
        self.reserve(record.encoded_len());
        record.encode(&mut self.arena);
        self.arena.split().freeze()
    }

    pub fn tombstone(&mut self, key: &[u8], revision: Revision) -> Tombstone {
        let stored = Record { key, ..Record::default() };
        let event = Record { mod_revision: revision.to_wire(), ..stored };
        let event_bytes = self.write(&event);
        Tombstone { stored: event_bytes.slice(..stored.encoded_len()), event: event_bytes }
    }

    fn reserve(&mut self, len: usize) {
        if self.arena.capacity() < len {
            // A fresh buffer instead of `reserve`: what was handed out keeps the old one alive.
            self.arena = BytesMut::with_capacity(len.max(ARENA_BYTES));
        }
    }
}

/// Where the key lies in an encoded record, to share its bytes.
pub(crate) fn key_of(record: &Bytes) -> Bytes {
    match Record::parse(record) {
        Ok(parsed) if !parsed.key.is_empty() => record.slice_ref(parsed.key),
        _ => Bytes::new(),
    }
}

fn put_delimited(buf: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        buf.put_u8(tag);
        put_varint(buf, bytes.len() as u64);
        buf.put_slice(bytes);
    }
}

fn put_number(buf: &mut impl BufMut, tag: u8, number: i64) {
    if number != 0 {
        buf.put_u8(tag);
        put_varint(buf, number as u64);
    }
}

pub(crate) fn put_varint(buf: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        buf.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    buf.put_u8(value as u8);
}

pub(crate) fn varint_len(value: u64) -> usize {
    // 1 byte per 7 bits, and one for zero: (bits * 9 + 64) / 64 is that division without a loop.
    ((64 - (value | 1).leading_zeros()) as usize * 9 + 64) / 64
}

fn delimited_len(bytes: &[u8]) -> usize {
    if bytes.is_empty() { 0 } else { 1 + varint_len(bytes.len() as u64) + bytes.len() }
}

fn number_len(number: i64) -> usize {
    if number == 0 { 0 } else { 1 + varint_len(number as u64) }
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, MalformedRecord> {
    let mut value = 0_u64;
    for (at, byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if *byte < 0x80 {
            *bytes = &bytes[at + 1..];
            return Ok(value);
        }
    }
    Err(MalformedRecord)
}

fn take_delimited<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], MalformedRecord> {
    let len = usize::try_from(take_varint(bytes)?).map_err(|_| MalformedRecord)?;
    let (taken, rest) = bytes.split_at_checked(len).ok_or(MalformedRecord)?;
    *bytes = rest;
    Ok(taken)
}

fn skip_field(tag: u64, bytes: &mut &[u8]) -> Result<(), MalformedRecord> {
    let fixed = match tag & 7 {
        0 => return take_varint(bytes).map(drop),
        1 => 8,
        2 => return take_delimited(bytes).map(drop),
        5 => 4,
        _ => return Err(MalformedRecord),
    };
    *bytes = bytes.get(fixed..).ok_or(MalformedRecord)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn golden_bytes() {
        let record = Record {
            key: b"foo",
            create_revision: 2,
            mod_revision: 300,
            version: 2,
            value: b"bar",
            lease: 0x7694,
        };
        let bytes = RecordWriter::default().write(&record);
        assert_eq!(&bytes[..], b"\x0a\x03foo\x10\x02\x18\xac\x02\x20\x02\x2a\x03bar\x30\x94\xed\x01");
        let tombstone = RecordWriter::default().tombstone(b"foo", Revision::new(300).unwrap());
        assert_eq!(&tombstone.stored[..], b"\x0a\x03foo");
        assert_eq!(&tombstone.event[..], b"\x0a\x03foo\x18\xac\x02");
        assert_eq!(Record::parse(b""), Ok(Record::default()));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(
            key: Vec<u8>, value: Vec<u8>, create_revision: i64, mod_revision: i64, version: i64, lease: i64,
        ) {
            let record = Record { key: &key, create_revision, mod_revision, version, value: &value, lease };
            let bytes = RecordWriter::default().write(&record);
            prop_assert_eq!(bytes.len(), record.encoded_len());
            prop_assert_eq!(Record::parse(&bytes), Ok(record));
        }

        #[test]
        fn damage_never_panics(bytes: Vec<u8>) {
            let _ = Record::parse(&bytes);
        }

        #[test]
        fn varint_lengths(value: u64, shift in 0_u32..64) {
            let value = value >> shift;
            let mut buf = Vec::new();
            put_varint(&mut buf, value);
            prop_assert_eq!(buf.len(), varint_len(value));
        }
    }
}
