//! A disk on which a defragmentation waits, before it writes its first byte, until the test lets it go on.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use disk::{Disk, File, MemDisk, OpenMode};

pub struct GatedDisk {
    disk: MemDisk,
    arrived: Sender<()>,
    go_on: Mutex<Receiver<()>>,
}

/// The test's side. Dropped, it lets every defragmentation pass.
pub struct Gate {
    arrived: Receiver<()>,
    go_on: Sender<()>,
}

impl GatedDisk {
    pub fn new(disk: MemDisk) -> (GatedDisk, Gate) {
        let (arrived, at_gate) = channel();
        let (go_on, opened) = channel();
        (GatedDisk { disk, arrived, go_on: Mutex::new(opened) }, Gate { arrived: at_gate, go_on })
    }
}

impl Gate {
    /// Blocks until a defragmentation has begun, with all that it will see in its first pass.
    pub fn wait_for_arrival(&self) {
        tokio::task::block_in_place(|| self.arrived.recv()).unwrap();
    }

    pub fn open(&self) {
        self.go_on.send(()).unwrap();
    }
}

impl Disk for GatedDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode == OpenMode::CreateNew && path.ends_with("db.tmp.defrag") && self.arrived.send(()).is_ok() {
            // An error means that the gate is gone, and open.
            let _ = self.go_on.lock().unwrap().recv();
        }
        self.disk.open(path, mode)
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        self.disk.list(path)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir_all(path)
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.sync_dir(path)
    }
}
