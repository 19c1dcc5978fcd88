//! Defragmentation without a pause: the file's live pages are copied from a read transaction on a thread
//! of its own, while folds wait in memory (the log holds them); then the copy takes the file's place.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bolt::{Db, Layout, Options, ReadTx};
use disk::{Disk, OpenMode};
use tokio::sync::oneshot;

use super::Backend;
use crate::error::Error;

/// What copies of the file are called until they take its place.
const COPY_NAME: &str = "db.tmp.defrag";

/// The copier rests as long as it worked, to leave half of a core and of the disk to the writers, but not for
/// longer than this: a disk that is slow by itself needs no rest.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A defragmentation under way.
pub struct Defrag {
    copier: JoinHandle<bolt::Result<()>>,
    cancel: Arc<AtomicBool>,
    copy: PathBuf,
    done: oneshot::Sender<Result<(), Error>>,
    started: Instant,
    size_before: i64,
}

/// How the file is opened, at start and after a defragmentation.
pub fn options(no_sync: bool) -> Options {
    Options { no_sync, layout: Layout::Flat, ..Options::default() }
}

/// Writes the live pages of `tx` to a new file, complete and durable.
pub fn copy_to(disk: &dyn Disk, tx: &ReadTx, path: &Path, cancel: &AtomicBool) -> bolt::Result<()> {
    if disk.exists(path).unwrap_or(false) {
        disk.remove_file(path).map_err(|error| io_error("remove an older copy", error))?;
    }
    let file = disk.open(path, OpenMode::CreateNew).map_err(|error| io_error("make the copy", error))?;
    let mut slice_began = Instant::now();
    let mut go_on = |_| {
        if cancel.load(Ordering::Relaxed) {
            return ControlFlow::Break(());
        }
        thread::sleep(slice_began.elapsed().min(PAUSE_MAX));
        slice_began = Instant::now();
        ControlFlow::Continue(())
    };
    bolt::copy::compact_into(tx, file.as_ref(), &mut go_on).map(|_| ())
}

fn io_error(action: &'static str, error: std::io::Error) -> bolt::Error {
    bolt::Error::Io { action, error: Arc::new(error) }
}

impl Backend {
    pub(super) fn start_defrag(&mut self, done: oneshot::Sender<Result<(), Error>>) {
        let copy = self.path.with_file_name(COPY_NAME);
        let cancel = Arc::new(AtomicBool::new(false));
        let (tx, disk) = (self.db.begin_read(), self.disk.clone());
        let (copy_path, canceled) = (copy.clone(), cancel.clone());
        let copier = thread::Builder::new()
            .name("defrag".to_owned())
            .spawn(move || copy_to(disk.as_ref(), &tx, &copy_path, &canceled));
        let copier = match copier {
            Ok(copier) => copier,
            Err(error) => {
                tracing::error!(%error, "failed to start the defragmentation thread");
                done.send(Err(Error::TooManyRequests)).ok();
                return;
            }
        };
        tracing::info!(path = %self.path.display(), "defragmenting");
        let size_before = self.shared.file.size();
        self.shared.metrics.disk.defrag_inflight.set(1);
        self.shared.file.set_defragmenting(true);
        self.defrag = Some(Defrag { copier, cancel, copy, done, started: Instant::now(), size_before });
    }

    pub(super) fn finish_defrag_when_copied(&mut self) -> bolt::Result<()> {
        if !self.defrag.as_ref().is_some_and(|defrag| defrag.copier.is_finished()) {
            return Ok(());
        }
        let Some(defrag) = self.defrag.take() else { return Ok(()) };
        self.shared.metrics.disk.defrag_inflight.set(0);
        self.shared.file.set_defragmenting(false);
        let copied = defrag.copier.join().expect("the copier does not panic");
        match copied {
            Ok(()) => self.take_over(&defrag.copy)?,
            Err(error) => {
                // The file itself is untouched: service goes on as before.
                tracing::error!(%error, path = %defrag.copy.display(), "failed to defragment");
                self.disk.remove_file(&defrag.copy).ok();
                defrag.done.send(Err(Error::NoSpace)).ok();
                return self.run_deferred();
            }
        }
        let took = defrag.started.elapsed();
        self.shared.metrics.disk.backend_defrag.observe(took.as_secs_f64());
        tracing::info!(
            path = %self.path.display(),
            current_db_size_bytes_diff = self.shared.file.size() - defrag.size_before,
            current_db_size_bytes = self.shared.file.size(),
            took = ?took,
            "finished defragmenting directory"
        );
        defrag.done.send(Ok(())).ok();
        self.run_deferred()
    }

    /// The copy becomes the file; what waited meanwhile is folded into it.
    fn take_over(&mut self, copy: &Path) -> bolt::Result<()> {
        let file =
            self.disk.open(copy, OpenMode::ReadWrite).map_err(|error| io_error("open the copy", error))?;
        let db = Db::open(file, options(self.shared.config.unsafe_no_fsync))?;
        self.disk.rename(copy, &self.path).map_err(|error| io_error("rename the copy", error))?;
        if let Some(dir) = self.path.parent() {
            self.disk.sync_dir(dir).map_err(|error| io_error("sync the snap directory", error))?;
        }
        self.db = db;
        self.rebase_views()?;
        self.fold()
    }

    pub(super) fn run_deferred(&mut self) -> bolt::Result<()> {
        for input in std::mem::take(&mut self.deferred) {
            self.handle(input)?;
        }
        Ok(())
    }

    /// The copy is of no more use: the member stops, or a snapshot takes the file's place.
    pub(super) fn abandon_defrag(&mut self) {
        if let Some(defrag) = self.defrag.take() {
            self.shared.metrics.disk.defrag_inflight.set(0);
            self.shared.file.set_defragmenting(false);
            defrag.cancel.store(true, Ordering::Relaxed);
            defrag.copier.join().ok();
            self.disk.remove_file(&defrag.copy).ok();
            defrag.done.send(Err(Error::Stopped)).ok();
        }
    }
}
