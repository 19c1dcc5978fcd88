//! TLS of a listener: what the flags say, and what a handshake makes of it.

mod allowed;
mod auto;
mod chain;
mod cipher;
mod client_auth;
pub mod dial;
#[cfg(test)]
mod dial_tests;
mod files;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
pub mod names;
pub mod server_auth;
#[cfg(test)]
mod tests;
mod words;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
pub use words::words;

/// A client that has not finished its handshake by then is dropped.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// The flags about TLS on client URLs.
#[derive(Clone, Debug, Default)]
pub struct TlsOptions {
    /// `--cert-file`: PEM chain. Read again at each handshake when it changed.
    pub cert_file: Option<PathBuf>,
    /// `--key-file`: PEM key, PKCS#1, PKCS#8 or SEC1.
    pub key_file: Option<PathBuf>,
    /// `--trusted-ca-file`. Its presence alone makes client certificates mandatory.
    pub trusted_ca_file: Option<PathBuf>,
    /// `--client-cert-auth`. Without `trusted_ca_file` the system's roots are the judges.
    pub client_cert_auth: bool,
    /// `--client-crl-file`: DER. Serials are compared, also when the list has expired.
    pub crl_file: Option<PathBuf>,
    /// `--peer-cert-allowed-cn`: common names a client may bear; empty: any. Excludes `allowed_hostnames`.
    pub allowed_cns: Vec<String>,
    /// `--client-cert-allowed-hostname`: a client's certificate must be valid for one of these.
    pub allowed_hostnames: Vec<String>,
    /// `--auto-tls`: make (or reuse) a self-signed certificate when no `cert_file` is given.
    pub auto: Option<AutoTls>,
    /// `--cipher-suites`: Go's names.
    pub cipher_suites: Vec<String>,
    /// `--tls-min-version`; none: TLS 1.2.
    pub min_version: Option<TlsVersion>,
    /// `--tls-max-version`; none: TLS 1.3.
    pub max_version: Option<TlsVersion>,
}

/// Where and for how long a self-signed certificate is made.
#[derive(Clone, Debug)]
pub struct AutoTls {
    /// `<data-dir>/fixtures/client`; holds `cert.pem` and `key.pem`.
    pub dir: PathBuf,
    /// `--self-signed-cert-validity`.
    pub validity_years: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}

impl TlsOptions {
    /// Whether there is a certificate to serve with, or the order to make one.
    pub fn has_certificate(&self) -> bool {
        (self.cert_file.is_some() && self.key_file.is_some()) || self.auto.is_some()
    }

    fn versions(
        min: Option<TlsVersion>,
        max: Option<TlsVersion>,
    ) -> Result<Vec<&'static rustls::SupportedProtocolVersion>, TlsError> {
        let (min, max) = (min.unwrap_or(TlsVersion::Tls12), max.unwrap_or(TlsVersion::Tls13));
        if min > max {
            return Err(TlsError::Versions);
        }
        let both =
            [(TlsVersion::Tls13, &rustls::version::TLS13), (TlsVersion::Tls12, &rustls::version::TLS12)];
        Ok(both.into_iter().filter(|(version, _)| (min..=max).contains(version)).map(|(_, it)| it).collect())
    }

    /// What rustls needs. `hosts` are the `host:port` of the TLS listeners, for a self-made certificate.
    ///
    /// # Errors
    /// The first file or option that does not work.
    pub fn server_config(&self, hosts: &[String]) -> Result<Arc<ServerConfig>, TlsError> {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites = cipher::select(&self.cipher_suites, &provider.cipher_suites)?;
        let provider = Arc::new(provider);
        let versions = TlsOptions::versions(self.min_version, self.max_version)?;
        let (cert_file, key_file) = match (&self.cert_file, &self.key_file, &self.auto) {
            (Some(cert), Some(key), _) => (cert.clone(), key.clone()),
            (_, _, Some(auto)) => auto::certificate(auto, hosts)?,
            _ => return Err(TlsError::NoCertificate),
        };
        let certificate = files::ReloadedCertificate::open(cert_file, key_file, Arc::clone(&provider))?;
        let judge = client_auth::ClientJudge::new(self, &provider)?;
        let judges = judge.is_some();

        let builder = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| TlsError::Setup(error.to_string()))?;
        let builder = match judge {
            Some(judge) => builder.with_client_cert_verifier(Arc::new(judge)),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(certificate));
        if judges {
            // A session that is resumed shows no certificate: who was revoked meanwhile would come in.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        // grpc-go refuses to talk without "h2"; who offers nothing gets HTTP/1.1 by its first bytes.
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// Why TLS cannot be set up.
#[derive(Debug)]
pub enum TlsError {
    /// Could not be read or written.
    File {
        path: PathBuf,
        source: io::Error,
    },
    /// Holds something else than it should.
    Content {
        path: PathBuf,
        what: String,
    },
    CipherSuite(String),
    /// `--tls-min-version` above `--tls-max-version`.
    Versions,
    NoCertificate,
    /// `--self-signed-cert-validity=0`.
    NoValidity,
    /// Allowed common names and allowed hostnames at once.
    AllowedNamesConflict,
    /// rustls cannot work with it.
    Setup(String),
}

impl TlsError {
    fn file(path: &Path, source: io::Error) -> TlsError {
        TlsError::File { path: path.to_owned(), source }
    }

    fn content(path: &Path, what: impl fmt::Display) -> TlsError {
        TlsError::Content { path: path.to_owned(), what: what.to_string() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TlsError::File { path, source } => write!(f, "open {}: {}", path.display(), go_reason(source)),
            TlsError::Content { path, what } => write!(f, "{}: {what}", path.display()),
            TlsError::CipherSuite(name) => write!(f, "unexpected TLS cipher suite {name:?}"),
            TlsError::Versions => f.write_str("min version is greater than max version"),
            TlsError::NoCertificate => f.write_str("KeyFile and CertFile must both be present"),
            TlsError::NoValidity => {
                f.write_str("selfSignedCertValidity is invalid,it should be greater than 0")
            }
            TlsError::AllowedNamesConflict => {
                f.write_str("AllowedCNs and AllowedHostnames are mutually exclusive")
            }
            TlsError::Setup(what) => f.write_str(what),
        }
    }
}

impl std::error::Error for TlsError {}

/// The system's reason as Go words it, which is what people search logs for: `no such file or directory`.
fn go_reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().chain(chars).collect())
}
