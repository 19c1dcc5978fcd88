//! Cut and bent logs: a prefix comes back or a clear error, never a panic and never a wrong record.

use disk::{Disk, MemDisk};
use proptest::prelude::*;
use raft::EntryId;
use wal::{Damage, Error, Options, SegmentName};

use crate::model::*;

/// A log of several segments and all its records.
fn sample() -> (MemDisk, Vec<Record>) {
    let disk = new_disk();
    let mut wal = create(&disk, small());
    let mut records = Vec::new();
    for index in 1..=12 {
        let hard_state = state(1, 42, index - 1);
        let entry = entry(1, index, 40 * (index as usize * 5 % 13));
        wal.append(Some(&hard_state), std::slice::from_ref(&entry)).unwrap();
        wal.sync().unwrap();
        records.extend([Record::Entry(entry), Record::State(hard_state)]);
    }
    wal.close().unwrap();
    (disk, records)
}

fn segments(disk: &MemDisk) -> Vec<SegmentName> {
    disk.list(dir()).unwrap().iter().filter_map(|name| SegmentName::parse(name)).collect()
}

/// What was opened must be a prefix of what was written.
fn is_prefix(recovered: &wal::Recovered, records: &[Record]) -> bool {
    (0..=records.len()).any(|len| expected(&records[..len]) == found(recovered))
}

#[test]
fn a_cut_tail_is_repaired_once_and_kept_aside() {
    let (disk, records) = sample();
    let tail = *segments(&disk).last().unwrap();
    let path = tail.path_in(dir());
    let whole = disk.read(&path).unwrap();
    let used = whole.iter().rposition(|&byte| byte != 0).unwrap();
    for cut in (0..used).step_by(3) {
        disk.write(&path, &whole[..cut]).unwrap();
        let (mut wal, recovered) = open(&disk, small()).unwrap();
        assert!(is_prefix(&recovered, &records), "cut at {cut}");
        if let Some(repair) = &recovered.repair {
            assert_eq!(disk.read(&repair.copy).unwrap(), &whole[..cut]);
            assert!(repair.offset <= cut as u64);
        }
        let next = wal.last_index().next().0;
        wal.append(Some(&state(2, 42, 1)), &[entry(2, next, 9)]).unwrap();
        wal.close().unwrap();
        let (_, again) = open(&disk, small()).unwrap();
        assert_eq!(again.repair, None);
        assert_eq!(again.entries.last(), Some(&entry(2, next, 9)), "cut at {cut}");
    }
}

#[test]
fn a_cut_before_the_tail_is_corruption() {
    let (disk, _) = sample();
    let first = SegmentName::FIRST.path_in(dir());
    let bytes = disk.read(&first).unwrap();
    disk.write(&first, &bytes[..bytes.len() - 8]).unwrap();
    let before = disk.read(&first).unwrap();
    let refused = open_from(&disk, EntryId::default(), small()).err().unwrap();
    assert!(matches!(refused, Error::Corrupt { damage: Damage::Truncated, .. }), "{refused}");
    assert_eq!(disk.read(&first).unwrap(), before, "nothing is changed");
    // Cut between records, the chain shows it.
    disk.write(&first, &bytes[..16]).unwrap();
    let refused = open_from(&disk, EntryId::default(), small()).err().unwrap();
    assert!(matches!(refused, Error::Corrupt { damage: Damage::Checksum { .. }, .. }), "{refused}");
}

#[test]
fn a_segment_of_another_member_is_refused() {
    let (disk, _) = sample();
    let other = new_disk();
    let metadata = bytes::Bytes::from_static(b"other");
    let mut wal = wal::Wal::create(std::sync::Arc::new(other.clone()), dir(), metadata, small()).unwrap();
    wal.append(Some(&state(1, 0, 0)), &[]).unwrap();
    wal.close().unwrap();
    // Its chain ends elsewhere too, so cut ours to where a crc of 0 is accepted: the very first segment.
    let second = segments(&disk)[1];
    disk.write(&second.path_in(dir()), &other.read(&SegmentName::FIRST.path_in(dir())).unwrap()).unwrap();
    assert!(open_from(&disk, EntryId::default(), small()).is_err());
}

#[test]
fn a_tail_without_its_header_is_begun_again() {
    let (disk, records) = sample();
    let tail = *segments(&disk).last().unwrap();
    for left in [&[][..], &[0; 4096][..], &[1, 2, 3][..]] {
        disk.write(&tail.path_in(dir()), left).unwrap();
        let (mut wal, recovered) = open(&disk, small()).unwrap();
        assert!(is_prefix(&recovered, &records));
        let next = wal.last_index().next().0;
        wal.append(Some(&state(2, 42, 1)), &[entry(2, next, 9)]).unwrap();
        wal.close().unwrap();
        let (_, again) = open(&disk, small()).unwrap();
        assert_eq!(again.entries.last(), Some(&entry(2, next, 9)));
        assert_eq!(again.hard_state, state(2, 42, 1));
    }
}

#[test]
fn leftovers_behind_the_end_are_zeroed() {
    let (disk, _) = sample();
    let path = segments(&disk).last().unwrap().path_in(dir());
    let mut bytes = disk.read(&path).unwrap();
    let used = bytes.iter().rposition(|&byte| byte != 0).unwrap().next_multiple_of(8);
    bytes.resize(used + 3_000_000, 0);
    for at in [used + 8, used + 999_999, used + 2_999_999] {
        bytes[at] = 0xff;
    }
    disk.write(&path, &bytes).unwrap();
    open(&disk, small()).unwrap();
    assert!(disk.read(&path).unwrap()[used..].iter().all(|&byte| byte == 0));
}

#[test]
fn a_bent_byte_anywhere_is_a_prefix_or_an_error() {
    let (disk, records) = sample();
    for name in segments(&disk) {
        let path = name.path_in(dir());
        let whole = disk.read(&path).unwrap();
        for at in (0..whole.len()).step_by(7) {
            let mut bent = whole.clone();
            bent[at] ^= 1 << (at % 8);
            disk.write(&path, &bent).unwrap();
            if let Ok((_, recovered)) = open_from(&disk, EntryId::default(), small()) {
                assert!(is_prefix(&recovered, &records), "{name} bent at {at}");
            }
        }
        disk.write(&path, &whole).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(128) })]
    #[test]
    fn random_bytes_never_panic(
        mut bytes in proptest::collection::vec(any::<u8>(), 0..2000),
        keep_header: bool,
        fields in proptest::collection::vec((0..250_usize, 0..300_u64, any::<bool>()), 0..5),
    ) {
        let disk = new_disk();
        create(&disk, Options { segment_bytes: 104, zero_ahead_bytes: 0 }).close().unwrap();
        let path = SegmentName::FIRST.path_in(dir());
        for (at, len, padded) in fields {
            // Lengths that pass for real ones, so that the bytes behind them are looked at.
            let field = if padded { len | (0x80 | ((8 - len % 8) % 8)) << 56 } else { len & !7 };
            if let Some(place) = bytes.get_mut(at * 8..at * 8 + 8) {
                place.copy_from_slice(&field.to_le_bytes());
            }
        }
        if keep_header {
            let header = disk.read(&path).unwrap();
            bytes.splice(..0, header[..72].iter().copied());
        }
        disk.write(&path, &bytes).unwrap();
        let _ = wal::probe(&disk, dir());
        let _ = wal::valid_snapshots(&disk, dir());
        let _ = wal::read(&disk, dir(), EntryId::default());
        if let Ok((_, recovered)) = open_from(&disk, EntryId::default(), small()) {
            prop_assert!(recovered.entries.is_empty(), "random bytes passed for entries");
        }
    }
}
