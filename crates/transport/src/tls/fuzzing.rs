//! Key material as files and clients bring it.

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::{chain, client_auth, files};

/// A PEM file: certificates, a key, both.
pub fn pem(data: &[u8]) {
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let Ok(chain) = files::certificates(data) else { return };
    let _ = files::certified(chain, data, &provider);
}

/// A revocation list.
pub fn revocations(data: &[u8]) {
    let _ = client_auth::serials(data);
}

/// What a client presents, leaf first, judged by a pool of `roots`.
pub fn client_chain(presented: &[&[u8]], roots: &[&[u8]], now_secs: u64) {
    let ders = |ders: &[&[u8]]| -> Vec<CertificateDer<'static>> {
        ders.iter().map(|der| CertificateDer::from(der.to_vec())).collect()
    };
    let (presented, roots) = (ders(presented), ders(roots));
    let Some((leaf, intermediates)) = presented.split_first() else { return };
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(now_secs));
    let _ = chain::leads_to_root(leaf, intermediates, &roots, now, &algorithms);
    let _ = client_auth::common_name(leaf);
    if let Ok((_, parsed)) = X509Certificate::from_der(leaf) {
        let _ = client_auth::is_valid_for(&parsed, "localhost");
        let _ = client_auth::is_valid_for(&parsed, "127.0.0.1");
    }
}
