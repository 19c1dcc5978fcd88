//! Defragmentation without a pause.
//!
//! A thread of its own copies the live pages of a read transaction, and then, pass by pass, what was folded
//! into the file meanwhile. Folds go on all the while: the file stays the whole truth, nothing waits in memory,
//! and a copy that fails is simply dropped. The last pass, a short one, is the backend thread's, so that
//! nothing is folded between it and the moment when the copy takes the file's place.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bolt::{Db, Layout, Options};
use disk::Disk;
use tokio::sync::oneshot;

use super::Backend;
use super::copy::Copy;
use crate::background;
use crate::error::Error;
use crate::shared::Shared;

/// What copies of the file are called until they take its place.
const COPY_NAME: &str = "db.tmp.defrag";

/// Beside writers the copier rests as long as it worked, to leave them half of a core and of the disk, but not
/// for longer than this: a disk that is slow by itself needs no rest.
const PAUSE_MAX: Duration = Duration::from_millis(50);

/// A pass that added no more than this was the copier's last: so much the backend thread adds in no time.
const NEAR_BYTES: u64 = 1 << 20;

/// Passes after the first. Writers who outrun that many do not outrun the last one: then they wait for the
/// backend thread, as they do whenever folds cannot keep up with them.
const PASSES_MAX: usize = 16;

/// Who asked for a defragmentation.
pub type Asker = oneshot::Sender<Result<(), Error>>;

/// A defragmentation under way.
pub struct Defrag {
    copier: JoinHandle<bolt::Result<Copy>>,
    cancel: Arc<AtomicBool>,
    copy: PathBuf,
    askers: Vec<Asker>,
    started: Instant,
    size_before: i64,
}

/// How the file is opened, at start and after a defragmentation.
pub fn options(no_sync: bool) -> Options {
    Options { no_sync, layout: Layout::Flat, ..Options::default() }
}

pub fn io_error(action: &'static str, error: std::io::Error) -> bolt::Error {
    bolt::Error::Io { action, error: Arc::new(error) }
}

/// What the copier's thread works with.
struct Copier {
    db: Db,
    disk: Arc<dyn Disk>,
    path: PathBuf,
    no_sync: bool,
    shared: Arc<Shared>,
    cancel: Arc<AtomicBool>,
}

impl Copier {
    fn run(self) -> bolt::Result<Copy> {
        let mut slice_began = Instant::now();
        let mut applied = self.shared.raft.applied();
        let mut pace = || {
            if self.cancel.load(Ordering::Relaxed) {
                return ControlFlow::Break(());
            }
            let applied_before = std::mem::replace(&mut applied, self.shared.raft.applied());
            if applied != applied_before {
                thread::sleep(slice_began.elapsed().min(PAUSE_MAX));
            }
            slice_began = Instant::now();
            ControlFlow::Continue(())
        };
        let tx = self.db.begin_read();
        let mut copy = Copy::make(self.disk.as_ref(), &tx, &self.path, self.no_sync, &mut pace)?;
        // Let go of: while it is held, the file cannot use again what was freed since.
        drop(tx);
        for _ in 0..PASSES_MAX {
            if copy.add_records(&self.db.begin_read(), &mut pace)? <= NEAR_BYTES {
                break;
            }
        }
        Ok(copy)
    }
}

impl Backend {
    /// Whoever asks while one is under way gets one of their own behind it, all together.
    pub(super) fn defragment(&mut self, asker: Asker) {
        self.defrag_askers.push(asker);
        if self.defrag.is_none() {
            self.start_defrag();
        }
    }

    /// One for all who wait for one, if anybody does.
    pub(super) fn start_defrag(&mut self) {
        let mut askers = std::mem::take(&mut self.defrag_askers);
        askers.retain(|asker| !asker.is_closed());
        if askers.is_empty() {
            return;
        }
        let copy = self.path.with_file_name(COPY_NAME);
        let cancel = Arc::new(AtomicBool::new(false));
        let copier = Copier {
            db: self.db.clone(),
            disk: self.disk.clone(),
            path: copy.clone(),
            no_sync: self.shared.config.unsafe_no_fsync,
            shared: self.shared.clone(),
            cancel: cancel.clone(),
        };
        let copier = match background::spawn("defrag", move || copier.run()) {
            Ok(copier) => copier,
            Err(error) => return refuse(askers, &copy, &io_error("start a thread", error)),
        };
        tracing::info!(path = %self.path.display(), "defragmenting");
        let size_before = self.shared.file.size();
        self.shared.metrics.disk.defrag_inflight.set(1);
        self.shared.file.set_defragmenting(true);
        self.defrag = Some(Defrag { copier, cancel, copy, askers, started: Instant::now(), size_before });
    }

    pub(super) fn finish_defrag_when_copied(&mut self) -> bolt::Result<()> {
        if !self.defrag.as_ref().is_some_and(|defrag| self.is_done(&defrag.copier)) {
            return Ok(());
        }
        let Some(Defrag { copier, copy: path, askers, started, size_before, .. }) = self.defrag.take() else {
            return Ok(());
        };
        // The copy is to hold all that was ever folded.
        self.fold()?;
        let copied = copier.join().expect("the copier does not panic");
        let completed = copied.and_then(|copy| copy.complete(&self.db.begin_read()));
        let renamed = completed.and_then(|db| {
            let renamed = self.disk.rename(&path, &self.path);
            renamed.map(|()| db).map_err(|error| io_error("rename the copy", error))
        });
        self.shared.metrics.disk.defrag_inflight.set(0);
        self.shared.file.set_defragmenting(false);
        match renamed {
            Ok(db) => {
                self.take_over(db)?;
                self.note_defragmented(started.elapsed(), size_before);
                answer(askers, &Ok(()));
            }
            // As for any reader: a file that does not give what it must hold stops the member.
            Err(error @ bolt::Error::Corrupt { .. }) => {
                answer(askers, &Err(Error::Corrupt));
                return Err(error);
            }
            Err(error) => {
                // The file itself is untouched: service goes on as before.
                tracing::error!(%error, path = %path.display(), "failed to defragment");
                self.disk.remove_file(&path).ok();
                refuse(askers, &path, &error);
            }
        }
        self.start_defrag();
        Ok(())
    }

    /// The copy has the file's name. Until the folder is synced a power cut may still bring the old one back,
    /// so whatever fails from here on ends the member.
    fn take_over(&mut self, db: Db) -> bolt::Result<()> {
        if let Some(dir) = self.path.parent() {
            self.disk.sync_dir(dir).map_err(|error| io_error("sync the snap directory", error))?;
        }
        self.db = db;
        self.rebase_views()
    }

    fn note_defragmented(&self, took: Duration, size_before: i64) {
        self.shared.metrics.disk.backend_defrag.observe(took.as_secs_f64());
        tracing::info!(
            path = %self.path.display(),
            current_db_size_bytes_diff = self.shared.file.size() - size_before,
            current_db_size_bytes = self.shared.file.size(),
            took = ?took,
            "finished defragmenting directory"
        );
    }

    /// The copy is of no more use: the member stops, or a snapshot takes the file's place. Who asked waits on.
    pub(super) fn abandon_defrag(&mut self) {
        if let Some(defrag) = self.defrag.take() {
            self.shared.metrics.disk.defrag_inflight.set(0);
            self.shared.file.set_defragmenting(false);
            defrag.cancel.store(true, Ordering::Relaxed);
            defrag.copier.join().ok();
            self.disk.remove_file(&defrag.copy).ok();
            self.defrag_askers.extend(defrag.askers);
        }
    }

    /// There will be no defragmentation any more.
    pub(super) fn refuse_defrags(&mut self) {
        answer(std::mem::take(&mut self.defrag_askers), &Err(Error::Stopped));
    }
}

fn answer(askers: Vec<Asker>, result: &Result<(), Error>) {
    for asker in askers {
        asker.send(result.clone()).ok();
    }
}

fn refuse(askers: Vec<Asker>, copy: &Path, error: &bolt::Error) {
    let reason = format!("defragment into {}: {error}", copy.display());
    answer(askers, &Err(Error::DefragmentFailed { reason }));
}
