//! The addresses and host names that a certificate is for.

use std::net::IpAddr;

use rustls_pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};

/// Names of one kind from which on an error tells their number only. Source: Go `crypto/x509`.
const LISTED_MAX: usize = 100;

/// What the subject's alternative names say; the common name is no name of a host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    pub addresses: Vec<IpAddr>,
    /// In any case; the first label may be a `*`.
    pub dns: Vec<String>,
}

impl Names {
    /// `None`: it cannot be read.
    pub fn of(certificate: &CertificateDer<'_>) -> Option<Names> {
        let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
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

    /// That `host` is not among them, as Go says it.
    pub fn mismatch(&self, host: &str) -> String {
        let (valid, kind): (Vec<String>, _) = if host.parse::<IpAddr>().is_ok() {
            if self.addresses.is_empty() {
                return format!(
                    "x509: cannot validate certificate for {host} because it doesn't contain any IP SANs"
                );
            }
            (self.addresses.iter().map(IpAddr::to_string).collect(), "IP SANs")
        } else {
            (self.dns.clone(), "names")
        };
        match valid.len() {
            0 => {
                format!("x509: certificate is not valid for any names, but wanted to match {host}")
            }
            count if count >= LISTED_MAX => {
                format!("x509: certificate is valid for {count} {kind}, but none matched {host}")
            }
            _ => format!("x509: certificate is valid for {}, not {host}", valid.join(", ")),
        }
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

    #[test]
    fn mismatches_are_told_as_go_tells_them() {
        let names = |addresses: &[&str], dns: &[&str]| Names {
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            dns: dns.iter().map(|&name| name.to_owned()).collect(),
        };
        for (names, host, text) in [
            (
                names(&["127.0.0.1", "::1"], &[]),
                "10.0.0.1",
                "x509: certificate is valid for 127.0.0.1, ::1, not 10.0.0.1",
            ),
            (names(&[], &["a", "*.b"]), "c", "x509: certificate is valid for a, *.b, not c"),
            (
                names(&[], &["a"]),
                "10.0.0.1",
                "x509: cannot validate certificate for 10.0.0.1 because it doesn't contain any IP SANs",
            ),
            (names(&[], &[]), "c", "x509: certificate is not valid for any names, but wanted to match c"),
        ] {
            assert_eq!(names.mismatch(host), text);
        }
    }
}
