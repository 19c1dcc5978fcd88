//! Who may connect: client certificates, their names, and those that were revoked.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::{FromDer, GeneralName};
use x509_parser::revocation_list::CertificateRevocationList;

use super::files::{Stamp, read_certificates};
use super::{TlsError, TlsOptions, chain};

/// Names a client's certificate must show.
#[derive(Clone, Debug)]
enum Allowed {
    Anyone,
    CommonNames(Vec<String>),
    Hostnames(Vec<String>),
}

#[derive(Debug)]
pub(super) struct ClientJudge {
    webpki: Arc<dyn ClientCertVerifier>,
    /// The certificates of the pool themselves, for [`chain`].
    roots: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
    allowed: Allowed,
    revoked: Option<RevocationList>,
}

impl ClientJudge {
    /// None when the options ask for no client certificate.
    ///
    /// # Errors
    /// Files that cannot be read, or options that exclude each other.
    pub(super) fn new(
        options: &TlsOptions,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Option<ClientJudge>, TlsError> {
        let allowed = match (options.allowed_cns.is_empty(), options.allowed_hostnames.is_empty()) {
            (true, true) => Allowed::Anyone,
            (false, true) => Allowed::CommonNames(options.allowed_cns.clone()),
            (true, false) => Allowed::Hostnames(options.allowed_hostnames.clone()),
            (false, false) => return Err(TlsError::AllowedNamesConflict),
        };
        if options.trusted_ca_file.is_none() && !options.client_cert_auth {
            return Ok(None);
        }
        let roots = match &options.trusted_ca_file {
            Some(path) => read_certificates(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        match &options.trusted_ca_file {
            Some(path) => {
                for root in &roots {
                    store.add(root.clone()).map_err(|error| TlsError::content(path, error))?;
                }
            }
            // The system's set may hold a relic that nobody can parse.
            None => drop(store.add_parsable_certificates(roots.iter().cloned())),
        }
        let webpki = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        let revoked = options.crl_file.clone().map(RevocationList::open).transpose()?;
        Ok(Some(ClientJudge { webpki, roots, provider: Arc::clone(provider), allowed, revoked }))
    }

    fn judge_names(&self, leaf: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        match &self.allowed {
            Allowed::Anyone => Ok(()),
            Allowed::CommonNames(names) => {
                let name = common_name(leaf);
                if name.is_some_and(|name| names.contains(&name)) {
                    return Ok(());
                }
                Err(refused("CommonName authentication failed"))
            }
            Allowed::Hostnames(names) => {
                if X509Certificate::from_der(leaf)
                    .is_ok_and(|(_, parsed)| names.iter().any(|name| is_valid_for(&parsed, name)))
                {
                    return Ok(());
                }
                Err(refused("client certificate authentication failed"))
            }
        }
    }
}

impl ClientCertVerifier for ClientJudge {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.webpki.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        match self.webpki.verify_client_cert(end_entity, intermediates, now) {
            Ok(_) => {}
            // webpki's own reasons arrive as "other": among them a leaf that is flagged as CA.
            Err(rustls::Error::InvalidCertificate(CertificateError::Other(_)))
                if chain::leads_to_root(
                    end_entity,
                    intermediates,
                    &self.roots,
                    now,
                    &self.provider.signature_verification_algorithms,
                ) => {}
            Err(error) => return Err(error),
        }
        self.judge_names(end_entity)?;
        if let Some(revoked) = &self.revoked {
            for certificate in std::iter::once(end_entity).chain(intermediates) {
                revoked.check(certificate)?;
            }
        }
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A refusal with etcd's text, for the log; the client sees an alert.
#[derive(Debug)]
struct Refused(String);

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

fn refused(text: impl Into<String>) -> rustls::Error {
    rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(Refused(text.into())))))
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

/// `--client-crl-file`. Only serials count: a list that has expired still names who was revoked.
#[derive(Debug)]
struct RevocationList {
    path: PathBuf,
    loaded: Mutex<(Stamp, Vec<Vec<u8>>)>,
}

impl RevocationList {
    fn open(path: PathBuf) -> Result<RevocationList, TlsError> {
        let loaded = load_serials(&path)?;
        Ok(RevocationList { path, loaded: Mutex::new(loaded) })
    }

    /// Compat: etcd parses the list anew for each connection, and refuses all when it cannot.
    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), rustls::Error> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|_| rustls::Error::InvalidCertificate(CertificateError::BadEncoding))?;
        let mut loaded = self.loaded.lock();
        let stamp =
            Stamp::of(&self.path).map_err(|error| refused(TlsError::file(&self.path, error).to_string()))?;
        if loaded.0 != stamp {
            *loaded = load_serials(&self.path).map_err(|error| refused(error.to_string()))?;
        }
        let serial = parsed.raw_serial();
        if loaded.1.iter().any(|revoked| revoked == serial) {
            let hex: String = serial.iter().map(|octet| format!("{octet:02x}")).collect();
            return Err(refused(format!("transport: certificate serial {hex} revoked")));
        }
        Ok(())
    }
}

fn load_serials(path: &Path) -> Result<(Stamp, Vec<Vec<u8>>), TlsError> {
    let stamp = Stamp::of(path).map_err(|error| TlsError::file(path, error))?;
    let der = std::fs::read(path).map_err(|error| TlsError::file(path, error))?;
    let serials = serials(&der).map_err(|what| TlsError::content(path, what))?;
    Ok((stamp, serials))
}

/// Whom a revocation list names.
pub(super) fn serials(der: &[u8]) -> Result<Vec<Vec<u8>>, String> {
    let (_, list) = CertificateRevocationList::from_der(der).map_err(|error| error.to_string())?;
    Ok(list.iter_revoked_certificates().map(|revoked| revoked.raw_serial().to_vec()).collect())
}
