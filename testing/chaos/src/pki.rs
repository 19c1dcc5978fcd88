//! One authority, a certificate for each member's two ports, and one for the clients.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::failure::{During, Outcome};
use crate::namespace::{HUB, address, proxy_address};

pub struct Pki {
    folder: PathBuf,
}

/// Certificate and key.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

impl Pki {
    pub fn create(folder: &Path, slots: usize) -> Outcome<Pki> {
        fs::create_dir_all(folder).during(folder.display())?;
        let mut params = named("chaos-ca");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let authority = CertifiedIssuer::self_signed(params, key()?).during("make an authority")?;
        let pki = Pki { folder: folder.to_owned() };
        fs::write(pki.authority(), authority.pem()).during("write a certificate")?;
        for slot in 0..slots {
            // A member's connections may come from the proxy, which stands at the hub.
            pki.issue(&authority, &format!("member-{slot}"), &[address(slot), proxy_address(slot), HUB])?;
        }
        pki.issue(&authority, "client", &[])?;
        Ok(pki)
    }

    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    pub fn member(&self, slot: usize) -> Pair {
        self.pair(&format!("member-{slot}"))
    }

    pub fn client(&self) -> Pair {
        self.pair("client")
    }

    fn pair(&self, name: &str) -> Pair {
        let file = |ending: &str| self.folder.join(format!("{name}.{ending}"));
        Pair { certificate: file("crt"), key: file("key") }
    }

    fn issue(
        &self,
        authority: &CertifiedIssuer<'static, KeyPair>,
        name: &str,
        addresses: &[Ipv4Addr],
    ) -> Outcome {
        let mut params = named(name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names =
            addresses.iter().map(|address| SanType::IpAddress(IpAddr::V4(*address))).collect();
        let key = key()?;
        let certificate = params.signed_by(&key, authority).during(name)?;
        let pair = self.pair(name);
        fs::write(pair.certificate, certificate.pem()).during("write a certificate")?;
        fs::write(pair.key, key.serialize_pem()).during("write a key")
    }
}

fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn key() -> Outcome<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).during("generate a key")
}
