//! Whether the settings make sense together, asked in etcd's order, since only the first text is shown.

use std::net::IpAddr;

use crate::flag::Support;
use crate::flag_table;
use crate::go_value::quote;
use crate::log;
use crate::logging::Level;
use crate::settings::{DEFAULT_NAME, Settings};
use crate::url::{self, Url};

/// Longest election timeout: beyond it a cluster would be without a leader for minutes.
const ELECTION_TIMEOUT_MILLIS_MAX: u64 = 50_000;

/// Asked for by the help text of the one error that needs it.
pub const ADVERTISE_REQUIRED: &str =
    "--advertise-client-urls is required when --listen-client-urls is set explicitly";

/// Checks everything but the log settings, which were taken before this can log anything.
pub fn check(settings: &Settings) -> Result<(), String> {
    check_bind(&settings.listen_peer_urls)?;
    check_bind(&settings.listen_client_urls)?;
    check_bind(&settings.listen_client_http_urls)?;
    if settings.listen_client_http_urls.is_empty() {
        log!(
            Level::Warn,
            "Running http and grpc server on single port. This is not recommended for production."
        );
    }
    check_bind(&settings.listen_metrics_urls)?;
    check_hosts(&settings.initial_advertise_peer_urls).map_err(|why| {
        let urls = quote(&url::texts(&settings.initial_advertise_peer_urls).join(","));
        format!("--initial-advertise-peer-urls {urls} must be \"host:port\" ({why})")
    })?;
    check_hosts(&settings.advertise_client_urls).map_err(|why| {
        let urls = quote(&url::texts(&settings.advertise_client_urls).join(","));
        format!(
            "--advertise-client-urls {urls} must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" ({why})"
        )
    })?;
    check_bootstrap(settings)?;
    check_timing(settings)?;
    if settings.advertise_client_urls.is_empty() {
        return Err(ADVERTISE_REQUIRED.to_owned());
    }
    match settings.auto_compaction_mode.as_str() {
        "periodic" | "revision" => {}
        "" => return Err("undefined auto-compaction-mode".to_owned()),
        other => return Err(format!("unknown auto-compaction-mode {}", quote(other))),
    }
    check_gates(settings)?;
    if settings.compact_hash_check_time.0 <= 0 {
        return Err(format!(
            "--compact-hash-check-time must be >0 (set to {})",
            settings.compact_hash_check_time
        ));
    }
    if settings.name == DEFAULT_NAME {
        log!(
            Level::Warn,
            "it isn't recommended to use default name, please set a value for --name. Note that etcd might run into issue when multiple members have the same default name",
            "name" => DEFAULT_NAME
        );
    }
    check_tls(settings)?;
    check_support(settings)
}

/// Listening needs an address; a name could come to mean another machine.
fn check_bind(urls: &[Url]) -> Result<(), String> {
    for url in urls {
        let Some((host, _)) = url.host_port() else { continue };
        if host != "localhost" && host.parse::<IpAddr>().is_err() {
            return Err(format!("expected IP in URL for binding ({url})"));
        }
    }
    Ok(())
}

fn check_hosts(urls: &[Url]) -> Result<(), String> {
    match urls.iter().find(|url| url.host_port().is_some_and(|(host, _)| host.is_empty())) {
        Some(url) => Err(format!("unexpected empty host ({url})")),
        None => Ok(()),
    }
}

fn check_bootstrap(settings: &Settings) -> Result<(), String> {
    if !matches!(settings.initial_cluster_state.as_str(), "new" | "existing") {
        return Err(format!("unexpected clusterState {}", quote(&settings.initial_cluster_state)));
    }
    let has_endpoints = !settings.discovery_endpoints.is_empty();
    let ways = [!settings.initial_cluster.is_empty(), !settings.discovery_srv.is_empty(), has_endpoints];
    if ways.iter().filter(|&&way| way).count() > 1 {
        return Err("multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"".to_owned());
    }
    if settings.discovery_token.is_empty() == has_endpoints {
        return Err("both --discovery-token and --discovery-endpoints must be set".to_owned());
    }
    if settings.discovery_endpoints.iter().any(|endpoint| endpoint.trim().is_empty()) {
        return Err("--discovery-endpoints must not contain empty endpoints".to_owned());
    }
    Ok(())
}

fn check_timing(settings: &Settings) -> Result<(), String> {
    let (heartbeat, election) = (settings.heartbeat_interval, settings.election_timeout);
    if heartbeat == 0 {
        return Err("--heartbeat-interval must be >0 (set to 0ms)".to_owned());
    }
    if election == 0 {
        return Err("--election-timeout must be >0 (set to 0ms)".to_owned());
    }
    if heartbeat.saturating_mul(5) > election {
        return Err(format!(
            "--election-timeout[{election}ms] should be at least as 5 times as --heartbeat-interval[{heartbeat}ms]"
        ));
    }
    if election > ELECTION_TIMEOUT_MILLIS_MAX {
        return Err(format!(
            "--election-timeout[{election}ms] is too long, and should be set less than {ELECTION_TIMEOUT_MILLIS_MAX}ms"
        ));
    }
    Ok(())
}

fn check_gates(settings: &Settings) -> Result<(), String> {
    let gates = &settings.feature_gates;
    let (checkpoint, persist) =
        (gates.is_enabled("LeaseCheckpoint"), gates.is_enabled("LeaseCheckpointPersist"));
    if checkpoint && !persist {
        log!(
            Level::Warn,
            "Detected that checkpointing is enabled without persistence. Consider enabling feature gate LeaseCheckpointPersist"
        );
    }
    if persist && !checkpoint {
        return Err(
            "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint"
                .to_owned(),
        );
    }
    Ok(())
}

fn check_tls(settings: &Settings) -> Result<(), String> {
    let (low, high) = (&settings.tls_min_version, &settings.tls_max_version);
    let rank = |version: &str| match version {
        "" => Ok(0),
        "TLS1.2" => Ok(2),
        "TLS1.3" => Ok(3),
        other => Err(format!("unexpected TLS version {} (must be one of: TLS1.2, TLS1.3)", quote(other))),
    };
    let (low_rank, high_rank) = (rank(low)?, rank(high)?);
    if high_rank != 0 && low_rank > high_rank {
        return Err(format!("min version ({low}) is greater than max version ({high})"));
    }
    if low_rank == 3 && !settings.cipher_suites.is_empty() {
        return Err("cipher suites cannot be configured when only TLS1.3 is enabled".to_owned());
    }
    Ok(())
}

/// Refuses what this release cannot do, after everything that etcd would refuse as well.
fn check_support(settings: &Settings) -> Result<(), String> {
    for flag in flag_table::all() {
        if let Support::Refused { harmless, why } = flag.support
            && !harmless(settings)
        {
            return Err(format!(
                "--{} is set to a value that this release does not support: {why}",
                flag.name
            ));
        }
    }
    for (gate, value) in settings.feature_gates.changed() {
        if let Some(why) = gate_refusal(gate) {
            return Err(format!("feature gate {gate}={value} is not supported by this release: {why}"));
        }
    }
    Ok(())
}

/// Why a gate cannot leave its default. One arm per gate: a new one must be decided here.
fn gate_refusal(gate: &str) -> Option<&'static str> {
    match gate {
        // Built.
        "InitialCorruptCheck" | "CompactHashCheck" | "FastLeaseKeepAlive" => None,
        "LeaseCheckpoint" | "SetMemberLocalAddr" => None,
        // Checkpoints are always kept, as etcd does whatever this gate says once the cluster's version is 3.6.
        "LeaseCheckpointPersist" => None,
        // An inner working of etcd that no client can tell apart. The bulk switches act through the rest.
        "TxnModeWriteWithSharedBuffer" => None,
        "AllAlpha" | "AllBeta" => None,
        "PriorityRequest" => Some("request priorities are not built yet"),
        "StopGRPCServiceOnDefrag" => Some("the health service is not tied to defragmentation yet"),
        _ => Some("it is unknown here"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line;

    fn check_of(arguments: &[&str]) -> Result<(), String> {
        let mut settings = Settings::default();
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        command_line::parse(&arguments, &mut settings).expect("valid flags");
        check(&settings)
    }

    fn error(arguments: &[&str]) -> String {
        check_of(arguments).expect_err("should be refused")
    }

    /// Texts seen from etcd 3.7.3.
    #[test]
    fn refusals_are_worded_as_etcd_words_them() {
        for (arguments, text) in [
            (&["--heartbeat-interval=0"][..], "--heartbeat-interval must be >0 (set to 0ms)"),
            (
                &["--heartbeat-interval=300"],
                "--election-timeout[1000ms] should be at least as 5 times as --heartbeat-interval[300ms]",
            ),
            (
                &["--election-timeout=60000"],
                "--election-timeout[60000ms] is too long, and should be set less than 50000ms",
            ),
            (&["--listen-peer-urls=http://a:1"], "expected IP in URL for binding (http://a:1)"),
            (&["--auto-compaction-mode=x"], "unknown auto-compaction-mode \"x\""),
            (&["--compact-hash-check-time=0s"], "--compact-hash-check-time must be >0 (set to 0s)"),
            (
                &["--feature-gates=LeaseCheckpointPersist=true"],
                "enabling feature gate LeaseCheckpointPersist requires enabling feature gate LeaseCheckpoint",
            ),
            (
                &["--tls-min-version=TLS1.0"],
                "unexpected TLS version \"TLS1.0\" (must be one of: TLS1.2, TLS1.3)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--tls-max-version=TLS1.2"],
                "min version (TLS1.3) is greater than max version (TLS1.2)",
            ),
            (
                &["--tls-min-version=TLS1.3", "--cipher-suites=A"],
                "cipher suites cannot be configured when only TLS1.3 is enabled",
            ),
            (
                &["--discovery-srv=d"],
                "multiple discovery or bootstrap flags are set. Choose one of \"initial-cluster\", \"discovery-endpoints\" or \"discovery-srv\"",
            ),
            (&["--discovery-token=t"], "both --discovery-token and --discovery-endpoints must be set"),
            (
                &["--advertise-client-urls=http://:1"],
                "--advertise-client-urls \"http://:1\" must be in the format \"host:port\", \"unix:/path/to/socket\" or \"unixs:/path/to/socket\" (unexpected empty host (http://:1))",
            ),
        ] {
            assert_eq!(error(arguments), text);
        }
    }

    #[test]
    fn what_is_not_built_is_refused_unless_it_asks_for_nothing() {
        for argument in [
            "--memory-mlock",
            "--auth-token=jwt,sign-method=RS256",
            "--enable-pprof",
            "--enable-distributed-tracing",
            "--enable-log-rotation",
            "--feature-gates=AllAlpha=true",
            "--bcrypt-cost=4",
        ] {
            assert!(error(&[argument]).contains("not support"), "{argument}");
        }
        for argument in [
            "--force-new-cluster",
            "--auth-token=simple",
            "--bcrypt-cost=10",
            "--corrupt-check-time=1h",
            "--feature-gates=InitialCorruptCheck=true,FastLeaseKeepAlive=false",
            "--enable-pprof=false",
        ] {
            assert_eq!(check_of(&[argument]), Ok(()), "{argument}");
        }
    }
}
