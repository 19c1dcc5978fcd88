//! Certificates for one member and its clients, in the files that `deploy/etcd.service` names.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

/// Writes `ca`, `server`, `client`, and `stranger` of another authority into `folder`, as `.crt` and `.key`.
pub fn write(folder: &Path, names: &[String]) -> Result<(), String> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let ours = authority("etcd-ca").map_err(|error| error.to_string())?;
    let foreign = authority("another-ca").map_err(|error| error.to_string())?;
    file(folder, "ca.crt", &ours.pem)?;
    for (name, authority, names) in
        [("server", &ours, names), ("client", &ours, &[]), ("stranger", &foreign, &[])]
    {
        let (certificate, key) = leaf(name, authority, names).map_err(|error| error.to_string())?;
        file(folder, &format!("{name}.crt"), &certificate)?;
        file(folder, &format!("{name}.key"), &key)?;
    }
    Ok(())
}

fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let pem = params.self_signed(&key)?.pem();
    Ok(Authority { issuer: Issuer::new(params, key), pem })
}

fn leaf(name: &str, authority: &Authority, names: &[String]) -> Result<(String, String), rcgen::Error> {
    let mut params = CertificateParams::new(names.to_vec())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate()?;
    Ok((params.signed_by(&key, &authority.issuer)?.pem(), key.serialize_pem()))
}

fn file(folder: &Path, name: &str, text: &str) -> Result<(), String> {
    let path = folder.join(name);
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}
