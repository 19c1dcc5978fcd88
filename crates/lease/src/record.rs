//! A lease as the `lease` bucket holds it: key = the id as 8 bytes big endian, value = `leasepb.Lease`.

use std::fmt;

use bytes::Bytes;
use prost::Message;

use crate::LeaseId;

/// Length in bytes of a key in the `lease` bucket.
pub const LEASE_KEY_LEN: usize = 8;

/// What survives a restart. Attached keys are not in it: they are found again from the `lease` field
/// of the live key-values when the store is restored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    pub id: LeaseId,
    /// As granted, in seconds.
    pub ttl_secs: i64,
    /// Seconds left at the last applied checkpoint; zero when there was none since the last renewal.
    pub remaining_ttl_secs: i64,
}

/// Bytes in the `lease` bucket that are no lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// The key is not the 8 bytes of an id.
    Key { len: usize },
    /// The value is no `leasepb.Lease`.
    Value { key: [u8; LEASE_KEY_LEN], error: String },
    /// The key and the id inside of the value differ.
    IdMismatch { key: LeaseId, value: LeaseId },
}

impl Record {
    /// The key of this record in the `lease` bucket.
    #[must_use]
    pub fn key(id: LeaseId) -> [u8; LEASE_KEY_LEN] {
        id.0.to_be_bytes()
    }

    /// The value of this record in the `lease` bucket.
    #[must_use]
    pub fn value(&self) -> Bytes {
        let lease = proto::leasepb::Lease {
            id: self.id.0,
            ttl: self.ttl_secs,
            remaining_ttl: self.remaining_ttl_secs,
        };
        Bytes::from(lease.encode_to_vec())
    }

    /// Reads one entry of the bucket.
    ///
    /// # Errors
    /// When the key or the value is not what [`Record::key`] and [`Record::value`] make.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<Record, RecordError> {
        let key: [u8; LEASE_KEY_LEN] = key.try_into().map_err(|_| RecordError::Key { len: key.len() })?;
        let lease = proto::leasepb::Lease::decode(value)
            .map_err(|error| RecordError::Value { key, error: error.to_string() })?;
        let id = LeaseId(i64::from_be_bytes(key));
        if lease.id != id.0 {
            return Err(RecordError::IdMismatch { key: id, value: LeaseId(lease.id) });
        }
        Ok(Record { id, ttl_secs: lease.ttl, remaining_ttl_secs: lease.remaining_ttl })
    }
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RecordError::Key { len } => write!(f, "read lease record: key of {len} bytes instead of 8"),
            RecordError::Value { key, error } => {
                write!(f, "read lease record {}: {error}", LeaseId(i64::from_be_bytes(*key)))
            }
            RecordError::IdMismatch { key, value } => {
                write!(f, "read lease record {key}: the value is of lease {value}")
            }
        }
    }
}

impl std::error::Error for RecordError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_has_etcds_bytes() {
        let record = Record { id: LeaseId(0x0102), ttl_secs: 60, remaining_ttl_secs: 0 };
        assert_eq!(Record::key(record.id), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(record.value().as_ref(), [0x08, 0x82, 0x02, 0x10, 60]);
        assert_eq!(Record::decode(&Record::key(record.id), &record.value()), Ok(record));
    }

    #[test]
    fn a_negative_id_survives() {
        let record = Record { id: LeaseId(-7), ttl_secs: 60, remaining_ttl_secs: 31 };
        assert_eq!(Record::decode(&Record::key(record.id), &record.value()), Ok(record));
    }

    #[test]
    fn broken_bytes_are_errors() {
        let record = Record { id: LeaseId(5), ttl_secs: 60, remaining_ttl_secs: 0 };
        assert!(matches!(Record::decode(b"short", &record.value()), Err(RecordError::Key { len: 5 })));
        assert!(matches!(Record::decode(&Record::key(LeaseId(5)), &[0x0f]), Err(RecordError::Value { .. })));
        assert!(matches!(
            Record::decode(&Record::key(LeaseId(6)), &record.value()),
            Err(RecordError::IdMismatch { .. })
        ));
    }
}
