//! What other members say to this one: raft messages, snapshots, and how their connections fare. `peer` calls
//! these, and so does the simulator's network.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use disk::{Disk, File, OpenMode};
use membership::MemberId;
use raft::{Message, MessageType, SnapshotStatus};

use crate::handle::Server;
use crate::network::ConnectionLoss;
use crate::replicate::RaftInput;
use crate::shared::StopReason;

/// Messages of other members that may wait for the raft stage. Full: dropped, as a network may drop them.
/// Source: etcd `server/etcdserver/api/rafthttp/peer.go`, which has as many for proposals.
const INBOX_MAX: usize = 4096;

/// Inputs that whoever received the last of them gives to raft itself; more are left to raft's own thread.
const STEPPED_HERE_MAX: usize = 8;

/// Bytes of a received snapshot that are made durable in one go. A log on the same disk waits as long as that
/// takes, and must not wait for a whole file at the end.
const SYNC_BYTES: u64 = 1 << 20;

/// Why a raft message was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// Its sender was removed from the cluster.
    SenderRemoved,
    /// It is for another member.
    NotForThisMember,
    /// Of a type that no member sends to another.
    Local,
    /// The raft stage does not keep up.
    Full,
    Stopped,
}

impl fmt::Display for ReceiveError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ReceiveError::SenderRemoved => "cannot process message from removed member",
            ReceiveError::NotForThisMember => "cannot process message to mismatch member",
            ReceiveError::Local => "cannot process message of a local type",
            ReceiveError::Full => "too many messages wait",
            ReceiveError::Stopped => "server stopped",
        })
    }
}

impl std::error::Error for ReceiveError {}

impl Server {
    /// Takes a raft message from another member, and has [`Server::step_received`] to follow the last of those that came
    /// together. Never blocks.
    pub fn receive(&self, message: Message) -> Result<(), ReceiveError> {
        self.admits(&message)?;
        if self.shared.to_raft.len() >= INBOX_MAX {
            return Err(ReceiveError::Full);
        }
        self.shared.to_raft.put(RaftInput::Step(Box::new(message))).map_err(|_| ReceiveError::Stopped)
    }

    /// Has raft take what was received: on this thread when it is little, for waking another costs more.
    pub fn step_received(&self) {
        match self.shared.to_raft.len() {
            0 => {}
            1..=STEPPED_HERE_MAX => self.shared.to_raft.turn_here(),
            _ => self.shared.to_raft.wake(),
        }
    }

    /// Whether a raft message may be taken at all.
    pub fn admits(&self, message: &Message) -> Result<(), ReceiveError> {
        if self.is_removed(MemberId(message.from)) {
            tracing::warn!(
                local_member_id = %self.shared.member_id,
                removed_member_id = %MemberId(message.from),
                "rejected Raft message from removed member"
            );
            return Err(ReceiveError::SenderRemoved);
        }
        if message.to != self.shared.member_id.0 {
            return Err(ReceiveError::NotForThisMember);
        }
        if message.kind == MessageType::ForgetLeader {
            return Err(ReceiveError::Local);
        }
        Ok(())
    }

    /// A message to this member could not be sent.
    pub fn report_unreachable(&self, id: MemberId) {
        self.tell_raft(RaftInput::Unreachable(id)).ok();
    }

    /// How the sending of a snapshot ended.
    pub fn report_snapshot(&self, id: MemberId, status: SnapshotStatus) {
        self.tell_raft(RaftInput::SnapshotSent { id, status }).ok();
    }

    /// A connection from this member broke, or cannot be made.
    pub fn connection_lost(&self, id: MemberId, loss: ConnectionLoss) {
        self.tell_raft(RaftInput::ConnectionLost { id, loss }).ok();
    }

    /// Another member says that this one was removed from the cluster.
    pub fn told_removed(&self) {
        tracing::warn!(
            local_member_id = %self.shared.member_id,
            "the member has been permanently removed from the cluster"
        );
        self.shared.stop_with(StopReason::Removed);
    }

    /// Whether messages of this member are refused because it was removed.
    pub fn is_removed(&self, id: MemberId) -> bool {
        self.shared.cluster.load().is_removed(id)
    }

    /// Begins to take a snapshot's file, which precedes its `Snap` message into the raft core.
    pub fn receive_snapshot(&self, index: u64) -> io::Result<SnapshotWriter> {
        self.shared.snapshot_begun.store(self.shared.request_ids.next(), Ordering::Relaxed);
        SnapshotWriter::begin(self.shared.disk.clone(), self.shared.config.snap_dir(), index)
    }

    fn tell_raft(&self, input: RaftInput) -> Result<(), ReceiveError> {
        self.shared.to_raft.send(input).map_err(|_| ReceiveError::Stopped)
    }
}

/// A snapshot's file as it comes in: `tmp<index>` until it is whole and durable, then `<index>.snap.db`, where
/// the installation and a restart look for it. Dropped before that, it leaves nothing.
pub struct SnapshotWriter {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    unfinished: PathBuf,
    path: PathBuf,
    file: Arc<dyn File>,
    written: u64,
    synced: u64,
    /// The unfinished file is no more.
    is_finished: bool,
}

impl SnapshotWriter {
    fn begin(disk: Arc<dyn Disk>, dir: PathBuf, index: u64) -> io::Result<SnapshotWriter> {
        let path = dir.join(format!("{index:016x}.snap.db"));
        // Two members may send the same snapshot, so each transfer has a file of its own.
        let unfinished = (0..)
            .map(|attempt| dir.join(format!("tmp{index:016x}-{attempt}")))
            .find(|path| !disk.exists(path).unwrap_or(false))
            .expect("some number is free");
        let file = disk.open(&unfinished, OpenMode::CreateNew)?;
        Ok(SnapshotWriter { disk, dir, unfinished, path, file, written: 0, synced: 0, is_finished: false })
    }

    /// Adds the next bytes. May block on the disk.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.written)?;
        self.written += bytes.len() as u64;
        if self.written - self.synced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.synced = self.written;
        }
        Ok(())
    }

    /// Bytes taken so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Makes the file durable under its final name. One that is there already is as good, once its name is durable: who
    /// brought it may have ended before that. May block.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.sync_data()?;
        if !self.disk.exists(&self.path)? {
            self.disk.rename(&self.unfinished, &self.path)?;
            self.is_finished = true;
        }
        self.disk.sync_dir(&self.dir)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        if !self.is_finished {
            // What stays is removed by the next start.
            self.disk.remove_file(&self.unfinished).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use disk::mem::{Fault, FaultPoint, MemDisk};

    use super::*;

    fn disk() -> Arc<MemDisk> {
        let disk = MemDisk::new();
        disk.create_dir_all("/snap".as_ref()).unwrap();
        Arc::new(disk)
    }

    fn begin(disk: &Arc<MemDisk>) -> SnapshotWriter {
        let mut writer = SnapshotWriter::begin(disk.clone(), "/snap".into(), 5).unwrap();
        writer.write(b"a database").unwrap();
        writer
    }

    fn files(disk: &MemDisk) -> Vec<PathBuf> {
        disk.list("/snap".as_ref()).unwrap()
    }

    /// The first may have been brought by a process that ended before its name was durable.
    #[test]
    fn one_that_is_there_already_is_made_durable() {
        let disk = disk();
        disk.inject(Fault::eio(FaultPoint::SyncDir));
        assert!(begin(&disk).finish().is_err());
        assert_eq!(files(&disk).len(), 1);
        let before = disk.calls(FaultPoint::SyncDir);
        begin(&disk).finish().unwrap();
        assert_eq!(disk.calls(FaultPoint::SyncDir), before + 1);
        assert_eq!(files(&disk).len(), 1);
    }

    #[test]
    fn one_that_cannot_be_finished_leaves_nothing() {
        for point in [FaultPoint::Sync, FaultPoint::Rename] {
            let disk = disk();
            let writer = begin(&disk);
            disk.inject(Fault::eio(point));
            assert!(writer.finish().is_err(), "{point:?}");
            assert!(files(&disk).is_empty(), "{point:?}");
        }
    }
}
