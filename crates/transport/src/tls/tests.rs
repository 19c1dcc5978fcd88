//! Handshakes in memory, with certificates made for the occasion.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::string::Ia5String;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    PKCS_ECDSA_P521_SHA512, RevokedCertParams, SanType, SerialNumber, SignatureAlgorithm, date_time_ymd,
};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};

use super::{TlsOptions, TlsVersion, chain, words};

pub(super) struct Made {
    pub(super) params: CertificateParams,
    pub(super) key: KeyPair,
    pub(super) der: CertificateDer<'static>,
    pub(super) pem: String,
}

impl Made {
    fn identity(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        (self.der.clone(), PrivateKeyDer::try_from(self.key.serialize_der()).unwrap())
    }
}

pub(super) fn params(common_name: &str, change: impl FnOnce(&mut CertificateParams)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    if !common_name.is_empty() {
        params.distinguished_name.push(DnType::CommonName, common_name);
    }
    change(&mut params);
    params
}

fn self_signed(algorithm: &'static SignatureAlgorithm, params: CertificateParams) -> Made {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let cert = params.self_signed(&key).unwrap();
    Made { params, key, der: cert.der().clone(), pem: cert.pem() }
}

pub(super) fn signed_by(issuer: &Made, params: CertificateParams) -> Made {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    let cert = params.signed_by(&key, &Issuer::from_params(&issuer.params, &issuer.key)).unwrap();
    Made { params, key, der: cert.der().clone(), pem: cert.pem() }
}

pub(super) fn authority(name: &str) -> Made {
    let params = params(name, |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    });
    self_signed(&PKCS_ECDSA_P256_SHA256, params)
}

pub(super) fn for_clients(params: &mut CertificateParams) {
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
}

pub(super) fn write(dir: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, content).unwrap();
    path
}

pub(super) fn serving(dir: &Path, server: &Made, trusted: &Made) -> TlsOptions {
    TlsOptions {
        cert_file: Some(write(dir, "cert.pem", &server.pem)),
        key_file: Some(write(dir, "key.pem", server.key.serialize_pem())),
        trusted_ca_file: Some(write(dir, "ca.pem", &trusted.pem)),
        ..Default::default()
    }
}

/// The server's view of a handshake with this client: the certificate that the client was shown, or the refusal.
async fn connect(options: &TlsOptions, client: Option<&Made>) -> Result<CertificateDer<'static>, String> {
    let acceptor =
        tokio_rustls::TlsAcceptor::from(options.server_config(&[]).map_err(|error| error.to_string())?);
    handshake(&acceptor, client).await
}

async fn handshake(
    acceptor: &tokio_rustls::TlsAcceptor,
    client: Option<&Made>,
) -> Result<CertificateDer<'static>, String> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anyone));
    let config = match client.map(Made::identity) {
        None => builder.with_no_client_auth(),
        Some((cert, key)) => builder.with_client_auth_cert(vec![cert], key).unwrap(),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let (near, far) = tokio::io::duplex(64 * 1024);
    let name = ServerName::try_from("localhost").unwrap();
    let (accepted, connected) = tokio::join!(acceptor.accept(far), connector.connect(name, near));
    accepted.map_err(|error| words(&error))?;
    let connected = connected.map_err(|error| words(&error))?;
    Ok(connected.get_ref().1.peer_certificates().unwrap()[0].clone())
}

#[derive(Debug)]
struct Anyone;

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        verify_tls12_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let provider = rustls::crypto::aws_lc_rs::default_provider();
        verify_tls13_signature(message, cert, dss, &provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

/// What etcd's auto-tls makes for peers: P-521, CA flag, no keyCertSign, for servers and clients.
fn etcd_like() -> Made {
    let params = params("", |params| {
        params.distinguished_name.push(DnType::OrganizationName, "etcd");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::CrlSign];
        for_clients(params);
    });
    self_signed(&PKCS_ECDSA_P521_SHA512, params)
}

#[tokio::test]
async fn a_self_signed_leaf_flagged_as_ca_is_a_chain_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let (own, other) = (etcd_like(), etcd_like());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let options = TlsOptions {
            min_version: Some(version),
            max_version: Some(version),
            ..serving(dir.path(), &own, &own)
        };
        connect(&options, Some(&own)).await.unwrap();
        assert!(connect(&options, Some(&other)).await.is_err(), "the same names, another key");
        assert!(connect(&options, None).await.is_err(), "none at all");
    }
}

#[tokio::test]
async fn leaves_without_names_or_with_a_ca_flag_are_accepted_from_the_right_authority_only() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, stranger) = (authority("ca"), authority("ca"));
    let options = serving(dir.path(), &ca, &ca);
    let nameless = || params("", for_clients);
    let flagged = || {
        params("flagged", |params| {
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            for_clients(params);
        })
    };
    connect(&options, Some(&signed_by(&ca, nameless()))).await.unwrap();
    connect(&options, Some(&signed_by(&ca, flagged()))).await.unwrap();
    assert!(connect(&options, Some(&signed_by(&stranger, nameless()))).await.is_err());
    assert!(connect(&options, Some(&signed_by(&stranger, flagged()))).await.is_err());

    let only_server = params("s", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    });
    assert!(connect(&options, Some(&signed_by(&ca, only_server))).await.is_err(), "not for clients");
    let over = params("o", |params| {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(2020, 1, 1);
    });
    assert!(connect(&options, Some(&signed_by(&ca, over))).await.is_err(), "expired");
    // A leaf may not issue further leaves without the flag.
    let leaf = signed_by(&ca, nameless());
    assert!(connect(&options, Some(&signed_by(&leaf, flagged()))).await.is_err());
}

#[tokio::test]
async fn allowed_names() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let named = |name: &str| {
        signed_by(
            &ca,
            params(name, |params| {
                for_clients(params);
                params.subject_alt_names = vec![
                    SanType::DnsName(Ia5String::try_from(format!("*.{name}.example")).unwrap()),
                    SanType::IpAddress("127.0.0.1".parse().unwrap()),
                ];
            }),
        )
    };
    let options = TlsOptions { allowed_cns: vec!["good".into()], ..serving(dir.path(), &ca, &ca) };
    connect(&options, Some(&named("good"))).await.unwrap();
    let error = connect(&options, Some(&named("bad"))).await.unwrap_err();
    assert_eq!(error, "client certificate authentication failed");

    for host in ["a.good.example", "127.0.0.1"] {
        let options = TlsOptions { allowed_hostnames: vec![host.into()], ..serving(dir.path(), &ca, &ca) };
        connect(&options, Some(&named("good"))).await.unwrap();
    }
    let options =
        TlsOptions { allowed_hostnames: vec!["a.good.example".into()], ..serving(dir.path(), &ca, &ca) };
    let error = connect(&options, Some(&named("bad"))).await.unwrap_err();
    assert_eq!(error, "client certificate authentication failed");

    let both = TlsOptions { allowed_cns: vec!["x".into()], ..options };
    assert!(both.server_config(&[]).is_err());
}

#[tokio::test]
async fn an_expired_list_still_revokes() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let numbered = |serial: u64| {
        signed_by(
            &ca,
            params("c", |params| {
                for_clients(params);
                params.serial_number = Some(SerialNumber::from(serial));
            }),
        )
    };
    let list = CertificateRevocationListParams {
        this_update: date_time_ymd(2020, 1, 1),
        next_update: date_time_ymd(2020, 2, 1),
        crl_number: SerialNumber::from(1),
        issuing_distribution_point: None,
        revoked_certs: vec![RevokedCertParams {
            serial_number: SerialNumber::from(300),
            revocation_time: date_time_ymd(2020, 1, 1),
            reason_code: None,
            invalidity_date: None,
        }],
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let list = list.signed_by(&Issuer::from_params(&ca.params, &ca.key)).unwrap();
    let crl_file = write(dir.path(), "crl.der", list.der());
    let options = TlsOptions { crl_file: Some(crl_file.clone()), ..serving(dir.path(), &ca, &ca) };
    let acceptor = tokio_rustls::TlsAcceptor::from(options.server_config(&[]).unwrap());
    handshake(&acceptor, Some(&numbered(301))).await.unwrap();
    let error = handshake(&acceptor, Some(&numbered(300))).await.unwrap_err();
    assert!(error.contains("012c revoked"), "{error}");
    // Read again for the next connection: broken now, so nobody comes in.
    std::fs::write(&crl_file, b"nonsense").unwrap();
    handshake(&acceptor, Some(&numbered(301))).await.unwrap_err();
}

#[tokio::test]
async fn a_certificate_rewritten_in_place_is_served_next() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (authority("one"), authority("two"));
    let options = TlsOptions { trusted_ca_file: None, ..serving(dir.path(), &first, &first) };
    let acceptor = tokio_rustls::TlsAcceptor::from(options.server_config(&[]).unwrap());
    assert_eq!(handshake(&acceptor, None).await.unwrap(), first.der);
    write(dir.path(), "cert.pem", &second.pem);
    write(dir.path(), "key.pem", second.key.serialize_pem());
    assert_eq!(handshake(&acceptor, None).await.unwrap(), second.der);
    // A key that does not fit: no handshake until it does.
    write(dir.path(), "key.pem", first.key.serialize_pem());
    handshake(&acceptor, None).await.unwrap_err();
    assert!(options.server_config(&[]).unwrap_err().to_string().contains("private key does not match"));
}

fn leads(presented: &[&CertificateDer<'static>], root: &CertificateDer<'static>) -> bool {
    let (leaf, intermediates) = presented.split_first().unwrap();
    let intermediates: Vec<_> = intermediates.iter().map(|&certificate| certificate.clone()).collect();
    let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms;
    chain::leads_to_root(leaf, &intermediates, std::slice::from_ref(root), UnixTime::now(), &algorithms)
}

/// Without a bound on signatures this took hours, for a client that needs no key of ours.
#[test]
fn many_issuers_of_one_name_and_key_are_not_tried_in_every_order() {
    let root = authority("root");
    let first = authority("same");
    let mut same = vec![first.der.clone()];
    for number in 1..40_u64 {
        let mut params = first.params.clone();
        params.serial_number = Some(SerialNumber::from(number));
        same.push(params.self_signed(&first.key).unwrap().der().clone());
    }
    let flagged = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let leaf = signed_by(&first, params("client", flagged));
    let presented: Vec<_> = std::iter::once(&leaf.der).chain(&same).collect();
    assert!(!leads(&presented, &root.der));

    // An honest chain costs one signature a step.
    let mut above = authority("root");
    let (root, mut honest) = (above.der.clone(), Vec::new());
    for name in ["a", "b", "c", "d"] {
        above = signed_by(
            &above,
            params(name, |params| {
                flagged(params);
                params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            }),
        );
        honest.insert(0, above.der.clone());
    }
    assert!(leads(&honest.iter().collect::<Vec<_>>(), &root));
}

#[test]
fn a_missing_file_is_named_in_gos_words() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing.crt");
    let options = TlsOptions {
        cert_file: Some(missing.clone()),
        key_file: Some(missing.clone()),
        ..Default::default()
    };
    let error = options.server_config(&[]).unwrap_err().to_string();
    assert_eq!(error, format!("open {}: no such file or directory", missing.display()));
}
