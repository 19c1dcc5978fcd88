//! What the real kubeadm writes for a control plane with etcd on it: certificates and the manifest.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::shell::succeed;
use crate::static_pod::{ADDRESS, NODE};

/// Where kubeadm puts it, and a kubelet finds it.
pub const MANIFEST: &str = "/etc/kubernetes/manifests/etcd.yaml";
pub const PKI: &str = "/etc/kubernetes/pki/etcd";

const CERTIFICATES: [&str; 5] =
    ["etcd-ca", "etcd-server", "etcd-peer", "etcd-healthcheck-client", "apiserver-etcd-client"];

/// Writes the certificates below `/etc/kubernetes/pki`.
pub fn certificates(kubeadm: &Path, folder: &Path) -> Result<(), String> {
    let config = config(folder)?;
    for name in CERTIFICATES {
        succeed(Command::new(kubeadm).args(["init", "phase", "certs", name, "--config", &config]))?;
    }
    Ok(())
}

/// Writes [`MANIFEST`].
pub fn manifest(kubeadm: &Path, folder: &Path) -> Result<(), String> {
    let config = config(folder)?;
    succeed(Command::new(kubeadm).args(["init", "phase", "etcd", "local", "--config", &config])).map(drop)
}

/// A new server certificate in the place of the old one, as before it expires.
pub fn renew(kubeadm: &Path, folder: &Path) -> Result<(), String> {
    let config = config(folder)?;
    succeed(Command::new(kubeadm).args(["certs", "renew", "etcd-server", "--config", &config])).map(drop)
}

fn config(folder: &Path) -> Result<String, String> {
    let path = folder.join("kubeadm.yaml");
    let text = format!(
        "apiVersion: kubeadm.k8s.io/v1beta4\nkind: InitConfiguration\n\
         localAPIEndpoint:\n  advertiseAddress: {ADDRESS}\nnodeRegistration:\n  name: {NODE}\n---\n\
         apiVersion: kubeadm.k8s.io/v1beta4\nkind: ClusterConfiguration\nkubernetesVersion: v1.37.2\n"
    );
    fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))?;
    Ok(path.display().to_string())
}
