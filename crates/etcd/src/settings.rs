//! All that flags, variables or the config file can say, typed, before anything is judged.

use std::collections::{BTreeMap, BTreeSet};

use crate::feature_gates::FeatureGates;
use crate::go_duration::GoDuration;
use crate::url::Url;

pub const DEFAULT_NAME: &str = "default";
pub const DEFAULT_PEER_URL: &str = "http://localhost:2380";
pub const DEFAULT_CLIENT_URL: &str = "http://localhost:2379";
pub const DEFAULT_LOG_ROTATION: &str =
    r#"{"maxsize": 100, "maxage": 0, "maxbackups": 0, "localtime": false, "compress": false}"#;

/// One field per flag, under the flag's name, holding etcd's default until something sets it.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Names of what was given, aliases included; in a config file, its top-level keys.
    pub explicit: BTreeSet<String>,
    /// Gates set under the name of an old flag, with that name. They join `feature_gates` when all is read.
    pub retired_gates: BTreeMap<&'static str, (String, bool)>,
    /// Top-level keys of the config file that mean nothing here.
    pub unknown_keys: Vec<String>,

    pub name: String,
    pub data_dir: String,
    pub wal_dir: String,
    pub snapshot_count: u64,
    pub snapshot_catchup_entries: u64,
    /// Milliseconds, as on the command line.
    pub heartbeat_interval: u64,
    /// Milliseconds, as on the command line.
    pub election_timeout: u64,
    pub initial_election_tick_advance: bool,
    pub listen_peer_urls: Vec<Url>,
    pub listen_client_urls: Vec<Url>,
    pub listen_client_http_urls: Vec<Url>,
    pub listen_metrics_urls: Vec<Url>,
    pub max_snapshots: u64,
    pub max_wals: u64,
    pub memory_mlock: bool,
    pub quota_backend_bytes: i64,
    pub backend_bbolt_freelist_type: String,
    pub backend_batch_interval: GoDuration,
    pub backend_batch_limit: i64,
    pub max_txn_ops: u64,
    pub max_request_bytes: u64,
    pub max_concurrent_streams: u32,
    pub grpc_keepalive_min_time: GoDuration,
    pub grpc_keepalive_interval: GoDuration,
    pub grpc_keepalive_timeout: GoDuration,
    pub socket_reuse_port: bool,
    pub socket_reuse_address: bool,
    pub enable_grpc_gateway: bool,
    pub raft_read_timeout: GoDuration,
    pub raft_write_timeout: GoDuration,
    pub feature_gates: FeatureGates,

    pub initial_advertise_peer_urls: Vec<Url>,
    pub initial_cluster: String,
    pub initial_cluster_state: String,
    pub initial_cluster_token: String,
    pub advertise_client_urls: Vec<Url>,
    pub discovery_token: String,
    pub discovery_endpoints: Vec<String>,
    pub discovery_dial_timeout: GoDuration,
    pub discovery_request_timeout: GoDuration,
    pub discovery_keepalive_time: GoDuration,
    pub discovery_keepalive_timeout: GoDuration,
    pub discovery_insecure_transport: bool,
    pub discovery_insecure_skip_tls_verify: bool,
    pub discovery_cert: String,
    pub discovery_key: String,
    pub discovery_cacert: String,
    pub discovery_user: String,
    pub discovery_password: String,
    pub discovery_fallback: String,
    pub discovery_srv: String,
    pub discovery_srv_name: String,
    /// The name that certificates of other members must bear, in place of their URLs'; empty: theirs. No flag:
    /// discovery sets it.
    pub peer_server_name: String,
    pub strict_reconfig_check: bool,
    pub pre_vote: bool,
    pub auto_compaction_retention: String,
    pub auto_compaction_mode: String,
    pub v2_deprecation: String,

    pub client_tls: TlsSettings,
    pub peer_tls: TlsSettings,
    pub peer_skip_client_san_verification: bool,
    pub self_signed_cert_validity: u64,
    pub cipher_suites: Vec<String>,
    pub cors: Vec<String>,
    pub host_whitelist: Vec<String>,
    pub tls_min_version: String,
    pub tls_max_version: String,

    pub auth_token: String,
    pub bcrypt_cost: u64,
    pub auth_token_ttl: u64,

    pub enable_pprof: bool,
    pub metrics: String,

    pub logger: String,
    pub log_outputs: Vec<String>,
    pub log_level: String,
    pub log_format: String,
    pub enable_log_rotation: bool,
    pub log_rotation_config_json: String,
    pub warning_unary_request_duration: GoDuration,

    pub enable_distributed_tracing: bool,
    pub distributed_tracing_address: String,
    pub distributed_tracing_service_name: String,
    pub distributed_tracing_instance_id: String,
    pub distributed_tracing_sampling_rate: i64,

    pub corrupt_check_time: GoDuration,
    pub compact_hash_check_time: GoDuration,
    pub compaction_batch_limit: i64,
    pub compaction_sleep_interval: GoDuration,
    pub watch_progress_notify_interval: GoDuration,
    pub warning_apply_duration: GoDuration,
    pub bootstrap_defrag_threshold_megabytes: u64,
    pub max_learners: i64,
    pub downgrade_check_time: GoDuration,

    pub force_new_cluster: bool,
    pub unsafe_no_fsync: bool,

    pub config_file: String,
    pub version: bool,
}

/// The flags that the client side and the peer side both have.
#[derive(Clone, Debug, Default)]
pub struct TlsSettings {
    pub cert_file: String,
    pub key_file: String,
    pub client_cert_file: String,
    pub client_key_file: String,
    pub client_cert_auth: bool,
    pub trusted_ca_file: String,
    pub crl_file: String,
    /// The client side's can only be set in the config file.
    pub allowed_cn: Vec<String>,
    pub allowed_hostname: Vec<String>,
    pub auto_tls: bool,
}

impl TlsSettings {
    /// True while neither a certificate nor a key is named: etcd then has no TLS on that side.
    pub fn is_empty(&self) -> bool {
        self.cert_file.is_empty() && self.key_file.is_empty()
    }
}

impl Default for Settings {
    fn default() -> Settings {
        let url = |text: &str| vec![Url::parse(text).expect("the default URLs are valid")];
        Settings {
            explicit: BTreeSet::new(),
            retired_gates: BTreeMap::new(),
            unknown_keys: Vec::new(),
            name: DEFAULT_NAME.to_owned(),
            data_dir: String::new(),
            wal_dir: String::new(),
            snapshot_count: 10_000,
            snapshot_catchup_entries: 5_000,
            heartbeat_interval: 100,
            election_timeout: 1_000,
            initial_election_tick_advance: true,
            listen_peer_urls: url(DEFAULT_PEER_URL),
            listen_client_urls: url(DEFAULT_CLIENT_URL),
            listen_client_http_urls: Vec::new(),
            listen_metrics_urls: Vec::new(),
            max_snapshots: 5,
            max_wals: 5,
            memory_mlock: false,
            quota_backend_bytes: 0,
            backend_bbolt_freelist_type: String::new(),
            backend_batch_interval: GoDuration::ZERO,
            backend_batch_limit: 0,
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: u32::MAX,
            grpc_keepalive_min_time: GoDuration::from_secs(5),
            grpc_keepalive_interval: GoDuration::from_secs(7200),
            grpc_keepalive_timeout: GoDuration::from_secs(20),
            socket_reuse_port: false,
            socket_reuse_address: false,
            enable_grpc_gateway: true,
            raft_read_timeout: GoDuration::from_secs(5),
            raft_write_timeout: GoDuration::from_secs(5),
            feature_gates: FeatureGates::default(),
            initial_advertise_peer_urls: url(DEFAULT_PEER_URL),
            initial_cluster: format!("{DEFAULT_NAME}={DEFAULT_PEER_URL}"),
            initial_cluster_state: "new".to_owned(),
            initial_cluster_token: "etcd-cluster".to_owned(),
            advertise_client_urls: url(DEFAULT_CLIENT_URL),
            discovery_token: String::new(),
            discovery_endpoints: Vec::new(),
            discovery_dial_timeout: GoDuration::from_secs(2),
            discovery_request_timeout: GoDuration::from_secs(5),
            discovery_keepalive_time: GoDuration::from_secs(2),
            discovery_keepalive_timeout: GoDuration::from_secs(6),
            discovery_insecure_transport: true,
            discovery_insecure_skip_tls_verify: false,
            discovery_cert: String::new(),
            discovery_key: String::new(),
            discovery_cacert: String::new(),
            discovery_user: String::new(),
            discovery_password: String::new(),
            discovery_fallback: "exit".to_owned(),
            discovery_srv: String::new(),
            discovery_srv_name: String::new(),
            peer_server_name: String::new(),
            strict_reconfig_check: true,
            pre_vote: true,
            auto_compaction_retention: "0".to_owned(),
            auto_compaction_mode: "periodic".to_owned(),
            v2_deprecation: "write-only".to_owned(),
            client_tls: TlsSettings::default(),
            peer_tls: TlsSettings::default(),
            peer_skip_client_san_verification: false,
            self_signed_cert_validity: 1,
            cipher_suites: Vec::new(),
            cors: vec!["*".to_owned()],
            host_whitelist: vec!["*".to_owned()],
            tls_min_version: "TLS1.2".to_owned(),
            tls_max_version: String::new(),
            auth_token: "simple".to_owned(),
            bcrypt_cost: 10,
            auth_token_ttl: 300,
            enable_pprof: false,
            metrics: "basic".to_owned(),
            logger: "zap".to_owned(),
            log_outputs: vec!["default".to_owned()],
            log_level: "info".to_owned(),
            log_format: "json".to_owned(),
            enable_log_rotation: false,
            log_rotation_config_json: DEFAULT_LOG_ROTATION.to_owned(),
            warning_unary_request_duration: GoDuration::from_millis(300),
            enable_distributed_tracing: false,
            distributed_tracing_address: "localhost:4317".to_owned(),
            distributed_tracing_service_name: "etcd".to_owned(),
            distributed_tracing_instance_id: String::new(),
            distributed_tracing_sampling_rate: 0,
            corrupt_check_time: GoDuration::ZERO,
            compact_hash_check_time: GoDuration::from_secs(60),
            compaction_batch_limit: 0,
            compaction_sleep_interval: GoDuration::ZERO,
            watch_progress_notify_interval: GoDuration::ZERO,
            warning_apply_duration: GoDuration::from_millis(100),
            bootstrap_defrag_threshold_megabytes: 0,
            max_learners: 1,
            downgrade_check_time: GoDuration::from_secs(5),
            force_new_cluster: false,
            unsafe_no_fsync: false,
            config_file: String::new(),
            version: false,
        }
    }
}

impl Settings {
    pub fn is_explicit(&self, name: &str) -> bool {
        self.explicit.contains(name)
    }

    /// `name=url` for each advertised peer URL: the cluster of a member that was told only its name.
    pub fn initial_cluster_from_name(&self) -> String {
        let name = if self.name.is_empty() { DEFAULT_NAME } else { &self.name };
        let pairs: Vec<String> =
            self.initial_advertise_peer_urls.iter().map(|url| format!("{name}={url}")).collect();
        pairs.join(",")
    }
}
