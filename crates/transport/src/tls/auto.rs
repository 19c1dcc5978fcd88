//! `--auto-tls`: a self-signed certificate like the one etcd makes, kept and reused.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, SanType,
};

use super::{AutoTls, TlsError};

/// Paths of the certificate and key below `auto.dir`; made now unless both files are there.
///
/// `hosts` are the listen addresses, `host:port` each: the certificate is valid for these hosts.
///
/// # Errors
/// No validity, or files that cannot be made.
pub(super) fn certificate(auto: &AutoTls, hosts: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    if auto.validity_years == 0 {
        return Err(TlsError::NoValidity);
    }
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&auto.dir)
        .map_err(|error| TlsError::file(&auto.dir, error))?;
    let (cert_file, key_file) = (auto.dir.join("cert.pem"), auto.dir.join("key.pem"));
    if cert_file.exists() && key_file.exists() {
        return Ok((cert_file, key_file));
    }
    let (cert, key) =
        make(auto.validity_years, hosts).map_err(|error| TlsError::content(&cert_file, error))?;
    tracing::warn!(validity_years = auto.validity_years, "automatically generate certificates");
    write(&cert_file, cert.as_bytes(), 0o644)?;
    tracing::info!(path = %cert_file.display(), "created cert file");
    write(&key_file, key.as_bytes(), 0o600)?;
    tracing::info!(path = %key_file.display(), "created key file");
    Ok((cert_file, key_file))
}

/// P-521, flagged as CA, for servers, organization `etcd`: what etcd's own members expect of each other.
fn make(validity_years: u32, hosts: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "etcd");
    let now = SystemTime::now();
    let validity = Duration::from_secs(u64::from(validity_years) * 365 * 24 * 3600);
    params.not_before = now.into();
    params.not_after = now.checked_add(validity).ok_or(rcgen::Error::Time)?.into();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    for host in hosts {
        let host = host.rsplit_once(':').map_or(host.as_str(), |(host, _)| host);
        let host = host.trim_start_matches('[').trim_end_matches(']');
        params.subject_alt_names.push(match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(Ia5String::try_from(host)?),
        });
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512)?;
    let cert = params.self_signed(&key)?;
    Ok((cert.pem(), key.serialize_pem()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> Result<(), TlsError> {
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(content))
        .map_err(|error| TlsError::file(path, error))
}
