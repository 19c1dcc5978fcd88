//! What a log says when read from a snapshot on.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, File, OpenMode};
use raft::{Entry, EntryId, HardState, Index, Term, codec};

use crate::error::{Context, Damage, Error};
use crate::name::{SegmentName, check_sequence, segments, segments_from};
use crate::record::{RecordKind, SnapshotRecord};
use crate::segment_reader::{Chain, Position, SegmentReader, Step};

/// A log as read without taking or changing it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadLog {
    pub metadata: Bytes,
    /// The last one written; empty when none was.
    pub hard_state: HardState,
    /// The record that reading started from.
    pub snapshot: SnapshotRecord,
    /// All after the snapshot, contiguous. Those above `hard_state.commit` may yet be replaced.
    pub entries: Vec<Entry>,
    /// The last record was torn; a member that opens the log cuts it off.
    pub is_torn: bool,
}

/// Reads the log after the snapshot `from`, which must have been recorded ((0, 0) was, in every new log).
/// Takes no lock, so a running member may append meanwhile; a torn end is left out, as it may be growing.
pub fn read(disk: &dyn Disk, dir: &Path, from: EntryId) -> Result<ReadLog, Error> {
    let files = open_to_read(disk, dir, segments_from(disk, dir, from.index)?)?;
    let replay = Replay::run(dir, &files, from)?;
    let is_torn = replay.tail.is_torn;
    let (metadata, hard_state, snapshot, entries) = replay.finish(dir, files[0].0)?;
    Ok(ReadLog { metadata, hard_state, snapshot, entries, is_torn })
}

/// Snapshot records that may be started from, oldest first: those that the last written state says are
/// committed. A newer one may describe entries that this member never acknowledged.
pub fn valid_snapshots(disk: &dyn Disk, dir: &Path) -> Result<Vec<SnapshotRecord>, Error> {
    let all = segments(disk, dir)?;
    if all.is_empty() {
        return Err(Error::NotFound { dir: dir.to_path_buf() });
    }
    check_sequence(dir, &all)?;
    let mut snapshots = Vec::new();
    let mut commit = Index::ZERO;
    for_each_record(dir, &open_to_read(disk, dir, all)?, |reader, _, kind, data| {
        match kind {
            RecordKind::Snapshot => snapshots.push(decode_snapshot(reader, data)?),
            RecordKind::State => commit = decode_state(reader, data)?.commit,
            RecordKind::Metadata | RecordKind::Entry | RecordKind::Crc => {}
        }
        Ok(())
    })?;
    snapshots.retain(|snapshot| snapshot.index <= commit);
    Ok(snapshots)
}

pub(crate) type OpenSegment = (SegmentName, Arc<dyn File>);

pub(crate) fn open_to_read(
    disk: &dyn Disk,
    dir: &Path,
    names: Vec<SegmentName>,
) -> Result<Vec<OpenSegment>, Error> {
    let open = |name: SegmentName| {
        let path = name.path_in(dir);
        Ok((name, disk.open(&path, OpenMode::ReadOnly).context("open", &path)?))
    };
    names.into_iter().map(open).collect()
}

/// Where and how the last segment ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tail {
    /// Behind the last whole record.
    pub(crate) offset: u64,
    pub(crate) is_torn: bool,
    pub(crate) crc: u32,
    /// The crc and the metadata record are there.
    pub(crate) has_header: bool,
}

/// Calls `visit` with each record and the number of its segment in `files`.
pub(crate) fn for_each_record(
    dir: &Path,
    files: &[OpenSegment],
    mut visit: impl FnMut(&SegmentReader, usize, RecordKind, Bytes) -> Result<(), Error>,
) -> Result<Tail, Error> {
    let mut chain = Chain::default();
    let mut tail = Tail::default();
    for (number, (name, file)) in files.iter().enumerate() {
        let position = if number + 1 == files.len() { Position::Last } else { Position::Inner };
        let mut reader = SegmentReader::new(file.clone(), name.path_in(dir), position)?;
        tail = Tail::default();
        loop {
            match reader.next(&mut chain)? {
                Step::Record(record) => {
                    tail.has_header |= record.kind == RecordKind::Metadata;
                    visit(&reader, number, record.kind, record.data)?;
                }
                Step::End => break,
                Step::Torn => {
                    tail.is_torn = true;
                    break;
                }
            }
        }
        tail.offset = reader.offset();
        tail.crc = chain.crc();
    }
    Ok(tail)
}

/// The state of a log after its records were played back from a snapshot on.
pub(crate) struct Replay {
    from: EntryId,
    metadata: Option<Bytes>,
    hard_state: HardState,
    /// The record of `from`, once met.
    snapshot: Option<SnapshotRecord>,
    entries: Vec<Entry>,
    /// Term of the entry at `from.index` as last written before here.
    term_at_start: Option<Term>,
    pub(crate) tail: Tail,
}

impl Replay {
    pub(crate) fn run(dir: &Path, files: &[OpenSegment], from: EntryId) -> Result<Replay, Error> {
        let mut replay = Replay {
            from,
            metadata: None,
            hard_state: HardState::default(),
            snapshot: None,
            entries: Vec::new(),
            term_at_start: None,
            tail: Tail::default(),
        };
        replay.tail = for_each_record(dir, files, |reader, _, kind, data| match kind {
            RecordKind::Metadata => replay.metadata(reader, data),
            RecordKind::Entry => replay.entry(reader, data),
            RecordKind::State => {
                replay.hard_state = decode_state(reader, data)?;
                Ok(())
            }
            RecordKind::Snapshot => replay.snapshot(reader, data),
            RecordKind::Crc => Ok(()), // the reader has checked it
        })?;
        Ok(replay)
    }

    pub(crate) fn finish(
        self,
        dir: &Path,
        first: SegmentName,
    ) -> Result<(Bytes, HardState, SnapshotRecord, Vec<Entry>), Error> {
        let metadata = self.metadata.ok_or_else(|| Error::NoHeader { path: first.path_in(dir) })?;
        let snapshot = self.snapshot.ok_or(Error::SnapshotNotFound { snapshot: self.from })?;
        Ok((metadata, self.hard_state, snapshot, self.entries))
    }

    fn metadata(&mut self, reader: &SegmentReader, data: Bytes) -> Result<(), Error> {
        match &self.metadata {
            Some(first) if *first != data => Err(Error::MetadataConflict { path: reader.path().clone() }),
            _ => {
                self.metadata = Some(data);
                Ok(())
            }
        }
    }

    /// A later entry replaces the one of the same index, and with it all that followed that one: it was
    /// written after a leader of a newer term overruled them.
    fn entry(&mut self, reader: &SegmentReader, data: Bytes) -> Result<(), Error> {
        let entry = codec::decode_entry(data).map_err(|_| reader.corrupt(Damage::Content("entry")))?;
        if entry.index <= self.from.index {
            // (etcd only looks at entries behind the snapshot here, so overruled ones may come back.)
            self.entries.clear();
            self.term_at_start = (entry.index == self.from.index).then_some(entry.term);
            return Ok(());
        }
        let keep = entry.index.distance_from(self.from.index) - 1;
        let last = self.from.index.plus(self.entries.len() as u64);
        if keep > self.entries.len() as u64 {
            return Err(Error::IndexGap { last, found: entry.index });
        }
        self.entries.truncate(keep as usize);
        self.entries.push(entry);
        Ok(())
    }

    fn snapshot(&mut self, reader: &SegmentReader, data: Bytes) -> Result<(), Error> {
        let record = decode_snapshot(reader, data)?;
        if record.index != self.from.index {
            return Ok(());
        }
        if record.term != self.from.term {
            return Err(Error::SnapshotMismatch { wanted: self.from, found: record.id() });
        }
        // A snapshot from the leader that contradicts the entry it ends with replaces the whole log, so
        // entries behind it are of an overruled term. (etcd keeps them until the leader overwrites them.)
        if self.term_at_start.is_some_and(|term| term != record.term) {
            self.entries.clear();
            self.term_at_start = None;
        }
        self.snapshot = Some(record);
        Ok(())
    }
}

pub(crate) fn decode_state(reader: &SegmentReader, data: Bytes) -> Result<HardState, Error> {
    codec::decode_hard_state(data).map_err(|_| reader.corrupt(Damage::Content("state")))
}

pub(crate) fn decode_snapshot(reader: &SegmentReader, data: Bytes) -> Result<SnapshotRecord, Error> {
    SnapshotRecord::decode(data).map_err(|damage| reader.corrupt(damage))
}
