//! The directories while they are being made, and how they come to their names.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use disk::{Disk, make_dirs, missing_dirs, parent_of};

use super::RestoreError;
use crate::log::{self, Level, Value};

/// Behind the name of what is not whole yet. No start looks at such names.
const UNFINISHED: &str = ".restoring";

/// Refuses targets that hold something.
pub(super) fn check_targets(disk: &dyn Disk, data_dir: &Path, wal_dir: &Path) -> Result<(), RestoreError> {
    let in_use = || RestoreError::DataDirInUse(data_dir.to_path_buf());
    if disk.exists(data_dir).map_err(|_| in_use())? {
        let names = disk.list(data_dir).map_err(|_| in_use())?;
        match &names[..] {
            [] => {}
            [only] if *only == unfinished(Path::new("member")) => {
                return Err(RestoreError::Unfinished(data_dir.to_path_buf()));
            }
            _ => return Err(in_use()),
        }
    }
    let exists = disk.exists(wal_dir).map_err(RestoreError::io("stat", wal_dir))?;
    if exists { Err(RestoreError::WalDirExists(wal_dir.to_path_buf())) } else { Ok(()) }
}

fn unfinished(path: &Path) -> PathBuf {
    // Without a slash behind it.
    let mut name = path.components().collect::<PathBuf>().into_os_string();
    name.push(UNFINISHED);
    PathBuf::from(name)
}

/// What is being made. Dropped before [`Building::finish`], it takes everything back.
pub(super) struct Building {
    disk: Arc<dyn Disk>,
    /// `member` under its final and its present name.
    member: PathBuf,
    unfinished_member: PathBuf,
    wal: WalPlace,
    /// Directories that were not there before, those deeper down first.
    made: Vec<PathBuf>,
    stage: Stage,
}

enum WalPlace {
    /// Within `member`, where it lies now.
    Inside(PathBuf),
    Outside {
        wal: PathBuf,
        unfinished: PathBuf,
    },
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Unfinished,
    /// The log outside has its name already.
    WalNamed,
    Finished,
}

impl Building {
    pub(super) fn begin(
        disk: Arc<dyn Disk>,
        data_dir: &Path,
        wal_dir: &Path,
    ) -> Result<Building, RestoreError> {
        let member = data_dir.join("member");
        let unfinished_member = unfinished(&member);
        let wal = match within(wal_dir, &member) {
            Some(rest) => WalPlace::Inside(unfinished_member.join(rest)),
            None => WalPlace::Outside { wal: wal_dir.to_path_buf(), unfinished: unfinished(wal_dir) },
        };
        let mut building =
            Building { disk, member, unfinished_member, wal, made: Vec::new(), stage: Stage::Unfinished };
        building.make(data_dir)?;
        if let WalPlace::Outside { wal, .. } = &building.wal {
            let parent = parent_of(wal).to_path_buf();
            building.make(&parent)?;
        }
        let snap_dir = building.snap_dir();
        building.make(&snap_dir)?;
        let wal_path = building.wal_path().to_path_buf();
        // Such as member/snap itself: the log would take its place.
        if building.disk.exists(&wal_path).map_err(RestoreError::io("stat", &wal_path))? {
            return Err(RestoreError::WalDirExists(wal_dir.to_path_buf()));
        }
        let wal_parent = parent_of(&wal_path).to_path_buf();
        building.make(&wal_parent)?;
        Ok(building)
    }

    fn make(&mut self, dir: &Path) -> Result<(), RestoreError> {
        let missing = missing_dirs(&*self.disk, dir).map_err(RestoreError::io("stat", dir))?;
        self.made.splice(0..0, missing);
        make_dirs(&*self.disk, dir).map_err(RestoreError::io("mkdir", dir))
    }

    pub(super) fn snap_dir(&self) -> PathBuf {
        self.unfinished_member.join("snap")
    }

    pub(super) fn db_path(&self) -> PathBuf {
        self.snap_dir().join("db")
    }

    /// Where the log is made.
    pub(super) fn wal_path(&self) -> &Path {
        match &self.wal {
            WalPlace::Inside(path) => path,
            WalPlace::Outside { unfinished, .. } => unfinished,
        }
    }

    /// Gives everything its name. All of it is durable by itself already.
    pub(super) fn finish(mut self) -> Result<(), RestoreError> {
        let snap_dir = self.snap_dir();
        self.sync(&snap_dir)?;
        if let WalPlace::Outside { wal, unfinished } = &self.wal {
            let (wal, unfinished) = (wal.clone(), unfinished.clone());
            self.rename(&unfinished, &wal)?;
            self.stage = Stage::WalNamed;
            self.sync(parent_of(&wal))?;
        }
        self.sync(&self.unfinished_member)?;
        self.rename(&self.unfinished_member, &self.member)?;
        self.stage = Stage::Finished;
        self.sync(parent_of(&self.member))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<(), RestoreError> {
        self.disk.rename(from, to).map_err(RestoreError::io("rename", from))
    }

    fn sync(&self, dir: &Path) -> Result<(), RestoreError> {
        self.disk.sync_dir(dir).map_err(RestoreError::io("sync", dir))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        let mut leftover = vec![self.unfinished_member.clone()];
        match (&self.wal, self.stage) {
            (_, Stage::Finished) => return,
            (WalPlace::Inside(_), _) => {}
            (WalPlace::Outside { unfinished, .. }, Stage::Unfinished) => {
                leftover.push(unfinished.clone());
                // The log itself is made under such a name first.
                let mut making = unfinished.as_os_str().to_owned();
                making.push(".tmp");
                leftover.push(making.into());
            }
            (WalPlace::Outside { wal, .. }, Stage::WalNamed) => leftover.push(wal.clone()),
        }
        for dir in leftover.iter().filter(|dir| self.disk.exists(dir).unwrap_or(true)) {
            if let Err(error) = self.disk.remove_dir_all(dir) {
                let fields = [("path", Value::text(dir.display())), ("error", Value::text(error))];
                log::line(
                    Level::Warn,
                    "restore/building.rs",
                    "failed to remove what was not finished",
                    &fields,
                );
            }
        }
        for dir in &self.made {
            // Gone already with one above, or in use by others meanwhile.
            self.disk.remove_dir(dir).ok();
        }
    }
}

/// The rest of `path` below `dir`, judged by the names alone.
fn within(path: &Path, dir: &Path) -> Option<PathBuf> {
    let (path, dir) = (clean(path), clean(dir));
    path.strip_prefix(dir).ok().map(Path::to_path_buf)
}

/// Without `.` and `..`, as Go's `filepath.Clean` has it; from the root on where that is known.
fn clean(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut cleaned = PathBuf::new();
    for component in absolute.components() {
        match component {
            Component::ParentDir => {
                cleaned.pop();
            }
            Component::CurDir => {}
            other => cleaned.push(other),
        }
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_compared_by_their_cleaned_names() {
        let rest = |path: &str, dir: &str| within(Path::new(path), Path::new(dir));
        assert_eq!(rest("d/member/wal", "d/member"), Some(PathBuf::from("wal")));
        assert_eq!(rest("./d/x/../member//wal/", "d/member"), Some(PathBuf::from("wal")));
        assert_eq!(rest("/elsewhere/wal", "d/member"), None);
        assert_eq!(rest("d/membership/wal", "d/member"), None);
    }
}
