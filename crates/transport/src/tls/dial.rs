//! TLS towards other members: certificates to show, roots to trust, both from files that may change.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use super::allowed::{Allowed, refused_name};
use super::files::{ReloadedCertificate, read_certificates};
use super::names::Names;
use super::server_auth::{AcceptAny, RootsAndPinned};
use super::{TlsError, TlsOptions, TlsVersion, cipher};

/// How to dial.
#[derive(Clone, Debug, Default)]
pub struct DialOptions {
    /// Certificate and key to show when asked. Read again at each handshake when they changed.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Roots to trust; without it the system's.
    pub trusted_ca_file: Option<PathBuf>,
    /// Members with `--peer-auto-tls` show certificates that nobody has signed but themselves.
    pub skip_verify: bool,
    /// `--peer-cert-allowed-cn`: common names that the other side may bear; empty: any.
    pub allowed_cns: Vec<String>,
    /// `--peer-cert-allowed-hostname`: what the other side's certificate must be valid for.
    pub allowed_hostnames: Vec<String>,
    /// The name that the other side's certificate must bear, in place of the host that is dialled.
    pub server_name: Option<String>,
    pub cipher_suites: Vec<String>,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
}

impl DialOptions {
    /// What rustls needs. Without any option set: the system's roots, and no certificate to show.
    ///
    /// # Errors
    /// The first file or option that does not work.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = cipher::select(&self.cipher_suites, &provider.cipher_suites)?;
        let provider = Arc::new(provider);
        let versions = TlsOptions::versions(self.min_version, self.max_version)?;
        let judge = ServerJudge {
            trust: self.verifier(&provider)?,
            allowed: Allowed::new(&self.allowed_cns, &self.allowed_hostnames)?,
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(judge));
        let mut config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let certificate = ReloadedCertificate::open(cert.clone(), key.clone(), provider)?;
                builder.with_client_cert_resolver(Arc::new(certificate))
            }
            _ => builder.with_no_client_auth(),
        };
        // A session that is resumed shows no certificate: one that was replaced would go on for hours.
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, TlsError> {
        if self.skip_verify {
            return Ok(Arc::new(AcceptAny::new(provider)));
        }
        let mut roots = RootCertStore::empty();
        let pinned = match &self.trusted_ca_file {
            Some(path) => read_certificates(path)?,
            None => Vec::new(),
        };
        match &self.trusted_ca_file {
            // A certificate that is no authority still serves as pinned.
            Some(_) => roots.add_parsable_certificates(pinned.iter().cloned()),
            None => roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs),
        };
        Ok(Arc::new(RootsAndPinned::new(roots, pinned, provider).map_err(TlsError::Setup)?))
    }
}

/// Trust, and the names that are asked for beyond it.
#[derive(Debug)]
struct ServerJudge {
    trust: Arc<dyn ServerCertVerifier>,
    allowed: Allowed,
}

impl ServerCertVerifier for ServerJudge {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.trust.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now).map_err(
            |error| match error {
                Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ) => {
                    let names = Names::of(end_entity).unwrap_or_default();
                    let why = names.mismatch(&server_name.to_str());
                    refused_name(&format!("tls: failed to verify certificate: {why}"))
                }
                error => error,
            },
        )?;
        self.allowed.judge(end_entity)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls12_signature(message, cert, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.trust.verify_tls13_signature(message, cert, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.trust.supported_verify_schemes()
    }
}

impl ResolvesClientCert for ReloadedCertificate {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        match self.current() {
            Ok(key) => Some(key),
            Err(error) => {
                tracing::warn!(%error, "failed to load TLS key/cert to show to a member");
                None
            }
        }
    }

    fn has_certs(&self) -> bool {
        true
    }
}
