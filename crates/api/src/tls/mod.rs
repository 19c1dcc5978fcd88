//! TLS of the client listeners: what the flags say, and what a handshake makes of it.

use std::path::PathBuf;

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
    /// Common names a client may bear; empty: any. Excludes `allowed_hostnames`.
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
