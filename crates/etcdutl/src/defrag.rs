//! A fresh copy of the live pages takes the place of the file.

use std::fmt;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;
use std::time::Instant;

use bolt::Db;
use disk::{Disk, OpenMode, RealDisk, parent_of};
use golang::duration;
use golang::number::human_bytes;

use crate::log::{self, Level, Value};
use crate::open::{Access, LockWait, OpenError, open};
use crate::progress::Progress;

const CALLER: &str = "defrag.rs";

/// A start of the member removes what an interrupted copy leaves under this name.
const COPY_NAME: &str = "db.tmp.defrag";

#[derive(Debug)]
pub enum DefragError {
    Open(OpenError),
    Database(bolt::Error),
    Io { action: &'static str, error: io::Error },
}

impl fmt::Display for DefragError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DefragError::Open(error) => error.fmt(f),
            DefragError::Database(error) => error.fmt(f),
            DefragError::Io { action, error } => write!(f, "{action}: {error}"),
        }
    }
}

impl std::error::Error for DefragError {}

fn io(action: &'static str) -> impl FnOnce(io::Error) -> DefragError {
    move |error| DefragError::Io { action, error }
}

/// Defragments a file that no member runs on. On an error the file is as it was.
pub fn defragment(file: &Path, wait: LockWait) -> Result<(), DefragError> {
    let started = Instant::now();
    let db = open(file, Access::Write, wait, None).map_err(DefragError::Open)?;
    let before = Sizes::of(&db);
    let mut fields = vec![("path", Value::text(file.display()))];
    before.push_to(&mut fields);
    log::line(Level::Info, CALLER, "defragmenting", &fields);

    let copy = file.with_file_name(COPY_NAME);
    let after = match copy_and_replace(&db, file, &copy) {
        Ok(after) => after,
        Err(error) => {
            // Gone already when it has taken the file's place.
            RealDisk.remove_file(&copy).ok();
            return Err(error);
        }
    };

    let difference = |after: u64, before: u64| Value::int(i128::from(after) - i128::from(before));
    log::line(
        Level::Info,
        CALLER,
        "finished defragmenting directory",
        &[
            ("path", Value::text(file.display())),
            ("current-db-size-bytes-diff", difference(after.size_bytes, before.size_bytes)),
            ("current-db-size-bytes", Value::int(after.size_bytes)),
            ("current-db-size", Value::text(human_bytes(after.size_bytes))),
            ("current-db-size-in-use-bytes-diff", difference(after.in_use_bytes, before.in_use_bytes)),
            ("current-db-size-in-use-bytes", Value::int(after.in_use_bytes)),
            ("current-db-size-in-use", Value::text(human_bytes(after.in_use_bytes))),
            ("took", Value::text(duration::format(started.elapsed()))),
        ],
    );
    Ok(())
}

/// The copy is whole, durable, and opened once before it gets the file's name. `db` holds the lock meanwhile.
fn copy_and_replace(db: &Db, file: &Path, copy: &Path) -> Result<Sizes, DefragError> {
    if RealDisk.exists(copy).map_err(io("look for an older copy"))? {
        RealDisk.remove_file(copy).map_err(io("remove an older copy"))?;
    }
    {
        let target = RealDisk.open(copy, OpenMode::CreateNew).map_err(io("make the copy"))?;
        let tx = db.begin_read();
        let progress = Progress::of("defragmenting", tx.size());
        let mut tell = |now: bolt::copy::Progress| {
            progress.set(now.written_bytes);
            ControlFlow::Continue(())
        };
        bolt::copy::compact_into(&tx, target.as_ref(), &mut tell).map_err(DefragError::Database)?;
    }
    keep_owner(file, copy).map_err(io("give the copy the owner of the file"))?;
    let copied = open(copy, Access::Write, LockWait::Forever, None).map_err(DefragError::Open)?;
    let sizes = Sizes::of(&copied);
    RealDisk.rename(copy, file).map_err(io("rename the copy"))?;
    RealDisk.sync_dir(parent_of(file)).map_err(io("sync the directory"))?;
    Ok(sizes)
}

/// An administrator may work on the directory of another user's member.
fn keep_owner(file: &Path, copy: &Path) -> io::Result<()> {
    let (old, new) = (std::fs::metadata(file)?, std::fs::metadata(copy)?);
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(copy, Some(old.uid()), Some(old.gid()))?;
    }
    std::fs::set_permissions(copy, old.permissions())
}

#[derive(Clone, Copy, Debug)]
struct Sizes {
    size_bytes: u64,
    in_use_bytes: u64,
}

impl Sizes {
    fn of(db: &Db) -> Sizes {
        let stats = db.stats();
        Sizes { size_bytes: stats.size_bytes(), in_use_bytes: stats.in_use_bytes() }
    }

    fn push_to(self, fields: &mut Vec<(&'static str, Value)>) {
        fields.extend([
            ("current-db-size-bytes", Value::int(self.size_bytes)),
            ("current-db-size", Value::text(human_bytes(self.size_bytes))),
            ("current-db-size-in-use-bytes", Value::int(self.in_use_bytes)),
            ("current-db-size-in-use", Value::text(human_bytes(self.in_use_bytes))),
        ]);
    }
}
