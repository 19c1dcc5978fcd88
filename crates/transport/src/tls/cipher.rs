//! `--cipher-suites`: Go's names for what rustls offers.

use rustls::CipherSuite;
use rustls::SupportedCipherSuite;

use super::TlsError;

/// Names Go knows that rustls has no code for (CBC, RC4, 3DES, RSA key exchange): accepted, never negotiated.
const NEVER_NEGOTIATED: [&str; 14] = [
    "TLS_RSA_WITH_RC4_128_SHA",
    "TLS_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA",
    "TLS_RSA_WITH_AES_256_CBC_SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256",
    "TLS_RSA_WITH_AES_128_GCM_SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_RC4_128_SHA",
    "TLS_ECDHE_RSA_WITH_3DES_EDE_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA",
];
const NEVER_NEGOTIATED_SHA256: [&str; 2] =
    ["TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"];

/// The suites to offer, in the order of `names`. Those of TLS 1.3 are always in, as in Go, which has no say over them.
///
/// # Errors
/// A name that Go would not know, or a list of which rustls can use none for TLS 1.2 while 1.3 is off.
pub(super) fn select(
    names: &[String],
    offered: &[SupportedCipherSuite],
) -> Result<Vec<SupportedCipherSuite>, TlsError> {
    if names.is_empty() {
        return Ok(offered.to_vec());
    }
    let mut selected: Vec<_> = offered.iter().copied().filter(|suite| suite.tls13().is_some()).collect();
    for name in names {
        let name = name.as_str();
        if NEVER_NEGOTIATED.contains(&name) || NEVER_NEGOTIATED_SHA256.contains(&name) {
            tracing::warn!(cipher_suite = name, "cipher suite is too weak and never negotiated");
            continue;
        }
        let id = by_name(name).ok_or_else(|| TlsError::CipherSuite(name.to_owned()))?;
        for suite in offered.iter().filter(|suite| suite.suite() == id) {
            if !selected.contains(suite) {
                selected.push(*suite);
            }
        }
    }
    Ok(selected)
}

fn by_name(name: &str) -> Option<CipherSuite> {
    Some(match name {
        "TLS_AES_128_GCM_SHA256" => CipherSuite::TLS13_AES_128_GCM_SHA256,
        "TLS_AES_256_GCM_SHA384" => CipherSuite::TLS13_AES_256_GCM_SHA384,
        "TLS_CHACHA20_POLY1305_SHA256" => CipherSuite::TLS13_CHACHA20_POLY1305_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384" => CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256,
        "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384" => CipherSuite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
        "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305" => {
            CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
        }
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256" | "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305" => {
            CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
        }
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let offered = rustls::crypto::aws_lc_rs::default_provider().cipher_suites;
        let pick =
            |names: &[&str]| select(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>(), &offered);
        assert_eq!(pick(&[]).unwrap().len(), offered.len());
        let picked = pick(&["TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", "TLS_RSA_WITH_AES_128_CBC_SHA"]).unwrap();
        assert_eq!(picked.iter().filter(|s| s.tls13().is_none()).count(), 1);
        let error = pick(&["TLS_NONE"]).unwrap_err();
        assert_eq!(error.to_string(), "unexpected TLS cipher suite \"TLS_NONE\"");
    }
}
