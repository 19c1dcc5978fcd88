//! Whether a member comes from where its certificate says.
//!
//! Source: etcd `client/pkg/transport/listener_tls.go`, `checkCertSAN`.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;
use tokio_rustls::server::TlsStream;
use transport::Raw;
use transport::dns::ReverseLookup;
use transport::tls::names::Names;

use crate::config::PeerConfig;

/// For all lookups of one caller, who holds a place among the connections meanwhile.
const LOOKUPS_TIMEOUT: Duration = Duration::from_secs(10);

/// What the caller's certificate is for, if it has shown one.
pub fn names(stream: &TlsStream<Raw>) -> Option<Names> {
    let leaf = stream.get_ref().1.peer_certificates().and_then(<[_]>::first)?;
    // One that cannot be read has not passed the handshake; it is for nobody.
    Some(Names::of(leaf).unwrap_or_default())
}

/// # Errors
/// The text for the log. The caller is not served.
pub async fn check(config: &PeerConfig, names: Option<&Names>, remote: &str) -> Result<(), String> {
    if config.skip_client_san_verification {
        return Ok(());
    }
    // Unix sockets have no address, and whoever shows no certificate claims nothing.
    let (Some(names), Ok(remote)) = (names, remote.parse::<SocketAddr>()) else { return Ok(()) };
    let remote = remote.ip().to_canonical();
    let reverse = ReverseLookup::of_this_machine();
    match timeout(LOOKUPS_TIMEOUT, hold(names, remote, &reverse)).await {
        Ok(held) => held,
        Err(_) => Err(format!("tls: \"{remote}\" was not found among the certificate's names in time")),
    }
}

async fn hold(names: &Names, remote: IpAddr, reverse: &ReverseLookup) -> Result<(), String> {
    if names.addresses.is_empty() && names.dns.is_empty() || names.addresses.contains(&remote) {
        return Ok(());
    }
    if names.dns.is_empty() {
        return Err(names.mismatch(&remote.to_string()));
    }
    let mut why = None;
    for name in names.dns.iter().filter(|name| !name.starts_with("*.")) {
        match lookup_host((name.as_str(), 0)).await {
            Ok(found) => {
                if found.into_iter().any(|address| address.ip().to_canonical() == remote) {
                    return Ok(());
                }
            }
            Err(error) => why = Some(format!("lookup {name}: {error}")),
        }
    }
    // What a wildcard stands for is known to the address only.
    match reverse.names(remote).await {
        Ok(found) if found.iter().any(|name| names.dns.iter().any(|pattern| matches(pattern, name))) => {
            return Ok(());
        }
        Ok(_) => {}
        Err(error) => why = why.or_else(|| Some(format!("lookup {remote}: {error}"))),
    }
    let why = why.map_or(String::new(), |why| format!(" ({why})"));
    let listed: Vec<String> = names.dns.iter().map(|name| format!("{name:?}")).collect();
    Err(format!("tls: \"{remote}\" does not match any of DNSNames [{}]{why}", listed.join(" ")))
}

/// Compat: behind a wildcard stand any number of labels here, unlike in the check of a server's name.
fn matches(pattern: &str, name: &str) -> bool {
    let pattern = pattern.to_ascii_lowercase();
    match pattern.strip_prefix('*') {
        Some(suffix) if suffix.starts_with('.') => name.ends_with(suffix),
        _ => name == pattern,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(addresses: &[&str], dns: &[&str]) -> Names {
        Names {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            dns: dns.iter().map(|&name| name.to_owned()).collect(),
        }
    }

    #[tokio::test]
    async fn an_address_is_named_itself_or_by_a_name_that_leads_to_it() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let hosts = ReverseLookup::of_hosts("127.0.0.1 m0.etcd.example\n");
        let hold = |names: Names| {
            let hosts = hosts.clone();
            async move { hold(&names, loopback, &hosts).await }
        };
        for accepted in [
            names(&[], &[]),
            names(&["127.0.0.1"], &[]),
            names(&["10.0.0.1"], &["localhost"]),
            names(&[], &["*.Etcd.Example"]),
            names(&[], &["*.example"]),
            names(&["10.0.0.1"], &["m0.etcd.example"]),
        ] {
            assert_eq!(hold(accepted.clone()).await, Ok(()), "{accepted:?}");
        }
        assert_eq!(
            hold(names(&["10.0.0.1"], &[])).await,
            Err("x509: certificate is valid for 10.0.0.1, not 127.0.0.1".to_owned())
        );
        assert_eq!(
            hold(names(&[], &["*.other.example", "*.xetcd.example"])).await,
            Err(
                "tls: \"127.0.0.1\" does not match any of DNSNames [\"*.other.example\" \"*.xetcd.example\"]"
                    .to_owned()
            )
        );
    }
}
