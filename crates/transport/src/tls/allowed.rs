//! The names that a certificate must bear beyond being signed by somebody trusted.
//!
//! Source: etcd `client/pkg/transport/listener.go`, where they hold for both ends of a connection: whoever asks
//! that callers bear a name dials nobody who does not bear it either.

use rustls::{CertificateError, Error};
use rustls_pki_types::{CertificateDer, ServerName};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};

use super::TlsError;

/// etcd's text, for common names and host names alike.
const REFUSAL: &str = "client certificate authentication failed";

#[derive(Clone, Debug)]
pub(super) enum Allowed {
    Anyone,
    CommonNames(Vec<String>),
    Hostnames(Vec<String>),
}

impl Allowed {
    /// # Errors
    /// Names of both kinds.
    pub(super) fn new(common_names: &[String], hostnames: &[String]) -> Result<Allowed, TlsError> {
        match (common_names.is_empty(), hostnames.is_empty()) {
            (true, true) => Ok(Allowed::Anyone),
            (false, true) => Ok(Allowed::CommonNames(common_names.to_vec())),
            (true, false) => Ok(Allowed::Hostnames(hostnames.to_vec())),
            (false, false) => Err(TlsError::AllowedNamesConflict),
        }
    }

    /// # Errors
    /// [`refused_name`], with etcd's text.
    pub(super) fn judge(&self, leaf: &CertificateDer<'_>) -> Result<(), Error> {
        let is_allowed = match self {
            Allowed::Anyone => true,
            Allowed::CommonNames(names) => common_name(leaf).is_some_and(|name| names.contains(&name)),
            Allowed::Hostnames(names) => X509Certificate::from_der(leaf)
                .is_ok_and(|(_, parsed)| names.iter().any(|name| is_valid_for(&parsed, name))),
        };
        if is_allowed { Ok(()) } else { Err(refused_name(REFUSAL)) }
    }
}

/// A refusal that the other side sees as `bad certificate`.
///
/// Compat: scripts look for that word in the log of the member that was refused. Of the errors that make rustls send
/// it, this one alone has room for a text; [`refused_name_text`] gets it out again.
pub(super) fn refused_name(text: &str) -> Error {
    Error::InvalidCertificate(CertificateError::NotValidForNameContext {
        expected: ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into()),
        presented: vec![text.to_owned()],
    })
}

/// The text of [`refused_name`]. Nothing else says that a certificate is not valid for no address at all.
pub(super) fn refused_name_text(error: &Error) -> Option<&str> {
    let Error::InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) = error
    else {
        return None;
    };
    let is_ours = *expected == ServerName::IpAddress(std::net::Ipv4Addr::UNSPECIFIED.into());
    presented.first().filter(|_| is_ours).map(String::as_str)
}

/// The first CN of the subject; a certificate need not have one.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    let name = parsed.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// As Go's `VerifyHostname`: addresses compare exactly, a wildcard stands for one leftmost label.
pub(super) fn is_valid_for(certificate: &X509Certificate<'_>, host: &str) -> bool {
    let Ok(Some(names)) = certificate.subject_alternative_name() else { return false };
    let address: Option<std::net::IpAddr> = host.parse().ok();
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    names.value.general_names.iter().any(|name| match (name, address) {
        (GeneralName::IPAddress(octets), Some(std::net::IpAddr::V4(address))) => *octets == address.octets(),
        (GeneralName::IPAddress(octets), Some(std::net::IpAddr::V6(address))) => *octets == address.octets(),
        (GeneralName::DNSName(pattern), None) => {
            let pattern = pattern.to_ascii_lowercase();
            match pattern.strip_prefix("*.") {
                Some(suffix) => {
                    host.split_once('.').is_some_and(|(label, rest)| !label.is_empty() && rest == suffix)
                }
                None => pattern == host,
            }
        }
        _ => false,
    })
}
