//! Names of segment files, and the segments of a directory.

use std::fmt;
use std::path::{Path, PathBuf};

use disk::Disk;
use raft::Index;

use crate::error::{Context, Error};

/// `<sequence %016x>-<first index %016x>.wal`. Sequences start at 0 and have no gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SegmentName {
    pub sequence: u64,
    /// One more than the last index written before this segment was begun; 0 for the first segment.
    pub first_index: Index,
}

impl SegmentName {
    pub const FIRST: SegmentName = SegmentName { sequence: 0, first_index: Index::ZERO };

    pub fn parse(name: &Path) -> Option<SegmentName> {
        let (sequence, first_index) = name.to_str()?.strip_suffix(".wal")?.split_once('-')?;
        Some(SegmentName { sequence: hex16(sequence)?, first_index: Index(hex16(first_index)?) })
    }

    pub fn path_in(self, dir: &Path) -> PathBuf {
        dir.join(self.to_string())
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{:016x}.wal", self.sequence, self.first_index.0)
    }
}

fn hex16(digits: &str) -> Option<u64> {
    let is_hex = digits.len() == 16 && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex { u64::from_str_radix(digits, 16).ok() } else { None }
}

/// All segments of the directory, oldest first. Files of other names are none of ours.
pub(crate) fn segments(disk: &dyn Disk, dir: &Path) -> Result<Vec<SegmentName>, Error> {
    let mut found: Vec<SegmentName> =
        disk.list(dir).context("list", dir)?.iter().filter_map(|name| SegmentName::parse(name)).collect();
    found.sort_unstable();
    Ok(found)
}

/// The segments that hold everything after the snapshot at `index`: from the last one that begins at or
/// before it.
pub(crate) fn segments_from(disk: &dyn Disk, dir: &Path, index: Index) -> Result<Vec<SegmentName>, Error> {
    let mut all = segments(disk, dir)?;
    if all.is_empty() {
        return Err(Error::NotFound { dir: dir.to_path_buf() });
    }
    let Some(start) = all.iter().rposition(|segment| segment.first_index <= index) else {
        return Err(Error::NoSegmentFor { index });
    };
    all.drain(..start);
    check_sequence(dir, &all)?;
    Ok(all)
}

pub(crate) fn check_sequence(dir: &Path, segments: &[SegmentName]) -> Result<(), Error> {
    for pair in segments.windows(2) {
        if pair[0].sequence.checked_add(1) != Some(pair[1].sequence) {
            return Err(Error::SequenceGap { before: pair[0].path_in(dir), after: pair[1].path_in(dir) });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back_and_foreign_ones_do_not() {
        let name = SegmentName { sequence: 26, first_index: Index(0xabcdef) };
        assert_eq!(name.to_string(), "000000000000001a-0000000000abcdef.wal");
        assert_eq!(SegmentName::parse(Path::new(&name.to_string())), Some(name));
        assert_eq!(SegmentName::FIRST.to_string(), "0000000000000000-0000000000000000.wal");
        for foreign in [
            "0.tmp",
            "000000000000001a-0000000000abcdef.wal.broken",
            "1a-abcdef.wal",
            "+00000000000001a-0000000000abcdef.wal",
        ] {
            assert_eq!(SegmentName::parse(Path::new(foreign)), None, "{foreign}");
        }
    }

    #[test]
    fn reading_starts_at_the_last_segment_at_or_before_the_snapshot() {
        let disk = disk::MemDisk::new();
        let dir = Path::new("wal");
        disk.create_dir_all(dir).unwrap();
        for (sequence, first_index) in [(0, 0), (1, 10), (2, 20)] {
            let name = SegmentName { sequence, first_index: Index(first_index) };
            disk.write(&name.path_in(dir), b"").unwrap();
        }
        let from = |index| segments_from(&disk, dir, Index(index)).unwrap()[0].sequence;
        assert_eq!([from(0), from(9), from(10), from(19), from(20), from(99)], [0, 0, 1, 1, 2, 2]);

        disk.remove_file(&SegmentName { sequence: 1, first_index: Index(10) }.path_in(dir)).unwrap();
        assert!(matches!(segments_from(&disk, dir, Index(5)), Err(Error::SequenceGap { .. })));
        assert_eq!(segments_from(&disk, dir, Index(20)).unwrap().len(), 1);
        disk.remove_file(&SegmentName::FIRST.path_in(dir)).unwrap();
        assert!(matches!(segments_from(&disk, dir, Index(5)), Err(Error::NoSegmentFor { .. })));
    }
}
