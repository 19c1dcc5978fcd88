//! How members find and change their cluster.

use crate::flag::{Flag, Section, Slot};

pub const FLAGS: &[Flag] = &[
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
    .in_file(&["discovery-config", "token"]),
    Flag::new(
        "discovery-endpoints",
        Section::Clustering,
        |s| Slot::Set(&mut s.discovery_endpoints),
        "Discovery: endpoints of the discovery service.",
    )
    .in_file(&["discovery-config", "endpoints"]),
    Flag::new(
        "discovery-dial-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_dial_timeout),
        "Discovery: dial timeout.",
    )
    .in_file(&["discovery-config", "dial-timeout"]),
    Flag::new(
        "discovery-request-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_request_timeout),
        "Discovery: request timeout.",
    )
    .in_file(&["discovery-config", "request-timeout"]),
    Flag::new(
        "discovery-keepalive-time",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_keepalive_time),
        "Discovery: keepalive interval.",
    )
    .in_file(&["discovery-config", "keepalive-time"]),
    Flag::new(
        "discovery-keepalive-timeout",
        Section::Clustering,
        |s| Slot::Duration(&mut s.discovery_keepalive_timeout),
        "Discovery: keepalive timeout.",
    )
    .in_file(&["discovery-config", "keepalive-timeout"]),
    Flag::new(
        "discovery-insecure-transport",
        Section::Clustering,
        |s| Slot::Bool(&mut s.discovery_insecure_transport),
        "Discovery: connect without TLS.",
    )
    .in_file(&["discovery-config", "secure", "insecure-transport"]),
    Flag::new(
        "discovery-insecure-skip-tls-verify",
        Section::Clustering,
        |s| Slot::Bool(&mut s.discovery_insecure_skip_tls_verify),
        "Discovery: accept any server certificate.",
    )
    .in_file(&["discovery-config", "secure", "insecure-skip-tls-verify"]),
    Flag::new(
        "discovery-cert",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_cert),
        "Discovery: client certificate.",
    )
    .in_file(&["discovery-config", "secure", "cert"]),
    Flag::new(
        "discovery-key",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_key),
        "Discovery: client key.",
    )
    .in_file(&["discovery-config", "secure", "key"]),
    Flag::new(
        "discovery-cacert",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_cacert),
        "Discovery: CA certificates.",
    )
    .in_file(&["discovery-config", "secure", "cacert"]),
    Flag::new(
        "discovery-user",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_user),
        "Discovery: user name, or name:password.",
    )
    .in_file(&["discovery-config", "auth", "username"]),
    Flag::new(
        "discovery-password",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_password),
        "Discovery: password.",
    )
    .in_file(&["discovery-config", "auth", "password"]),
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
    ),
    Flag::new(
        "discovery-srv-name",
        Section::Clustering,
        |s| Slot::Text(&mut s.discovery_srv_name),
        "Suffix of the DNS SRV service name.",
    ),
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
];
