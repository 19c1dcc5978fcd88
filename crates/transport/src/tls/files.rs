//! Key material on disk, read again when it changed.
//!
//! A handshake looks at the files' metadata on the runtime's thread: two `stat` calls on hot inodes
//! cost less than a hop to another thread. Contents (a few KiB) are read only after a change.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use rustls::crypto::CryptoProvider;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::TlsError;

/// What changes when a file is replaced or written in place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Stamp {
    inode: u64,
    len: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(path: &Path) -> io::Result<Stamp> {
        let meta = fs::metadata(path)?;
        Ok(Stamp {
            inode: meta.ino(),
            len: meta.len(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        })
    }
}

pub(super) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let pem = fs::read(path).map_err(|error| TlsError::file(path, error))?;
    certificates(&pem).map_err(|what| TlsError::content(path, what))
}

/// The certificates of a PEM file, at least one.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("no certificate in it".to_owned()),
        Ok(chain) => Ok(chain),
        Err(error) => Err(error.to_string()),
    }
}

/// The server's certificate, as the files have it now.
#[derive(Debug)]
pub(super) struct ReloadedCertificate {
    cert_file: PathBuf,
    key_file: PathBuf,
    provider: Arc<CryptoProvider>,
    loaded: Mutex<Loaded>,
}

#[derive(Debug)]
struct Loaded {
    stamps: (Stamp, Stamp),
    key: Arc<CertifiedKey>,
}

impl ReloadedCertificate {
    /// # Errors
    /// The files cannot be read now: the member must not start.
    pub(super) fn open(
        cert_file: PathBuf,
        key_file: PathBuf,
        provider: Arc<CryptoProvider>,
    ) -> Result<ReloadedCertificate, TlsError> {
        let stamps = stamps(&cert_file, &key_file)?;
        let key = Arc::new(load(&cert_file, &key_file, &provider)?);
        Ok(ReloadedCertificate { cert_file, key_file, provider, loaded: Mutex::new(Loaded { stamps, key }) })
    }

    pub(super) fn current(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let now = stamps(&self.cert_file, &self.key_file)?;
        let mut loaded = self.loaded.lock();
        if loaded.stamps != now {
            // The stamps are from before the reading: a write in between is seen the next time.
            loaded.key = Arc::new(load(&self.cert_file, &self.key_file, &self.provider)?);
            loaded.stamps = now;
        }
        Ok(Arc::clone(&loaded.key))
    }
}

fn stamps(cert_file: &Path, key_file: &Path) -> Result<(Stamp, Stamp), TlsError> {
    let of = |path: &Path| Stamp::of(path).map_err(|error| TlsError::file(path, error));
    Ok((of(cert_file)?, of(key_file)?))
}

fn load(cert_file: &Path, key_file: &Path, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
    let chain = read_certificates(cert_file)?;
    let pem = fs::read(key_file).map_err(|error| TlsError::file(key_file, error))?;
    certified(chain, &pem, provider).map_err(|what| TlsError::content(key_file, what))
}

/// A chain with its key, which is the first in `pem`.
pub(super) fn certified(
    chain: Vec<CertificateDer<'static>>,
    pem: &[u8],
    provider: &CryptoProvider,
) -> Result<CertifiedKey, String> {
    let key = PrivateKeyDer::from_pem_slice(pem).map_err(|error| error.to_string())?;
    let key = provider.key_provider.load_private_key(key).map_err(|error| error.to_string())?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) | Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::Unknown)) => Ok(certified),
        Err(_) => Err("tls: private key does not match public key".to_owned()),
    }
}

impl ResolvesServerCert for ReloadedCertificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.current() {
            Ok(key) => Some(key),
            Err(error) => {
                // Compat: Go fails the handshake too; what was loaded before may have been withdrawn.
                tracing::warn!(%error, "failed to load TLS key/cert");
                None
            }
        }
    }
}
