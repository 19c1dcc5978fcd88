//! Bytes that Go etcd wrote: `testing/interop/wal` compares whole logs, these few keep plain tests honest.

use bytes::Bytes;
use disk::Disk;
use raft::{ConfState, Entry, EntryId, EntryKind, HardState, Index, Term};
use wal::{Options, SegmentName, SnapshotRecord, Wal};

use crate::model::*;

fn unhex(digits: &str) -> Vec<u8> {
    let digits: Vec<u8> = digits.bytes().filter(u8::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap()).collect()
}

/// Made by the writer of etcd 3.7.3: metadata, a configuration change and an empty entry, a state, a
/// snapshot with a learner.
const BY_3_7_3: &str = "
    040000000000008408041000000000000e0000000000008208011097d5d89a0c1a04082a100700000e00000000000082
    080510b3fae0e40c1a040800100000001c00000000000084080210d2cba0a0061a12080110011801220a08001000182a
    22027b7d000000000d000000000000830802109bc9f8491a04100118020000001000000000000000080310edd880a705
    1a060801100018011f00000000000081080510feb7d5ac011a15080110011a0f082a08ffffffffffffffffff01100700";

#[test]
fn our_bytes_are_those_of_etcd_3_7_3() {
    let theirs = unhex(BY_3_7_3);
    let disk = new_disk();
    let mut wal = create(&disk, Options { segment_bytes: 4096, zero_ahead_bytes: 0 });
    let change = Entry {
        term: Term(1),
        index: Index(1),
        kind: EntryKind::ConfChange,
        data: Bytes::from_static(b"\x08\x00\x10\x00\x18\x2a\x22\x02{}"),
    };
    let hard_state = HardState { term: Term(1), vote: None, commit: Index(1) };
    wal.append(Some(&hard_state), &[change.clone(), entry(1, 2, 0)]).unwrap();
    wal.sync().unwrap();
    let conf_state = ConfState { voters: vec![42, u64::MAX], learners: vec![7], ..ConfState::default() };
    let record = SnapshotRecord { index: Index(1), term: Term(1), conf_state: Some(conf_state) };
    wal.save_snapshot(&record).unwrap();
    wal.close().unwrap();
    let path = SegmentName::FIRST.path_in(dir());
    let ours = disk.read(&path).unwrap();
    assert_eq!(ours[..theirs.len()], theirs);
    assert!(ours[theirs.len()..].iter().all(|&byte| byte == 0));

    disk.write(&path, &theirs).unwrap();
    let log = wal::read(&disk, dir(), EntryId::default()).unwrap();
    assert_eq!((log.hard_state, log.entries), (hard_state, vec![change, entry(1, 2, 0)]));
    assert_eq!(wal::valid_snapshots(&disk, dir()).unwrap(), [SnapshotRecord::ZERO, record]);
}

/// The first records of a new member of etcd 3.6.16, which writes every field even when it is zero.
const BY_3_6_16: &str = "
    040000000000008408041000000000001f00000000000081080110b7cf8dd7081a1508d3f187a5f59ba8d6c60110c8df
    e2ced4ec86b121000d00000000000083080510e1ece9031a04080010000000007500000000000083080210f1c0b2a003
    1a6b08011001180122630800100018d3f187a5f59ba8d6c60122527b226964223a313433313539393431393635363230
    31363436372c227065657255524c73223a5b22687474703a2f2f3132372e302e302e313a3335393039225d2c226e616d
    65223a2264656661756c74227d0000001000000000000000080310e59becab0e1a060801100018011900000000000087
    0803109cbbdad5011a0f080210d3f187a5f59ba8d6c6011801000000000000001000000000000000080210d0d8c5fd08
    1a0608001002180251000000000000870802109eb3e59c081a47080010021803223fa2060b0881e6d8b2b7c1e8e9f801
    aa512e08d3f187a5f59ba8d6c60112210a0764656661756c741216687474703a2f2f3132372e302e302e313a34383435
    3900000000000000";

#[test]
fn a_log_of_etcd_3_6_16_is_read() {
    let disk = new_disk();
    disk.create_dir_all(dir()).unwrap();
    disk.write(&SegmentName::FIRST.path_in(dir()), &unhex(BY_3_6_16)).unwrap();
    let (wal, recovered) = Wal::open(std::sync::Arc::new(disk), dir(), EntryId::default(), small()).unwrap();
    let kinds: Vec<EntryKind> = recovered.entries.iter().map(|entry| entry.kind).collect();
    assert_eq!(kinds, [EntryKind::ConfChange, EntryKind::Normal, EntryKind::Normal]);
    let terms: Vec<u64> = recovered.entries.iter().map(|entry| entry.term.0).collect();
    assert_eq!(terms, [1, 2, 2]);
    assert_eq!(recovered.hard_state.vote, Some(14_315_994_196_562_016_467));
    assert_eq!(recovered.repair, None);
    assert_eq!(wal.last_index(), Index(3));
}
