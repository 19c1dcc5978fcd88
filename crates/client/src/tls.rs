//! TLS towards members: files into a rustls configuration, and the checks that Go's clients make.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use transport::tls::server_auth::{AcceptAny, RootsAndPinned};

use crate::Error;

/// How to recognise a member and how to present oneself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// Roots to trust; without it the system's.
    pub ca_file: Option<PathBuf>,
    /// Certificate and key to present.
    pub cert_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    /// Accept any certificate. Compat: etcd's `--auto-tls` makes self-signed P-521 certificates that
    /// are marked as an authority; these pass here too.
    pub insecure_skip_verify: bool,
    /// The name a certificate must carry, in place of the endpoint's host.
    pub server_name: Option<String>,
}

impl Tls {
    /// Reads the files.
    pub(crate) fn client_config(&self) -> Result<ClientConfig, Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = self.verifier(&provider)?;
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| fail("choose TLS versions", error))?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match (&self.cert_file, &self.key_file) {
            (Some(cert), Some(key)) => {
                let chain = read_certificates(cert)?;
                let key = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| fail(format!("open {}", key.display()), error))?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|error| fail("use client certificate", error))?
            }
            _ => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(config)
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
        if self.insecure_skip_verify {
            return Ok(Arc::new(AcceptAny::new(provider)));
        }
        let mut roots = RootCertStore::empty();
        let mut pinned = Vec::new();
        match &self.ca_file {
            Some(path) => {
                pinned = read_certificates(path)?;
                // A certificate that is no authority still serves as pinned.
                roots.add_parsable_certificates(pinned.iter().cloned());
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        let verifier = RootsAndPinned::new(roots, pinned, provider);
        Ok(Arc::new(verifier.map_err(|error| fail("load trusted roots", error))?))
    }
}

fn fail(action: impl Into<String>, reason: impl std::fmt::Display) -> Error {
    Error::Tls { action: action.into(), reason: reason.to_string() }
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let action = || format!("open {}", path.display());
    let certificates: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(|found| found.collect())
        .map_err(|error| match error {
            rustls_pki_types::pem::Error::Io(error) if error.kind() == std::io::ErrorKind::NotFound => {
                fail(action(), "no such file or directory")
            }
            error => fail(action(), error),
        })?;
    if certificates.is_empty() {
        return Err(fail(action(), "no certificate found"));
    }
    Ok(certificates)
}
