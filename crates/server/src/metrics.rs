//! Every metric of the member itself, under etcd's names, types, labels and buckets.
//!
//! What `/metrics` shows of gRPC, health checks and the network is registered by `api` in the same
//! registry.

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry, exponential_buckets,
};

use crate::process_metrics::ProcessMetrics;

/// Metrics of one member. Cloning is cheap; clones share their values.
#[derive(Clone)]
pub struct Metrics {
    pub registry: Registry,
    pub server: ServerMetrics,
    pub disk: DiskMetrics,
    pub mvcc: MvccMetrics,
    pub lease: LeaseMetrics,
}

#[derive(Clone)]
pub struct ServerMetrics {
    pub has_leader: IntGauge,
    pub is_leader: IntGauge,
    pub is_learner: IntGauge,
    pub leader_changes_seen: IntCounter,
    pub heartbeat_send_failures: IntCounter,
    pub slow_apply: IntCounter,
    pub slow_read_indexes: IntCounter,
    pub read_indexes_failed: IntCounter,
    /// Labels: version, op, success.
    pub apply_duration: HistogramVec,
    /// Label: success.
    pub range_duration: HistogramVec,
    /// Labels: type, success.
    pub request_duration: HistogramVec,
    pub snapshot_apply_in_progress: IntGauge,
    pub proposals_committed: IntGauge,
    pub proposals_applied: IntGauge,
    pub proposals_pending: IntGauge,
    pub proposals_failed: IntCounter,
    pub quota_backend_bytes: IntGauge,
    /// Label: server_version.
    pub version: IntGaugeVec,
    /// Label: server_go_version.
    pub go_version: IntGaugeVec,
    /// Label: server_id.
    pub id: IntGaugeVec,
    /// Labels: name, stage.
    pub feature_enabled: IntGaugeVec,
    /// Label: cluster_version.
    pub cluster_version: IntGaugeVec,
    pub lease_expired: IntCounter,
    /// Labels: server_id, alarm_type.
    pub alarms: IntGaugeVec,
    pub auth_revision: IntGauge,
    pub learner_promote_successes: IntCounter,
    /// Label: Reason.
    pub learner_promote_failures: IntCounterVec,
    /// Labels: Local, Remote.
    pub known_peers: IntGaugeVec,
}

#[derive(Clone)]
pub struct DiskMetrics {
    pub wal_fsync: Histogram,
    pub wal_write: Histogram,
    pub wal_write_bytes: IntGauge,
    pub backend_commit: Histogram,
    pub backend_commit_rebalance: Histogram,
    pub backend_commit_spill: Histogram,
    pub backend_commit_write: Histogram,
    pub backend_defrag: Histogram,
    pub backend_snapshot: Histogram,
    pub defrag_inflight: IntGauge,
    pub snap_db_fsync: Histogram,
    pub snap_db_save_total: Histogram,
    pub snap_fsync: Histogram,
    pub snap_save_marshalling: Histogram,
    pub snap_save_total: Histogram,
}

#[derive(Clone)]
pub struct MvccMetrics {
    pub db_total_size: IntGauge,
    pub db_total_size_in_use: IntGauge,
    pub db_open_read_transactions: IntGauge,
    pub put: IntCounter,
    pub delete: IntCounter,
    pub range: IntCounter,
    pub txn: IntCounter,
    pub hash_duration: Histogram,
    pub hash_rev_duration: Histogram,
    pub keys: IntGauge,
    pub watch_stream: IntGauge,
    pub watcher: IntGauge,
    pub slow_watcher: IntGauge,
    pub events: IntCounter,
    pub pending_events: IntGauge,
    pub current_revision: IntGauge,
    pub compact_revision: IntGauge,
    pub total_put_size: Gauge,
    pub index_compaction_pause: Histogram,
    pub db_compaction_pause: Histogram,
    pub db_compaction_total: Histogram,
    pub db_compaction_last: IntGauge,
    pub db_compaction_keys: IntCounter,
}

#[derive(Clone)]
pub struct LeaseMetrics {
    pub granted: IntCounter,
    pub revoked: IntCounter,
    pub renewed: IntCounter,
    pub ttl: Histogram,
}

/// Makes metrics and registers them; a name registered twice is a mistake of this file.
struct Maker<'a>(&'a Registry);

impl Maker<'_> {
    fn register<C: prometheus::core::Collector + Clone + 'static>(&self, metric: prometheus::Result<C>) -> C {
        let metric = metric.expect("names and labels of this file are well-formed");
        self.collect(metric.clone());
        metric
    }

    fn collect(&self, collector: impl prometheus::core::Collector + 'static) {
        self.0.register(Box::new(collector)).expect("every name of this file is registered once");
    }

    fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.register(IntCounter::new(name, help))
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.register(IntCounterVec::new(Opts::new(name, help), labels))
    }

    fn gauge(&self, name: &str, help: &str) -> IntGauge {
        self.register(IntGauge::new(name, help))
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.register(IntGaugeVec::new(Opts::new(name, help), labels))
    }

    fn histogram(&self, name: &str, help: &str, buckets: (f64, f64, usize)) -> Histogram {
        self.register(Histogram::with_opts(histogram_opts(name, help, buckets)))
    }

    fn histograms(
        &self,
        name: &str,
        help: &str,
        buckets: (f64, f64, usize),
        labels: &[&str],
    ) -> HistogramVec {
        self.register(HistogramVec::new(histogram_opts(name, help, buckets), labels))
    }

    /// Metrics that etcd registers and that never move here, because what they count does not exist.
    fn still(&self, names: &[(&str, &str)]) {
        for (name, help) in names {
            self.gauge(name, help);
        }
    }
}

fn histogram_opts(name: &str, help: &str, (start, factor, count): (f64, f64, usize)) -> HistogramOpts {
    let buckets = exponential_buckets(start, factor, count).expect("bounds of this file ascend");
    HistogramOpts::new(name, help).buckets(buckets)
}

/// 1 ms to 8 s: what a disk takes.
const DISK_BUCKETS: (f64, f64, usize) = (0.001, 2.0, 14);

impl Metrics {
    pub fn new() -> Metrics {
        let registry = Registry::new();
        let make = Maker(&registry);
        let metrics = Metrics {
            server: ServerMetrics::new(&make),
            disk: DiskMetrics::new(&make),
            mvcc: MvccMetrics::new(&make),
            lease: LeaseMetrics::new(&make),
            registry: registry.clone(),
        };
        make.still(&[
            ("etcd_grpc_proxy_watchers_coalescing_total", "Total number of current watchers coalescing"),
            ("etcd_grpc_proxy_cache_keys_total", "Total number of keys/ranges cached"),
            ("etcd_grpc_proxy_cache_hits_total", "Total number of cache hits"),
            ("etcd_grpc_proxy_cache_misses_total", "Total number of cache misses"),
        ]);
        make.collect(ProcessMetrics::default());
        make.counter("etcd_grpc_proxy_events_coalescing_total", "Total number of events coalescing");
        metrics
    }
}

impl Default for Metrics {
    fn default() -> Metrics {
        Metrics::new()
    }
}

impl ServerMetrics {
    fn new(make: &Maker) -> ServerMetrics {
        let apply_buckets = (0.0001, 2.0, 20);
        ServerMetrics {
            has_leader: make.gauge("etcd_server_has_leader", "Whether a leader is known. 1 is yes, 0 is no."),
            is_leader: make.gauge("etcd_server_is_leader", "Whether this member leads. 1 is yes, 0 is no."),
            is_learner: make
                .gauge("etcd_server_is_learner", "Whether this member is a learner. 1 is yes, 0 is no."),
            leader_changes_seen: make
                .counter("etcd_server_leader_changes_seen_total", "Leader changes this member has seen."),
            heartbeat_send_failures: make.counter(
                "etcd_server_heartbeat_send_failures_total",
                "Heartbeats the leader sent late, likely because of a slow disk or a busy machine.",
            ),
            slow_apply: make
                .counter("etcd_server_slow_apply_total", "Applies that took longer than the warning bound."),
            slow_read_indexes: make.counter(
                "etcd_server_slow_read_indexes_total",
                "Read index rounds that were not answered in time and had to be asked again.",
            ),
            read_indexes_failed: make
                .counter("etcd_server_read_indexes_failed_total", "Read index rounds that failed."),
            apply_duration: make.histograms(
                "etcd_server_apply_duration_seconds",
                "Time to apply one committed request.",
                apply_buckets,
                &["version", "op", "success"],
            ),
            range_duration: make.histograms(
                "etcd_server_range_duration_seconds",
                "Time to read one range.",
                apply_buckets,
                &["success"],
            ),
            request_duration: make.histograms(
                "etcd_server_request_duration_seconds",
                "Time from the arrival of a request to its answer, inside the server.",
                DISK_BUCKETS,
                &["type", "success"],
            ),
            snapshot_apply_in_progress: make.gauge(
                "etcd_server_snapshot_apply_in_progress_total",
                "1 while a snapshot received from the leader is being applied.",
            ),
            proposals_committed: make
                .gauge("etcd_server_proposals_committed_total", "Index of the last committed entry."),
            proposals_applied: make
                .gauge("etcd_server_proposals_applied_total", "Index of the last applied entry."),
            proposals_pending: make
                .gauge("etcd_server_proposals_pending", "Proposals waiting to be committed and applied."),
            proposals_failed: make.counter("etcd_server_proposals_failed_total", "Proposals that failed."),
            quota_backend_bytes: make
                .gauge("etcd_server_quota_backend_bytes", "Quota of the file in bytes, as it is in force."),
            version: make.gauges("etcd_server_version", "Version this member runs.", &["server_version"]),
            go_version: make.gauges(
                "etcd_server_go_version",
                "Toolchain this member was built with.",
                &["server_go_version"],
            ),
            id: make.gauges("etcd_server_id", "Id of this member in hexadecimal.", &["server_id"]),
            feature_enabled: make.gauges(
                "etcd_server_feature_enabled",
                "Whether a feature gate is on. 1 is yes, 0 is no.",
                &["name", "stage"],
            ),
            cluster_version: make.gauges(
                "etcd_cluster_version",
                "Version the cluster runs. 1 for the present one.",
                &["cluster_version"],
            ),
            lease_expired: make.counter("etcd_debugging_server_lease_expired_total", "Leases that expired."),
            alarms: make.gauges(
                "etcd_debugging_server_alarms",
                "Alarms raised less alarms disarmed.",
                &["server_id", "alarm_type"],
            ),
            auth_revision: make.gauge("etcd_debugging_auth_revision", "Revision of the auth store."),
            learner_promote_successes: make
                .counter("etcd_server_learner_promote_successes", "Learners promoted while this member led."),
            learner_promote_failures: make.counters(
                "etcd_server_learner_promote_failures",
                "Learner promotions refused while this member led.",
                &["Reason"],
            ),
            known_peers: make.gauges(
                "etcd_network_known_peers",
                "1 for each member of the cluster that this member knows.",
                &["Local", "Remote"],
            ),
        }
    }
}

impl DiskMetrics {
    fn new(make: &Maker) -> DiskMetrics {
        let histogram = |name, help| make.histogram(name, help, DISK_BUCKETS);
        DiskMetrics {
            wal_fsync: histogram("etcd_disk_wal_fsync_duration_seconds", "Time of one sync of the log."),
            wal_write: histogram("etcd_disk_wal_write_duration_seconds", "Time of one write to the log."),
            wal_write_bytes: make.gauge("etcd_disk_wal_write_bytes_total", "Bytes written to the log."),
            backend_commit: histogram(
                "etcd_disk_backend_commit_duration_seconds",
                "Time of one commit of the file.",
            ),
            backend_commit_rebalance: histogram(
                "etcd_debugging_disk_backend_commit_rebalance_duration_seconds",
                "Time of one commit that went into merging pages.",
            ),
            backend_commit_spill: histogram(
                "etcd_debugging_disk_backend_commit_spill_duration_seconds",
                "Time of one commit that went into splitting and laying out pages.",
            ),
            backend_commit_write: histogram(
                "etcd_debugging_disk_backend_commit_write_duration_seconds",
                "Time of one commit that went into writing pages.",
            ),
            backend_defrag: make.histogram(
                "etcd_disk_backend_defrag_duration_seconds",
                "Time of one defragmentation.",
                (0.1, 2.0, 13),
            ),
            backend_snapshot: make.histogram(
                "etcd_disk_backend_snapshot_duration_seconds",
                "Time of one snapshot of the file.",
                (0.01, 2.0, 17),
            ),
            defrag_inflight: make
                .gauge("etcd_disk_defrag_inflight", "1 while the file is being defragmented, else 0."),
            snap_db_fsync: histogram(
                "etcd_snap_db_fsync_duration_seconds",
                "Time to sync a received snapshot.",
            ),
            snap_db_save_total: make.histogram(
                "etcd_snap_db_save_total_duration_seconds",
                "Time to save a received snapshot.",
                (0.1, 2.0, 10),
            ),
            snap_fsync: histogram("etcd_snap_fsync_duration_seconds", "Time to sync a .snap file."),
            snap_save_marshalling: histogram(
                "etcd_debugging_snap_save_marshalling_duration_seconds",
                "Time to encode a .snap file.",
            ),
            snap_save_total: histogram(
                "etcd_debugging_snap_save_total_duration_seconds",
                "Time to save a .snap file.",
            ),
        }
    }
}

impl MvccMetrics {
    fn new(make: &Maker) -> MvccMetrics {
        MvccMetrics {
            db_total_size: make
                .gauge("etcd_mvcc_db_total_size_in_bytes", "Bytes of the file up to its high-water mark."),
            db_total_size_in_use: make
                .gauge("etcd_mvcc_db_total_size_in_use_in_bytes", "Bytes of the file less its free pages."),
            db_open_read_transactions: make
                .gauge("etcd_mvcc_db_open_read_transactions", "Read transactions open on the file."),
            put: make.counter("etcd_mvcc_put_total", "Puts seen by this member."),
            delete: make.counter("etcd_mvcc_delete_total", "Deletes seen by this member."),
            range: make.counter("etcd_mvcc_range_total", "Ranges seen by this member."),
            txn: make.counter("etcd_mvcc_txn_total", "Txns seen by this member."),
            hash_duration: make.histogram(
                "etcd_mvcc_hash_duration_seconds",
                "Time to hash the whole file.",
                (0.01, 2.0, 15),
            ),
            hash_rev_duration: make.histogram(
                "etcd_mvcc_hash_rev_duration_seconds",
                "Time to hash the keys up to a revision.",
                (0.01, 2.0, 15),
            ),
            keys: make.gauge("etcd_debugging_mvcc_keys_total", "Keys in the index."),
            watch_stream: make.gauge("etcd_debugging_mvcc_watch_stream_total", "Watch streams."),
            watcher: make.gauge("etcd_debugging_mvcc_watcher_total", "Watchers."),
            slow_watcher: make.gauge("etcd_debugging_mvcc_slow_watcher_total", "Watchers that are behind."),
            events: make.counter("etcd_debugging_mvcc_events_total", "Events sent by this member."),
            pending_events: make.gauge("etcd_debugging_mvcc_pending_events_total", "Events not yet sent."),
            current_revision: make.gauge("etcd_debugging_mvcc_current_revision", "Revision of the store."),
            compact_revision: make
                .gauge("etcd_debugging_mvcc_compact_revision", "Revision of the last compaction."),
            total_put_size: make.register(Gauge::new(
                "etcd_debugging_mvcc_total_put_size_in_bytes",
                "Bytes of keys and values put by this member.",
            )),
            index_compaction_pause: make.histogram(
                "etcd_debugging_mvcc_index_compaction_pause_duration_milliseconds",
                "Pause that compacting the index made.",
                (0.5, 2.0, 14),
            ),
            db_compaction_pause: make.histogram(
                "etcd_debugging_mvcc_db_compaction_pause_duration_milliseconds",
                "Pause that one slice of compacting the file made.",
                (1.0, 2.0, 13),
            ),
            db_compaction_total: make.histogram(
                "etcd_debugging_mvcc_db_compaction_total_duration_milliseconds",
                "Time of one compaction of the file.",
                (100.0, 2.0, 14),
            ),
            db_compaction_last: make.gauge(
                "etcd_debugging_mvcc_db_compaction_last",
                "When the last compaction of the file ended, in seconds since 1970.",
            ),
            db_compaction_keys: make.counter(
                "etcd_debugging_mvcc_db_compaction_keys_total",
                "Records removed from the file by compactions.",
            ),
        }
    }
}

impl LeaseMetrics {
    fn new(make: &Maker) -> LeaseMetrics {
        LeaseMetrics {
            granted: make.counter("etcd_debugging_lease_granted_total", "Leases granted."),
            revoked: make.counter("etcd_debugging_lease_revoked_total", "Leases revoked."),
            renewed: make.counter("etcd_debugging_lease_renewed_total", "Leases renewed by the leader."),
            ttl: make.histogram(
                "etcd_debugging_lease_ttl_total",
                "TTLs of the leases granted, in seconds.",
                (1.0, 2.0, 24),
            ),
        }
    }
}
