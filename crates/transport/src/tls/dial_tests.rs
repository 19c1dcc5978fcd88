//! Both ends of a connection between members, over memory.

use std::path::Path;
use std::sync::Arc;

use rcgen::SanType;
use rcgen::string::Ia5String;
use rustls::ClientConfig;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::dial::DialOptions;
use super::tests::{Made, authority, for_clients, params, serving, signed_by, write};
use super::{TlsOptions, TlsVersion, words};

/// What both sides say of a connection: the certificate that came from the other side, or why there is none.
struct Outcome {
    server: Result<Option<CertificateDer<'static>>, String>,
    client: Result<CertificateDer<'static>, String>,
}

/// One byte goes to the client, which thereby learns what the server thinks of it.
async fn meet(server: &TlsAcceptor, client: &Arc<ClientConfig>, name: &str) -> Outcome {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let accepting = async {
        let mut stream = server.accept(far).await.map_err(|error| words(&error))?;
        stream.write_all(b"x").await.map_err(|error| words(&error))?;
        stream.shutdown().await.map_err(|error| words(&error))?;
        Ok(stream.get_ref().1.peer_certificates().map(|chain| chain[0].clone()))
    };
    let connecting = async {
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let connecting = TlsConnector::from(client.clone()).connect(name, near);
        let mut stream = connecting.await.map_err(|error| words(&error))?;
        stream.read_u8().await.map_err(|error| words(&error))?;
        Ok(stream.get_ref().1.peer_certificates().unwrap()[0].clone())
    };
    let (server, client) = tokio::join!(accepting, connecting);
    Outcome { server, client }
}

fn member(ca: &Made, common_name: &str, host: &str) -> Made {
    let params = params(common_name, |params| {
        for_clients(params);
        params.subject_alt_names = vec![match host.parse() {
            Ok(address) => SanType::IpAddress(address),
            Err(_) => SanType::DnsName(Ia5String::try_from(host).unwrap()),
        }];
    });
    signed_by(ca, params)
}

fn acceptor(options: &TlsOptions) -> TlsAcceptor {
    TlsAcceptor::from(options.server_config(&[]).unwrap())
}

fn dialling(dir: &Path, member: &Made, trusted: &Made) -> DialOptions {
    std::fs::create_dir_all(dir).unwrap();
    DialOptions {
        cert_file: Some(write(dir, "cert.pem", &member.pem)),
        key_file: Some(write(dir, "key.pem", member.key.serialize_pem())),
        trusted_ca_file: Some(write(dir, "ca.pem", &trusted.pem)),
        ..DialOptions::default()
    }
}

#[tokio::test]
async fn members_show_their_certificates_to_each_other_as_they_are_now() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let (server, client) = (member(&ca, "s", "127.0.0.1"), member(&ca, "c", "127.0.0.1"));
    let accepts = acceptor(&serving(dir.path(), &server, &ca));
    let options = dialling(&dir.path().join("c"), &client, &ca);
    let dials = options.client_config().unwrap();
    let outcome = meet(&accepts, &dials, "127.0.0.1").await;
    assert_eq!(outcome.server, Ok(Some(client.der.clone())));
    assert_eq!(outcome.client, Ok(server.der.clone()));
    // Both configurations stay, the files change; a session that was resumed would still have the old ones.
    let (server, client) = (member(&ca, "s2", "127.0.0.1"), member(&ca, "c2", "127.0.0.1"));
    serving(dir.path(), &server, &ca);
    dialling(&dir.path().join("c"), &client, &ca);
    let outcome = meet(&accepts, &dials, "127.0.0.1").await;
    assert_eq!(outcome.server, Ok(Some(client.der.clone())));
    assert_eq!(outcome.client, Ok(server.der.clone()));
}

#[tokio::test]
async fn a_server_must_be_who_was_dialled_and_signed_by_whom_we_trust() {
    let dir = tempfile::tempdir().unwrap();
    let (ca, stranger) = (authority("ca"), authority("stranger"));
    let server = member(&ca, "s", "127.0.0.1");
    let accepts = acceptor(&TlsOptions { trusted_ca_file: None, ..serving(dir.path(), &server, &ca) });
    let options = dialling(&dir.path().join("c"), &server, &ca);
    let dials = options.client_config().unwrap();
    let other_address = meet(&accepts, &dials, "127.0.0.2").await.client.unwrap_err();
    assert_eq!(
        other_address,
        "tls: failed to verify certificate: x509: certificate is valid for 127.0.0.1, not 127.0.0.2"
    );
    let strange = dialling(&dir.path().join("d"), &server, &stranger).client_config().unwrap();
    let outcome = meet(&accepts, &strange, "127.0.0.1").await;
    assert_eq!(
        outcome.client.unwrap_err(),
        "tls: failed to verify certificate: x509: certificate signed by unknown authority"
    );
    assert_eq!(outcome.server.unwrap_err(), "remote error: tls: unknown certificate authority");
    let any = DialOptions { skip_verify: true, ..DialOptions::default() }.client_config().unwrap();
    assert!(meet(&accepts, &any, "elsewhere").await.client.is_ok());
}

#[tokio::test]
async fn allowed_names_hold_for_both_ends() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let (good, bad) = (member(&ca, "good", "127.0.0.1"), member(&ca, "bad", "127.0.0.1"));
    let refused = Err("client certificate authentication failed".to_owned());
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let only = |options: TlsOptions| TlsOptions {
            allowed_cns: vec!["good".to_owned()],
            min_version: Some(version),
            max_version: Some(version),
            ..options
        };
        let dials = |client: &Made| {
            let options = DialOptions {
                allowed_cns: vec!["good".to_owned()],
                ..dialling(&dir.path().join("c"), client, &ca)
            };
            options.client_config().unwrap()
        };
        let accepts = acceptor(&only(serving(dir.path(), &good, &ca)));
        let outcome = meet(&accepts, &dials(&good), "127.0.0.1").await;
        assert_eq!((outcome.server, outcome.client), (Ok(Some(good.der.clone())), Ok(good.der.clone())));
        let outcome = meet(&accepts, &dials(&bad), "127.0.0.1").await;
        assert_eq!(outcome.server, refused);
        assert_eq!(outcome.client, Err("remote error: tls: bad certificate".to_owned()));
        let accepts = acceptor(&only(serving(dir.path(), &bad, &ca)));
        let outcome = meet(&accepts, &dials(&good), "127.0.0.1").await;
        assert_eq!(outcome.client.map(drop), Err("client certificate authentication failed".to_owned()));
    }
    let both = DialOptions {
        allowed_cns: vec!["a".to_owned()],
        allowed_hostnames: vec!["b".to_owned()],
        ..DialOptions::default()
    };
    assert!(both.client_config().is_err());
}

#[tokio::test]
async fn nobody_comes_in_by_a_session_of_before() {
    let dir = tempfile::tempdir().unwrap();
    let ca = authority("ca");
    let server = member(&ca, "s", "127.0.0.1");
    for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
        let options = TlsOptions {
            min_version: Some(version),
            max_version: Some(version),
            ..serving(dir.path(), &server, &ca)
        };
        let accepts = acceptor(&options);
        let mut dials = (*dialling(&dir.path().join("c"), &server, &ca).client_config().unwrap()).clone();
        dials.resumption = rustls::client::Resumption::in_memory_sessions(8);
        let dials = Arc::new(dials);
        for _ in 0..2 {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let name = ServerName::try_from("127.0.0.1").unwrap();
            let connector = TlsConnector::from(dials.clone());
            let (accepted, connected) = tokio::join!(accepts.accept(far), connector.connect(name, near));
            let kind = accepted.unwrap().get_ref().1.handshake_kind();
            connected.unwrap();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full), "{version:?}");
        }
    }
}
