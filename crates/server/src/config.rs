//! What one member is told at start. Flags, variables and the config file end here.

use std::path::PathBuf;
use std::time::Duration;

/// Release that we report wherever etcd reports its own.
pub const SERVER_VERSION: &str = "3.7.3";

/// Settings of one member. Every field has etcd's meaning and default; see `docs/compat.md` for what
/// differs on purpose.
#[derive(Clone, Debug)]
pub struct Config {
    pub name: String,
    pub data_dir: PathBuf,
    /// Separate directory for the log; `None` puts it under `data_dir/member/wal`.
    pub wal_dir: Option<PathBuf>,
    /// Peer URLs this member is known by, in the order given.
    pub initial_advertise_peer_urls: Vec<String>,
    /// Client URLs published to the cluster.
    pub advertise_client_urls: Vec<String>,
    /// `(name, peer URL)` pairs of the cluster that is being formed, in the order given.
    pub initial_cluster: Vec<(String, String)>,
    pub initial_cluster_token: String,
    pub initial_cluster_state: ClusterState,
    /// Raft tick; etcd's `--heartbeat-interval`.
    pub heartbeat_interval: Duration,
    pub election_timeout: Duration,
    pub initial_election_tick_advance: bool,
    pub pre_vote: bool,
    /// Applied entries between two snapshot records in the log.
    pub snapshot_count: u64,
    /// Entries kept in the in-memory log for slow followers.
    pub snapshot_catchup_entries: u64,
    /// Log segments kept; 0 keeps all.
    pub max_wals: usize,
    /// `.snap` files kept; 0 keeps all.
    pub max_snapshots: usize,
    /// As given: 0 means etcd's default of 2 GiB, a negative value no quota.
    pub quota_backend_bytes: i64,
    pub backend_batch_interval: Duration,
    pub backend_batch_limit: usize,
    pub max_request_bytes: usize,
    pub max_txn_ops: usize,
    pub max_learners: usize,
    pub strict_reconfig_check: bool,
    pub auto_compaction: AutoCompaction,
    pub compaction_batch_limit: usize,
    pub compaction_sleep_interval: Duration,
    /// Free space in the file, in MiB, from which it is defragmented before the start; 0 never.
    pub bootstrap_defrag_threshold_megabytes: u64,
    pub warning_apply_duration: Duration,
    pub unsafe_no_fsync: bool,
    pub initial_corrupt_check: bool,
    /// How often the leader compares the members' keys; `None` never.
    pub corrupt_check_interval: Option<Duration>,
    /// How often the leader compares the hashes that compactions have left; `None` never.
    pub compact_hash_check_interval: Option<Duration>,
    /// Whether a keep-alive of a lease that is known is answered without waiting for what is being applied.
    pub fast_lease_keep_alive: bool,
    /// How often the leader replicates how much time leases that last longer have left; `None` never.
    pub lease_checkpoint_interval: Option<Duration>,
    /// How often the leader looks whether a downgrade is complete.
    pub downgrade_check_interval: Duration,
    /// Makes a cluster of this member alone out of what is in its directory.
    pub force_new_cluster: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClusterState {
    New,
    Existing,
}

/// Compaction that the leader starts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AutoCompaction {
    Off,
    /// Keeps what is younger than this.
    Periodic(Duration),
    /// Keeps this many revisions.
    Revision(u64),
}

/// Quota in force when `--quota-backend-bytes` is 0.
pub const DEFAULT_QUOTA_BYTES: i64 = 2 * 1024 * 1024 * 1024;

impl Config {
    /// A member named `name` with etcd's defaults, alone in its cluster.
    pub fn single(name: &str, data_dir: PathBuf) -> Config {
        let peer_url = "http://localhost:2380".to_owned();
        Config {
            name: name.to_owned(),
            data_dir,
            wal_dir: None,
            initial_advertise_peer_urls: vec![peer_url.clone()],
            advertise_client_urls: vec!["http://localhost:2379".to_owned()],
            initial_cluster: vec![(name.to_owned(), peer_url)],
            initial_cluster_token: "etcd-cluster".to_owned(),
            initial_cluster_state: ClusterState::New,
            heartbeat_interval: Duration::from_millis(100),
            election_timeout: Duration::from_millis(1000),
            initial_election_tick_advance: true,
            pre_vote: true,
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            max_wals: 5,
            max_snapshots: 5,
            quota_backend_bytes: 0,
            backend_batch_interval: Duration::from_millis(100),
            backend_batch_limit: 10_000,
            max_request_bytes: 1_572_864,
            max_txn_ops: 128,
            max_learners: 1,
            strict_reconfig_check: true,
            auto_compaction: AutoCompaction::Off,
            compaction_batch_limit: 1_000,
            compaction_sleep_interval: Duration::from_millis(10),
            bootstrap_defrag_threshold_megabytes: 0,
            warning_apply_duration: Duration::from_millis(100),
            unsafe_no_fsync: false,
            initial_corrupt_check: false,
            corrupt_check_interval: None,
            compact_hash_check_interval: None,
            fast_lease_keep_alive: true,
            lease_checkpoint_interval: None,
            downgrade_check_interval: Duration::from_secs(5),
            force_new_cluster: false,
        }
    }

    pub fn wal_dir(&self) -> PathBuf {
        self.wal_dir.clone().unwrap_or_else(|| self.data_dir.join("member").join("wal"))
    }

    pub fn snap_dir(&self) -> PathBuf {
        self.data_dir.join("member").join("snap")
    }

    /// How long a request may take inside the server: room for one disk stall and two elections.
    pub fn request_timeout(&self) -> Duration {
        Duration::from_secs(5) + 2 * self.election_timeout
    }

    pub fn election_ticks(&self) -> u32 {
        let ticks = self.election_timeout.as_millis() / self.heartbeat_interval.as_millis().max(1);
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }

    /// Shortest lease TTL in seconds that a leader change cannot end early.
    pub fn min_lease_ttl_secs(&self) -> i64 {
        let millis = self.election_timeout.as_millis() as i64 * 3 / 2;
        (millis + 999) / 1000
    }

    /// Bytes the file may hold, or `None` for no limit.
    pub fn quota(&self) -> Option<i64> {
        match self.quota_backend_bytes {
            0 => Some(DEFAULT_QUOTA_BYTES),
            bytes if bytes < 0 => None,
            bytes => Some(bytes),
        }
    }
}
