//! The log open for appending.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use disk::{Disk, File, LockKind, OpenMode};
use raft::{Entry, HardState, Index};

use crate::error::{Context, Error};
use crate::name::{SegmentName, segments};
use crate::prepare::{Next, Preparation};
use crate::read::OpenSegment;
use crate::record::{Encoder, SnapshotRecord};

/// Sizes that tests make small; members use the default.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// A segment is finished by the sync that brings it to this size or past it. A multiple of 8: a shorter
    /// rest at the end of a full segment would pass for a torn record.
    pub segment_bytes: u64,
    /// How far ahead of the records space that was only reserved is overwritten with zeros, in the same
    /// write. Space that was written once needs no change of the file's map when it is flushed again, and a
    /// flush of 64 KiB costs hardly more than one of 4 KiB: so the map changes once per 64 KiB, not every time.
    pub zero_ahead_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { segment_bytes: 64_000_000, zero_ahead_bytes: 64 << 10 }
    }
}

/// A log that this process holds. Its segments stay locked until it is dropped; what was appended but not
/// synced is lost then, as in a crash ([`Wal::close`] syncs).
pub struct Wal {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) dir: PathBuf,
    pub(crate) options: Options,
    /// Written at the head of every segment, the same bytes in all.
    metadata: Bytes,
    /// As last appended, or recovered. Written at the head of the next segment.
    hard_state: HardState,
    /// The last index appended, or snapshotted. The next segment is named by it.
    last_index: Index,
    /// The segments kept locked, oldest first. Never empty: the last is the one written to.
    held: VecDeque<OpenSegment>,
    /// Where the next write goes. Multiple of 8.
    pub(crate) offset: u64,
    /// Up to here the tail is known to be written space.
    zeroed_to: u64,
    /// What was appended since the last sync.
    encoder: Encoder,
    must_sync: bool,
    pub(crate) next: Next,
    /// A write or flush failed: nothing may be believed about the tail.
    failed: bool,
}

/// What [`crate::open`] found out about the last segment.
pub(crate) struct Opened {
    pub(crate) metadata: Bytes,
    pub(crate) hard_state: HardState,
    pub(crate) last_index: Index,
    pub(crate) held: VecDeque<OpenSegment>,
    pub(crate) offset: u64,
    pub(crate) crc: u32,
}

impl Wal {
    /// Makes a new log with its first header, durable when this returns. An interrupted attempt leaves at
    /// most a `<dir>.tmp` behind, which the next one replaces.
    ///
    /// `metadata` is etcd's `walpb.Metadata{NodeID, ClusterID}`, encoded; it never changes afterwards.
    pub fn create(disk: Arc<dyn Disk>, dir: &Path, metadata: Bytes, options: Options) -> Result<Wal, Error> {
        let dir_exists = disk.exists(dir).context("look for", dir)?;
        if dir_exists && !segments(&*disk, dir)?.is_empty() {
            return Err(Error::Exists { dir: dir.to_path_buf() });
        }
        let mut building = dir.as_os_str().to_owned();
        building.push(".tmp");
        let building = PathBuf::from(building);
        if disk.exists(&building).context("look for", &building)? {
            disk.remove_dir_all(&building).context("remove", &building)?;
        }
        disk.create_dir_all(&building).context("create", &building)?;

        let path = SegmentName::FIRST.path_in(&building);
        let file = disk.open(&path, OpenMode::CreateNew).context("create", &path)?;
        lock(&*file, &path)?;
        file.allocate(options.segment_bytes).context("allocate", &path)?;
        let mut wal = Wal::new(
            disk,
            dir,
            options,
            Opened {
                metadata,
                hard_state: HardState::default(),
                last_index: Index::ZERO,
                held: VecDeque::from([(SegmentName::FIRST, file)]),
                offset: 0,
                crc: 0,
            },
        );
        wal.encoder.crc_record();
        wal.encoder.metadata(&wal.metadata);
        wal.encoder.snapshot(&SnapshotRecord::ZERO);
        wal.write_out()?;

        let disk = &wal.disk;
        disk.sync_dir(&building).context("sync", &building)?;
        if dir_exists {
            // Without a segment there is nothing in it that anyone wrote on purpose.
            disk.remove_dir_all(dir).context("remove", dir)?;
        }
        disk.rename(&building, dir).context("rename to", dir)?;
        let parent = parent_of(dir);
        disk.sync_dir(parent).context("sync", parent)?;
        Ok(wal)
    }

    pub(crate) fn new(disk: Arc<dyn Disk>, dir: &Path, options: Options, opened: Opened) -> Wal {
        assert!(!opened.held.is_empty(), "a log has a segment to write to");
        assert!(options.segment_bytes.is_multiple_of(8), "{} bytes a segment", options.segment_bytes);
        assert!(opened.offset.is_multiple_of(8), "records end at multiples of 8, not at {}", opened.offset);
        Wal {
            disk,
            dir: dir.to_path_buf(),
            options,
            metadata: opened.metadata,
            hard_state: opened.hard_state,
            last_index: opened.last_index,
            held: opened.held,
            offset: opened.offset,
            zeroed_to: opened.offset,
            encoder: Encoder::new(opened.crc),
            must_sync: false,
            next: Next::None,
            failed: false,
        }
    }

    /// Encodes entries, then the state, behind what is already waiting. Nothing is written yet: many appends
    /// may precede one [`Wal::sync`].
    ///
    /// The entries follow each other, and the first replaces or follows what was appended before.
    pub fn append(&mut self, hard_state: Option<&HardState>, entries: &[Entry]) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        for entry in entries {
            assert!(
                entry.index <= self.last_index.next(),
                "entry {} leaves a gap behind {}: the log could not be read again",
                entry.index,
                self.last_index
            );
            self.encoder.entry(entry);
            self.last_index = entry.index;
        }
        self.must_sync |= !entries.is_empty();
        if let Some(state) = hard_state.filter(|state| !state.is_empty()) {
            self.must_sync |= state.term != self.hard_state.term || state.vote != self.hard_state.vote;
            self.encoder.state(state);
            self.hard_state = *state;
        }
        Ok(())
    }

    /// True when something waits that others may rely on: an entry, a term or a vote. A commit index alone
    /// may wait for the next batch.
    pub fn must_sync(&self) -> bool {
        self.must_sync
    }

    /// Bytes that the next sync will write.
    pub fn waiting_bytes(&self) -> usize {
        self.encoder.bytes().len()
    }

    /// Makes everything appended so far durable, with one write and one flush; begins the next segment when
    /// this one is full. After an error the log refuses further use.
    pub fn sync(&mut self) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        if self.encoder.bytes().is_empty() {
            return Ok(());
        }
        let mut result = self.write_out();
        if result.is_ok() && self.offset >= self.options.segment_bytes {
            result = self.cut();
        }
        self.failed = result.is_err();
        result
    }

    /// Records that the state up to this snapshot is durable elsewhere, and syncs. The caller has synced
    /// the database file with that consistent index (and for a received snapshot the received file) before.
    pub fn save_snapshot(&mut self, snapshot: &SnapshotRecord) -> Result<(), Error> {
        if self.failed {
            return Err(Error::Failed);
        }
        assert!(
            snapshot.index == Index::ZERO || snapshot.conf_state.is_some(),
            "the snapshot record at {} needs its conf state: etcd holds it invalid without",
            snapshot.index
        );
        self.encoder.snapshot(snapshot);
        // A received snapshot replaces the log: entries go on behind it.
        self.last_index = self.last_index.max(snapshot.index);
        self.sync()
    }

    /// Gives up the locks on segments that only hold what precedes `index`, so that [`Wal::purge`] may
    /// remove them. One more than necessary is kept, as etcd does.
    pub fn release_to(&mut self, index: Index) {
        let reaching = self.held.iter().position(|(name, _)| name.first_index >= index);
        // All but the one before the first that begins at `index` or later; without such, all but the tail.
        let release = reaching.map_or(self.held.len() - 1, |at| at.saturating_sub(1));
        self.held.drain(..release);
        assert!(!self.held.is_empty(), "the tail is never released");
    }

    /// Syncs what waits, removes the segment kept ready, and gives up the locks.
    pub fn close(mut self) -> Result<(), Error> {
        self.sync()?;
        if let Next::Ready(ready) = std::mem::replace(&mut self.next, Next::None) {
            ready.discard(&*self.disk)?;
        }
        Ok(())
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn metadata(&self) -> &Bytes {
        &self.metadata
    }

    /// As last appended, or recovered.
    pub fn hard_state(&self) -> HardState {
        self.hard_state
    }

    /// The last index appended, recovered or snapshotted.
    pub fn last_index(&self) -> Index {
        self.last_index
    }

    /// The segment written to.
    pub fn tail(&self) -> SegmentName {
        self.tail_segment().0
    }

    fn tail_segment(&self) -> &OpenSegment {
        self.held.back().expect("a log always holds its tail")
    }

    fn write_out(&mut self) -> Result<(), Error> {
        let end = self.offset + self.encoder.bytes().len() as u64;
        let mut written_to = end;
        if end > self.zeroed_to && end < self.options.segment_bytes {
            written_to = (end + self.options.zero_ahead_bytes).min(self.options.segment_bytes);
            let with_zeros = (written_to - self.offset) as usize;
            self.encoder.bytes_mut().resize(with_zeros, 0);
        }
        let (name, file) = self.tail_segment();
        let path = name.path_in(&self.dir);
        if let Err(error) = file.write_at(self.encoder.bytes(), self.offset) {
            // A full disk may have taken half of a record, which the next start would hold for damage: put
            // zeros back in its place, as far as there is room, so that the log ends before it.
            let zeros = vec![0; self.encoder.bytes().len()];
            file.write_at(&zeros, self.offset).ok();
            return Err(error).context("write", &path);
        }
        file.sync_data().context("sync", &path)?;
        self.encoder.clear();
        self.offset = end;
        self.zeroed_to = self.zeroed_to.max(written_to);
        self.must_sync = false;
        Ok(())
    }

    /// Begins the next segment. It gets its name only after its header is durable, and nothing is appended
    /// to it before its name is, so a crash in between leaves the old tail or a whole new one.
    fn cut(&mut self) -> Result<(), Error> {
        assert!(self.encoder.bytes().is_empty(), "a segment is finished only when all of it is written");
        let (old, old_file) = self.tail_segment();
        let (old, old_path) = (*old, old.path_in(&self.dir));
        // Not synced: should the shortening get lost, zeros behind the last record end the segment as well.
        old_file.set_len(self.offset).context("shorten", &old_path)?;

        let name = SegmentName { sequence: old.sequence + 1, first_index: self.last_index.next() };
        let (file, made_as, zeroed_to) = self.take_next_file()?;
        lock(&*file, &made_as)?;
        self.encoder.crc_record();
        self.encoder.metadata(&self.metadata);
        if !self.hard_state.is_empty() {
            self.encoder.state(&self.hard_state);
        }
        file.write_at(self.encoder.bytes(), 0).context("write", &made_as)?;
        file.sync_data().context("sync", &made_as)?;
        let path = name.path_in(&self.dir);
        self.disk.rename(&made_as, &path).context("rename to", &path)?;
        self.disk.sync_dir(&self.dir).context("sync", &self.dir)?;

        self.offset = self.encoder.bytes().len() as u64;
        self.zeroed_to = zeroed_to.max(self.offset);
        self.encoder.clear();
        self.held.push_back((name, file));
        Ok(())
    }

    fn take_next_file(&mut self) -> Result<(Arc<dyn File>, PathBuf, u64), Error> {
        match std::mem::replace(&mut self.next, Next::None) {
            Next::Ready(ready) => Ok(ready.into_file()),
            other => {
                self.next = other;
                let Preparation { file, path, .. } = self.begin_next_file()?;
                file.allocate(self.options.segment_bytes).context("allocate", &path)?;
                Ok((file, path, 0))
            }
        }
    }
}

/// Takes etcd's lock on a segment, or says who might have it.
pub(crate) fn lock(file: &dyn File, path: &Path) -> Result<(), Error> {
    match file.try_record_lock(LockKind::Exclusive) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            Err(Error::Locked { path: path.to_path_buf() })
        }
        other => other.context("lock", path),
    }
}

pub(crate) fn parent_of(dir: &Path) -> &Path {
    match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}
