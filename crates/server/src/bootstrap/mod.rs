//! From a directory to a state that can run: a new member, or one that starts again.
//!
//! | log | file | what happens |
//! |---|---|---|
//! | absent or unborn | absent, unborn or empty | a new member, of a new cluster ([`new_cluster`]) or of one that is there ([`join`]); what a power cut left of an earlier first start is discarded |
//! | absent or unborn | holds applied entries | refused: the log of this member is missing |
//! | present, from its first entry | absent or unborn | the file is made anew from the log |
//! | present, from a snapshot on | older than the snapshot | `<index>.snap.db` takes its place, or refused |
//! | present | as new as the snapshot or newer | the log's entries are replayed ([`restart`]) |
//! | present | any, with `--force-new-cluster` | as above, then all other members leave ([`restart`]) |

mod database;
mod join;
mod new_cluster;
mod restart;

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use apply::State;
use bolt::Db;
use bytes::Bytes;
use disk::Disk;
use lease::Lessor;
use membership::{ClusterId, MemberId, Version};
use mvcc::CompactionPlan;
use prost::Message;
use proto::walpb;
use raft::{ConfState, Entry, EntryId, HardState, Index, MemoryStorage, RawNode, SnapshotMetadata};
use tokio::runtime::Handle;
use wal::{Presence, SnapshotRecord, Wal};

use crate::apply_loop::Start;
use crate::backend::Applied;
use crate::config::{ClusterState, Config};
use crate::network::Network;
use crate::restore::{self, Restored};
use crate::start::Environment;

/// Bytes of proposals that may wait for the disk. Full: "too many requests", so that a stalled disk does not
/// fill the memory.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;

/// Bytes on their way to one follower. Etcd bounds only the number of messages: one that comes late, after a
/// snapshot, then gets all since in one go, and others wait for the thread that sends it.
const INFLIGHT_BYTES_MAX: u64 = 2 << 20;

/// Everything a member starts with.
pub struct Booted {
    pub member_id: MemberId,
    pub cluster_id: ClusterId,
    pub db: Db,
    pub db_path: PathBuf,
    pub wal: Wal,
    pub node: RawNode<MemoryStorage>,
    pub state: State,
    /// Taken out when the member is put together.
    pub lessor: Option<Lessor>,
    pub unfinished_compaction: Option<CompactionPlan>,
    pub storage_version: Option<Version>,
    pub start: Start,
    pub hard_state: HardState,
}

/// Why a member does not start. The text says where and what to do.
#[derive(Debug)]
pub enum BootError {
    Io {
        action: String,
        error: std::io::Error,
    },
    Wal(wal::Error),
    File {
        path: PathBuf,
        error: bolt::Error,
    },
    /// The configuration does not fit itself or what is there.
    Config(String),
    /// What is there is of no use to this release, or is damaged.
    Data(String),
    /// The keys cannot be read, or are not those that the other members hold.
    Corrupt(String),
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Io { action, error } => write!(f, "{action}: {error}"),
            BootError::Wal(error) => write!(f, "write-ahead log: {error}"),
            BootError::File { path, error } => write!(f, "database file {}: {error}", path.display()),
            BootError::Config(text) | BootError::Data(text) | BootError::Corrupt(text) => f.write_str(text),
        }
    }
}

impl std::error::Error for BootError {}

impl From<wal::Error> for BootError {
    fn from(error: wal::Error) -> BootError {
        BootError::Wal(error)
    }
}

type Result<T> = std::result::Result<T, BootError>;

fn io(action: impl Into<String>) -> impl FnOnce(std::io::Error) -> BootError {
    let action = action.into();
    move |error| BootError::Io { action, error }
}

/// The member's directory as this start finds it.
struct Dir<'a> {
    config: &'a Config,
    log: wal::Options,
    disk: Arc<dyn Disk>,
    network: Arc<dyn Network>,
    runtime: &'a Handle,
    wal_dir: PathBuf,
    snap_dir: PathBuf,
    db_path: PathBuf,
}

/// Asks other members where the table says so, and waits for them on `runtime`: call it where blocking is
/// allowed.
pub fn boot(config: &Config, environment: &Environment, runtime: &Handle) -> Result<Booted> {
    let snap_dir = config.snap_dir();
    let dir = Dir {
        config,
        log: environment.log,
        disk: environment.disk.clone(),
        network: environment.network.clone(),
        runtime,
        wal_dir: config.wal_dir(),
        db_path: snap_dir.join("db"),
        snap_dir,
    };
    dir.prepare()?;
    match wal::probe(dir.disk.as_ref(), &dir.wal_dir)? {
        Presence::Absent => dir.start_first(),
        Presence::Unborn if dir.is_of_joined_member()? => dir.start_again(),
        Presence::Unborn => {
            tracing::warn!(
                wal_dir = %dir.wal_dir.display(),
                "discarding a write-ahead log that was never completely made, and so acknowledged nothing"
            );
            wal::discard_unborn(dir.disk.as_ref(), &dir.wal_dir)?;
            dir.start_first()
        }
        Presence::Present => dir.start_again(),
    }
}

impl Dir<'_> {
    fn start_first(&self) -> Result<Booted> {
        match self.config.initial_cluster_state {
            ClusterState::New => self.start_new(),
            ClusterState::Existing => self.join(),
        }
    }

    /// A member that joined a running cluster has an empty log until it hears from the others. It must not
    /// take that for a new cluster's that was never completely made.
    fn is_of_joined_member(&self) -> Result<bool> {
        let Ok(log) = wal::read(self.disk.as_ref(), &self.wal_dir, EntryId::default()) else {
            return Ok(false);
        };
        let Ok(metadata) = walpb::Metadata::decode(log.metadata) else { return Ok(false) };
        if self.config.initial_cluster_state == ClusterState::Existing {
            return Ok(true);
        }
        let members = self.initial_members()?;
        let cluster_id = ClusterId::of(members.iter().map(|member| member.id));
        Ok(metadata.cluster_id != cluster_id.0
            || members.iter().all(|member| member.id.0 != metadata.node_id))
    }

    /// A log that belongs to this member of this cluster, with nothing in it.
    fn create_log(&self, member_id: MemberId, cluster_id: ClusterId) -> Result<Wal> {
        let metadata = walpb::Metadata { node_id: member_id.0, cluster_id: cluster_id.0 };
        let metadata = Bytes::from(metadata.encode_to_vec());
        Ok(Wal::create(self.disk.clone(), &self.wal_dir, metadata, self.log)?)
    }

    /// Makes the directories and removes what earlier runs left half done.
    fn prepare(&self) -> Result<()> {
        let disk = self.disk.as_ref();
        make_dir(disk, &self.snap_dir)?;
        if let Some(parent) = self.wal_dir.parent() {
            make_dir(disk, parent)?;
        }
        let names = disk.list(&self.snap_dir).map_err(io(format!("list {}", self.snap_dir.display())))?;
        for name in names {
            let text = name.to_string_lossy();
            if text.starts_with("tmp") || text.starts_with("db.tmp") || text.ends_with(".snap.tmp") {
                let path = self.snap_dir.join(&name);
                tracing::info!(path = %path.display(), "removing a file that was never finished");
                disk.remove_file(&path).map_err(io(format!("remove {}", path.display())))?;
            }
        }
        Ok(())
    }

    fn exists(&self, path: &Path) -> Result<bool> {
        self.disk.exists(path).map_err(io(format!("look for {}", path.display())))
    }

    fn file_error(&self, error: bolt::Error) -> BootError {
        BootError::File { path: self.db_path.clone(), error }
    }

    fn assemble(
        &self,
        wal: Wal,
        db: Db,
        member_id: MemberId,
        cluster_id: ClusterId,
        log: LogState,
    ) -> Result<Booted> {
        let tx = db.begin_read();
        let parts = restore::parts(&tx, &self.db_path, self.config).map_err(BootError::Data)?;
        self.refuse_shortened_log(parts.applied, &log)?;
        let restored = parts.with_keys(tx, &self.db_path, &mut || ()).map_err(BootError::Data)?;
        let Restored { state, lessor, storage_version, applied, unfinished_compaction } = restored;
        tracing::info!(current_rev = state.store.revision().get(), "kvstore restored");
        let conf_state = match state.cluster.members().next() {
            Some(_) => restore::conf_state_of(&state.cluster),
            // Nothing of the log is in the file yet.
            None => log.conf_state(),
        };
        let snapshot_index = log.snapshot.as_ref().map_or(0, |record| record.index.0);
        let hard_state = log.hard_state_covering(applied);
        let node = self.raft_node(member_id, log, conf_state.clone(), hard_state, applied)?;
        Ok(Booted {
            member_id,
            cluster_id,
            db,
            db_path: self.db_path.clone(),
            wal,
            node,
            state,
            lessor: Some(lessor),
            unfinished_compaction,
            storage_version,
            start: Start { conf_state, applied, snapshot_index },
            hard_state,
        })
    }

    /// What is applied was durable in the log before, so a log that ends earlier has lost entries. New ones
    /// would take their indexes and never be applied.
    fn refuse_shortened_log(&self, applied: Applied, log: &LogState) -> Result<()> {
        let last = log.last_index();
        if applied.index <= last.0 {
            return Ok(());
        }
        Err(BootError::Data(format!(
            "{} holds the state up to log index {}, but the write-ahead log in {} ends at {last}: it has lost \
             entries; restore the member from a snapshot or from the other members",
            self.db_path.display(),
            applied.index,
            self.wal_dir.display()
        )))
    }

    /// Raft goes on behind what the file holds: those entries are not handed out again.
    fn raft_node(
        &self,
        member_id: MemberId,
        log: LogState,
        conf_state: ConfState,
        hard_state: HardState,
        applied: Applied,
    ) -> Result<RawNode<MemoryStorage>> {
        let mut storage = MemoryStorage::with_conf_state(conf_state.clone());
        if let Some(record) = &log.snapshot {
            let metadata = SnapshotMetadata { conf_state, index: record.index, term: record.term };
            let snapshot = raft::Snapshot { data: Bytes::new(), metadata };
            storage.apply_snapshot(snapshot).map_err(|error| BootError::Data(error.to_string()))?;
        }
        storage.set_hard_state(hard_state);
        storage.append(&log.entries);
        let config = raft::Config {
            election_ticks: self.config.election_ticks(),
            pre_vote: self.config.pre_vote,
            prompt_elections: self.config.pre_vote,
            max_uncommitted_bytes: UNCOMMITTED_BYTES_MAX,
            max_inflight_bytes: INFLIGHT_BYTES_MAX,
            applied: Index(applied.index),
            ..raft::Config::new(member_id.0)
        };
        RawNode::new(config, storage).map_err(|error| BootError::Data(format!("start raft: {error}")))
    }
}

fn make_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    disk::make_dirs(disk, path).map_err(io(format!("make directory {}", path.display())))
}

/// What the log says, newest snapshot first.
struct LogState {
    hard_state: HardState,
    snapshot: Option<SnapshotRecord>,
    entries: Vec<Entry>,
}

impl LogState {
    fn last_index(&self) -> Index {
        let snapshot = self.snapshot.as_ref().map_or(Index::ZERO, |record| record.index);
        self.entries.last().map_or(snapshot, |entry| entry.index)
    }

    /// A commit index is not synced by itself, so a crash may have lost what the file proves to be committed.
    fn hard_state_covering(&self, applied: Applied) -> HardState {
        HardState { commit: self.hard_state.commit.max(Index(applied.index)), ..self.hard_state }
    }

    fn conf_state(&self) -> ConfState {
        self.snapshot.as_ref().and_then(|record| record.conf_state.clone()).unwrap_or_default()
    }
}

impl Booted {
    pub fn applied(&self) -> Applied {
        self.start.applied
    }
}
