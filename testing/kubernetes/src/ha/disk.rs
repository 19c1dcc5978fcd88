//! A disk of a machine's own that can be made to hang: a file system in a file, which the kernel freezes.
//!
//! Writes and syncs on a frozen file system wait until it is thawed, as on a disk that has stopped answering;
//! nothing fails, and nothing else on the machine notices.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use crate::failure::{During, Outcome};
use crate::ha::network::must;

/// Room for one member's data; the file is sparse.
const SIZE_BYTES: u64 = 1 << 30;

/// A mounted disk. Dropping it thaws it and takes it away, so it must go before the programs that wait for it:
/// who waits for a frozen disk cannot even be killed.
pub struct Disk {
    pub folder: PathBuf,
}

impl Disk {
    /// Makes the disk and mounts it at `folder`, for our own mounts alone. Its image stays beside that.
    pub fn create(folder: &Path) -> Outcome<Disk> {
        let image = folder.with_extension("image");
        File::create(&image)?.set_len(SIZE_BYTES).during(image.display())?;
        fs::create_dir_all(folder).during(folder.display())?;
        let (image_text, folder_text) = (image.display().to_string(), folder.display().to_string());
        must("mkfs.ext4", &["-q", "-F", &image_text])?;
        must("mount", &["-o", "loop", &image_text, &folder_text])?;
        Ok(Disk { folder: folder.to_owned() })
    }

    pub fn freeze(&self) -> Outcome {
        must("fsfreeze", &["--freeze", &self.folder.display().to_string()])
    }

    pub fn thaw(&self) -> Outcome {
        must("fsfreeze", &["--unfreeze", &self.folder.display().to_string()])
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Refused unless it is frozen.
        let _ = self.thaw();
        // Lazily: its member may still run.
        let _ = must("umount", &["--lazy", &self.folder.display().to_string()]);
    }
}
