use std::path::Path;

use super::*;

fn disk_with_log() -> (MemDisk, Arc<dyn File>) {
    let disk = MemDisk::new();
    let file = disk.open(Path::new("log"), OpenMode::CreateNew).unwrap();
    file.write_at(&[1; 1024], 0).unwrap();
    disk.start_recording();
    (disk, file)
}

#[test]
fn synced_data_survives_and_unsynced_sectors_are_torn_freely() {
    let (disk, file) = disk_with_log();
    file.write_at(&[2; 1024], 0).unwrap();
    let crash = disk.recording().crash_at(1);
    assert_eq!(crash.pending().len(), 2);
    let mut found: Vec<(u8, u8)> = crash
        .images(4, 0, 0)
        .map(|image| image.disk.read(Path::new("log")).map(|bytes| (bytes[0], bytes[512])).unwrap())
        .collect();
    found.sort_unstable();
    assert_eq!(found, [(1, 1), (1, 2), (2, 1), (2, 2)]);

    file.sync_data().unwrap();
    let crash = disk.recording().crash_at(2);
    assert!(crash.pending().is_empty());
    assert_eq!(crash.image(&[]).disk.read(Path::new("log")).unwrap(), [2; 1024]);
}

#[test]
fn names_are_lost_from_the_end_until_their_directory_is_synced() {
    let disk = MemDisk::new();
    disk.start_recording();
    disk.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    disk.rename(Path::new("a"), Path::new("b")).unwrap();
    let crash = disk.recording().crash_at(2);
    let mut found: Vec<Vec<PathBuf>> =
        crash.images(4, 0, 0).map(|i| i.disk.list(Path::new("/")).unwrap()).collect();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found, [vec![], vec![PathBuf::from("a")], vec![PathBuf::from("b")]]);

    disk.sync_dir(Path::new("/")).unwrap();
    let crash = disk.recording().crash_at(3);
    assert!(crash.pending().is_empty());
    assert_eq!(crash.image(&[]).disk.list(Path::new("/")).unwrap(), [PathBuf::from("b")]);
}

#[test]
fn a_synced_file_whose_name_is_lost_is_gone_and_a_name_may_come_without_data() {
    let disk = MemDisk::new();
    disk.start_recording();
    let file = disk.open(Path::new("a"), OpenMode::CreateNew).unwrap();
    file.write_at(b"data", 0).unwrap();
    file.sync_data().unwrap();
    let crash = disk.recording().crash_at(3);
    assert_eq!(crash.pending().len(), 1);
    assert!(!crash.image(&[false]).disk.exists(Path::new("a")).unwrap());

    let crash = disk.recording().crash_at(2);
    assert_eq!(crash.image(&[true, false]).disk.read(Path::new("a")).unwrap(), b"");
}

#[test]
fn what_a_failed_sync_left_out_stays_in_doubt() {
    let (disk, file) = disk_with_log();
    disk.inject(Fault::eio(FaultPoint::Sync).on("log"));
    file.write_at(&[2; 512], 0).unwrap();
    assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
    file.write_at(&[3; 512], 512).unwrap();
    file.sync_data().unwrap();
    let crash = disk.recording().crash_at(disk.op_count());
    assert_eq!(crash.pending().len(), 1);
    let bytes = crash.image(&[false]).disk.read(Path::new("log")).unwrap();
    assert_eq!((bytes[0], bytes[512]), (1, 3));
}

#[test]
fn faults_strike_once_where_aimed_and_a_failing_write_is_half_done() {
    let (disk, file) = disk_with_log();
    disk.inject(Fault::enospc(FaultPoint::Write).after(1).on("log"));
    let other = disk.open(Path::new("other"), OpenMode::Create).unwrap();
    other.write_at(b"x", 0).unwrap();
    file.write_at(&[2; 1600], 0).unwrap();
    let full = file.write_at(&[3; 1200], 400).unwrap_err();
    assert_eq!(full.kind(), io::ErrorKind::StorageFull);
    // Half of it would end at 1000, within a sector.
    let expected = [vec![2; 400], vec![3; 112], vec![2; 1088]].concat();
    assert_eq!(disk.read(Path::new("log")).unwrap()[..1600], expected);
    file.write_at(&[4; 8], 0).unwrap();
}

#[test]
fn locks_are_per_open_file_and_end_with_it() {
    let (disk, first) = disk_with_log();
    let second = disk.open(Path::new("log"), OpenMode::ReadWrite).unwrap();
    first.try_record_lock(LockKind::Exclusive).unwrap();
    first.try_record_lock(LockKind::Exclusive).unwrap();
    assert_eq!(second.try_record_lock(LockKind::Shared).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    second.try_lock(LockKind::Exclusive).unwrap();
    drop(first);
    second.try_record_lock(LockKind::Exclusive).unwrap();
}

#[test]
fn a_mapping_sees_later_writes_and_growth_and_survives_removal() {
    let (disk, file) = disk_with_log();
    let mapping = file.map(1 << 24).unwrap();
    file.write_at(b"later", 100_000).unwrap();
    assert_eq!(mapping.bytes(100_000, 5), b"later");
    assert_eq!(file.len().unwrap(), 100_005);
    disk.remove_file(Path::new("log")).unwrap();
    assert_eq!(mapping.bytes(0, 2), [1, 1]);
    assert!(disk.open(Path::new("log"), OpenMode::ReadOnly).is_err());
}

#[test]
fn directories_are_made_listed_moved_and_removed() {
    let disk = MemDisk::new();
    disk.create_dir_all(Path::new("/data/member/wal.tmp")).unwrap();
    disk.write(Path::new("data/member/wal.tmp/0.wal"), b"log").unwrap();
    disk.rename(Path::new("data/member/wal.tmp"), Path::new("data/member/wal")).unwrap();
    assert_eq!(disk.list(Path::new("data/member/wal")).unwrap(), [PathBuf::from("0.wal")]);
    assert!(disk.rename(Path::new("data/member"), Path::new("data/none/x")).is_err());
    disk.remove_dir_all(Path::new("data")).unwrap();
    assert!(!disk.exists(Path::new("data/member")).unwrap());
    assert_eq!(disk.list(Path::new("data")).unwrap_err().kind(), io::ErrorKind::NotFound);
}
