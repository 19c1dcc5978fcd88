//! TLS towards other members: certificates to show, roots to trust, both from files that may change.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::ResolvesClientCert;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};

use super::files::{ReloadedCertificate, read_certificates};
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
    pub cipher_suites: Vec<String>,
    pub min_version: Option<TlsVersion>,
    pub max_version: Option<TlsVersion>,
}

impl DialOptions {
    /// What rustls needs.
    ///
    /// # Errors
    /// The first file or option that does not work.
    pub fn client_config(&self) -> Result<Arc<ClientConfig>, TlsError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = cipher::select(&self.cipher_suites, &provider.cipher_suites)?;
        let provider = Arc::new(provider);
        let versions = TlsOptions::versions(self.min_version, self.max_version)?;
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Setup(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(self.verifier(&provider)?);
        let config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let certificate = ReloadedCertificate::open(cert.clone(), key.clone(), provider)?;
                builder.with_client_cert_resolver(Arc::new(certificate))
            }
            _ => builder.with_no_client_auth(),
        };
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
