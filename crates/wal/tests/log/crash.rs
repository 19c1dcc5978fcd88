//! The power goes at every moment of a scripted life, and torn in every way the disk allows: what comes back
//! lies between what was acknowledged and what was asked for, and the log goes on from there.

use disk::mem::CrashImage;
use disk::{Disk, MemDisk};
use proptest::prelude::*;
use raft::{Entry, HardState, Index};
use wal::{Options, Presence, SnapshotRecord, Wal};

use crate::model::*;

/// A log, all records appended to it, and which of them each sync was about.
struct Life {
    disk: MemDisk,
    wal: Wal,
    records: Vec<Record>,
    syncs: Vec<SyncSpan>,
}

/// Operations of the disk from the start of a sync to its return, and the records it made durable.
#[derive(Clone, Copy)]
struct SyncSpan {
    start: usize,
    end: usize,
    records: usize,
}

impl Life {
    fn begin(options: Options) -> Life {
        let disk = new_disk();
        disk.start_recording();
        let wal = create(&disk, options);
        Life { disk, wal, records: Vec::new(), syncs: Vec::new() }
    }

    fn append(&mut self, hard_state: HardState, entries: &[Entry]) {
        self.wal.append(Some(&hard_state), entries).unwrap();
        self.records.extend(entries.iter().cloned().map(Record::Entry));
        self.records.push(Record::State(hard_state));
    }

    fn spanning(&mut self, work: impl FnOnce(&mut Wal)) {
        let start = self.disk.op_count();
        work(&mut self.wal);
        let end = self.disk.op_count();
        self.syncs.push(SyncSpan { start, end, records: self.records.len() });
    }

    fn sync(&mut self) {
        self.spanning(|wal| wal.sync().unwrap());
    }

    fn snapshot(&mut self, snapshot: SnapshotRecord) {
        self.records.push(Record::Snapshot(snapshot.clone()));
        self.spanning(|wal| wal.save_snapshot(&snapshot).unwrap());
    }

    fn term_at(&self, index: u64) -> u64 {
        let term_of = |record: &Record| match record {
            Record::Entry(entry) if entry.index.0 == index => Some(entry.term.0),
            Record::Snapshot(snapshot) if snapshot.index.0 == index => Some(snapshot.term.0),
            Record::Entry(_) | Record::Snapshot(_) | Record::State(_) => None,
        };
        self.records.iter().rev().find_map(term_of).unwrap()
    }

    fn purge(&mut self, below: u64, segments_max: usize) {
        self.wal.release_to(Index(below));
        self.wal.purge(segments_max).unwrap();
    }

    fn prepare(&mut self) {
        let mut preparation = self.wal.start_preparation().unwrap().unwrap();
        while !preparation.step().unwrap() {}
        self.wal.finish_preparation(preparation).unwrap();
    }

    /// Records that were acknowledged, and records that may be there, when the power goes at `point`.
    fn bounds(&self, point: usize) -> (usize, usize) {
        let acked = self.syncs.iter().rev().find(|sync| sync.end <= point).map_or(0, |sync| sync.records);
        let asked = self.syncs.iter().rev().find(|sync| sync.start < point).map_or(0, |sync| sync.records);
        (acked, asked.max(acked))
    }

    /// Checks one disk found after the crash; false when nothing had been promised and the log was new.
    fn check(&self, disk: &MemDisk, point: usize, options: Options, what: &CrashImage) -> bool {
        let (acked, asked) = self.bounds(point);
        let place = format!("crash point {point}, {acked} acked, {asked} asked, {what:?}");
        match wal::probe(disk, dir()).unwrap() {
            Presence::Present => {}
            unborn @ (Presence::Absent | Presence::Unborn) => {
                assert_eq!(acked, 0, "{unborn:?} at {place}");
                if unborn == Presence::Unborn {
                    assert!(wal::discard_unborn(disk, dir()).unwrap());
                }
                create(disk, options);
                return false;
            }
        }
        let (mut wal, recovered) = open(disk, options).unwrap_or_else(|error| panic!("{error} at {place}"));
        assert_eq!(recovered.metadata, METADATA, "{place}");
        let seen = found(&recovered);
        assert!(
            (acked..=asked).any(|len| expected(&self.records[..len]) == seen),
            "recovered {seen:?}\nat {place}\nwith {:?}",
            &self.records[..asked]
        );

        // It goes on, and what is written now is there after the next crash.
        let next = entry(9, recovered.snapshot.index.0 + recovered.entries.len() as u64 + 1, 600);
        let hard_state = state(9, 7, recovered.hard_state.commit.0);
        wal.append(Some(&hard_state), std::slice::from_ref(&next)).unwrap();
        wal.sync().unwrap();
        drop(wal);
        let (_, again) = open(disk, options).unwrap_or_else(|error| panic!("{error} again at {place}"));
        assert_eq!(again.repair, None, "{place}");
        assert_eq!(again.hard_state, hard_state, "{place}");
        assert_eq!(again.entries.split_last(), Some((&next, &recovered.entries[..])), "{place}");
        true
    }

    /// How many images were checked, and how many of a second crash during recovery.
    fn check_all(&self, options: Options) -> (usize, usize) {
        let recording = self.disk.recording();
        let (mut images, mut in_recovery) = (0, 0);
        for point in 0..=recording.last_point() {
            let crash = recording.crash_at(point);
            for (number, image) in crash.images(8, 40, point as u64 + 1).enumerate() {
                // Now and then the power goes a second time, while the log recovers from the first.
                if (point + number) % 13 == 0 {
                    let twice = crash.image(&image.survived).disk;
                    twice.start_recording();
                    if wal::probe(&twice, dir()).unwrap() == Presence::Present {
                        open(&twice, options).map(drop).unwrap_or_else(|error| panic!("{error} at {point}"));
                    }
                    let recovery = twice.recording();
                    for second in 0..=recovery.last_point() {
                        for image in recovery.crash_at(second).images(3, 3, second as u64) {
                            self.check(&image.disk, point, options, &image);
                            in_recovery += 1;
                        }
                    }
                }
                self.check(&image.disk, point, options, &image);
                images += 1;
            }
        }
        (images, in_recovery)
    }
}

fn entries(term: u64, indexes: std::ops::RangeInclusive<u64>, len: usize) -> Vec<Entry> {
    indexes.map(|index| entry(term, index, len)).collect()
}

/// Bootstrap, growth over several segments, an overruled tail, snapshots of its own, purges, a snapshot
/// received from a leader, and batches of many appends.
fn live(options: Options, prepared: bool) -> Life {
    let mut life = Life::begin(options);
    life.append(state(1, 0, 3), &entries(1, 1..=3, 120));
    life.sync();
    life.append(state(2, 42, 3), &[]);
    life.sync();
    if prepared {
        life.prepare();
    }
    for index in 4..=12 {
        life.append(state(2, 42, index - 1), &entries(2, index..=index, 90 * (index as usize % 4)));
        if index % 3 == 0 {
            life.sync();
        }
    }
    life.append(state(3, 7, 9), &entries(3, 10..=11, 700));
    life.sync();
    life.snapshot(snapshot(2, 9));
    life.purge(9, 2);
    if prepared {
        life.prepare();
    }
    life.append(state(3, 7, 11), &[]);
    life.append(state(3, 7, 11), &entries(3, 12..=13, 1500));
    life.sync();
    life.snapshot(snapshot(4, 50));
    life.append(state(4, 0, 50), &entries(4, 51..=52, 30));
    life.sync();
    life.purge(50, 1);
    life.append(state(4, 0, 52), &entries(4, 53..=53, 1100));
    life.sync();
    life
}

#[test]
fn a_power_cut_at_any_moment_loses_nothing_that_was_promised() {
    let options = small();
    let (images, in_recovery) = live(options, false).check_all(options);
    assert!(images > 500 && in_recovery > 200, "{images} images, {in_recovery} in recovery");
}

#[test]
fn so_it_is_with_prepared_segments_and_without_zeroing_ahead() {
    let options = Options { segment_bytes: 3000, zero_ahead_bytes: 0 };
    let (images, in_recovery) = live(options, true).check_all(options);
    assert!(images > 500 && in_recovery > 200, "{images} images, {in_recovery} in recovery");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(2) })]
    #[test]
    fn so_it_is_with_any_life(
        steps in proptest::collection::vec((0..9_u8, 0..5_u64, 0..1200_usize), 3..12),
        segments_eighth in 60..500_u64,
        zero_ahead_bytes in 0..1500_u64,
    ) {
        let options = Options { segment_bytes: segments_eighth * 8, zero_ahead_bytes };
        let mut life = Life::begin(options);
        let (mut term, mut last, mut commit, mut snapshot_at) = (1, 0, 0, 0);
        for (choice, count, len) in steps {
            match choice {
                0 if last > commit => {
                    term += 1;
                    last = commit;
                }
                1 if commit > snapshot_at => {
                    life.append(state(term, 42, commit), &[]);
                    let term_at_commit = life.term_at(commit);
                    life.snapshot(snapshot(term_at_commit, commit));
                    snapshot_at = commit;
                }
                2 => {
                    // From a leader, far ahead.
                    term += 1;
                    last += 10 + count;
                    (commit, snapshot_at) = (last, last);
                    life.snapshot(snapshot(term, last));
                    life.append(state(term, 0, last), &[]);
                    life.sync();
                }
                3 => life.purge(snapshot_at, 1),
                4 => commit = last,
                _ => {
                    life.append(state(term, 42, commit), &entries(term, last + 1..=last + count, len));
                    last += count;
                    if choice > 5 {
                        life.sync();
                    }
                }
            }
        }
        life.sync();
        life.check_all(options);
    }
}

/// A process that dies between write and flush leaves records that only the page cache holds. The next one
/// reads them, and raft then counts them as durable: so they must be, once the log is open.
#[test]
fn what_was_recovered_is_durable_even_if_its_writer_never_flushed_it() {
    let source = new_disk();
    let mut wal = create(&source, small());
    wal.append(Some(&state(1, 42, 0)), &entries(1, 1..=3, 200)).unwrap();
    wal.sync().unwrap();
    let path = wal.tail().path_in(dir());
    let bytes = source.read(&path).unwrap();

    let disk = new_disk();
    disk.create_dir_all(dir()).unwrap();
    disk.write(&path, &[]).unwrap();
    disk.start_recording();
    disk.write(&path, &bytes).unwrap();
    let (_, recovered) = open(&disk, small()).unwrap();
    assert_eq!(recovered.entries.len(), 3);
    let crash = disk.recording().crash_at(disk.op_count());
    let nothing_more = crash.image(&vec![false; crash.pending().len()]).disk;
    assert_eq!(found(&open(&nothing_more, small()).unwrap().1), found(&recovered));
}
