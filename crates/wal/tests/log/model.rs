//! The obvious log: a list of what was appended, played back by hand.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, MemDisk};
use raft::{ConfState, Entry, EntryId, EntryKind, HardState, Index, Term};
use wal::{Options, Recovered, SnapshotRecord, Wal};

pub const METADATA: &[u8] = b"\x08\x2a\x10\x07";

pub fn dir() -> &'static Path {
    Path::new("member/wal")
}

pub fn small() -> Options {
    Options { segment_bytes: 2048, zero_ahead_bytes: 512 }
}

pub fn new_disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("member")).unwrap();
    disk
}

pub fn create(disk: &MemDisk, options: Options) -> Wal {
    Wal::create(Arc::new(disk.clone()), dir(), Bytes::from_static(METADATA), options).unwrap()
}

pub fn open_from(disk: &MemDisk, from: EntryId, options: Options) -> Result<(Wal, Recovered), wal::Error> {
    Wal::open(Arc::new(disk.clone()), dir(), from, options)
}

/// From the newest snapshot that may be started from, as a member does.
pub fn open(disk: &MemDisk, options: Options) -> Result<(Wal, Recovered), wal::Error> {
    let from = wal::valid_snapshots(disk, dir())?.last().map_or(EntryId::default(), SnapshotRecord::id);
    open_from(disk, from, options)
}

pub fn entry(term: u64, index: u64, len: usize) -> Entry {
    // Bytes that are never zero by chance, so that a lost sector shows.
    let data: Vec<u8> = (0..len).map(|at| (index as usize * 31 + at * 7 + term as usize) as u8 | 1).collect();
    Entry { term: Term(term), index: Index(index), kind: EntryKind::Normal, data: data.into() }
}

pub fn state(term: u64, vote: u64, commit: u64) -> HardState {
    HardState { term: Term(term), vote: (vote != 0).then_some(vote), commit: Index(commit) }
}

pub fn snapshot(term: u64, index: u64) -> SnapshotRecord {
    let conf_state = Some(ConfState::of_voters([42, 7]));
    SnapshotRecord { index: Index(index), term: Term(term), conf_state }
}

#[derive(Clone, Debug)]
pub enum Record {
    Entry(Entry),
    State(HardState),
    Snapshot(SnapshotRecord),
}

/// What a log of exactly these records must give back when opened as [`open`] does.
pub fn expected(records: &[Record]) -> (HardState, SnapshotRecord, Vec<Entry>) {
    let commit = |records: &[Record]| {
        records.iter().rev().find_map(|record| match record {
            Record::State(state) => Some(*state),
            Record::Entry(_) | Record::Snapshot(_) => None,
        })
    };
    let state = commit(records).unwrap_or_default();
    let mut start = SnapshotRecord::ZERO;
    let mut entries: Vec<Entry> = Vec::new();
    for record in records {
        match record {
            Record::Snapshot(snapshot) if snapshot.index <= state.commit => start = snapshot.clone(),
            Record::Entry(entry) => {
                entries.retain(|earlier| earlier.index < entry.index);
                entries.push(entry.clone());
            }
            Record::State(_) | Record::Snapshot(_) => {}
        }
    }
    entries.retain(|entry| entry.index > start.index);
    (state, start, entries)
}

pub fn found(recovered: &Recovered) -> (HardState, SnapshotRecord, Vec<Entry>) {
    (recovered.hard_state, recovered.snapshot.clone(), recovered.entries.clone())
}
