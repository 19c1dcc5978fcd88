//! Where the members of a cluster keep their data: in memory, unless a disk is asked for.
//!
//! A killed process loses nothing that it handed to the kernel, so a disk would make the runs slower and
//! no harder.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::failure::{During, Outcome, fail};

/// Name of the folder, within that of a cluster.
pub const DATA: &str = "data";
/// Name of the copy that is left when something was found.
const KEPT: &str = "data-kept";

pub struct Data {
    folder: PathBuf,
    on_disk: bool,
}

impl Data {
    /// Only inside the sandbox, which takes the mount away with everything else.
    pub fn prepare(folder: &Path, on_disk: bool) -> Outcome<Data> {
        let data = folder.join(DATA);
        fs::create_dir_all(&data).during(data.display())?;
        if !on_disk {
            run("mount", [OsStr::new("-t"), "tmpfs".as_ref(), "none".as_ref(), data.as_ref()])?;
        }
        Ok(Data { folder: folder.to_owned(), on_disk })
    }

    /// Removes it; a copy stays if it is to be looked at.
    pub fn leave(self, keep: bool) -> Outcome {
        let (data, kept) = (self.folder.join(DATA), self.folder.join(KEPT));
        if keep {
            // Log files are made long beforehand: their empty rest needs no place.
            run("cp", [OsStr::new("-r"), "--sparse=always".as_ref(), data.as_ref(), kept.as_ref()])?;
        }
        if !self.on_disk {
            // Lazily: whoever still has a file open there is about to end.
            run("umount", [OsStr::new("-l"), data.as_ref()])?;
        }
        fs::remove_dir_all(&data).during(data.display())
    }
}

fn run<const N: usize>(program: &str, arguments: [&OsStr; N]) -> Outcome {
    let output = Command::new(program).args(arguments).output().during(format!("start {program}"))?;
    if !output.status.success() {
        return fail(format!("{program}: {}", String::from_utf8_lossy(&output.stderr).trim()));
    }
    Ok(())
}
