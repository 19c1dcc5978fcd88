//! What a log folder and a peer may hand us.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, MemDisk};
use raft::{
    ConfState, Entry, EntryId, EntryKind, HardState, Index, Message, Snapshot, SnapshotMetadata, Term, codec,
};
use wal::{Options, SegmentName, Wal};

const DIR: &str = "member/wal";
const OPTIONS: Options = Options { segment_bytes: 4096, zero_ahead_bytes: 512 };

fn entry(index: u64) -> Entry {
    let data = Bytes::from(vec![index as u8 | 1; index as usize * 13 % 90]);
    Entry { term: Term(1), index: Index(index), kind: EntryKind::Normal, data }
}

fn disk() -> MemDisk {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("member")).expect("memory takes folders");
    disk
}

/// The bytes are the only segment of a log.
pub fn wal(data: &[u8]) {
    let disk = disk();
    let dir = Path::new(DIR);
    disk.create_dir_all(dir).expect("memory takes folders");
    let name = SegmentName::parse(Path::new("0000000000000000-0000000000000000.wal")).expect("it is a name");
    disk.write(&name.path_in(dir), data).expect("memory takes files");
    let _ = wal::valid_snapshots(&disk, dir);
    let _ = wal::read(&disk, dir, EntryId::default());
    if let Ok((mut log, _)) = Wal::open(Arc::new(disk.clone()), dir, EntryId::default(), OPTIONS) {
        let _ = log.append(None, &[entry(log.last_index().0.saturating_add(1))]);
        let _ = log.close();
    }
}

pub fn wal_seeds() -> Vec<Vec<u8>> {
    let disk = disk();
    let dir = Path::new(DIR);
    let metadata = Bytes::from_static(b"\x08\x2a\x10\x07");
    let mut log = Wal::create(Arc::new(disk.clone()), dir, metadata, OPTIONS).expect("memory takes files");
    for index in 1..=20 {
        let state = HardState { term: Term(1), vote: Some(42), commit: Index(index - 1) };
        log.append(Some(&state), &[entry(index)]).expect("memory takes writes");
        log.sync().expect("memory takes writes");
    }
    log.close().expect("memory takes writes");
    let names = disk.list(dir).expect("the folder is there");
    let names = names.iter().filter_map(|name| SegmentName::parse(name));
    names.map(|name| disk.read(&name.path_in(dir)).expect("the file is there")).collect()
}

pub fn raftpb(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    if let Ok(message) = codec::decode_message(bytes.clone()) {
        let _ = codec::encode_message(&message);
    }
    if let Ok(entry) = codec::decode_entry(bytes.clone()) {
        let again = codec::encode_entry(&entry);
        assert_eq!(codec::decode_entry(again).as_ref(), Ok(&entry), "an entry survives its own encoding");
    }
    let _ = codec::decode_hard_state(bytes.clone());
    let _ = codec::decode_conf_state(bytes.clone());
    let _ = codec::decode_conf_change(bytes.clone());
    let _ = codec::decode_conf_change_v2(bytes.clone());
    let _ = codec::decode_snapshot(bytes);
}

fn snapshot() -> Snapshot {
    let mut snapshot = Snapshot::default();
    snapshot.metadata = SnapshotMetadata { ..snapshot.metadata };
    snapshot.data = Bytes::from_static(b"state");
    snapshot
}

pub fn raftpb_seeds() -> Vec<Vec<u8>> {
    let message = codec::message_from_proto(proto::raftpb::Message::default());
    let message: Option<Message> = message.ok();
    let state = HardState { term: Term(3), vote: Some(42), commit: Index(7) };
    let mut seeds = vec![
        codec::encode_entry(&entry(6)).to_vec(),
        codec::encode_hard_state(&state).to_vec(),
        codec::encode_conf_state(&ConfState::of_voters([42, 7])).to_vec(),
        codec::encode_snapshot(&snapshot()).to_vec(),
    ];
    seeds.extend(message.map(|message| codec::encode_message(&message).to_vec()));
    seeds
}

pub fn snap(data: &[u8]) {
    let _ = wal::snap::decode(Bytes::copy_from_slice(data));
}

pub fn snap_seeds() -> Vec<Vec<u8>> {
    vec![wal::snap::encode(&snapshot()).to_vec()]
}
