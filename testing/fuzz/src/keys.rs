//! Certificates, keys and revocation lists.

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P521_SHA512, RevokedCertParams, SerialNumber,
};

/// When the certificates of the seeds are valid.
const NOW_SECS: u64 = 1_700_000_000;

struct Authority {
    certificate: rcgen::Certificate,
    issuer: Issuer<'static, KeyPair>,
}

fn key() -> KeyPair {
    KeyPair::generate().expect("keys can be made")
}

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = key();
    let certificate = params.self_signed(&key).expect("it signs itself");
    Authority { certificate, issuer: Issuer::new(params, key) }
}

/// Issued by the authority; a leaf, or one that may issue further ones.
fn issued(by: &Authority, is_ca: IsCa) -> (rcgen::Certificate, KeyPair, CertificateParams) {
    let names = vec!["localhost".to_owned(), "*.example.com".to_owned(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).expect("names are fine");
    params.is_ca = is_ca;
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let key = key();
    let certificate = params.signed_by(&key, &by.issuer).expect("the authority signs");
    (certificate, key, params)
}

/// Self-signed, as `--auto-tls` makes them.
fn alone() -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("the name is fine");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).expect("keys can be made");
    (params.self_signed(&key).expect("it signs itself"), key)
}

pub fn pem_seeds() -> Vec<Vec<u8>> {
    let authority = authority();
    let (leaf, key, _) = issued(&authority, IsCa::NoCa);
    let (own, own_key) = alone();
    vec![
        [leaf.pem(), authority.certificate.pem(), key.serialize_pem()].concat().into_bytes(),
        [own_key.serialize_pem(), own.pem()].concat().into_bytes(),
    ]
}

pub fn revocation_seeds() -> Vec<Vec<u8>> {
    let authority = authority();
    let revoked = |number: u64| RevokedCertParams {
        serial_number: SerialNumber::from(number),
        revocation_time: rcgen::date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let params = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2024, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked(7), revoked(u64::MAX)],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    vec![params.signed_by(&authority.issuer).expect("the authority signs").der().to_vec()]
}

/// Two octets of length before each certificate; the last one is the root.
pub fn client_chain(mut data: &[u8]) {
    let mut certificates = Vec::new();
    while let Some((length, rest)) = data.split_first_chunk() {
        let (certificate, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)).min(rest.len()));
        certificates.push(certificate);
        data = rest;
    }
    if let Some((root, presented)) = certificates.split_last() {
        transport::tls::fuzzing::client_chain(presented, &[root], NOW_SECS);
    }
}

pub fn chain_seeds() -> Vec<Vec<u8>> {
    let framed = |certificates: &[&rcgen::Certificate]| {
        let mut all = Vec::new();
        for certificate in certificates {
            all.extend((certificate.der().len() as u16).to_be_bytes());
            all.extend_from_slice(certificate.der());
        }
        all
    };
    let root = authority();
    let (leaf, ..) = issued(&root, IsCa::NoCa);
    let (middle, key, params) = issued(&root, IsCa::Ca(BasicConstraints::Constrained(1)));
    let between = Authority { certificate: middle, issuer: Issuer::new(params, key) };
    let (deep, ..) = issued(&between, IsCa::Ca(BasicConstraints::Unconstrained));
    let (own, _) = alone();
    vec![
        framed(&[&leaf, &root.certificate]),
        framed(&[&deep, &between.certificate, &root.certificate]),
        framed(&[&own, &own]),
        framed(&[&own, &root.certificate, &between.certificate, &root.certificate]),
    ]
}
