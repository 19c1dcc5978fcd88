//! The one line that shows what a member was started with. Test frameworks look for its fields.

use server::{AutoCompaction, Config, DEFAULT_QUOTA_BYTES};

use crate::go_duration::GoDuration;
use crate::log;
use crate::logging::Level;
use crate::member_config::MemberData;
use crate::settings::Settings;
use crate::url::texts;
use crate::version;

pub fn log(settings: &Settings, config: &Config, data: MemberData) {
    let cpus = std::thread::available_parallelism().map_or(1, usize::from);
    let heartbeat = GoDuration::from_millis(i64::try_from(settings.heartbeat_interval).unwrap_or(i64::MAX));
    let election = i64::from(config.election_ticks()).saturating_mul(heartbeat.0);
    let quota =
        if settings.quota_backend_bytes == 0 { DEFAULT_QUOTA_BYTES } else { settings.quota_backend_bytes };
    let retention = match config.auto_compaction {
        AutoCompaction::Off => GoDuration::ZERO,
        AutoCompaction::Periodic(period) => GoDuration(i64::try_from(period.as_nanos()).unwrap_or(i64::MAX)),
        AutoCompaction::Revision(revisions) => GoDuration(i64::try_from(revisions).unwrap_or(i64::MAX)),
    };
    let cluster: Vec<String> =
        config.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
    let wal_dir = if settings.wal_dir.is_empty() { String::new() } else { settings.wal_dir.clone() };
    log!(
        Level::Info,
        "starting an etcd server",
        "etcd-version" => version::VERSION,
        "git-sha" => version::GIT_SHA,
        "go-version" => version::COMPILER,
        "go-os" => version::go_os(),
        "go-arch" => version::go_arch(),
        "max-cpu-set" => cpus,
        "max-cpu-available" => cpus,
        "member-initialized" => data == MemberData::Present,
        "name" => settings.name,
        "data-dir" => settings.data_dir,
        "wal-dir" => wal_dir,
        "wal-dir-dedicated" => wal_dir,
        "member-dir" => format!("{}/member", settings.data_dir.trim_end_matches('/')),
        "force-new-cluster" => settings.force_new_cluster,
        "heartbeat-interval" => heartbeat.to_string(),
        "election-timeout" => GoDuration(election).to_string(),
        "initial-election-tick-advance" => settings.initial_election_tick_advance,
        "snapshot-count" => config.snapshot_count,
        "max-wals" => settings.max_wals,
        "max-snapshots" => settings.max_snapshots,
        "snapshot-catchup-entries" => config.snapshot_catchup_entries,
        "initial-advertise-peer-urls" => texts(&settings.initial_advertise_peer_urls),
        "listen-peer-urls" => texts(&settings.listen_peer_urls),
        "advertise-client-urls" => texts(&settings.advertise_client_urls),
        "listen-client-urls" => texts(&settings.listen_client_urls),
        "listen-metrics-urls" => texts(&settings.listen_metrics_urls),
        "local-address" => "",
        "cors" => settings.cors,
        "host-whitelist" => settings.host_whitelist,
        "initial-cluster" => cluster.join(","),
        "initial-cluster-state" => settings.initial_cluster_state,
        "initial-cluster-token" => settings.initial_cluster_token,
        "quota-backend-bytes" => quota,
        "max-request-bytes" => settings.max_request_bytes,
        "max-concurrent-streams" => settings.max_concurrent_streams,
        "pre-vote" => settings.pre_vote,
        "feature-gates" => settings.feature_gates.text(),
        "initial-corrupt-check" => config.initial_corrupt_check,
        "corrupt-check-time-interval" => settings.corrupt_check_time.to_string(),
        "compact-check-time-interval" => settings.compact_hash_check_time.to_string(),
        "auto-compaction-mode" => settings.auto_compaction_mode,
        "auto-compaction-retention" => retention.to_string(),
        "auto-compaction-interval" => retention.to_string(),
        "unsafe-no-fsync" => settings.unsafe_no_fsync,
        "downgrade-check-interval" => settings.downgrade_check_time.to_string(),
        "max-learners" => settings.max_learners,
        "v2-deprecation" => "write-only",
    );
}
