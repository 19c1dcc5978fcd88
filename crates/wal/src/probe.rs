//! Whether a log is there, and whether it ever promised anything.
//!
//! A power cut during the very first start may leave a log that nobody ever relied on. Go etcd then stays
//! stuck; we begin again. The reasoning:
//!
//! 1. Nothing is promised before a state record is durable: every promise (a vote, an ack, a client's
//!    answer) needs a term of at least 1, and the write that carries the first term ends with its state
//!    record. So a log without one whole state record promised nothing, whatever entries precede the tear.
//! 2. A snapshot record above index 0 means that a leader's snapshot was taken over: not unborn.
//! 3. Several segments, a first segment with another name, or copies that a repair made (`.wal.broken`) mean
//!    history: not unborn.
//! 4. Damage could hide records that were once durable. So the log counts as unborn only when its readable
//!    part ends clean or torn, never corrupt, and when everything behind that end, up to the last byte that
//!    is not zero, would fit into one first write ([`FIRST_WRITE_BYTES_MAX`]).
//!
//! What the log alone cannot tell, the caller adds: a database with a consistent index above 0 contradicts an
//! unborn log, and must then stop the member.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, File};
use raft::Index;

use crate::error::{Context, Error};
use crate::name::{SegmentName, segments};
use crate::read::{decode_snapshot, for_each_record, open_to_read};
use crate::record::RecordKind;
use crate::wal::parent_of;

/// No first write is longer: a bootstrap's configuration changes take about 300 bytes a member.
const FIRST_WRITE_BYTES_MAX: u64 = 64 << 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// No directory (a half-made `<dir>.tmp` does not count).
    Absent,
    /// Something is there, but nothing was ever promised on it: [`discard_unborn`] it and begin anew.
    Unborn,
    /// A log to be opened, or one that only a person should judge.
    Present,
}

/// Looks without changing or locking anything. A log of another running process must not be probed.
pub fn probe(disk: &dyn Disk, dir: &Path) -> Result<Presence, Error> {
    if !disk.exists(dir).context("look for", dir)? {
        return Ok(Presence::Absent);
    }
    let names = disk.list(dir).context("list", dir)?;
    let tells_of_history =
        |name: &PathBuf| SegmentName::parse(name).is_none() && name.to_string_lossy().contains(".wal");
    if names.iter().any(tells_of_history) {
        return Ok(Presence::Present);
    }
    match segments(disk, dir)?[..] {
        [] => Ok(Presence::Unborn),
        [SegmentName::FIRST] => probe_first(disk, dir),
        _ => Ok(Presence::Present),
    }
}

/// Removes a log that [`probe`] calls unborn, looking once more; false, and nothing removed, otherwise.
pub fn discard_unborn(disk: &dyn Disk, dir: &Path) -> Result<bool, Error> {
    if probe(disk, dir)? != Presence::Unborn {
        return Ok(false);
    }
    disk.remove_dir_all(dir).context("remove", dir)?;
    let parent = parent_of(dir);
    disk.sync_dir(parent).context("sync", parent)?;
    Ok(true)
}

fn probe_first(disk: &dyn Disk, dir: &Path) -> Result<Presence, Error> {
    let files = open_to_read(disk, dir, vec![SegmentName::FIRST])?;
    let mut promised = false;
    let read = for_each_record(dir, &files, |reader, _, kind, data| {
        promised |= match kind {
            RecordKind::State => true,
            RecordKind::Snapshot => decode_snapshot(reader, data)?.index > Index::ZERO,
            RecordKind::Entry | RecordKind::Metadata | RecordKind::Crc => false,
        };
        Ok(())
    });
    let end = match read {
        Ok(tail) => tail.offset,
        // Opening it will say what is wrong with it.
        Err(Error::Corrupt { .. }) => return Ok(Presence::Present),
        Err(error) => return Err(error),
    };
    if promised || !is_zero_from(&files[0].1, end.saturating_add(FIRST_WRITE_BYTES_MAX), dir)? {
        return Ok(Presence::Present);
    }
    Ok(Presence::Unborn)
}

fn is_zero_from(file: &Arc<dyn File>, start: u64, dir: &Path) -> Result<bool, Error> {
    let mut chunk = vec![0; 128 << 10];
    let mut offset = start;
    loop {
        let read = file.read_at(&mut chunk, offset).context("read", &SegmentName::FIRST.path_in(dir))?;
        if read == 0 {
            return Ok(true);
        }
        if chunk[..read].iter().any(|&byte| byte != 0) {
            return Ok(false);
        }
        offset += read as u64;
    }
}
