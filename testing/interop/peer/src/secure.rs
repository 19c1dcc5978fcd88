//! Clusters of etcd 3.7, etcd 3.6 and ours over TLS.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::Programs;
use crate::mixed::Cluster;

/// What one of them is told of the other's refusal, and what the other says itself. Scripts look for both.
const REFUSED: &str = "remote error: tls: bad certificate";
const REJECTED: &str = "\"msg\":\"rejected connection on peer endpoint\"";
const REASON: &str = "client certificate authentication failed";

pub fn run(programs: &Programs) -> Result<String, String> {
    let told = |error: String| format!("with certificates that they made themselves: {error}");
    self_signed(programs).map_err(told)?;
    with_authority(programs).map_err(|error| format!("with certificates of an authority: {error}"))?;
    for stranger in 0..3 {
        wrong_name(programs, stranger)
            .map_err(|error| format!("member {stranger} has a wrong name: {error}"))?;
    }
    Ok("clusters formed by both kinds of certificates; a wrong name was refused by all, in etcd's words"
        .to_owned())
}

fn self_signed(programs: &Programs) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut cluster = secure(programs, folder.path(), |_| Ok(vec!["--peer-auto-tls".to_owned()]))?;
    cluster.settle()?;
    cluster.write_everywhere()?;
    cluster.agree()
}

fn with_authority(programs: &Programs) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let authority = Authority::new(folder.path())?;
    let mut cluster = secure(programs, folder.path(), |_| authority.flags("good"))?;
    cluster.settle()?;
    for leader in 0..cluster.members.len() {
        cluster.lead(leader)?;
        cluster.write_everywhere()?;
    }
    cluster.agree()
}

fn wrong_name(programs: &Programs, stranger: usize) -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let authority = Authority::new(folder.path())?;
    let name = |n| if n == stranger { "bad" } else { "good" };
    let mut cluster = secure(programs, folder.path(), |n| authority.flags(name(n)))?;
    let initial = cluster.initial();
    for member in &mut cluster.members {
        member.process = Some(member.place.start(&initial, "new")?);
    }
    for (n, member) in cluster.members.iter_mut().enumerate() {
        let process = member.process.as_mut().ok_or("started")?;
        if n == stranger {
            process.says(REFUSED)?;
        } else {
            process.ready()?;
            process.says(REJECTED)?;
            process.says(REASON)?;
        }
    }
    // The two others are a majority.
    cluster.kill(stranger)?;
    cluster.write_everywhere()?;
    cluster.agree()
}

fn secure<'a>(
    programs: &'a Programs,
    folder: &Path,
    flags: impl Fn(usize) -> Result<Vec<String>, String>,
) -> Result<Cluster<'a>, String> {
    let mut cluster = Cluster::new(programs, folder)?;
    for (n, member) in cluster.members.iter_mut().enumerate() {
        member.place.peer_scheme = "https";
        member.place.more.extend(flags(n)?);
    }
    Ok(cluster)
}

struct Authority<'a> {
    folder: &'a Path,
    params: CertificateParams,
    key: KeyPair,
}

impl Authority<'_> {
    fn new(folder: &Path) -> Result<Authority<'_>, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let certificate = params.self_signed(&key).map_err(|error| error.to_string())?;
        write(&folder.join("ca.pem"), &certificate.pem())?;
        Ok(Authority { folder, params, key })
    }

    /// For a member with a certificate of that common name, which takes none but `good`.
    fn flags(&self, common_name: &str) -> Result<Vec<String>, String> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        params.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().map_err(|error| error.to_string())?;
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).map_err(|error| error.to_string())?;
        let file = |ending: &str| self.folder.join(format!("{common_name}.{ending}"));
        write(&file("pem"), &certificate.pem())?;
        write(&file("key"), &key.serialize_pem())?;
        Ok(vec![
            format!("--peer-cert-file={}", file("pem").display()),
            format!("--peer-key-file={}", file("key").display()),
            format!("--peer-trusted-ca-file={}", self.folder.join("ca.pem").display()),
            "--peer-client-cert-auth".to_owned(),
            "--peer-cert-allowed-cn=good".to_owned(),
        ])
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}
