//! What operators see and tune: metrics, logs, tracing, features, and what is unsafe.

use crate::flag::{Flag, Section, Slot};

pub const FLAGS: &[Flag] = &[
    Flag::new(
        "enable-pprof",
        Section::Monitoring,
        |s| Slot::Bool(&mut s.enable_pprof),
        "Serve Go profiling data under /debug/pprof/.",
    )
    .refused_unless(|s| !s.enable_pprof, "Go's profiles do not exist in this server"),
    Flag::new(
        "metrics",
        Section::Monitoring,
        |s| Slot::Text(&mut s.metrics),
        "Detail of metrics: basic, or extensive with gRPC latency histograms.",
    ),
    Flag::new(
        "listen-metrics-urls",
        Section::Monitoring,
        |s| Slot::Urls(&mut s.listen_metrics_urls),
        "More URLs for /metrics and the health checks; https ones use the client certificate.",
    ),
    // --- Logging ---
    Flag::new(
        "logger",
        Section::Logging,
        |s| Slot::Text(&mut s.logger),
        "Log library; only zap's format is known.",
    ),
    Flag::new(
        "log-outputs",
        Section::Logging,
        |s| Slot::Set(&mut s.log_outputs),
        "Where to log: default (stderr), stderr, stdout, systemd/journal, or files.",
    ),
    Flag::new(
        "log-level",
        Section::Logging,
        |s| Slot::Text(&mut s.log_level),
        "Lowest level to log: debug, info, warn, error, panic or fatal.",
    ),
    Flag::new("log-format", Section::Logging, |s| Slot::Text(&mut s.log_format), "json or console."),
    Flag::new(
        "enable-log-rotation",
        Section::Logging,
        |s| Slot::Bool(&mut s.enable_log_rotation),
        "Rotate the one log file.",
    )
    .refused_unless(
        |s| !s.enable_log_rotation,
        "log rotation is not built yet; logrotate with copytruncate does the same",
    ),
    Flag::new(
        "log-rotation-config-json",
        Section::Logging,
        |s| Slot::Text(&mut s.log_rotation_config_json),
        "Options of log rotation, in JSON.",
    )
    .inert("only read together with --enable-log-rotation, which is refused"),
    Flag::new(
        "warning-unary-request-duration",
        Section::Logging,
        |s| Slot::Duration(&mut s.warning_unary_request_duration),
        "Unary requests that take longer are logged as warnings.",
    ),
    // --- Tracing ---
    Flag::new(
        "enable-distributed-tracing",
        Section::Tracing,
        |s| Slot::Bool(&mut s.enable_distributed_tracing),
        "Export traces by OpenTelemetry.",
    )
    .refused_unless(|s| !s.enable_distributed_tracing, "distributed tracing is not built yet"),
    Flag::new(
        "distributed-tracing-address",
        Section::Tracing,
        |s| Slot::Text(&mut s.distributed_tracing_address),
        "Address of the trace collector.",
    )
    .inert("only read together with --enable-distributed-tracing, which is refused"),
    Flag::new(
        "distributed-tracing-service-name",
        Section::Tracing,
        |s| Slot::Text(&mut s.distributed_tracing_service_name),
        "Service name in traces.",
    )
    .inert("only read together with --enable-distributed-tracing, which is refused"),
    Flag::new(
        "distributed-tracing-instance-id",
        Section::Tracing,
        |s| Slot::Text(&mut s.distributed_tracing_instance_id),
        "Instance id in traces.",
    )
    .inert("only read together with --enable-distributed-tracing, which is refused"),
    Flag::new(
        "distributed-tracing-sampling-rate",
        Section::Tracing,
        |s| Slot::Int(&mut s.distributed_tracing_sampling_rate),
        "Traces per million requests.",
    )
    .inert("only read together with --enable-distributed-tracing, which is refused"),
    // --- Features ---
    Flag::new(
        "corrupt-check-time",
        Section::Features,
        |s| Slot::Duration(&mut s.corrupt_check_time),
        "Time between two comparisons of the members' data (0 disables).",
    ),
    Flag::new(
        "compact-hash-check-time",
        Section::Features,
        |s| Slot::Duration(&mut s.compact_hash_check_time),
        "Time between two comparisons of compaction hashes.",
    ),
    Flag::new(
        "compaction-batch-limit",
        Section::Features,
        |s| Slot::Int(&mut s.compaction_batch_limit),
        "Revisions deleted in one slice of a compaction (0 means 1000).",
    ),
    Flag::new(
        "compaction-sleep-interval",
        Section::Features,
        |s| Slot::Duration(&mut s.compaction_sleep_interval),
        "Pause between two slices of a compaction (0 means 10ms).",
    ),
    Flag::new(
        "watch-progress-notify-interval",
        Section::Features,
        |s| Slot::Duration(&mut s.watch_progress_notify_interval),
        "Time between progress notifications of quiet watches (0 means 10m).",
    ),
    Flag::new(
        "warning-apply-duration",
        Section::Features,
        |s| Slot::Duration(&mut s.warning_apply_duration),
        "Requests whose application takes longer are logged as warnings.",
    ),
    Flag::new(
        "bootstrap-defrag-threshold-megabytes",
        Section::Features,
        |s| Slot::Uint(&mut s.bootstrap_defrag_threshold_megabytes),
        "Defragment at start when this many megabytes would be freed (0 disables).",
    ),
    Flag::new(
        "max-learners",
        Section::Features,
        |s| Slot::Int(&mut s.max_learners),
        "Most learners in the cluster.",
    ),
    Flag::new(
        "downgrade-check-time",
        Section::Features,
        |s| Slot::Duration(&mut s.downgrade_check_time),
        "Time between two looks at a running downgrade.",
    ),
    Flag::new(
        "snapshot-catchup-entries",
        Section::Features,
        |s| Slot::Uint(&mut s.snapshot_catchup_entries),
        "Entries kept in memory for slow followers (0 takes the default).",
    ),
    // --- Unsafe ---
    Flag::new(
        "force-new-cluster",
        Section::Unsafe,
        |s| Slot::Bool(&mut s.force_new_cluster),
        "Make this member's data a new cluster of one.",
    ),
    Flag::new(
        "unsafe-no-fsync",
        Section::Unsafe,
        |s| Slot::Bool(&mut s.unsafe_no_fsync),
        "Do not wait for the disk. Unsafe: a crash loses data.",
    ),
    // --- Usage ---
    Flag::new(
        "config-file",
        Section::Usage,
        |s| Slot::Text(&mut s.config_file),
        "Configuration file; other flags and variables are then ignored.",
    )
    .not_in_file(),
    Flag::new("version", Section::Usage, |s| Slot::Bool(&mut s.version), "Print the version and exit.")
        .not_in_file(),
];
