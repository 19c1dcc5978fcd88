//! Making the next segment ready before the present one is full.

use std::path::PathBuf;
use std::sync::Arc;

use disk::{Disk, File, OpenMode};

use crate::error::{Context, Error};
use crate::wal::Wal;

/// What one step writes and flushes: little enough that the log's own flush hardly waits for it.
const STEP_BYTES: u64 = 1 << 20;

/// The file that will be the next segment.
#[derive(Default)]
pub(crate) enum Next {
    #[default]
    None,
    /// Handed out by [`Wal::start_preparation`].
    UnderWay,
    Ready(Preparation),
}

/// A file being filled with zeros to become the next segment. Independent of the log: step it on any thread,
/// or in idle moments of the writer's, then hand it to [`Wal::finish_preparation`].
///
/// The file is called `next-<n>.tmp`; etcd leaves such names alone (it reuses `0.tmp` and `1.tmp` as they are).
#[must_use = "a preparation that is not stepped and handed back only wastes a file"]
pub struct Preparation {
    pub(crate) file: Arc<dyn File>,
    pub(crate) path: PathBuf,
    zeroed_to: u64,
    segment_bytes: u64,
}

impl Preparation {
    /// Writes and flushes the next 1 MiB of zeros. True when all is done.
    pub fn step(&mut self) -> Result<bool, Error> {
        if !self.is_done() {
            let len = STEP_BYTES.min(self.segment_bytes - self.zeroed_to);
            let zeros = vec![0; len as usize];
            self.file.write_at(&zeros, self.zeroed_to).context("write", &self.path)?;
            self.file.sync_data().context("sync", &self.path)?;
            self.zeroed_to += len;
        }
        Ok(self.is_done())
    }

    pub fn is_done(&self) -> bool {
        self.zeroed_to >= self.segment_bytes
    }

    pub(crate) fn discard(self, disk: &dyn Disk) -> Result<(), Error> {
        disk.remove_file(&self.path).context("remove", &self.path)
    }

    pub(crate) fn into_file(self) -> (Arc<dyn File>, PathBuf, u64) {
        (self.file, self.path, self.zeroed_to)
    }
}

impl Wal {
    /// Begins to make the next segment ready; `None` while one is ready or under way. Optional: a log
    /// without takes reserved space instead and zeroes it as it goes.
    pub fn start_preparation(&mut self) -> Result<Option<Preparation>, Error> {
        match self.next {
            Next::UnderWay | Next::Ready(_) => Ok(None),
            Next::None => {
                let preparation = self.begin_next_file()?;
                self.next = Next::UnderWay;
                Ok(Some(preparation))
            }
        }
    }

    /// Whether the present segment is half full: time to make the next one, and not before, as most logs of
    /// short runs never need it.
    pub fn is_half_full(&self) -> bool {
        self.offset >= self.options.segment_bytes / 2
    }

    /// Takes the file back. One that is not done is removed.
    pub fn finish_preparation(&mut self, preparation: Preparation) -> Result<(), Error> {
        if preparation.is_done() && !matches!(self.next, Next::Ready(_)) {
            self.next = Next::Ready(preparation);
            return Ok(());
        }
        if matches!(self.next, Next::UnderWay) {
            self.next = Next::None;
        }
        preparation.discard(&*self.disk)
    }

    pub(crate) fn begin_next_file(&self) -> Result<Preparation, Error> {
        // Two may exist: one under way while a cut could not wait for it.
        for number in 0..3 {
            let path = self.dir.join(format!("next-{number}.tmp"));
            match self.disk.open(&path, OpenMode::CreateNew) {
                Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
                opened => {
                    let file = opened.context("create", &path)?;
                    let segment_bytes = self.options.segment_bytes;
                    return Ok(Preparation { file, path, zeroed_to: 0, segment_bytes });
                }
            }
        }
        let source = std::io::ErrorKind::AlreadyExists.into();
        Err(Error::Io { action: "create", path: self.dir.join("next-2.tmp"), source })
    }
}
