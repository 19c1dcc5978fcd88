//! Disks that are slow or full, or lose what was not synced, for programs that reach theirs through libc.
//!
//! A killed process loses nothing that it handed to the kernel; a machine without power does. So unless told
//! otherwise these disks keep writes to the write-ahead log in the process until they are synced: each kill
//! is then a power cut, as far as the log goes. Other files are written at once.
//!
//! Go's programs make system calls themselves, so nothing can stand before them: the faults of this module
//! are left out for them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Outcome, fail};

const SOURCE: &str = include_str!("slow_disk.c");

/// What a disk does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    pub sync_delay_ms: u32,
    pub write_delay_ms: u32,
    pub is_full: bool,
    /// Whether a kill loses what was written to the log and not synced.
    pub loses_unsynced: bool,
}

impl Default for Disk {
    fn default() -> Disk {
        Disk { sync_delay_ms: 0, write_delay_ms: 0, is_full: false, loses_unsynced: true }
    }
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
        let flags = [u32::from(disk.is_full), u32::from(disk.loses_unsynced)];
        let numbers = [disk.sync_delay_ms, disk.write_delay_ms, flags[0], flags[1]];
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

    struct Bench {
        _temporary: tempfile::TempDir,
        data: PathBuf,
        library: Library,
    }

    impl Bench {
        fn new() -> Bench {
            let temporary = tempfile::tempdir().unwrap();
            let folder = fs::canonicalize(temporary.path()).unwrap();
            let data = folder.join("data");
            fs::create_dir_all(&data).unwrap();
            let library = Library::build(&folder).unwrap();
            Bench { _temporary: temporary, data, library }
        }

        /// Runs `dd` onto this file under the library; whether it succeeded, and its words.
        fn write(&self, path: &Path) -> (bool, String) {
            let mut command = Command::new("dd");
            command.args(["if=/dev/zero", "bs=512", "count=1"]).arg(format!("of={}", path.display()));
            let output = command.envs(self.library.environment(0, &self.data)).output().unwrap();
            (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
        }

        /// Builds a program that writes `a`, syncs, writes `b` behind it, and is killed.
        fn killed_writer(&self, path: &Path) {
            let (source, program) = (self.data.join("w.c"), self.data.join("w"));
            let text = "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <signal.h>\n#include <unistd.h>\n\
                int main(int n, char **a) { int f = open(a[n - 1], O_RDWR | O_CREAT, 0600);\n\
                pwrite64(f, \"a\", 1, 0); fdatasync(f); pwrite64(f, \"b\", 1, 1); raise(SIGKILL); }";
            fs::write(&source, text).unwrap();
            assert!(Command::new("cc").arg("-o").args([&program, &source]).status().unwrap().success());
            let environment = self.library.environment(0, &self.data);
            let ended = Command::new(&program).arg(path).envs(environment).status().unwrap();
            assert!(!ended.success(), "it kills itself");
        }
    }

    #[test]
    fn a_full_disk_takes_nothing_and_only_its_own_folder_is_full() {
        let bench = Bench::new();
        bench.library.set(0, Disk::default()).unwrap();
        assert!(bench.write(&bench.data.join("a")).0);
        bench.library.set(0, Disk { is_full: true, ..Disk::default() }).unwrap();
        let (success, why) = bench.write(&bench.data.join("b"));
        assert!(!success && why.contains("No space left"), "{why}");
        assert!(bench.write(&bench.data.with_file_name("c")).0);
    }

    #[test]
    fn a_killed_process_loses_what_it_did_not_sync() {
        let bench = Bench::new();
        for (loses_unsynced, left) in [(true, "a"), (false, "ab")] {
            bench.library.set(0, Disk { loses_unsynced, ..Disk::default() }).unwrap();
            let log = bench.data.join(format!("{loses_unsynced}.wal"));
            bench.killed_writer(&log);
            assert_eq!(fs::read_to_string(&log).unwrap(), left);
            let other = bench.data.join(format!("{loses_unsynced}.db"));
            bench.killed_writer(&other);
            assert_eq!(fs::read_to_string(&other).unwrap(), "ab", "other files are written at once");
        }
    }
}
