//! The flags of the server: this table decides for every one whether it works, is inert, or is refused.
//!
//! The order is the order of `--help`.

use crate::flag::{Flag, Section, Slot};

pub const FLAGS: &[Flag] = &[
    // --- Member ---
    Flag::new("name", Section::Member, |s| Slot::Text(&mut s.name), "Name of this member, for people."),
    Flag::new(
        "data-dir",
        Section::Member,
        |s| Slot::Text(&mut s.data_dir),
        "Directory that holds the member's data ('${name}.etcd' when empty).",
    ),
    Flag::new(
        "wal-dir",
        Section::Member,
        |s| Slot::Text(&mut s.wal_dir),
        "Directory for the write-ahead log, when it shall not be in the data directory.",
    ),
    Flag::new(
        "snapshot-count",
        Section::Member,
        |s| Slot::Uint(&mut s.snapshot_count),
        "Applied entries between two snapshots of the log (0 takes the default).",
    ),
    Flag::new(
        "heartbeat-interval",
        Section::Member,
        |s| Slot::Uint(&mut s.heartbeat_interval),
        "Milliseconds between two heartbeats of the leader.",
    ),
    Flag::new(
        "election-timeout",
        Section::Member,
        |s| Slot::Uint(&mut s.election_timeout),
        "Milliseconds without a heartbeat after which a member stands for election.",
    ),
    Flag::new(
        "initial-election-tick-advance",
        Section::Member,
        |s| Slot::Bool(&mut s.initial_election_tick_advance),
        "Shorten the wait for the first election after a start.",
    ),
    Flag::new(
        "listen-peer-urls",
        Section::Member,
        |s| Slot::Urls(&mut s.listen_peer_urls),
        "URLs to listen on for other members.",
    ),
    Flag::new(
        "listen-client-urls",
        Section::Member,
        |s| Slot::Urls(&mut s.listen_client_urls),
        "URLs to listen on for clients: gRPC, and HTTP unless --listen-client-http-urls is given.",
    ),
    Flag::new(
        "listen-client-http-urls",
        Section::Member,
        |s| Slot::Urls(&mut s.listen_client_http_urls),
        "URLs to listen on for HTTP clients only; --listen-client-urls then serve gRPC only.",
    ),
    Flag::new(
        "max-snapshots",
        Section::Member,
        |s| Slot::Uint(&mut s.max_snapshots),
        "Snapshot files to keep (0 keeps all). Deprecated since 3.6.",
    ),
    Flag::new(
        "max-wals",
        Section::Member,
        |s| Slot::Uint(&mut s.max_wals),
        "Log files to keep (0 keeps all).",
    ),
    Flag::new(
        "memory-mlock",
        Section::Member,
        |s| Slot::Bool(&mut s.memory_mlock),
        "Keep the database's pages in RAM.",
    )
    .refused_unless(|s| !s.memory_mlock, "locking the database in memory is not built yet"),
    Flag::new(
        "quota-backend-bytes",
        Section::Member,
        |s| Slot::Int(&mut s.quota_backend_bytes),
        "Size in bytes at which the database raises the NOSPACE alarm (0 means 2 GiB, negative no limit).",
    ),
    Flag::new(
        "backend-bbolt-freelist-type",
        Section::Member,
        |s| Slot::Text(&mut s.backend_bbolt_freelist_type),
        "Freelist in memory: array or map.",
    )
    .inert("the freelist in memory has one form here, and the file is the same for both"),
    Flag::new(
        "backend-batch-interval",
        Section::Member,
        |s| Slot::Duration(&mut s.backend_batch_interval),
        "Longest time until applied entries reach the database file (0 means 100ms).",
    ),
    Flag::new(
        "backend-batch-limit",
        Section::Member,
        |s| Slot::Int(&mut s.backend_batch_limit),
        "Most operations until applied entries reach the database file (0 means 10000).",
    ),
    Flag::new(
        "max-txn-ops",
        Section::Member,
        |s| Slot::Uint(&mut s.max_txn_ops),
        "Most operations in one transaction.",
    ),
    Flag::new(
        "max-request-bytes",
        Section::Member,
        |s| Slot::Uint(&mut s.max_request_bytes),
        "Largest client request in bytes.",
    ),
    Flag::new(
        "max-concurrent-streams",
        Section::Member,
        |s| Slot::Uint32(&mut s.max_concurrent_streams),
        "Most streams that one client connection may have open.",
    ),
    Flag::new(
        "grpc-keepalive-min-time",
        Section::Member,
        |s| Slot::Duration(&mut s.grpc_keepalive_min_time),
        "Clients that ping more often than this are disconnected.",
    ),
    Flag::new(
        "grpc-keepalive-interval",
        Section::Member,
        |s| Slot::Duration(&mut s.grpc_keepalive_interval),
        "Quiet time after which the server pings a client (0 disables).",
    ),
    Flag::new(
        "grpc-keepalive-timeout",
        Section::Member,
        |s| Slot::Duration(&mut s.grpc_keepalive_timeout),
        "Time that such a ping may take before the connection is closed (0 disables).",
    ),
    Flag::new(
        "socket-reuse-port",
        Section::Member,
        |s| Slot::Bool(&mut s.socket_reuse_port),
        "Set SO_REUSEPORT on listening sockets.",
    )
    .in_file(&["socket-options", "reuse-port"]),
    Flag::new(
        "socket-reuse-address",
        Section::Member,
        |s| Slot::Bool(&mut s.socket_reuse_address),
        "Set SO_REUSEADDR on listening sockets.",
    )
    .in_file(&["socket-options", "reuse-address"]),
    Flag::new(
        "enable-grpc-gateway",
        Section::Member,
        |s| Slot::Bool(&mut s.enable_grpc_gateway),
        "Serve the JSON gateway under /v3.",
    )
    .inert("off and on are the same until the gateway is built: /v3 answers 404"),
    Flag::new(
        "raft-read-timeout",
        Section::Member,
        |s| Slot::Duration(&mut s.raft_read_timeout),
        "Read timeout of connections between members (5s at least).",
    )
    .not_in_file()
    .inert("no member dials another yet"),
    Flag::new(
        "raft-write-timeout",
        Section::Member,
        |s| Slot::Duration(&mut s.raft_write_timeout),
        "Write timeout of connections between members (5s at least).",
    )
    .not_in_file()
    .inert("no member dials another yet"),
    Flag::new(
        "feature-gates",
        Section::Member,
        |s| Slot::Gates(&mut s.feature_gates),
        "Feature gates to switch, as Name=true|false pairs. Known gates:",
    ),
    // --- Clustering ---
    Flag::new(
        "initial-advertise-peer-urls",
        Section::Clustering,
        |s| Slot::Urls(&mut s.initial_advertise_peer_urls),
        "Peer URLs of this member that the other members use.",
    ),
    Flag::new(
        "initial-cluster",
        Section::Clustering,
        |s| Slot::Text(&mut s.initial_cluster),
        "Members of the cluster that is being formed, as name=peerURL pairs.",
    ),
    Flag::new(
        "initial-cluster-state",
        Section::Clustering,
        |s| Slot::Choice(&mut s.initial_cluster_state, &["new", "existing"]),
        "'new' to form a cluster, 'existing' to join one. Without effect once data is there.",
    ),
    Flag::new(
        "initial-cluster-token",
        Section::Clustering,
        |s| Slot::Text(&mut s.initial_cluster_token),
        "Token that keeps clusters with equal URLs apart while they are being formed.",
    ),
    Flag::new(
        "advertise-client-urls",
        Section::Clustering,
        |s| Slot::Urls(&mut s.advertise_client_urls),
        "Client URLs of this member that clients use.",
    ),
    Flag::new(
        "discovery-token",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_token),
        "Discovery: token of the cluster.",
    )
    .in_file(&["discovery-config", "token"])
    .refused_unless(|s| s.discovery_token.is_empty(), "cluster discovery is not built yet"),
    Flag::new(
        "discovery-endpoints",
        Section::Clustering,
        |s| Slot::Set(&mut s.discovery_endpoints),
        "Discovery: endpoints of the discovery service.",
    )
    .in_file(&["discovery-config", "endpoints"])
    .refused_unless(|s| s.discovery_endpoints.is_empty(), "cluster discovery is not built yet"),
    Flag::new(
        "discovery-dial-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_dial_timeout),
        "Discovery: dial timeout.",
    )
    .in_file(&["discovery-config", "dial-timeout"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-request-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_request_timeout),
        "Discovery: request timeout.",
    )
    .in_file(&["discovery-config", "request-timeout"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-keepalive-time",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_keepalive_time),
        "Discovery: keepalive interval.",
    )
    .in_file(&["discovery-config", "keepalive-time"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-keepalive-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_keepalive_timeout),
        "Discovery: keepalive timeout.",
    )
    .in_file(&["discovery-config", "keepalive-timeout"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-insecure-transport",
        Section::Clustering,
        |s| Slot::Bool(&mut s.discovery_insecure_transport),
        "Discovery: connect without TLS.",
    )
    .in_file(&["discovery-config", "secure", "insecure-transport"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-insecure-skip-tls-verify",
        Section::Clustering,
        |s| Slot::Bool(&mut s.discovery_insecure_skip_tls_verify),
        "Discovery: accept any server certificate.",
    )
    .in_file(&["discovery-config", "secure", "insecure-skip-tls-verify"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-cert",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_cert),
        "Discovery: client certificate.",
    )
    .in_file(&["discovery-config", "secure", "cert"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-key",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_key),
        "Discovery: client key.",
    )
    .in_file(&["discovery-config", "secure", "key"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-cacert",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_cacert),
        "Discovery: CA certificates.",
    )
    .in_file(&["discovery-config", "secure", "cacert"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-user",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_user),
        "Discovery: user name, or name:password.",
    )
    .in_file(&["discovery-config", "auth", "username"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-password",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_password),
        "Discovery: password.",
    )
    .in_file(&["discovery-config", "auth", "password"])
    .inert("only read together with --discovery-endpoints, which is refused"),
    Flag::new(
        "discovery-fallback",
        Section::Clustering,
        |s| Slot::Choice(&mut s.discovery_fallback, &["exit", "proxy"]),
        "Discovery: what a failure does.",
    )
    .not_in_file()
    .inert("validation refuses every value but the default"),
    Flag::new(
        "discovery-srv",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_srv),
        "Domain whose DNS SRV records name the members.",
    )
    .refused_unless(|s| s.discovery_srv.is_empty(), "discovery by DNS is not built yet"),
    Flag::new(
        "discovery-srv-name",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_srv_name),
        "Suffix of the DNS SRV service name.",
    )
    .inert("only read together with --discovery-srv, which is refused"),
    Flag::new(
        "strict-reconfig-check",
        Section::Clustering,
        |s| Slot::Bool(&mut s.strict_reconfig_check),
        "Refuse membership changes that would cost the quorum.",
    ),
    Flag::new(
        "pre-vote",
        Section::Clustering,
        |s| Slot::Bool(&mut s.pre_vote),
        "Ask for votes before raising the term, so that a returning member does not disturb the leader.",
    ),
    Flag::new(
        "auto-compaction-retention",
        Section::Clustering,
        |s| Slot::Text(&mut s.auto_compaction_retention),
        "History to keep: a duration, a number of hours, or of revisions (0 disables).",
    ),
    Flag::new(
        "auto-compaction-mode",
        Section::Clustering,
        |s| Slot::Text(&mut s.auto_compaction_mode),
        "How --auto-compaction-retention is read: periodic or revision.",
    ),
    Flag::new(
        "v2-deprecation",
        Section::Clustering,
        |s| {
            Slot::Choices(
                &mut s.v2_deprecation,
                &["write-only", "write-only-skip-check", "write-only-drop-data", "gone"],
            )
        },
        "Phase of the v2 store's removal. Deprecated: the default is enforced.",
    )
    .inert("the default is enforced, as in 3.7"),
    // --- Security ---
    Flag::new(
        "cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.cert_file),
        "Certificate of the client listeners.",
    )
    .in_file(&["client-transport-security", "cert-file"]),
    Flag::new(
        "key-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.key_file),
        "Private key of the client listeners.",
    )
    .in_file(&["client-transport-security", "key-file"]),
    Flag::new(
        "client-cert-auth",
        Section::Security,
        |s| Slot::Bool(&mut s.client_tls.client_cert_auth),
        "Require a verified certificate from every client.",
    )
    .in_file(&["client-transport-security", "client-cert-auth"]),
    Flag::new(
        "client-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.client_cert_file),
        "Certificate this server shows when it connects to a client port.",
    )
    .in_file(&["client-transport-security", "client-cert-file"])
    .inert("this server opens no such connections yet"),
    Flag::new(
        "client-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.client_key_file),
        "Key of that certificate.",
    )
    .in_file(&["client-transport-security", "client-key-file"])
    .inert("this server opens no such connections yet"),
    Flag::new(
        "client-crl-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.crl_file),
        "Revocation list for client certificates.",
    )
    .not_in_file(),
    Flag::new(
        "client-cert-allowed-hostname",
        Section::Security,
        |s| Slot::List(&mut s.client_tls.allowed_hostname),
        "Host names of which a client certificate must be valid for one.",
    )
    .in_file(&["client-transport-security", "allowed-hostname"]),
    Flag::new(
        "trusted-ca-file",
        Section::Security,
        |s| Slot::Text(&mut s.client_tls.trusted_ca_file),
        "CA certificates that verify client certificates; naming one makes them mandatory.",
    )
    .in_file(&["client-transport-security", "trusted-ca-file"]),
    Flag::new(
        "auto-tls",
        Section::Security,
        |s| Slot::Bool(&mut s.client_tls.auto_tls),
        "Serve clients with a certificate that the server makes itself.",
    )
    .in_file(&["client-transport-security", "auto-tls"]),
    Flag::new(
        "peer-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.cert_file),
        "Certificate of the peer listeners.",
    )
    .in_file(&["peer-transport-security", "cert-file"]),
    Flag::new(
        "peer-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.key_file),
        "Private key of the peer listeners.",
    )
    .in_file(&["peer-transport-security", "key-file"]),
    Flag::new(
        "peer-client-cert-auth",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_tls.client_cert_auth),
        "Require a verified certificate from every peer.",
    )
    .in_file(&["peer-transport-security", "client-cert-auth"]),
    Flag::new(
        "peer-client-cert-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.client_cert_file),
        "Certificate this server shows when it connects to a peer port.",
    )
    .in_file(&["peer-transport-security", "client-cert-file"])
    .inert("this server opens no such connections yet"),
    Flag::new(
        "peer-client-key-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.client_key_file),
        "Key of that certificate.",
    )
    .in_file(&["peer-transport-security", "client-key-file"])
    .inert("this server opens no such connections yet"),
    Flag::new(
        "peer-crl-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.crl_file),
        "Revocation list for peer certificates.",
    )
    .not_in_file(),
    Flag::new(
        "peer-cert-allowed-hostname",
        Section::Security,
        |s| Slot::List(&mut s.peer_tls.allowed_hostname),
        "Host names of which a peer certificate must be valid for one.",
    )
    .in_file(&["peer-transport-security", "allowed-hostname"]),
    Flag::new(
        "peer-trusted-ca-file",
        Section::Security,
        |s| Slot::Text(&mut s.peer_tls.trusted_ca_file),
        "CA certificates that verify peer certificates; naming one makes them mandatory.",
    )
    .in_file(&["peer-transport-security", "trusted-ca-file"]),
    Flag::new(
        "peer-auto-tls",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_tls.auto_tls),
        "Serve peers with a certificate that the server makes itself.",
    )
    .in_file(&["peer-transport-security", "auto-tls"]),
    Flag::new(
        "peer-cert-allowed-cn",
        Section::Security,
        |s| Slot::List(&mut s.peer_tls.allowed_cn),
        "Common names of which a peer certificate must carry one.",
    )
    .in_file(&["peer-transport-security", "allowed-cn"]),
    Flag::new(
        "peer-skip-client-san-verification",
        Section::Security,
        |s| Slot::Bool(&mut s.peer_skip_client_san_verification),
        "Do not compare a peer's address with its certificate.",
    )
    .in_file(&["peer-transport-security", "skip-client-san-verification"])
    .inert("peers' addresses are not compared with their certificates, as none takes part in Raft yet"),
    Flag::new(
        "self-signed-cert-validity",
        Section::Security,
        |s| Slot::Uint(&mut s.self_signed_cert_validity),
        "Years that certificates of --auto-tls and --peer-auto-tls are valid.",
    ),
    Flag::new(
        "cipher-suites",
        Section::Security,
        |s| Slot::List(&mut s.cipher_suites),
        "TLS 1.2 cipher suites, by Go's names (empty takes the library's choice).",
    ),
    Flag::new(
        "cors",
        Section::Security,
        |s| Slot::Origins(&mut s.cors),
        "Web origins that may read answers ('*' allows all).",
    ),
    Flag::new(
        "host-whitelist",
        Section::Security,
        |s| Slot::Set(&mut s.host_whitelist),
        "Host names that HTTP requests on plain listeners may carry ('*' allows all).",
    ),
    Flag::new(
        "tls-min-version",
        Section::Security,
        |s| Slot::Text(&mut s.tls_min_version),
        "Lowest TLS version: TLS1.2 or TLS1.3.",
    ),
    Flag::new(
        "tls-max-version",
        Section::Security,
        |s| Slot::Text(&mut s.tls_max_version),
        "Highest TLS version: TLS1.2 or TLS1.3 (empty means the highest there is).",
    ),
    // --- Auth ---
    Flag::new(
        "auth-token",
        Section::Auth,
        |s| Slot::Text(&mut s.auth_token),
        "Kind of authentication token: simple or jwt with options.",
    )
    .refused_unless(|s| s.auth_token == "simple" || s.auth_token.is_empty(), "jwt tokens are not built yet"),
    Flag::new(
        "bcrypt-cost",
        Section::Auth,
        |s| Slot::Uint(&mut s.bcrypt_cost),
        "Cost of hashing passwords, 4 to 31.",
    )
    .refused_unless(|s| s.bcrypt_cost == 10, "authentication is not built yet"),
    Flag::new(
        "auth-token-ttl",
        Section::Auth,
        |s| Slot::Uint(&mut s.auth_token_ttl),
        "Seconds that a simple token lives.",
    )
    .refused_unless(|s| s.auth_token_ttl == 300, "authentication is not built yet"),
    // --- Monitoring ---
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

pub fn find(name: &str) -> Option<&'static Flag> {
    FLAGS.iter().find(|flag| flag.name == name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::flag::{FileKey, Support};
    use crate::settings::Settings;

    #[test]
    fn every_name_and_every_file_key_is_there_once() {
        let names: BTreeSet<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        assert_eq!(names.len(), FLAGS.len());
        let keys: Vec<String> =
            FLAGS.iter().filter(|flag| flag.file_key != FileKey::None).map(file_path).collect();
        let unique: BTreeSet<&String> = keys.iter().collect();
        assert_eq!(unique.len(), keys.len());
    }

    fn file_path(flag: &Flag) -> String {
        match flag.file_key {
            FileKey::Same => flag.name.to_owned(),
            FileKey::At(path) => path.join("/"),
            FileKey::None => String::new(),
        }
    }

    #[test]
    fn no_default_is_refused() {
        let settings = Settings::default();
        for flag in FLAGS {
            if let Support::Refused { harmless, why } = flag.support {
                assert!(harmless(&settings), "{}: {why}", flag.name);
            }
        }
    }

    #[test]
    fn no_two_flags_share_a_field() {
        let mut settings = Settings::default();
        let places: BTreeSet<usize> = FLAGS.iter().map(|flag| address((flag.slot)(&mut settings))).collect();
        assert_eq!(places.len(), FLAGS.len());
    }

    fn address(slot: Slot<'_>) -> usize {
        match slot {
            Slot::Bool(place) => std::ptr::from_mut(place) as usize,
            Slot::Text(place) | Slot::Choice(place, _) | Slot::Choices(place, _) => {
                std::ptr::from_mut(place) as usize
            }
            Slot::Uint(place) => std::ptr::from_mut(place) as usize,
            Slot::Uint32(place) => std::ptr::from_mut(place) as usize,
            Slot::Int(place) => std::ptr::from_mut(place) as usize,
            Slot::Duration(place) => std::ptr::from_mut(place) as usize,
            Slot::Urls(place) => std::ptr::from_mut(place) as usize,
            Slot::Origins(place) | Slot::List(place) | Slot::Set(place) => std::ptr::from_mut(place) as usize,
            Slot::Gates(place) => std::ptr::from_mut(place) as usize,
        }
    }
}
