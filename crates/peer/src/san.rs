//! Whether a member comes from where its certificate says.
//!
//! Source: etcd `client/pkg/transport/listener_tls.go`, `checkCertSAN`.

use std::net::{IpAddr, SocketAddr};

use tokio::net::lookup_host;
use tokio_rustls::server::TlsStream;
use transport::Raw;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};

use crate::config::PeerConfig;

/// # Errors
/// The text for the log. The caller is not served.
pub async fn check(config: &PeerConfig, stream: &TlsStream<Raw>, remote: &str) -> Result<(), String> {
    if config.skip_client_san_verification {
        return Ok(());
    }
    // Unix sockets have no address, and whoever shows no certificate claims nothing.
    let Ok(remote) = remote.parse::<SocketAddr>() else { return Ok(()) };
    let Some(leaf) = stream.get_ref().1.peer_certificates().and_then(<[_]>::first) else { return Ok(()) };
    let names = Names::of(leaf.as_ref()).ok_or("tls: the certificate cannot be read")?;
    names.hold(remote.ip().to_canonical()).await
}

/// Who a certificate is for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Names {
    addresses: Vec<IpAddr>,
    dns: Vec<String>,
}

impl Names {
    fn of(der: &[u8]) -> Option<Names> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let mut names = Names::default();
        let Some(alternative) = certificate.subject_alternative_name().ok()? else { return Some(names) };
        for name in &alternative.value.general_names {
            match name {
                GeneralName::IPAddress(octets) => names.addresses.extend(address(octets)),
                GeneralName::DNSName(name) => names.dns.push((*name).to_owned()),
                _ => {}
            }
        }
        Some(names)
    }

    async fn hold(&self, remote: IpAddr) -> Result<(), String> {
        if self.addresses.is_empty() && self.dns.is_empty() || self.addresses.contains(&remote) {
            return Ok(());
        }
        for name in &self.dns {
            // A wildcard cannot be resolved; what it stands for is not known from the address alone.
            let Ok(addresses) = lookup_host((name.as_str(), 0)).await else { continue };
            if addresses.into_iter().any(|address| address.ip().to_canonical() == remote) {
                return Ok(());
            }
        }
        let addresses: Vec<String> = self.addresses.iter().map(IpAddr::to_string).collect();
        Err(match self.dns.is_empty() {
            true => format!("tls: \"{remote}\" does not match any of IPAddresses {addresses:?}"),
            false => format!("tls: \"{remote}\" does not match any of DNSNames {:?}", self.dns),
        })
    }
}

fn address(octets: &[u8]) -> Option<IpAddr> {
    match octets.len() {
        4 => <[u8; 4]>::try_from(octets).ok().map(IpAddr::from),
        16 => <[u8; 16]>::try_from(octets).ok().map(|octets| IpAddr::from(octets).to_canonical()),
        _ => None,
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
        assert_eq!(names(&[], &[]).hold(loopback).await, Ok(()));
        assert_eq!(names(&["127.0.0.1"], &[]).hold(loopback).await, Ok(()));
        assert_eq!(names(&["10.0.0.1"], &["localhost"]).hold(loopback).await, Ok(()));
        let error = names(&["10.0.0.1"], &[]).hold(loopback).await.unwrap_err();
        assert_eq!(error, "tls: \"127.0.0.1\" does not match any of IPAddresses [\"10.0.0.1\"]");
        assert!(names(&[], &["*.example"]).hold(loopback).await.unwrap_err().contains("DNSNames"));
    }
}
