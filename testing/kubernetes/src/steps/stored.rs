//! Where the objects lie in etcd, byte by byte.

use std::fs;
use std::path::Path;

use crate::bench::{Bench, SOON};
use crate::control_plane::ENCRYPTION_KEY_NAME;
use crate::failure::{During, Outcome};
use crate::wait;

/// What kubectl calls it, and its key. Sources: the API server's storage paths of 1.37.
const PLACES: &[(&str, &str)] = &[
    ("namespace/shop", "/registry/namespaces/shop"),
    ("node/node-0", "/registry/minions/node-0"),
    ("-n shop pod/lone", "/registry/pods/shop/lone"),
    ("-n shop deployment/web", "/registry/deployments/shop/web"),
    ("-n shop service/web", "/registry/services/specs/shop/web"),
    ("-n shop configmap/colours", "/registry/configmaps/shop/colours"),
    ("-n shop secret/till", "/registry/secrets/shop/till"),
    ("-n shop serviceaccount/clerk", "/registry/serviceaccounts/shop/clerk"),
    ("-n shop role/reader", "/registry/roles/shop/reader"),
    ("-n shop rolebinding/clerk-reads", "/registry/rolebindings/shop/clerk-reads"),
    ("clusterrole/node-viewer", "/registry/clusterroles/node-viewer"),
    ("clusterrolebinding/clerk-views-nodes", "/registry/clusterrolebindings/clerk-views-nodes"),
    (
        "crd/gadgets.example.com",
        "/registry/apiextensions.k8s.io/customresourcedefinitions/gadgets.example.com",
    ),
    ("-n shop gadget/first", "/registry/example.com/gadgets/shop/first"),
];

pub fn places(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Each object is one key, its resourceVersion the key's mod_revision");
    for (object, key) in PLACES {
        // An object may change between two looks (a deployment's status): then both are taken again.
        let arguments: Vec<&str> = ["get"].into_iter().chain(object.split(' ')).collect();
        let arguments = [&arguments[..], &["-o", "jsonpath={.metadata.resourceVersion}"]].concat();
        let stored = wait::until(object, SOON, || {
            let version = bench.ask(&arguments).map_err(|error| error.to_string())?;
            let all = bench.etcd.stored(key).map_err(|error| error.to_string())?;
            let stored = all.get(*key).ok_or_else(|| format!("no key {key}"))?;
            if stored.mod_revision.to_string() == version {
                return Ok(stored.clone());
            }
            Err(format!("resourceVersion {version}, mod_revision {}", stored.mod_revision))
        })?;
        let form = form(&stored.value);
        bench.transcript.output(&format!("{object} is {key}: {form}"));
        let (created, modified, version) = (stored.create_revision, stored.mod_revision, stored.version);
        let consistent = (version == 1) == (created == modified) && 0 < created && created <= modified;
        bench.transcript.check("revisions and version agree", consistent);
    }
    Ok(())
}

fn form(value: &[u8]) -> String {
    let encrypted = format!("k8s:enc:aescbc:v1:{ENCRYPTION_KEY_NAME}:");
    if value.starts_with(b"k8s\0") {
        "k8s\\0 and protobuf".to_owned()
    } else if value.starts_with(encrypted.as_bytes()) {
        encrypted
    } else if value.starts_with(b"{") && value.ends_with(b"\n") {
        "JSON".to_owned()
    } else {
        format!("unknown: {:?}", String::from_utf8_lossy(&value[..value.len().min(20)]))
    }
}

pub fn encryption(bench: &mut Bench) -> Outcome {
    bench.transcript.step("A secret is encrypted at rest");
    let shown = bench.show("-n shop get secret till -o 'go-template={{.data.password | base64decode}}'")?;
    bench.transcript.output("");
    let folder = bench.etcd.data_dir.clone();
    let check = |text: &[u8]| folder_contains(&folder, text);
    // The same search must find what is not encrypted, or it would prove nothing.
    bench.transcript.check("a config's text lies in the data directory", check(b"blue")?);
    bench.transcript.check("the secret's text does not", !check(shown.trim().as_bytes())?);
    bench.transcript.check("nor does its base64 form", !check(b"b3Blbi1zZXNhbWUtNzQzMQ")?);
    Ok(())
}

fn folder_contains(folder: &Path, text: &[u8]) -> Outcome<bool> {
    for entry in fs::read_dir(folder).during(folder.display())? {
        let path = entry?.path();
        let found = if path.is_dir() {
            folder_contains(&path, text)?
        } else {
            contains(&fs::read(&path).during(path.display())?, text)
        };
        if found {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Looks only where the first byte is: the log has tens of megabytes of zeros.
fn contains(bytes: &[u8], text: &[u8]) -> bool {
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == text[0]) {
        if rest[at..].starts_with(text) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_found_after_a_false_start() {
        assert!(contains(b"..aab", b"ab"));
        assert!(!contains(b"..aac", b"ab"));
    }
}
