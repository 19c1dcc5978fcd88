//! A log's ordinary life: created, filled, cut, purged, closed, opened again.

use disk::mem::{Fault, FaultPoint};
use disk::{Disk, MemDisk};
use proptest::prelude::*;
use raft::{EntryId, Index, Term};
use wal::{Error, Options, Presence, SegmentName, Wal};

use crate::model::*;

fn segment_names(disk: &MemDisk) -> Vec<SegmentName> {
    disk.list(dir()).unwrap().iter().filter_map(|name| SegmentName::parse(name)).collect()
}

#[test]
fn a_new_log_has_a_header_and_nothing_else() {
    let disk = new_disk();
    disk.create_dir_all(std::path::Path::new("member/wal.tmp/left/over")).unwrap();
    let wal = create(&disk, Options::default());
    assert_eq!(disk.list(std::path::Path::new("member")).unwrap().len(), 1);
    assert_eq!(wal.tail(), SegmentName::FIRST);
    wal.close().unwrap();
    let bytes = disk.read(&SegmentName::FIRST.path_in(dir())).unwrap();
    assert_eq!(bytes.len(), 64_000_000, "preallocated as etcd does");

    let (wal, recovered) = open(&disk, Options::default()).unwrap();
    assert_eq!(found(&recovered), expected(&[]));
    assert_eq!(recovered.metadata, METADATA);
    assert_eq!(recovered.repair, None);
    assert_eq!(wal.last_index(), Index(0));
    let again = Wal::create(std::sync::Arc::new(disk.clone()), dir(), Default::default(), Options::default());
    assert!(matches!(again, Err(Error::Exists { .. })));
}

#[test]
fn what_is_appended_is_there_after_sync_and_not_before() {
    let disk = new_disk();
    let mut wal = create(&disk, small());
    wal.append(Some(&state(1, 42, 0)), &[entry(1, 1, 10), entry(1, 2, 0)]).unwrap();
    assert!(wal.must_sync());
    wal.sync().unwrap();
    assert!(!wal.must_sync());
    wal.append(Some(&state(1, 42, 2)), &[]).unwrap();
    assert!(!wal.must_sync(), "a commit index alone can wait");
    assert!(wal.waiting_bytes() > 0);
    drop(wal);
    let (mut wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.hard_state, state(1, 42, 0));
    assert_eq!(recovered.entries, [entry(1, 1, 10), entry(1, 2, 0)]);

    wal.append(Some(&state(2, 0, 2)), &[entry(2, 2, 5), entry(2, 3, 5)]).unwrap();
    wal.close().unwrap();
    let (wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.hard_state, state(2, 0, 2));
    assert_eq!(recovered.entries, [entry(1, 1, 10), entry(2, 2, 5), entry(2, 3, 5)]);
    assert_eq!(wal.hard_state(), state(2, 0, 2));
    assert_eq!(wal.last_index(), Index(3));
}

#[test]
fn segments_are_cut_released_and_purged() {
    let disk = new_disk();
    let mut wal = create(&disk, small());
    for index in 1..=40 {
        wal.append(Some(&state(1, 42, index)), &[entry(1, index, 300)]).unwrap();
        wal.sync().unwrap();
    }
    let names = segment_names(&disk);
    assert!(names.len() > 5, "{names:?}");
    assert_eq!(wal.tail(), *names.last().unwrap());
    assert_eq!(names[1].sequence, 1);
    assert_eq!(wal.purge(1).unwrap(), 0, "all are still held");

    wal.save_snapshot(&snapshot(1, 30)).unwrap();
    wal.release_to(Index(30));
    assert_eq!(wal.purge(0).unwrap(), 0, "0 keeps all");
    assert_eq!(wal.purge(names.len()).unwrap(), 0);
    let removed = wal.purge(1).unwrap();
    let left = segment_names(&disk);
    assert_eq!(removed + left.len(), names.len());
    assert!(left[0].first_index < Index(30) && Index(30) <= left[1].first_index, "{left:?}");
    wal.close().unwrap();

    let (mut wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.snapshot, snapshot(1, 30));
    assert_eq!(recovered.entries.len(), 10);
    wal.release_to(Index(1000));
    assert_eq!(wal.purge(1).unwrap(), left.len() - 1, "all but the tail");
    assert_eq!(segment_names(&disk), [wal.tail()]);
    drop(wal);
    assert!(matches!(
        open_from(&disk, EntryId::default(), small()),
        Err(Error::NoSegmentFor { index: Index(0) })
    ));
}

#[test]
fn a_log_is_locked_while_it_is_open() {
    let disk = new_disk();
    let wal = create(&disk, small());
    assert!(matches!(open_from(&disk, EntryId::default(), small()), Err(Error::Locked { .. })));
    assert!(wal::read(&disk, dir(), EntryId::default()).is_ok(), "reading needs no lock");
    drop(wal);
    open_from(&disk, EntryId::default(), small()).unwrap();
}

#[test]
fn a_prepared_file_becomes_the_next_segment() {
    let disk = new_disk();
    let mut wal = create(&disk, Options { segment_bytes: 2_500_000, zero_ahead_bytes: 4096 });
    let mut preparation = wal.start_preparation().unwrap().unwrap();
    assert!(wal.start_preparation().unwrap().is_none(), "one at a time");
    assert!(!preparation.step().unwrap());
    // The log is faster than the preparation: it takes another file.
    wal.append(None, &[entry(1, 1, 2_600_000)]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.tail().sequence, 1);
    assert!(!preparation.step().unwrap());
    assert!(preparation.step().unwrap());
    wal.finish_preparation(preparation).unwrap();
    assert!(wal.start_preparation().unwrap().is_none(), "one is ready");
    let allocated = disk.calls(FaultPoint::SetLen);
    wal.append(None, &[entry(1, 2, 2_600_000)]).unwrap();
    wal.sync().unwrap();
    assert_eq!(wal.tail().sequence, 2);
    assert_eq!(disk.calls(FaultPoint::SetLen), allocated + 1, "only the old tail was shortened");

    let unfinished = wal.start_preparation().unwrap().unwrap();
    wal.finish_preparation(unfinished).unwrap();
    let mut kept = wal.start_preparation().unwrap().unwrap();
    while !kept.step().unwrap() {}
    wal.finish_preparation(kept).unwrap();
    assert_eq!(disk.list(dir()).unwrap().len(), 4);
    wal.close().unwrap();
    assert_eq!(disk.list(dir()).unwrap().len(), 3, "a ready file is removed at close");

    disk.write(&dir().join("0.tmp"), b"etcd's").unwrap();
    let (_wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.entries.len(), 2);
    assert_eq!(disk.list(dir()).unwrap().len(), 3, "unfinished files are removed at open");
}

#[test]
fn snapshots_above_the_commit_index_are_not_started_from() {
    let disk = new_disk();
    let mut wal = create(&disk, small());
    wal.append(Some(&state(1, 0, 1)), &[entry(1, 1, 1), entry(1, 2, 1)]).unwrap();
    wal.save_snapshot(&snapshot(1, 1)).unwrap();
    wal.save_snapshot(&snapshot(3, 9)).unwrap();
    assert_eq!(wal.last_index(), Index(9));
    let valid = wal::valid_snapshots(&disk, dir()).unwrap();
    assert_eq!(valid, [wal::SnapshotRecord::ZERO, snapshot(1, 1)]);

    wal.append(Some(&state(3, 0, 9)), &[entry(3, 10, 1)]).unwrap();
    wal.close().unwrap();
    assert_eq!(wal::valid_snapshots(&disk, dir()).unwrap().last(), Some(&snapshot(3, 9)));
    let (_wal, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.entries, [entry(3, 10, 1)]);
    drop(_wal);
    // From the older one, the entries between are missing.
    let gap = open_from(&disk, EntryId::new(Term(1), Index(1)), small());
    assert!(matches!(gap, Err(Error::IndexGap { last: Index(2), found: Index(10) })));
    let other_term = open_from(&disk, EntryId::new(Term(2), Index(9)), small());
    assert!(matches!(other_term, Err(Error::SnapshotMismatch { .. })));
    let unknown = open_from(&disk, EntryId::new(Term(3), Index(10)), small());
    assert!(matches!(unknown, Err(Error::SnapshotNotFound { .. })));
}

#[test]
fn entries_that_a_received_snapshot_overruled_do_not_come_back() {
    let disk = new_disk();
    let mut wal = create(&disk, small());
    let stale: Vec<_> = (1..=10).map(|index| entry(1, index, 3)).collect();
    wal.append(Some(&state(1, 0, 2)), &stale).unwrap();
    wal.save_snapshot(&snapshot(2, 8)).unwrap(); // entry 8 was of term 1
    wal.append(Some(&state(2, 0, 8)), &[]).unwrap();
    wal.close().unwrap();
    let (_, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.snapshot, snapshot(2, 8));
    assert_eq!(recovered.entries, []);
}

#[test]
fn after_a_failed_flush_the_log_takes_nothing_more() {
    for fault in [Fault::eio(FaultPoint::Sync), Fault::enospc(FaultPoint::Write)] {
        let disk = new_disk();
        let mut wal = create(&disk, small());
        disk.inject(fault);
        wal.append(Some(&state(1, 0, 0)), &[entry(1, 1, 700)]).unwrap();
        let error = wal.sync().unwrap_err();
        assert_eq!(error.is_storage_full(), error.to_string().contains("write"), "{error}");
        assert!(matches!(wal.sync(), Err(Error::Failed)));
        assert!(matches!(wal.append(None, &[entry(1, 2, 1)]), Err(Error::Failed)));
        assert!(matches!(wal.save_snapshot(&snapshot(1, 1)), Err(Error::Failed)));
    }
}

#[test]
fn a_failure_while_cutting_stops_the_log_and_loses_nothing() {
    for point in [FaultPoint::Sync, FaultPoint::Rename, FaultPoint::SyncDir, FaultPoint::Open] {
        let disk = new_disk();
        let mut wal = create(&disk, small());
        let calls = disk.calls(FaultPoint::Sync);
        let skip = u64::from(point == FaultPoint::Sync); // the flush of the records themselves
        disk.inject(Fault::eio(point).after(skip));
        wal.append(Some(&state(1, 0, 0)), &[entry(1, 1, 3000)]).unwrap();
        assert!(wal.sync().is_err(), "{point:?}");
        assert!(disk.calls(FaultPoint::Sync) > calls);
        drop(wal);
        let (_, recovered) = open(&disk, small()).unwrap();
        assert_eq!(recovered.entries.len(), 1, "{point:?}");
    }
}

#[test]
fn only_a_log_that_promised_nothing_is_unborn() {
    let disk = new_disk();
    let path = SegmentName::FIRST.path_in(dir());
    let look = || wal::probe(&disk, dir()).unwrap();
    assert_eq!(look(), Presence::Absent);
    disk.create_dir_all(std::path::Path::new("member/wal.tmp")).unwrap();
    assert_eq!(look(), Presence::Absent);
    disk.create_dir_all(dir()).unwrap();
    assert_eq!(look(), Presence::Unborn);
    disk.write(&path, &[]).unwrap();
    assert_eq!(look(), Presence::Unborn);
    disk.write(&path, &[0; 4096]).unwrap();
    assert_eq!(look(), Presence::Unborn);
    assert!(matches!(open_from(&disk, EntryId::default(), small()), Err(Error::NoHeader { .. })));
    assert!(wal::discard_unborn(&disk, dir()).unwrap());
    assert_eq!(look(), Presence::Absent);

    let mut wal = create(&disk, small());
    assert_eq!(look(), Presence::Unborn, "only a header");
    wal.append(None, &[entry(1, 1, 100)]).unwrap();
    wal.sync().unwrap();
    assert_eq!(look(), Presence::Unborn, "entries whose state record never came");
    wal.append(Some(&state(1, 0, 0)), &[]).unwrap();
    wal.sync().unwrap();
    assert_eq!(look(), Presence::Present);
    assert!(!wal::discard_unborn(&disk, dir()).unwrap());

    // Much more behind the tear than a first write holds: something was there.
    let mut bytes = disk.read(&path).unwrap();
    bytes[72..512].fill(0);
    bytes.resize(200_000, 0);
    disk.write(&path, &bytes).unwrap();
    assert_eq!(look(), Presence::Unborn);
    bytes[199_999] = 1;
    disk.write(&path, &bytes).unwrap();
    assert_eq!(look(), Presence::Present);

    // A copy made by a repair: there is history.
    disk.write(&path, &[]).unwrap();
    assert_eq!(look(), Presence::Unborn);
    disk.write(&dir().join("x.wal.broken"), b"").unwrap();
    assert_eq!(look(), Presence::Present);
}

fn random_records() -> impl Strategy<Value = Vec<(u64, usize, u8)>> {
    proptest::collection::vec((1..4_u64, 0..700_usize, any::<u8>()), 1..40)
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(64) })]
    #[test]
    fn any_history_reads_back(steps in random_records(), zero_ahead_bytes in 0..2000_u64) {
        let options = Options { segment_bytes: 3000, zero_ahead_bytes };
        let disk = new_disk();
        let mut wal = create(&disk, options);
        let mut records = Vec::new();
        let (mut term, mut last, mut commit) = (1, 0, 0);
        for (step, len, choice) in steps {
            match choice % 8 {
                0 if last > commit => {
                    // A new leader overrules what is not committed.
                    term += 1;
                    last = commit + (last - commit) / 2;
                }
                1 => commit = last,
                2 if commit > 0 => {
                    wal.append(Some(&state(term, 42, commit)), &[]).unwrap();
                    records.push(Record::State(state(term, 42, commit)));
                    let term_at = records.iter().rev().find_map(|record| match record {
                        Record::Entry(entry) if entry.index.0 == commit => Some(entry.term.0),
                        _ => None,
                    }).unwrap();
                    wal.save_snapshot(&snapshot(term_at, commit)).unwrap();
                    records.push(Record::Snapshot(snapshot(term_at, commit)));
                }
                3 => wal.sync().unwrap(),
                4 => {
                    wal.close().unwrap();
                    let (reopened, recovered) = open(&disk, options).unwrap();
                    prop_assert_eq!(found(&recovered), expected(&records));
                    prop_assert_eq!(recovered.repair, None);
                    wal = reopened;
                }
                _ => {
                    let entries: Vec<_> = (1..=step).map(|ahead| entry(term, last + ahead, len)).collect();
                    last += step;
                    wal.append(Some(&state(term, 42, commit)), &entries).unwrap();
                    records.extend(entries.into_iter().map(Record::Entry));
                    records.push(Record::State(state(term, 42, commit)));
                }
            }
        }
        wal.close().unwrap();
        let (_wal, recovered) = open(&disk, options).unwrap();
        prop_assert_eq!(found(&recovered), expected(&records));
    }
}
