//! Reads one segment, record by record, and tells a torn end from damage.

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use crc32c::crc32c_append;
use disk::File;
use prost::Message;
use proto::walpb;

use crate::error::{Context, Damage, Error};
use crate::frame::{LENGTH_BYTES, lost_a_sector, read_length_field};
use crate::record::{Record, RecordKind};

/// How much is read at a time. A segment is never held in memory as a whole.
const WINDOW_BYTES: u64 = 256 * 1024;

/// The checksum chain as far as it was read. Unknown until the first crc record when reading starts in the
/// middle of a log.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Chain(Option<u32>);

impl Chain {
    pub(crate) fn crc(self) -> u32 {
        self.0.unwrap_or(0)
    }
}

/// Only the last segment may end in a torn record: the writer flushes a segment before it begins the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    Inner,
    Last,
}

#[derive(Debug)]
pub(crate) enum Step {
    Record(Record),
    /// A length of zero, or the end of the file.
    End,
    /// The last record was not written as a whole. Nothing behind it counts.
    Torn,
}

pub(crate) struct SegmentReader {
    file: Arc<dyn File>,
    path: PathBuf,
    position: Position,
    len: u64,
    /// Behind the last record that was read.
    offset: u64,
    window: Vec<u8>,
    window_start: u64,
}

impl SegmentReader {
    pub(crate) fn new(
        file: Arc<dyn File>,
        path: PathBuf,
        position: Position,
    ) -> Result<SegmentReader, Error> {
        let len = file.len().context("measure", &path)?;
        Ok(SegmentReader { file, path, position, len, offset: 0, window: Vec::new(), window_start: 0 })
    }

    pub(crate) fn path(&self) -> &PathBuf {
        &self.path
    }

    /// Behind the last record that was read: where the next one would begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn next(&mut self, chain: &mut Chain) -> Result<Step, Error> {
        let left = self.len - self.offset;
        if left < LENGTH_BYTES as u64 {
            return if left == 0 { Ok(Step::End) } else { self.cut_short() };
        }
        let mut field = [0; LENGTH_BYTES];
        field.copy_from_slice(self.bytes(self.offset, LENGTH_BYTES)?);
        let field = u64::from_le_bytes(field);
        if field == 0 {
            return Ok(Step::End);
        }
        let (record_bytes, pad) = read_length_field(field).map_err(|damage| self.corrupt(damage))?;
        if record_bytes + pad > left - LENGTH_BYTES as u64 {
            return self.cut_short();
        }
        let start = self.offset + LENGTH_BYTES as u64;
        let frame_bytes = (record_bytes + pad) as usize; // fits: no longer than the file that was just read
        let record = Bytes::copy_from_slice(&self.bytes(start, frame_bytes)?[..record_bytes as usize]);

        let Ok(wire) = walpb::Record::decode(record) else {
            return self.torn_or(frame_bytes, Damage::Malformed);
        };
        let data = wire.data.unwrap_or_default();
        if wire.r#type == RecordKind::Crc as i64 {
            if let Some(computed) = chain.0.filter(|&computed| computed != wire.crc) {
                return Err(self.corrupt(Damage::Checksum { recorded: wire.crc, computed }));
            }
            chain.0 = Some(wire.crc);
        } else {
            let computed = crc32c_append(chain.crc(), &data);
            if computed != wire.crc {
                return self.torn_or(frame_bytes, Damage::Checksum { recorded: wire.crc, computed });
            }
            chain.0 = Some(computed);
        }
        let kind = RecordKind::from_wire(wire.r#type).map_err(|damage| self.corrupt(damage))?;
        self.offset = start + frame_bytes as u64;
        Ok(Step::Record(Record { kind, data }))
    }

    /// Damage at the record that is being read, or was read last.
    pub(crate) fn corrupt(&self, damage: Damage) -> Error {
        Error::Corrupt { path: self.path.clone(), offset: self.offset, damage }
    }

    fn cut_short(&self) -> Result<Step, Error> {
        match self.position {
            Position::Last => Ok(Step::Torn),
            Position::Inner => Err(self.corrupt(Damage::Truncated)),
        }
    }

    fn torn_or(&mut self, frame_bytes: usize, damage: Damage) -> Result<Step, Error> {
        let start = self.offset + LENGTH_BYTES as u64;
        if self.position == Position::Last && lost_a_sector(self.bytes(start, frame_bytes)?, start) {
            return Ok(Step::Torn);
        }
        Err(self.corrupt(damage))
    }

    /// The range must lie within the file as it was measured.
    fn bytes(&mut self, offset: u64, len: usize) -> Result<&[u8], Error> {
        let end = offset + len as u64;
        let window_end = self.window_start + self.window.len() as u64;
        if offset < self.window_start || end > window_end {
            let wanted = (len as u64).max(WINDOW_BYTES).min(self.len - offset);
            self.window.resize(wanted as usize, 0);
            self.window_start = offset;
            let read = self.file.read_at(&mut self.window, offset).context("read", &self.path)?;
            self.window.truncate(read);
            if read < len {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(Error::Io { action: "read", path: self.path.clone(), source });
            }
        }
        Ok(&self.window[(offset - self.window_start) as usize..][..len])
    }
}
