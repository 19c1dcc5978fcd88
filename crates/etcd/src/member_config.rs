//! What the flags mean for the member itself: [`server::Config`].

use std::path::PathBuf;
use std::time::Duration;

use server::{AutoCompaction, ClusterState, Config};

use crate::go_duration::GoDuration;
use crate::retention::{self, Retention};
use crate::settings::Settings;
use crate::url;

/// Source: etcd `server/etcdserver/server.go`; what 0 means on the command line.
const SNAPSHOT_COUNT_DEFAULT: u64 = 10_000;
const SNAPSHOT_CATCHUP_ENTRIES_DEFAULT: u64 = 5_000;

/// Whether the data directory holds a member already: then what bootstraps a cluster is not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberData {
    Present,
    Absent,
}

/// `settings` must have a data directory by now.
pub fn build(settings: &Settings, data: MemberData) -> Result<Config, String> {
    let cluster = match data {
        MemberData::Present => Vec::new(),
        MemberData::Absent => url::parse_named(&settings.initial_cluster)
            .map_err(|why| format!("error setting up initial cluster: {why}"))?
            .into_iter()
            .map(|(name, url)| (name, url.to_string()))
            .collect(),
    };
    let auto_compaction = match retention::read(settings)? {
        Retention::Off => AutoCompaction::Off,
        Retention::Period(period) => AutoCompaction::Periodic(period),
        Retention::Revisions(revisions) => AutoCompaction::Revision(revisions),
    };
    let gate = |name| settings.feature_gates.is_enabled(name);
    let defaults = Config::single(&settings.name, PathBuf::from(&settings.data_dir));
    Ok(Config {
        wal_dir: (!settings.wal_dir.is_empty()).then(|| PathBuf::from(&settings.wal_dir)),
        initial_advertise_peer_urls: url::texts(&settings.initial_advertise_peer_urls),
        advertise_client_urls: url::texts(&settings.advertise_client_urls),
        initial_cluster: cluster,
        initial_cluster_token: settings.initial_cluster_token.clone(),
        initial_cluster_state: match settings.initial_cluster_state.as_str() {
            "existing" => ClusterState::Existing,
            _ => ClusterState::New,
        },
        heartbeat_interval: Duration::from_millis(settings.heartbeat_interval),
        election_timeout: Duration::from_millis(settings.election_timeout),
        initial_election_tick_advance: settings.initial_election_tick_advance,
        pre_vote: settings.pre_vote,
        snapshot_count: or_default(settings.snapshot_count, SNAPSHOT_COUNT_DEFAULT),
        snapshot_catchup_entries: or_default(
            settings.snapshot_catchup_entries,
            SNAPSHOT_CATCHUP_ENTRIES_DEFAULT,
        ),
        max_wals: size(settings.max_wals),
        max_snapshots: size(settings.max_snapshots),
        quota_backend_bytes: settings.quota_backend_bytes,
        backend_batch_interval: duration_or(settings.backend_batch_interval, defaults.backend_batch_interval),
        backend_batch_limit: count_or(settings.backend_batch_limit, defaults.backend_batch_limit),
        max_request_bytes: size(settings.max_request_bytes),
        max_txn_ops: size(settings.max_txn_ops),
        max_learners: usize::try_from(settings.max_learners).unwrap_or(0),
        strict_reconfig_check: settings.strict_reconfig_check,
        auto_compaction,
        compaction_batch_limit: count_or(settings.compaction_batch_limit, defaults.compaction_batch_limit),
        compaction_sleep_interval: duration_or(
            settings.compaction_sleep_interval,
            defaults.compaction_sleep_interval,
        ),
        bootstrap_defrag_threshold_megabytes: settings.bootstrap_defrag_threshold_megabytes,
        warning_apply_duration: settings.warning_apply_duration.to_std(),
        unsafe_no_fsync: settings.unsafe_no_fsync,
        initial_corrupt_check: gate("InitialCorruptCheck"),
        corrupt_check_interval: positive(settings.corrupt_check_time),
        compact_hash_check_interval: gate("CompactHashCheck")
            .then(|| positive(settings.compact_hash_check_time))
            .flatten(),
        fast_lease_keep_alive: gate("FastLeaseKeepAlive"),
        lease_checkpoint_interval: gate("LeaseCheckpoint").then_some(server::LEASE_CHECKPOINT_INTERVAL),
        downgrade_check_interval: settings.downgrade_check_time.to_std(),
        force_new_cluster: settings.force_new_cluster,
        ..defaults
    })
}

fn or_default(value: u64, default: u64) -> u64 {
    if value == 0 { default } else { value }
}

fn size(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// Zero and below mean the default, as in etcd's backend.
fn count_or(value: i64, default: usize) -> usize {
    usize::try_from(value).ok().filter(|count| *count > 0).unwrap_or(default)
}

fn positive(value: GoDuration) -> Option<Duration> {
    (value.0 > 0).then(|| value.to_std())
}

fn duration_or(value: GoDuration, default: Duration) -> Duration {
    if value.0 <= 0 { default } else { value.to_std() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(initial_cluster: &str) -> Settings {
        Settings {
            name: "a".to_owned(),
            data_dir: "/nowhere".to_owned(),
            initial_cluster: initial_cluster.to_owned(),
            ..Settings::default()
        }
    }

    #[test]
    fn zero_means_the_default() {
        let mut settings = settings("a=http://localhost:2380");
        settings.snapshot_count = 0;
        settings.compaction_batch_limit = -1;
        let config = build(&settings, MemberData::Absent).expect("valid");
        assert_eq!((config.snapshot_count, config.compaction_batch_limit), (10_000, 1_000));
        assert_eq!(config.backend_batch_interval, Duration::from_millis(100));
        assert_eq!(config.initial_cluster, [("a".to_owned(), "http://localhost:2380".to_owned())]);
    }

    #[test]
    fn the_cluster_is_read_only_while_there_is_no_data() {
        let settings = settings("a=http://h:1,b=http://i:1,a=http://h:2");
        let pairs = build(&settings, MemberData::Absent).expect("valid").initial_cluster;
        let names: Vec<&str> = pairs.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "b", "a"]);
        assert!(build(&settings, MemberData::Present).expect("valid").initial_cluster.is_empty());
    }

    #[test]
    fn a_broken_cluster_text_is_refused() {
        let error = build(&settings("a"), MemberData::Absent).expect_err("no URL");
        assert_eq!(
            error,
            "error setting up initial cluster: URL scheme must be http, https, unix, or unixs: "
        );
    }
}
