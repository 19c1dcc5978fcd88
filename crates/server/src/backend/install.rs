//! The file in snapshots between members: sent with everything that its message must say, and received.

use std::path::{Path, PathBuf};

use bolt::Db;
use crossbeam_channel::Sender;
use disk::OpenMode;
use raft::{Index, Message, Snapshot, SnapshotMetadata, SnapshotStatus, Term};
use storage::v2_store;

use super::{Backend, SnapshotReader, applied, make_buckets, options, storage_version};
use crate::apply_loop::Installed;
use crate::background::{self, Rests};
use crate::replicate::RaftInput;
use crate::restore;

/// What received files end in, behind their index.
const SUFFIX: &str = ".snap.db";

impl Backend {
    /// The message says what the image holds, not what raft had in mind: the file may be further by now.
    pub(super) fn send_snapshot(&mut self, mut message: Message) -> bolt::Result<()> {
        let to = membership::MemberId(message.to);
        let tx = self.db.begin_read();
        let at = applied(&tx)?;
        let cluster = match restore::cluster(&tx, &self.path) {
            Ok(cluster) => cluster,
            Err(error) => {
                tracing::error!(error, "failed to make a snapshot for another member");
                let report = RaftInput::SnapshotSent { id: to, status: SnapshotStatus::Failed };
                self.shared.to_raft.send(report).ok();
                return Ok(());
            }
        };
        let metadata = SnapshotMetadata {
            conf_state: restore::conf_state_of(&cluster),
            index: Index(at.index),
            term: Term(at.term),
        };
        // Compat: etcd 3.6 and older take their members from the v2 store.
        let data = v2_store::dump(&cluster, at.index).into();
        message.snapshot = Some(Snapshot { data, metadata });
        let version = storage_version(&tx)?;
        let duration = self.shared.metrics.disk.backend_snapshot.clone();
        let image = SnapshotReader::new(tx, version, duration);
        tracing::info!(
            snapshot_index = at.index,
            remote_peer_id = %to,
            bytes = image.size(),
            "sending database snapshot"
        );
        self.shared.network.send_snapshot(message, image);
        Ok(())
    }

    /// Nothing that waits for the file is of use any more: the snapshot holds all of it, or its successors.
    pub(super) fn install(&mut self, index: u64, done: Sender<Installed>) {
        self.abandon_defrag();
        self.waiting.clear();
        self.waiting_ops = 0;
        self.waiting_since = None;
        self.folded = None;
        self.compaction = None;
        self.next_compactions.clear();
        self.exchanging = true;
        match self.exchange(index) {
            Ok(db) => {
                self.db = db;
                self.note_sizes();
                self.read_installed(done);
            }
            Err(why) => drop(done.send(Err(why))),
        }
    }

    /// In the background: reading all keys keeps a processor busy for long, and whatever else runs on this
    /// machine must not wait for that.
    fn read_installed(&self, done: Sender<Installed>) {
        let (tx, path, shared) = (self.db.begin_read(), self.path.clone(), self.shared.clone());
        let read = move || {
            let mut rests = Rests::begin();
            let restored = restore::parts(&tx, &path, &shared.config)
                .and_then(|parts| parts.with_keys(tx, &path, &mut || rests.when_due()));
            done.send(restored).ok();
        };
        if self.shared.clock.is_simulated() {
            return read();
        }
        if let Err(error) = background::spawn("install", read) {
            self.shared.fail(format!("start a thread to read an installed snapshot: {error}"));
        }
    }

    fn exchange(&mut self, index: u64) -> Result<Db, String> {
        let received = self.path.with_file_name(format!("{index:016x}{SUFFIX}"));
        let told =
            |action: &str, error: &dyn std::fmt::Display| format!("{action} {}: {error}", received.display());
        let exists = self.disk.exists(&received).map_err(|error| told("look for", &error))?;
        if !exists {
            return Err(format!(
                "failed to find database snapshot file (snap: snapshot file doesn't exist): {}",
                received.display()
            ));
        }
        let file = self.disk.open(&received, OpenMode::ReadWrite).map_err(|error| told("open", &error))?;
        let db = Db::open(file, options(self.shared.config.unsafe_no_fsync))
            .map_err(|error| told("open", &error))?;
        make_buckets(&db).map_err(|error| told("complete", &error))?;
        self.disk.rename(&received, &self.path).map_err(|error| told("rename", &error))?;
        let dir = self.snap_dir();
        self.disk.sync_dir(&dir).map_err(|error| told("sync the directory of", &error))?;
        if let Err(error) = self.remove_older_received(&dir, index) {
            tracing::warn!(%error, "failed to remove older received snapshots");
        }
        Ok(db)
    }

    fn snap_dir(&self) -> PathBuf {
        self.path.parent().unwrap_or(Path::new(".")).to_path_buf()
    }

    /// A start needs a received file only as long as the file in its place is older.
    pub(super) fn remove_older_received(&self, dir: &Path, index: u64) -> std::io::Result<()> {
        for name in self.disk.list(dir)? {
            let text = name.to_string_lossy();
            let at = text.strip_suffix(SUFFIX).and_then(|at| u64::from_str_radix(at, 16).ok());
            if at.is_some_and(|at| at <= index) {
                self.disk.remove_file(&dir.join(&name))?;
            }
        }
        Ok(())
    }
}
