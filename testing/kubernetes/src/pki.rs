//! Certificates, keys and kubeconfigs, laid out and named as kubeadm does under `/etc/kubernetes/pki`.
//!
//! One thing differs: one authority would do for the API server, but etcd has its own, so a certificate of
//! the one must not open the other. Client certificates carry no alternative name, as kubeadm's do not.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, SanType,
};

use crate::failure::{During, Outcome};
use crate::host::Host;

type Authority = CertifiedIssuer<'static, KeyPair>;

/// Which side of TLS a certificate is good for.
#[derive(Clone, Copy, PartialEq)]
enum Use {
    Client,
    Server,
    /// etcd's: a member is a client of its own port and of its peers.
    Both,
}

/// What all control planes of one cluster share: kubeadm copies these from the first to the others.
pub struct Authorities {
    kubernetes: Authority,
    etcd: Authority,
    service_account: KeyPair,
}

impl Authorities {
    pub fn create() -> Outcome<Arc<Authorities>> {
        let [kubernetes, etcd] = [authority("kubernetes")?, authority("etcd-ca")?];
        Ok(Arc::new(Authorities { kubernetes, etcd, service_account: key()? }))
    }
}

/// The folder of one control plane.
pub struct Pki {
    folder: PathBuf,
    authorities: Arc<Authorities>,
}

impl Pki {
    /// Makes everything that does not depend on the nodes.
    pub fn create(folder: &Path, authorities: &Arc<Authorities>, host: &Host) -> Outcome<Pki> {
        fs::create_dir_all(folder.join("etcd")).during("create the folder of certificates")?;
        let pki = Pki { folder: folder.to_owned(), authorities: Arc::clone(authorities) };
        let (ca, etcd_ca) = (&authorities.kubernetes, &authorities.etcd);
        pki.write_authority("ca", ca)?;
        pki.write_authority("etcd/ca", etcd_ca)?;

        let (name, address) = (host.name.as_str(), host.address.to_string());
        let mut here = vec!["localhost", "127.0.0.1", "::1"];
        if !host.is_loopback() {
            here.push(&address);
        }
        let member = [&[name], &here[..]].concat();
        pki.issue("etcd/server", etcd_ca, name, None, Use::Both, &member)?;
        pki.issue("etcd/peer", etcd_ca, name, None, Use::Both, &member)?;
        let probe = "kube-etcd-healthcheck-client";
        pki.issue("etcd/healthcheck-client", etcd_ca, probe, None, Use::Client, &[])?;
        let apiserver = "kube-apiserver-etcd-client";
        pki.issue("apiserver-etcd-client", etcd_ca, apiserver, None, Use::Client, &[])?;

        let service = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "10.0.0.1"];
        pki.issue("apiserver", ca, "kube-apiserver", None, Use::Server, &[&service, &here[..]].concat())?;
        pki.client("admin", "kubernetes-admin", Some("system:masters"))?;
        pki.client("controller-manager", "system:kube-controller-manager", None)?;
        pki.client("scheduler", "system:kube-scheduler", None)?;

        fs::write(folder.join("sa.key"), authorities.service_account.serialize_pem())?;
        fs::write(folder.join("sa.pub"), authorities.service_account.public_key_pem())?;
        Ok(pki)
    }

    /// A client certificate of the API server's authority.
    pub fn client(&self, file: &str, common_name: &str, organization: Option<&str>) -> Outcome {
        self.issue(file, &self.authorities.kubernetes, common_name, organization, Use::Client, &[])
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    /// A kubeconfig beside the certificates, for the client `user`.
    pub fn kubeconfig(&self, user: &str, server: &str) -> Outcome<PathBuf> {
        let path = self.folder.join(format!("{user}.conf"));
        let (ca, certificate, key) = (
            self.path("ca.crt").display().to_string(),
            self.path(&format!("{user}.crt")).display().to_string(),
            self.path(&format!("{user}.key")).display().to_string(),
        );
        let config = serde_json::json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "bench", "cluster": {"server": server, "certificate-authority": ca}}],
            "users": [{"name": user, "user": {"client-certificate": certificate, "client-key": key}}],
            "contexts": [{"name": "bench", "context": {"cluster": "bench", "user": user}}],
            "current-context": "bench",
        });
        fs::write(&path, config.to_string())?;
        Ok(path)
    }

    fn write_authority(&self, file: &str, authority: &Authority) -> Outcome {
        fs::write(self.path(&format!("{file}.crt")), authority.pem())?;
        fs::write(self.path(&format!("{file}.key")), authority.key().serialize_pem())?;
        Ok(())
    }

    fn issue(
        &self,
        file: &str,
        authority: &Authority,
        common_name: &str,
        organization: Option<&str>,
        good_for: Use,
        names: &[&str],
    ) -> Outcome {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, common_name);
        if let Some(organization) = organization {
            params.distinguished_name.push(DnType::OrganizationName, organization);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        if good_for != Use::Client {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        }
        if good_for != Use::Server {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ClientAuth);
        }
        for name in names {
            params.subject_alt_names.push(match name.parse::<IpAddr>() {
                Ok(address) => SanType::IpAddress(address),
                Err(_) => SanType::DnsName((*name).try_into()?),
            });
        }
        let key = key()?;
        let certificate = params.signed_by(&key, authority).during(file)?;
        fs::write(self.path(&format!("{file}.crt")), certificate.pem())?;
        fs::write(self.path(&format!("{file}.key")), key.serialize_pem())?;
        Ok(())
    }
}

/// RSA, as kubeadm makes them when nothing else is asked for.
fn key() -> Outcome<KeyPair> {
    KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).during("generate a key")
}

fn authority(common_name: &str) -> Outcome<Authority> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages =
        vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    CertifiedIssuer::self_signed(params, key()?).during(common_name)
}
