//! Revisions, and how the `key` bucket spells them.

use std::fmt;

/// Main revision: one per committed write transaction, never reused. An empty store is at 1, the first
/// write makes 2. Source: etcd `server/storage/mvcc/revision.go`.
///
/// Invariant: `0..=i64::MAX`, so the wire's int64 always holds it. [`Revision::ZERO`] is before everything;
/// a store may be compacted at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(u64);

impl Revision {
    pub const ZERO: Revision = Revision(0);
    /// Where a store without any record stands.
    pub const FIRST: Revision = Revision(1);
    pub const MAX: Revision = Revision(i64::MAX as u64);

    /// `None` past `i64::MAX`.
    pub const fn new(value: u64) -> Option<Revision> {
        if value <= i64::MAX as u64 { Some(Revision(value)) } else { None }
    }

    /// The wire's int64; `None` when negative.
    pub fn from_wire(value: i64) -> Option<Revision> {
        u64::try_from(value).ok().map(Revision)
    }

    pub const fn get(self) -> u64 {
        self.0
    }

    pub const fn to_wire(self) -> i64 {
        self.0 as i64
    }

    /// The revision after this one. At one write per nanosecond the last is 292 years away.
    pub fn next(self) -> Revision {
        assert!(self < Revision::MAX, "revision {self} has no successor");
        Revision(self.0 + 1)
    }

    /// The revision before this one; `None` at zero.
    pub fn previous(self) -> Option<Revision> {
        self.0.checked_sub(1).map(Revision)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// One change: the transaction's main revision and the change's place within the transaction, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RevisionPair {
    pub main: Revision,
    pub sub: u32,
}

impl RevisionPair {
    pub const fn new(main: Revision, sub: u32) -> RevisionPair {
        RevisionPair { main, sub }
    }

    /// The 17 bytes under which a put is stored, and with which bookkeeping spells a revision.
    pub fn to_bytes(self) -> [u8; RECORD_KEY_LEN] {
        let mut bytes = [0; RECORD_KEY_LEN];
        bytes[..8].copy_from_slice(&self.main.0.to_be_bytes());
        bytes[8] = b'_';
        bytes[9..].copy_from_slice(&u64::from(self.sub).to_be_bytes());
        bytes
    }

    /// Reads the first 17 bytes. `None` when they spell no revision that we could have written.
    pub fn from_bytes(bytes: &[u8]) -> Option<RevisionPair> {
        let (main, rest) = bytes.split_first_chunk::<8>()?;
        let (separator, rest) = rest.split_first()?;
        let (sub, _) = rest.split_first_chunk::<8>()?;
        if *separator != b'_' {
            return None;
        }
        let main = Revision::new(u64::from_be_bytes(*main))?;
        let sub = u32::try_from(u64::from_be_bytes(*sub)).ok().filter(|sub| *sub <= SUB_MAX)?;
        Some(RevisionPair { main, sub })
    }
}

impl fmt::Display for RevisionPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.main, self.sub)
    }
}

/// The index keeps two flags beside the sub revision. A transaction of a billion changes does not exist.
pub const SUB_MAX: u32 = (1 << 30) - 1;

/// Length of a put's key in the bucket.
pub const RECORD_KEY_LEN: usize = 17;

const TOMBSTONE_MARK: u8 = b't';

/// A key of the `key` bucket: 8 bytes main revision (big endian), `_`, 8 bytes sub revision, and `t` when
/// the record is a tombstone. Bytewise order is revision order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    pub revision: RevisionPair,
    pub tombstone: bool,
}

impl RecordKey {
    pub const fn put(revision: RevisionPair) -> RecordKey {
        RecordKey { revision, tombstone: false }
    }

    pub const fn tombstone(revision: RevisionPair) -> RecordKey {
        RecordKey { revision, tombstone: true }
    }

    /// `None` when the bytes are no key of this bucket: the file is damaged.
    pub fn from_bytes(bytes: &[u8]) -> Option<RecordKey> {
        let revision = RevisionPair::from_bytes(bytes)?;
        match bytes.get(RECORD_KEY_LEN..) {
            Some([]) => Some(RecordKey::put(revision)),
            Some([TOMBSTONE_MARK]) => Some(RecordKey::tombstone(revision)),
            _ => None,
        }
    }

    pub fn to_bytes(self) -> RecordKeyBytes {
        let mut bytes = [TOMBSTONE_MARK; RECORD_KEY_LEN + 1];
        bytes[..RECORD_KEY_LEN].copy_from_slice(&self.revision.to_bytes());
        RecordKeyBytes { bytes, len: RECORD_KEY_LEN + usize::from(self.tombstone) }
    }
}

/// A [`RecordKey`] spelled out, without an allocation. Derefs to the 17 or 18 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordKeyBytes {
    bytes: [u8; RECORD_KEY_LEN + 1],
    len: usize,
}

impl std::ops::Deref for RecordKeyBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn record_keys_have_etcds_bytes_and_order() {
        let pair = RevisionPair::new(Revision::new(0x0102).unwrap(), 3);
        let put = RecordKey::put(pair);
        let tombstone = RecordKey::tombstone(pair);
        assert_eq!(&put.to_bytes()[..], b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03");
        assert_eq!(&tombstone.to_bytes()[..], b"\0\0\0\0\0\0\x01\x02_\0\0\0\0\0\0\0\x03t");
        assert_eq!(RecordKey::from_bytes(&put.to_bytes()), Some(put));
        assert_eq!(RecordKey::from_bytes(&tombstone.to_bytes()), Some(tombstone));
        assert!(put.to_bytes()[..] < tombstone.to_bytes()[..]);
        assert!(tombstone.to_bytes()[..] < RevisionPair::new(pair.main, 4).to_bytes()[..]);
    }

    #[test]
    fn damaged_record_keys_are_refused() {
        let good = RecordKey::tombstone(RevisionPair::new(Revision::FIRST, 0)).to_bytes();
        assert_eq!(RecordKey::from_bytes(&good[..16]), None, "short");
        assert_eq!(RecordKey::from_bytes(&[&good[..17], b"u"].concat()), None, "strange mark");
        assert_eq!(RecordKey::from_bytes(&[&good[..], b"t"].concat()), None, "long");
        assert_eq!(RecordKey::from_bytes(&[0xff; 17]), None, "negative revision");
    }
}
