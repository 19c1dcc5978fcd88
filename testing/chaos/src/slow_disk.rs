//! Disks that are slow or full, for programs that reach theirs through libc.
//!
//! Go's programs make system calls themselves, so nothing can stand before them: the faults of this module
//! are left out for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Outcome, fail};

const SOURCE: &str = include_str!("slow_disk.c");

/// What a disk does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    pub sync_delay_ms: u32,
    pub write_delay_ms: u32,
    pub is_full: bool,
}

/// The library that is preloaded, built once for a run.
#[derive(Clone, Debug)]
pub struct Library {
    library: PathBuf,
    folder: PathBuf,
}

impl Library {
    /// Builds it; needs a C compiler, as the project itself does.
    pub fn build(folder: &Path) -> Outcome<Library> {
        let (source, library) = (folder.join("slow_disk.c"), folder.join("slow_disk.so"));
        fs::write(&source, SOURCE).during(source.display())?;
        let compiled = Command::new("cc")
            .args(["-shared", "-fPIC", "-O1", "-Wall", "-o"])
            .args([&library, &source])
            .arg("-ldl")
            .output()
            .during("start cc")?;
        if !compiled.status.success() {
            return fail(format!("cc: {}", String::from_utf8_lossy(&compiled.stderr).trim()));
        }
        Ok(Library { library, folder: folder.to_owned() })
    }

    /// Sets what the member's disk does; running members notice at once.
    pub fn set(&self, slot: usize, disk: Disk) -> Outcome {
        let numbers = [disk.sync_delay_ms, disk.write_delay_ms, u32::from(disk.is_full)];
        let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_ne_bytes()).collect();
        // In place: the file is mapped by the member.
        let path = self.control(slot);
        let mut options = fs::OpenOptions::new();
        let file = options.create(true).write(true).truncate(false).open(&path).during(path.display())?;
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).during(path.display())
    }

    /// What a member's process needs in its environment.
    pub fn environment(&self, slot: usize, data: &Path) -> [(&'static str, PathBuf); 3] {
        [
            ("LD_PRELOAD", self.library.clone()),
            ("CHAOS_DISK", self.control(slot)),
            ("CHAOS_DISK_FOLDER", data.to_owned()),
        ]
    }

    fn control(&self, slot: usize) -> PathBuf {
        self.folder.join(format!("disk-{slot}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_takes_nothing_and_only_its_own_folder_is_full() {
        let folder = tempfile::tempdir().unwrap();
        let folder = fs::canonicalize(folder.path()).unwrap();
        let data = folder.join("data");
        fs::create_dir_all(&data).unwrap();
        let library = Library::build(&folder).unwrap();
        let write = |path: &Path| {
            let mut command = Command::new("dd");
            command.args(["if=/dev/zero", "bs=512", "count=1"]).arg(format!("of={}", path.display()));
            let output = command.envs(library.environment(0, &data)).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        };
        library.set(0, Disk::default()).unwrap();
        assert!(write(&data.join("a")).0);
        library.set(0, Disk { is_full: true, ..Disk::default() }).unwrap();
        let (success, why) = write(&data.join("b"));
        assert!(!success && why.contains("No space left"), "{why}");
        assert!(write(&folder.join("c")).0);
    }
}
