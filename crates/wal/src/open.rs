//! Taking over a log that is there: read, repair, make fit for appending.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, File, OpenMode};
use raft::{Entry, EntryId, HardState};

use crate::error::{Context, Error};
use crate::name::{SegmentName, segments_from};
use crate::read::Replay;
use crate::record::{Encoder, SnapshotRecord};
use crate::wal::{Opened, Options, Wal, lock};

/// How much is copied or zeroed at a time.
const CHUNK_BYTES: usize = 128 << 10;

/// What the log says after the snapshot it was opened from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovered {
    pub metadata: Bytes,
    /// The last one written; empty when none was.
    pub hard_state: HardState,
    /// The record that reading started from.
    pub snapshot: SnapshotRecord,
    /// All after the snapshot, contiguous. Those above `hard_state.commit` may yet be replaced.
    pub entries: Vec<Entry>,
    pub repair: Option<Repair>,
}

/// A torn record was cut off the end of the last segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Repair {
    pub segment: PathBuf,
    /// The segment ends here now.
    pub offset: u64,
    /// The segment as it was.
    pub copy: PathBuf,
}

impl Wal {
    /// Takes the log over, from the snapshot `from` on ((0, 0) for all of it). Locks every segment read,
    /// cuts off a torn end, zeroes what lies behind the last record and removes segments that were being
    /// prepared; all of that is durable when this returns. On any error but a refusing disk nothing was
    /// changed.
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        from: EntryId,
        options: Options,
    ) -> Result<(Wal, Recovered), Error> {
        let mut held = VecDeque::new();
        for name in segments_from(&*disk, dir, from.index)? {
            let path = name.path_in(dir);
            let file = disk.open(&path, OpenMode::ReadWrite).context("open", &path)?;
            lock(&*file, &path)?;
            held.push_back((name, file));
        }
        let first = held[0].0;
        let replay = Replay::run(dir, held.make_contiguous(), from)?;
        let tail = replay.tail;
        let (metadata, hard_state, snapshot, entries) = replay.finish(dir, first)?;

        remove_unfinished(&*disk, dir)?;
        let (name, file) = held.back().expect("at least one segment was selected").clone();
        let path = name.path_in(dir);
        let repair = if tail.is_torn {
            let copy = keep_copy(&*disk, dir, name, &*file)?;
            file.set_len(tail.offset).context("shorten", &path)?;
            Some(Repair { segment: path.clone(), offset: tail.offset, copy })
        } else {
            zero_from(&*file, &path, tail.offset)?;
            None
        };
        file.allocate(options.segment_bytes).context("allocate", &path)?;
        file.sync_data().context("sync", &path)?;

        let mut opened = Opened {
            metadata: metadata.clone(),
            hard_state,
            last_index: snapshot.index.plus(entries.len() as u64),
            held,
            offset: tail.offset,
            crc: tail.crc,
        };
        if !tail.has_header {
            (opened.offset, opened.crc) = write_header(&path, &*file, tail.crc, &metadata, &hard_state)?;
        }
        let wal = Wal::new(disk, dir, options, opened);
        Ok((wal, Recovered { metadata, hard_state, snapshot, entries, repair }))
    }
}

/// A tail that got its name but not its header, which no writer of ours leaves: begin it again.
fn write_header(
    path: &Path,
    file: &dyn File,
    crc: u32,
    metadata: &[u8],
    hard_state: &HardState,
) -> Result<(u64, u32), Error> {
    let mut encoder = Encoder::new(crc);
    encoder.crc_record();
    encoder.metadata(metadata);
    if !hard_state.is_empty() {
        encoder.state(hard_state);
    }
    file.write_at(encoder.bytes(), 0).context("write", path)?;
    file.sync_data().context("sync", path)?;
    Ok((encoder.bytes().len() as u64, encoder.crc()))
}

/// Segments under preparation, ours and etcd's: begun again when needed.
fn remove_unfinished(disk: &dyn Disk, dir: &Path) -> Result<(), Error> {
    for name in disk.list(dir).context("list", dir)? {
        if name.extension().is_some_and(|extension| extension == "tmp") {
            let path = dir.join(name);
            disk.remove_file(&path).context("remove", &path)?;
        }
    }
    Ok(())
}

/// Copies the segment to `<name>.broken`, replacing an older copy, durably.
fn keep_copy(disk: &dyn Disk, dir: &Path, name: SegmentName, file: &dyn File) -> Result<PathBuf, Error> {
    let path = dir.join(format!("{name}.broken"));
    let copy = disk.open(&path, OpenMode::Create).context("create", &path)?;
    copy.set_len(0).context("shorten", &path)?;
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = 0;
    loop {
        let read = file.read_at(&mut chunk, offset).context("read", &name.path_in(dir))?;
        if read == 0 {
            break;
        }
        copy.write_at(&chunk[..read], offset).context("write", &path)?;
        offset += read as u64;
    }
    copy.sync_data().context("sync", &path)?;
    disk.sync_dir(dir).context("sync", dir)?;
    Ok(path)
}

/// Leftovers of a torn write may lie behind a length of zero; a record written over some of them must not
/// be followed by the rest. Space that is zero already is left alone.
fn zero_from(file: &dyn File, path: &Path, start: u64) -> Result<(), Error> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut offset = start;
    loop {
        let read = file.read_at(&mut chunk, offset).context("read", path)?;
        if read == 0 {
            return Ok(());
        }
        if let Some(first) = chunk[..read].iter().position(|&byte| byte != 0) {
            file.write_at(&vec![0; read - first], offset + first as u64).context("write", path)?;
        }
        offset += read as u64;
    }
}
