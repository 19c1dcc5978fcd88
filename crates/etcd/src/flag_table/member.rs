//! A member by itself: places, times, sizes.

use crate::flag::{Flag, Section, Slot};

pub const FLAGS: &[Flag] = &[
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
    .not_in_file(),
    Flag::new(
        "raft-write-timeout",
        Section::Member,
        |s| Slot::Duration(&mut s.raft_write_timeout),
        "Write timeout of connections between members (5s at least).",
    )
    .not_in_file(),
    Flag::new(
        "feature-gates",
        Section::Member,
        |s| Slot::Gates(&mut s.feature_gates),
        "Feature gates to switch, as Name=true|false pairs. Known gates:",
    ),
];
