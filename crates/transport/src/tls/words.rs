//! What goes wrong in a handshake, in the words of Go's `crypto/tls`: scripts look for them in logs.

use std::error::Error;

use rustls::{AlertDescription, CertificateError};

use super::allowed::refused_name_text;

/// The innermost reason of an error that may come from a handshake. Errors of TLS are told as Go tells them, all
/// others by their own text and that of what caused them.
pub fn words(error: &(dyn Error + 'static)) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return tls_words(tls);
        }
        // An IO error's text is already that of what it wraps, which is not its source.
        let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(wrapped) = wrapped {
            next = Some(wrapped);
            continue;
        }
        let own = error.to_string();
        if !text.ends_with(&own) {
            text = if text.is_empty() { own } else { format!("{text}: {own}") };
        }
        next = error.source();
    }
    text
}

fn tls_words(error: &rustls::Error) -> String {
    use rustls::Error;
    if let Some(text) = refused_name_text(error) {
        return text.to_owned();
    }
    match error {
        Error::AlertReceived(alert) => format!("remote error: tls: {}", alert_words(*alert)),
        Error::NoCertificatesPresented => "tls: client didn't provide a certificate".to_owned(),
        Error::InvalidCertificate(CertificateError::Other(other)) => other.to_string(),
        Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "tls: failed to verify certificate: x509: certificate signed by unknown authority".to_owned()
        }
        Error::InvalidCertificate(
            why @ (CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }),
        ) => format!(
            "tls: failed to verify certificate: x509: certificate has expired or is not yet valid: {why}"
        ),
        other => other.to_string(),
    }
}

/// Those that peers meet; RFC 8446 names the others well enough.
fn alert_words(alert: AlertDescription) -> String {
    let words = match alert {
        AlertDescription::HandshakeFailure => "handshake failure",
        AlertDescription::BadCertificate => "bad certificate",
        AlertDescription::UnsupportedCertificate => "unsupported certificate",
        AlertDescription::CertificateRevoked => "revoked certificate",
        AlertDescription::CertificateExpired => "expired certificate",
        AlertDescription::CertificateUnknown => "unknown certificate",
        AlertDescription::UnknownCA => "unknown certificate authority",
        AlertDescription::AccessDenied => "access denied",
        AlertDescription::DecryptError => "error decrypting message",
        AlertDescription::ProtocolVersion => "protocol version not supported",
        AlertDescription::InternalError => "internal error",
        AlertDescription::CertificateRequired => "certificate required",
        AlertDescription::NoApplicationProtocol => "no application protocol",
        other => return format!("{other:?}"),
    };
    words.to_owned()
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn the_innermost_reason_is_told_as_go_tells_it() {
        let alert = rustls::Error::AlertReceived(AlertDescription::BadCertificate);
        let error = io::Error::new(io::ErrorKind::InvalidData, alert);
        assert_eq!(words(&error), "remote error: tls: bad certificate");
        let outer = io::Error::other(error);
        assert_eq!(words(&outer), "remote error: tls: bad certificate");
        let plain = io::Error::from_raw_os_error(111);
        assert!(words(&plain).contains("refused"), "{}", words(&plain));
    }
}
