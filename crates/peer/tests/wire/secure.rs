//! Members that speak TLS to each other.

use std::path::Path;

use peer::PeerConfig;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use server::{AskError, ClusterState, Network};
use transport::Scheme;
use transport::tls::dial::DialOptions;
use transport::tls::{AutoTls, TlsOptions};

use crate::member::{PATIENCE, Site, TestMember, put, runtime, until};

struct Authority {
    params: CertificateParams,
    key: KeyPair,
}

impl Authority {
    fn new(dir: &Path) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        std::fs::write(dir.join("ca.pem"), certificate.pem()).expect("written");
        Authority { params, key }
    }

    /// A member's side with a certificate for this name and address.
    fn config(&self, dir: &Path, name: &str, address: &str) -> PeerConfig {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.subject_alt_names = vec![SanType::IpAddress(address.parse().expect("an address"))];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let issuer = Issuer::from_params(&self.params, &self.key);
        let certificate = params.signed_by(&key, &issuer).expect("signed");
        let own = dir.join(format!("{name}-{address}"));
        std::fs::create_dir_all(&own).expect("made");
        std::fs::write(own.join("cert.pem"), certificate.pem()).expect("written");
        std::fs::write(own.join("key.pem"), key.serialize_pem()).expect("written");
        let tls = TlsOptions {
            cert_file: Some(own.join("cert.pem")),
            key_file: Some(own.join("key.pem")),
            trusted_ca_file: Some(dir.join("ca.pem")),
            client_cert_auth: true,
            ..TlsOptions::default()
        };
        let dial_tls = DialOptions {
            cert_file: tls.cert_file.clone(),
            key_file: tls.key_file.clone(),
            trusted_ca_file: tls.trusted_ca_file.clone(),
            ..DialOptions::default()
        };
        PeerConfig { tls, dial_tls, ..PeerConfig::default() }
    }
}

async fn two(first: PeerConfig, second: PeerConfig) -> [TestMember; 2] {
    let sites = [Site::of(Scheme::Https, first), Site::of(Scheme::Https, second)];
    let cluster: Vec<String> = sites.iter().map(|site| site.url.clone()).collect();
    let [first, second] = sites;
    let members =
        [first.settle(&cluster, ClusterState::New).await, second.settle(&cluster, ClusterState::New).await];
    for member in &members {
        member.ready().await;
    }
    members
}

async fn share_a_key(members: &[TestMember; 2]) {
    put(members[0].server(), "k", b"v").await;
    let reaches = || members[1].server().view().revision() == members[0].server().view().revision();
    until("the other one has it", reaches).await;
}

#[test]
fn members_with_certificates_form_a_cluster() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Authority::new(dir.path());
        let config = |name: &str| ca.config(dir.path(), name, "127.0.0.1");
        share_a_key(&two(config("a"), config("b")).await).await;
    });
}

#[test]
fn members_with_certificates_that_they_made_themselves_form_a_cluster() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let config = |name: &str| {
            let auto = AutoTls { dir: dir.path().join(name), validity_years: 1 };
            PeerConfig {
                tls: TlsOptions { auto: Some(auto), ..TlsOptions::default() },
                dial_tls: DialOptions { skip_verify: true, ..DialOptions::default() },
                ..PeerConfig::default()
            }
        };
        share_a_key(&two(config("a"), config("b")).await).await;
    });
}

#[test]
fn who_has_the_wrong_certificate_or_none_is_not_served() {
    runtime().block_on(async {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Authority::new(dir.path());
        let asks = async |asking: PeerConfig, serving: PeerConfig| {
            let site = Site::of(Scheme::Https, serving);
            let cluster = [site.url.clone()];
            let member = site.settle(&cluster, ClusterState::New).await;
            let asking = Site::of(Scheme::Http, asking).network;
            let answer = asking.ask_members(&member.url, PATIENCE).await;
            asking.stop();
            answer.map(drop).map_err(|error| match error {
                AskError::Unreachable(why) => why,
                error => panic!("{error}"),
            })
        };
        let at_home = |name: &str| ca.config(dir.path(), name, "127.0.0.1");
        // For an address that its connections do not come from; nobody dials it, so it need not be right there.
        let abroad = || ca.config(dir.path(), "abroad", "127.0.0.9");
        asks(at_home("a"), at_home("b")).await.expect("served");
        let none = PeerConfig {
            dial_tls: DialOptions {
                trusted_ca_file: Some(dir.path().join("ca.pem")),
                ..DialOptions::default()
            },
            ..PeerConfig::default()
        };
        let error = asks(none, at_home("b")).await.expect_err("no certificate");
        assert!(error.ends_with("remote error: tls: certificate required"), "{error}");
        asks(abroad(), at_home("b")).await.expect_err("from elsewhere");
        asks(abroad(), PeerConfig { skip_client_san_verification: true, ..at_home("b") })
            .await
            .expect("nobody looks");
        let only = |names: &[&str]| {
            let mut config = at_home("b");
            config.tls.allowed_cns = names.iter().map(|&name| name.to_owned()).collect();
            config
        };
        asks(at_home("a"), only(&["x", "a"])).await.expect("served");
        let error = asks(at_home("a"), only(&["x"])).await.expect_err("another name");
        assert!(error.ends_with("remote error: tls: bad certificate"), "{error}");
        let error = asks(at_home("a"), abroad()).await.expect_err("not who was dialled");
        assert!(error.contains("x509: certificate is valid for 127.0.0.9, not 127.0.0.1"), "{error}");
    });
}
