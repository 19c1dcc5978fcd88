//! What the flags mean for listeners: [`api::ApiConfig`] for clients, and the same for peers.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use api::ApiConfig;
use api::config::{Keepalive, Listener, MetricsLevel, Serves};
use peer::PeerConfig;
use transport::tls::dial::DialOptions;
use transport::tls::{AutoTls, TlsOptions, TlsVersion};
use transport::{ListenUrl, Scheme, SocketOptions};

use crate::log;
use crate::logging::Level;
use crate::settings::{Settings, TlsSettings};
use crate::url::{self, Url};

const WATCH_PROGRESS_NOTIFY_DEFAULT: Duration = Duration::from_secs(600);

/// Whose listeners.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    Client,
    Peer,
}

impl Side {
    fn name(self) -> &'static str {
        match self {
            Side::Client => "client",
            Side::Peer => "peer",
        }
    }
}

/// `settings` must have a data directory by now.
pub fn client(settings: &Settings) -> Result<ApiConfig, String> {
    let http_only = &settings.listen_client_http_urls;
    if let Some(url) = http_only.iter().find(|url| {
        settings
            .listen_client_urls
            .iter()
            .any(|other| other.address() == url.address() && !has_port_zero(url))
    }) {
        return Err(format!(
            "cannot bind both --listen-client-urls and --listen-client-http-urls on the same url {url}"
        ));
    }
    let main = if http_only.is_empty() { Serves::GrpcAndHttp } else { Serves::GrpcOnly };
    let mut listeners = listeners(&settings.listen_client_urls, main);
    listeners.extend(self::listeners(http_only, Serves::HttpOnly));
    let urls: Vec<ListenUrl> = listeners.iter().map(|listener| listener.url.clone()).collect();
    warn_unused_tls(Side::Client, &settings.client_tls, &urls);
    listeners.extend(self::listeners(&settings.listen_metrics_urls, Serves::Metrics));
    let election_timeout = Duration::from_millis(settings.election_timeout);
    Ok(ApiConfig {
        listeners,
        tls: tls(settings, Side::Client)?,
        socket: socket(settings),
        max_request_bytes: usize::try_from(settings.max_request_bytes).unwrap_or(usize::MAX),
        max_txn_ops: usize::try_from(settings.max_txn_ops).unwrap_or(usize::MAX),
        max_concurrent_streams: settings.max_concurrent_streams,
        keepalive: keepalive(settings),
        cors: settings.cors.clone(),
        host_whitelist: settings.host_whitelist.clone(),
        // Compat: every other word means basic.
        metrics: if settings.metrics == "extensive" { MetricsLevel::Extensive } else { MetricsLevel::Basic },
        watch_progress_notify_interval: match settings.watch_progress_notify_interval.0 {
            ..=0 => WATCH_PROGRESS_NOTIFY_DEFAULT,
            _ => settings.watch_progress_notify_interval.to_std(),
        },
        warning_unary_request_duration: settings.warning_unary_request_duration.to_std(),
        election_timeout,
        request_timeout: Duration::from_secs(5) + 2 * election_timeout,
    })
}

/// The way to other members, both directions.
pub fn peer(settings: &Settings) -> Result<PeerConfig, String> {
    let listen: Vec<ListenUrl> = settings.listen_peer_urls.iter().map(listen_url).collect();
    warn_unused_tls(Side::Peer, &settings.peer_tls, &listen);
    let tls = tls(settings, Side::Peer)?;
    if let Some(url) = listen.iter().find(|url| url.scheme.is_tls())
        && !tls.has_certificate()
    {
        let address = &url.address;
        return Err(format!("cannot listen on TLS for {address}: KeyFile and CertFile are not presented"));
    }
    let election_timeout = Duration::from_millis(settings.election_timeout);
    Ok(PeerConfig {
        dial_tls: dial_tls(settings, &tls),
        listen,
        socket: socket(settings),
        tls,
        skip_client_san_verification: settings.peer_skip_client_san_verification,
        local_address: local_address(settings)?,
        read_timeout: settings.raft_read_timeout.to_std(),
        write_timeout: settings.raft_write_timeout.to_std(),
        dial_timeout: Duration::from_secs(1) + election_timeout,
    })
}

/// What this member shows to others: the pair for it when there is one, else what it serves with.
fn dial_tls(settings: &Settings, tls: &TlsOptions) -> DialOptions {
    let path = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    let own = &settings.peer_tls;
    let pair = path(&own.client_cert_file).zip(path(&own.client_key_file));
    let pair = pair.or_else(|| tls.cert_file.clone().zip(tls.key_file.clone()));
    let (cert_file, key_file) = pair.unzip();
    let server_name = (!settings.peer_server_name.is_empty()).then(|| settings.peer_server_name.clone());
    DialOptions {
        server_name,
        cert_file,
        key_file,
        trusted_ca_file: tls.trusted_ca_file.clone(),
        skip_verify: tls.auto.is_some(),
        allowed_cns: tls.allowed_cns.clone(),
        allowed_hostnames: tls.allowed_hostnames.clone(),
        cipher_suites: tls.cipher_suites.clone(),
        min_version: tls.min_version,
        max_version: tls.max_version,
    }
}

/// The gate SetMemberLocalAddr: the first address that this member advertises and that is not the machine's own
/// loop. Source: etcd `server/embed/config.go`, `inferLocalAddr`.
fn local_address(settings: &Settings) -> Result<Option<IpAddr>, String> {
    if !settings.feature_gates.is_enabled("SetMemberLocalAddr") {
        return Ok(None);
    }
    let hosts = settings.initial_advertise_peer_urls.iter().filter_map(Url::host_port);
    let addresses = hosts.filter_map(|(host, _)| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
    match addresses.into_iter().find(|address| !address.is_loopback()) {
        Some(address) => Ok(Some(address)),
        None => Err("unable to infer local address from initial-advertise-peer-urls".to_owned()),
    }
}

fn listen_url(url: &Url) -> ListenUrl {
    let scheme = match url.scheme() {
        url::Scheme::Http => Scheme::Http,
        url::Scheme::Https => Scheme::Https,
        url::Scheme::Unix => Scheme::Unix,
        url::Scheme::Unixs => Scheme::Unixs,
    };
    ListenUrl { scheme, address: url.address() }
}

fn listeners(urls: &[Url], serves: Serves) -> Vec<Listener> {
    urls.iter().map(|url| Listener { url: listen_url(url), serves }).collect()
}

fn has_port_zero(url: &Url) -> bool {
    url.host_port().is_some_and(|(_, port)| port == "0")
}

fn socket(settings: &Settings) -> SocketOptions {
    let options = SocketOptions {
        reuse_port: settings.socket_reuse_port,
        reuse_address: settings.socket_reuse_address,
    };
    if options != SocketOptions::default() {
        log!(
            Level::Info,
            "configuring socket options",
            "reuse-address" => options.reuse_address,
            "reuse-port" => options.reuse_port
        );
    }
    options
}

fn keepalive(settings: &Settings) -> Keepalive {
    let (interval, timeout) = (settings.grpc_keepalive_interval, settings.grpc_keepalive_timeout);
    // Compat: either of the two at zero switches the server's pings off.
    let pings = interval.0 > 0 && timeout.0 > 0;
    Keepalive {
        min_time: settings.grpc_keepalive_min_time.to_std(),
        interval: pings.then(|| interval.to_std()),
        timeout: timeout.to_std(),
    }
}

fn tls(settings: &Settings, side: Side) -> Result<TlsOptions, String> {
    let of_side = match side {
        Side::Client => &settings.client_tls,
        Side::Peer => &settings.peer_tls,
    };
    let path = |text: &String| (!text.is_empty()).then(|| PathBuf::from(text));
    Ok(TlsOptions {
        cert_file: path(&of_side.cert_file),
        key_file: path(&of_side.key_file),
        trusted_ca_file: path(&of_side.trusted_ca_file),
        client_cert_auth: of_side.client_cert_auth,
        crl_file: path(&of_side.crl_file),
        allowed_cns: of_side.allowed_cn.clone(),
        allowed_hostnames: of_side.allowed_hostname.clone(),
        auto: auto_tls(settings, of_side, side)?,
        cipher_suites: settings.cipher_suites.clone(),
        min_version: version(&settings.tls_min_version),
        max_version: version(&settings.tls_max_version),
    })
}

fn auto_tls(settings: &Settings, of_side: &TlsSettings, side: Side) -> Result<Option<AutoTls>, String> {
    if !of_side.auto_tls {
        return Ok(None);
    }
    if !of_side.is_empty() {
        log!(Level::Warn, &format!("ignoring {} auto TLS since certs given", side.name()));
        return Ok(None);
    }
    if settings.self_signed_cert_validity == 0 {
        return Err("selfSignedCertValidity is invalid,it should be greater than 0".to_owned());
    }
    let dir = PathBuf::from(&settings.data_dir).join("fixtures").join(side.name());
    let validity_years = u32::try_from(settings.self_signed_cert_validity).unwrap_or(u32::MAX);
    Ok(Some(AutoTls { dir, validity_years }))
}

/// The words were checked with all other settings.
fn version(text: &str) -> Option<TlsVersion> {
    match text {
        "TLS1.2" => Some(TlsVersion::Tls12),
        "TLS1.3" => Some(TlsVersion::Tls13),
        _ => None,
    }
}

/// A certificate that no listener shows is most often a typing error in a URL.
fn warn_unused_tls(side: Side, tls: &TlsSettings, urls: &[ListenUrl]) {
    let key = format!("{}-url", side.name());
    let (scheme, flag) = match side {
        Side::Client => ("http or unix", "--client-cert-auth"),
        Side::Peer => ("HTTP", "--peer-client-cert-auth"),
    };
    for url in urls.iter().filter(|url| !url.scheme.is_tls()) {
        let url = url.to_string();
        if !tls.is_empty() {
            let text = format!(
                "scheme is {scheme} while key and cert files are present; ignoring key and cert files"
            );
            log!(Level::Warn, &text, key => url);
        }
        if tls.client_cert_auth {
            let text =
                format!("scheme is {scheme} while {flag} is enabled; ignoring client cert auth for this URL");
            log!(Level::Warn, &text, key => url);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command_line;

    fn settings(arguments: &[&str]) -> Settings {
        let mut settings = Settings { data_dir: "/d".to_owned(), ..Settings::default() };
        let arguments: Vec<String> = arguments.iter().map(|&a| a.to_owned()).collect();
        command_line::parse(&arguments, &mut settings).expect("valid flags");
        settings
    }

    #[test]
    fn an_http_only_listener_takes_http_from_the_others() {
        let config = client(&settings(&[
            "--listen-client-http-urls=http://127.0.0.1:1",
            "--listen-metrics-urls=http://127.0.0.1:2",
        ]));
        let serves: Vec<Serves> = config.expect("valid").listeners.iter().map(|l| l.serves).collect();
        assert_eq!(serves, [Serves::GrpcOnly, Serves::HttpOnly, Serves::Metrics]);
        let same = client(&settings(&["--listen-client-http-urls=http://localhost:2379"]));
        assert!(same.expect_err("one port twice").starts_with("cannot bind both"));
    }

    #[test]
    fn zero_switches_pings_off_and_progress_to_its_default() {
        let config = client(&settings(&["--grpc-keepalive-timeout=0"])).expect("valid");
        assert_eq!(config.keepalive.interval, None);
        assert_eq!(config.watch_progress_notify_interval, WATCH_PROGRESS_NOTIFY_DEFAULT);
        let config = client(&settings(&["--watch-progress-notify-interval=5s", "--metrics=extensive"]));
        let config = config.expect("valid");
        assert_eq!(config.watch_progress_notify_interval, Duration::from_secs(5));
        assert_eq!(config.metrics, MetricsLevel::Extensive);
    }

    #[test]
    fn a_peer_url_with_https_needs_a_certificate() {
        let error = peer(&settings(&["--listen-peer-urls=https://127.0.0.1:1"])).expect_err("no certificate");
        assert_eq!(error, "cannot listen on TLS for 127.0.0.1:1: KeyFile and CertFile are not presented");
        let settings = settings(&["--listen-peer-urls=https://127.0.0.1:1", "--peer-auto-tls"]);
        let auto = peer(&settings).expect("valid").tls.auto.expect("asked for");
        assert_eq!(auto.dir, PathBuf::from("/d/fixtures/peer"));
    }
}
