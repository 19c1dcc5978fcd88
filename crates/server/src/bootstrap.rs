//! From a directory to a state that can run: a new member, or one that starts again.
//!
//! | log | file | what happens |
//! |---|---|---|
//! | absent or unborn | absent, unborn or empty | a new member; what a power cut left of an earlier first start is discarded |
//! | absent or unborn | holds applied entries | refused: the log of this member is missing |
//! | present, from its first entry | absent or unborn | the file is made anew from the log |
//! | present, from a snapshot on | older than the snapshot | `<index>.snap.db` takes its place, or refused |
//! | present | as new as the snapshot or newer | the log's entries are replayed |

use std::fmt;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use apply::{Alarms, State};
use bolt::Db;
use bytes::Bytes;
use disk::{Disk, OpenMode};
use lease::{CheckpointPolicy, Lessor};
use membership::{Attributes, Cluster, ClusterId, Member, MemberChange, MemberId, Version};
use mvcc::{CompactionPlan, CompactionsOnFile, Store, compact_revision_from_bytes};
use prost::Message;
use proto::walpb;
use raft::{
    ConfChange, ConfState, Entry, EntryId, HardState, Index, MemoryStorage, RawNode, SnapshotMetadata, Term,
};
use wal::{Presence, SnapshotRecord, Wal};

use crate::apply_loop::Start;
use crate::backend::{self, Applied, Bucket, FileSource};
use crate::config::{ClusterState, Config};

/// The newest layout of the file that this release reads.
const STORAGE_VERSION_MAX: Version = Version::new(3, 7);

/// Bytes of proposals that may wait for the disk. Full: "too many requests", so that a stalled disk does not
/// fill the memory.
const UNCOMMITTED_BYTES_MAX: u64 = 256 << 20;

/// How long a file that another process holds is waited for, how often it is looked at, and when that is
/// said.
const LOCK_WAIT_MAX: Duration = Duration::from_secs(30);
const LOCK_WAIT_QUIET: Duration = Duration::from_secs(1);
const LOCK_POLL: Duration = Duration::from_millis(20);

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
}

impl fmt::Display for BootError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            BootError::Io { action, error } => write!(f, "{action}: {error}"),
            BootError::Wal(error) => write!(f, "write-ahead log: {error}"),
            BootError::File { path, error } => write!(f, "database file {}: {error}", path.display()),
            BootError::Config(text) | BootError::Data(text) => f.write_str(text),
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
    wal_dir: PathBuf,
    snap_dir: PathBuf,
    db_path: PathBuf,
}

pub fn boot(config: &Config, log: wal::Options, disk: Arc<dyn Disk>) -> Result<Booted> {
    let snap_dir = config.snap_dir();
    let dir = Dir { config, log, disk, wal_dir: config.wal_dir(), db_path: snap_dir.join("db"), snap_dir };
    dir.prepare()?;
    match wal::probe(dir.disk.as_ref(), &dir.wal_dir)? {
        Presence::Absent => dir.start_new(),
        Presence::Unborn => {
            tracing::warn!(
                wal_dir = %dir.wal_dir.display(),
                "discarding a write-ahead log that was never completely made, and so acknowledged nothing"
            );
            wal::discard_unborn(dir.disk.as_ref(), &dir.wal_dir)?;
            dir.start_new()
        }
        Presence::Present => dir.start_again(),
    }
}

impl Dir<'_> {
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

    // --- a new member ---

    fn start_new(&self) -> Result<Booted> {
        let config = self.config;
        let members = self.initial_members()?;
        let cluster_id = ClusterId::of(members.iter().map(|member| member.id));
        let me = self.own_member(&members)?;
        if config.initial_cluster_state == ClusterState::Existing {
            return Err(BootError::Config(
                "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs"
                    .to_owned(),
            ));
        }
        if members.len() > 1 {
            return Err(BootError::Config(format!(
                "--initial-cluster names {} members; this release runs one member alone",
                members.len()
            )));
        }
        self.refuse_file_without_log()?;
        tracing::info!(local_member_id = %me, cluster_id = %cluster_id, "starting local member");
        let metadata =
            Bytes::from(walpb::Metadata { node_id: me.0, cluster_id: cluster_id.0 }.encode_to_vec());
        let mut wal = Wal::create(self.disk.clone(), &self.wal_dir, metadata, self.log)?;
        let entries = first_entries(&members);
        let commit = entries.last().map_or(Index::ZERO, |entry| entry.index);
        let hard_state = HardState { term: Term(1), vote: None, commit };
        wal.append(Some(&hard_state), &entries)?;
        wal.sync()?;
        let db = self.open_db(FileAge::MayBeUnborn)?;
        self.assemble(wal, db, me, cluster_id, LogState { hard_state, snapshot: None, entries })
    }

    /// The members that `--initial-cluster` names, each with the id that its URLs and the token give.
    fn initial_members(&self) -> Result<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        for (name, url) in &self.config.initial_cluster {
            match members.iter_mut().find(|member| member.attributes.name == *name) {
                Some(member) => member.peer_urls.push(url.clone()),
                None => members.push(Member {
                    id: MemberId(0),
                    peer_urls: vec![url.clone()],
                    is_learner: false,
                    attributes: Attributes { name: name.clone(), client_urls: Vec::new() },
                }),
            }
        }
        for member in &mut members {
            member.peer_urls.sort();
            member.id = MemberId::at_bootstrap(&member.peer_urls, &self.config.initial_cluster_token);
        }
        let mut urls: Vec<&String> = members.iter().flat_map(|member| &member.peer_urls).collect();
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            let cluster = self.initial_cluster_text();
            return Err(BootError::Config(format!("initial cluster {cluster} has duplicate url")));
        }
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    fn initial_cluster_text(&self) -> String {
        let pairs: Vec<String> =
            self.config.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        pairs.join(",")
    }

    fn own_member(&self, members: &[Member]) -> Result<MemberId> {
        let name = &self.config.name;
        let Some(me) = members.iter().find(|member| member.attributes.name == *name) else {
            return Err(BootError::Config(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        };
        let mut advertised = self.config.initial_advertise_peer_urls.clone();
        advertised.sort();
        let in_cluster = |url: &&String| !me.peer_urls.contains(url);
        let in_advertised = |url: &&String| !advertised.contains(url);
        let listed =
            |urls: &[String]| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let missing_advertised: Vec<String> = me.peer_urls.iter().filter(in_advertised).cloned().collect();
        if !missing_advertised.is_empty() {
            return Err(BootError::Config(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                listed(&missing_advertised),
                advertised.join(",")
            )));
        }
        let missing_cluster: Vec<String> = advertised.iter().filter(in_cluster).cloned().collect();
        if !missing_cluster.is_empty() {
            return Err(BootError::Config(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                missing_cluster.join(","),
                self.initial_cluster_text()
            )));
        }
        Ok(me.id)
    }

    /// Nothing reaches the file before the log has it, so a file with applied entries had a log.
    fn refuse_file_without_log(&self) -> Result<()> {
        if !self.exists(&self.db_path)? {
            return Ok(());
        }
        let db = match self.try_open_db() {
            Err(bolt::Error::Unborn { .. }) => return Ok(()),
            opened => opened.map_err(|error| self.file_error(error))?,
        };
        let applied = backend::applied(&db.begin_read()).map_err(|error| self.file_error(error))?;
        if applied.index == 0 {
            return Ok(());
        }
        Err(BootError::Data(format!(
            "{} holds the state up to log index {}, but there is no write-ahead log in {}: \
             restore the log's directory, or start with an empty --data-dir",
            self.db_path.display(),
            applied.index,
            self.wal_dir.display()
        )))
    }

    // --- a member that starts again ---

    fn start_again(&self) -> Result<Booted> {
        let snapshots = wal::valid_snapshots(self.disk.as_ref(), &self.wal_dir)?;
        let snapshot = snapshots.into_iter().max_by_key(|record| record.index);
        let from =
            snapshot.as_ref().map_or(EntryId::default(), |record| EntryId::new(record.term, record.index));
        let (wal, recovered) = Wal::open(self.disk.clone(), &self.wal_dir, from, self.log)?;
        if let Some(repair) = &recovered.repair {
            tracing::warn!(
                segment = %repair.segment.display(),
                offset = repair.offset,
                copy = %repair.copy.display(),
                "cut a torn record off the end of the write-ahead log"
            );
        }
        let metadata = walpb::Metadata::decode(recovered.metadata.clone())
            .map_err(|error| BootError::Data(format!("metadata of the write-ahead log: {error}")))?;
        let db = self.open_db_for(from.index)?;
        let log = LogState {
            hard_state: recovered.hard_state,
            snapshot: snapshot.filter(|record| record.index > Index::ZERO),
            entries: recovered.entries,
        };
        tracing::info!(
            local_member_id = format!("{:x}", metadata.node_id),
            cluster_id = format!("{:x}", metadata.cluster_id),
            commit_index = log.hard_state.commit.0,
            "restarting local member"
        );
        self.assemble(wal, db, MemberId(metadata.node_id), ClusterId(metadata.cluster_id), log)
    }

    /// The file that goes with a log whose entries begin behind `snapshot`.
    fn open_db_for(&self, snapshot: Index) -> Result<Db> {
        // The log holds everything from its first entry on: the file can be made anew from it.
        let age = if snapshot == Index::ZERO { FileAge::MayBeUnborn } else { FileAge::Old };
        let received = self.snap_dir.join(format!("{:016x}.snap.db", snapshot.0));
        if age == FileAge::Old && !self.exists(&self.db_path)? && !self.exists(&received)? {
            return Err(self.snapshot_file_missing(snapshot));
        }
        let db = self.open_db(age)?;
        let applied = backend::applied(&db.begin_read()).map_err(|error| self.file_error(error))?;
        if applied.index >= snapshot.0 {
            return Ok(db);
        }
        if !self.exists(&received)? {
            return Err(self.snapshot_file_missing(snapshot));
        }
        tracing::info!(path = %received.display(), "taking over a received snapshot file");
        drop(db);
        self.disk
            .rename(&received, &self.db_path)
            .and_then(|()| self.disk.sync_dir(&self.snap_dir))
            .map_err(io(format!("rename {}", received.display())))?;
        self.open_db(FileAge::Old)
    }

    fn snapshot_file_missing(&self, snapshot: Index) -> BootError {
        BootError::Data(format!(
            "failed to find database snapshot file (snap: snapshot file doesn't exist): {} does not hold \
             the state of the log's snapshot at index {}",
            self.db_path.display(),
            snapshot.0
        ))
    }

    // --- both ---

    fn exists(&self, path: &Path) -> Result<bool> {
        self.disk.exists(path).map_err(io(format!("look for {}", path.display())))
    }

    fn file_error(&self, error: bolt::Error) -> BootError {
        BootError::File { path: self.db_path.clone(), error }
    }

    /// Another process that is just ending may still hold the file: that is waited for, with a word about
    /// it, but not for ever.
    fn try_open_db(&self) -> std::result::Result<Db, bolt::Error> {
        let started = Instant::now();
        let mut told = false;
        loop {
            match self.try_open_db_now() {
                Err(bolt::Error::Locked) if started.elapsed() < LOCK_WAIT_MAX => {}
                opened => return opened,
            }
            if !told && started.elapsed() > LOCK_WAIT_QUIET {
                told = true;
                tracing::warn!(
                    path = %self.db_path.display(),
                    "db file is locked by another process, possibly another etcd; waiting for it to end"
                );
            }
            std::thread::sleep(LOCK_POLL);
        }
    }

    fn try_open_db_now(&self) -> std::result::Result<Db, bolt::Error> {
        let file = self
            .disk
            .open(&self.db_path, OpenMode::Create)
            .map_err(|error| bolt::Error::Io { action: "open", error: Arc::new(error) })?;
        Db::open(file, backend::options(self.config.unsafe_no_fsync))
    }

    fn open_db(&self, age: FileAge) -> Result<Db> {
        let db = match self.try_open_db() {
            Err(bolt::Error::Unborn { .. }) if age == FileAge::MayBeUnborn => {
                tracing::warn!(
                    path = %self.db_path.display(),
                    "making the database file anew: it was never completely made"
                );
                self.disk
                    .remove_file(&self.db_path)
                    .map_err(io(format!("remove {}", self.db_path.display())))?;
                self.try_open_db()
            }
            opened => opened,
        };
        let db = db.map_err(|error| self.file_error(error))?;
        self.disk
            .sync_dir(&self.snap_dir)
            .map_err(io(format!("sync directory {}", self.snap_dir.display())))?;
        let db = self.defragment_when_sparse(db)?;
        backend::make_buckets(&db).map_err(|error| self.file_error(error))?;
        Ok(db)
    }

    /// `--bootstrap-defrag-threshold-megabytes`.
    fn defragment_when_sparse(&self, db: Db) -> Result<Db> {
        let threshold = self.config.bootstrap_defrag_threshold_megabytes;
        if threshold == 0 {
            return Ok(db);
        }
        let stats = db.stats();
        let free_megabytes = (stats.size_bytes() - stats.in_use_bytes()) >> 20;
        if free_megabytes < threshold {
            tracing::info!(free_megabytes, threshold, "Skipping defragmentation");
            return Ok(db);
        }
        let copy = self.snap_dir.join("db.tmp.bootstrap");
        backend::copy_to(self.disk.as_ref(), &db.begin_read(), &copy, &mut || ControlFlow::Continue(()))
            .map_err(|error| self.file_error(error))?;
        drop(db);
        self.disk
            .rename(&copy, &self.db_path)
            .and_then(|()| self.disk.sync_dir(&self.snap_dir))
            .map_err(io(format!("rename {}", copy.display())))?;
        tracing::info!(free_megabytes, "finished defragmenting directory");
        self.try_open_db().map_err(|error| self.file_error(error))
    }

    fn assemble(
        &self,
        wal: Wal,
        db: Db,
        member_id: MemberId,
        cluster_id: ClusterId,
        log: LogState,
    ) -> Result<Booted> {
        let file = |error| self.file_error(error);
        let tx = db.begin_read();
        let storage_version = backend::storage_version(&tx).map_err(file)?;
        if let Some(version) = storage_version.filter(|version| *version > STORAGE_VERSION_MAX) {
            return Err(BootError::Data(format!(
                "{} is of storage version {version}; this release reads up to {STORAGE_VERSION_MAX}: \
                 downgrade it with the release that wrote it",
                self.db_path.display()
            )));
        }
        self.refuse_auth(&tx)?;
        let applied = backend::applied(&tx).map_err(file)?;
        self.refuse_shortened_log(applied, &log)?;
        let cluster = self.restore_cluster(&tx)?;
        let alarms = self.restore_alarms(&tx)?;
        let mut lessor = self.restore_lessor(&tx)?;
        let (store, unfinished_compaction) = self.restore_store(tx, &mut lessor)?;
        let conf_state = log.conf_state();
        let snapshot_index = log.snapshot.as_ref().map_or(0, |record| record.index.0);
        let hard_state = log.hard_state;
        let node = self.raft_node(member_id, log)?;
        Ok(Booted {
            member_id,
            cluster_id,
            db,
            db_path: self.db_path.clone(),
            wal,
            node,
            state: State::new(store, alarms, cluster),
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

    /// This release has no users and roles: it would open to everyone what they protect.
    fn refuse_auth(&self, tx: &bolt::ReadTx) -> Result<()> {
        let pairs = backend::pairs(tx, Bucket::Auth).map_err(|error| self.file_error(error))?;
        if pairs.iter().any(|(key, value)| *key == b"authEnabled" && *value == [1]) {
            return Err(BootError::Data(format!(
                "{} has authentication enabled, which this release does not support",
                self.db_path.display()
            )));
        }
        Ok(())
    }

    fn restore_cluster(&self, tx: &bolt::ReadTx) -> Result<Cluster> {
        let mut records = Vec::new();
        let buckets = [
            (Bucket::Members, membership::Bucket::Members),
            (Bucket::MembersRemoved, membership::Bucket::MembersRemoved),
            (Bucket::Cluster, membership::Bucket::Cluster),
        ];
        for (bucket, kind) in buckets {
            let pairs = backend::pairs(tx, bucket).map_err(|error| self.file_error(error))?;
            records.extend(pairs.into_iter().map(|(key, value)| (kind, key, value)));
        }
        Cluster::restore(records)
            .map_err(|error| BootError::Data(format!("{}: {error}", self.db_path.display())))
    }

    fn restore_alarms(&self, tx: &bolt::ReadTx) -> Result<Alarms> {
        let pairs = backend::pairs(tx, Bucket::Alarm).map_err(|error| self.file_error(error))?;
        Alarms::restore(pairs.into_iter().map(|(key, _)| key))
            .map_err(|error| BootError::Data(format!("{}: read alarm: {error}", self.db_path.display())))
    }

    fn restore_lessor(&self, tx: &bolt::ReadTx) -> Result<Lessor> {
        let config = lease::Config::for_election_timeout(self.config.election_timeout, CheckpointPolicy::Off);
        let pairs = backend::pairs(tx, Bucket::Lease).map_err(|error| self.file_error(error))?;
        let records: std::result::Result<Vec<_>, _> =
            pairs.into_iter().map(|(key, value)| lease::Record::decode(key, value)).collect();
        let records = records
            .map_err(|error| BootError::Data(format!("{}: read lease: {error}", self.db_path.display())))?;
        Ok(Lessor::restore(config, records))
    }

    fn restore_store(
        &self,
        tx: bolt::ReadTx,
        lessor: &mut Lessor,
    ) -> Result<(Store, Option<CompactionPlan>)> {
        let file = |error| self.file_error(error);
        let revision_at = |key: &[u8]| {
            backend::meta(&tx, key).map(|value| value.and_then(compact_revision_from_bytes)).map_err(file)
        };
        let compactions = CompactionsOnFile {
            scheduled: revision_at(backend::SCHEDULED_COMPACT)?,
            finished: revision_at(backend::FINISHED_COMPACT)?,
        };
        let source = Arc::new(FileSource::new(tx.clone()).map_err(file)?);
        let mut lost = 0_u64;
        let restored = Store::restore(source, compactions, &mut |key, id| {
            if lessor.attach(lease::LeaseId(id.0), Bytes::copy_from_slice(key)).is_err() {
                lost += 1;
            }
        });
        let restored =
            restored.map_err(|error| BootError::Data(format!("{}: {error}", self.db_path.display())))?;
        if lost > 0 {
            tracing::warn!(keys = lost, "keys name leases that do not exist");
        }
        tracing::info!(current_rev = restored.store.revision().get(), "kvstore restored");
        Ok((restored.store, restored.resumed))
    }

    fn raft_node(&self, member_id: MemberId, log: LogState) -> Result<RawNode<MemoryStorage>> {
        let conf_state = log.conf_state();
        let applied = log.snapshot.as_ref().map_or(Index::ZERO, |record| record.index);
        let mut storage = MemoryStorage::with_conf_state(conf_state.clone());
        if let Some(record) = &log.snapshot {
            let metadata = SnapshotMetadata { conf_state, index: record.index, term: record.term };
            let snapshot = raft::Snapshot { data: Bytes::new(), metadata };
            storage.apply_snapshot(snapshot).map_err(|error| BootError::Data(error.to_string()))?;
        }
        storage.set_hard_state(log.hard_state);
        storage.append(&log.entries);
        let config = raft::Config {
            election_ticks: self.config.election_ticks(),
            pre_vote: self.config.pre_vote,
            max_uncommitted_bytes: UNCOMMITTED_BYTES_MAX,
            applied,
            ..raft::Config::new(member_id.0)
        };
        RawNode::new(config, storage).map_err(|error| BootError::Data(format!("start raft: {error}")))
    }
}

/// Makes a directory and its missing parents, each durable in the one above: a power cut must not take away
/// the directory that everything acknowledged lies in.
fn make_dir(disk: &dyn Disk, path: &Path) -> Result<()> {
    let failed = |path: &Path| io(format!("make directory {}", path.display()));
    let mut missing = Vec::new();
    for ancestor in path.ancestors().filter(|ancestor| !ancestor.as_os_str().is_empty()) {
        if disk.exists(ancestor).map_err(failed(ancestor))? {
            break;
        }
        missing.push(ancestor);
    }
    disk.create_dir_all(path).map_err(failed(path))?;
    for made in missing {
        let parent = made.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or(Path::new("."));
        disk.sync_dir(parent).map_err(io(format!("sync directory {}", parent.display())))?;
    }
    Ok(())
}

/// Whether a file may be one that a power cut left while it was being made.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileAge {
    MayBeUnborn,
    Old,
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

    fn conf_state(&self) -> ConfState {
        self.snapshot.as_ref().and_then(|record| record.conf_state.clone()).unwrap_or_default()
    }
}

/// The entries that make the first members, already committed: everyone starts with the same.
fn first_entries(members: &[Member]) -> Vec<Entry> {
    let entry = |(at, member): (usize, &Member)| {
        let change = ConfChange {
            context: Bytes::from(MemberChange::context(member)),
            ..ConfChange::add_node(member.id.0)
        };
        Entry { term: Term(1), index: Index(at as u64 + 1), ..change.to_entry() }
    };
    members.iter().enumerate().map(entry).collect()
}

impl Booted {
    pub fn applied(&self) -> Applied {
        self.start.applied
    }
}
