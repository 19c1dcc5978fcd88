//! A static pod's manifest, as far as a kubelet needs it to run one container without an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

pub struct Pod {
    /// The first word is the program.
    pub command: Vec<String>,
    pub environment: Vec<(String, String)>,
    pub liveness: Probe,
    /// Manifests of older releases have none: ready is who runs.
    pub readiness: Option<Probe>,
    pub startup: Probe,
    /// Host folders of the volumes, each mounted at the same path.
    pub folders: Vec<PathBuf>,
}

/// One HTTP probe with a kubelet's numbers.
#[derive(Clone, Debug)]
pub struct Probe {
    pub host: String,
    pub port: u16,
    pub path: String,
    pub initial_delay: Duration,
    pub timeout: Duration,
    pub period: Duration,
    pub failure_threshold: u32,
}

impl Probe {
    /// How long a container may take to pass it for the first time.
    pub fn budget(&self) -> Duration {
        self.initial_delay + self.period * self.failure_threshold
    }
}

pub fn read(path: &Path) -> Result<Pod, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    parse(&text).map_err(|error| format!("{}: {error}", path.display()))
}

pub fn parse(text: &str) -> Result<Pod, String> {
    let pod: Value = serde_saphyr::from_str(text).map_err(|error| error.to_string())?;
    let container = &pod["spec"]["containers"][0];
    let texts = |value: &Value| -> Vec<String> {
        value.as_array().into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let command = texts(&container["command"]);
    if command.is_empty() {
        return Err("the container has no command".to_owned());
    }
    let variable =
        |entry: &Value| Some((entry["name"].as_str()?.to_owned(), entry["value"].as_str()?.to_owned()));
    let environment = container["env"].as_array().into_iter().flatten().filter_map(variable).collect();
    Ok(Pod {
        command,
        environment,
        liveness: probe(container, "livenessProbe")?,
        readiness: match container["readinessProbe"].is_null() {
            true => None,
            false => Some(probe(container, "readinessProbe")?),
        },
        startup: probe(container, "startupProbe")?,
        folders: folders(&pod)?,
    })
}

fn probe(container: &Value, name: &str) -> Result<Probe, String> {
    let probe = &container[name];
    let get = &probe["httpGet"];
    let port = match &get["port"] {
        Value::String(name) => {
            let mut ports = container["ports"].as_array().into_iter().flatten();
            let named = ports.find(|port| port["name"].as_str() == Some(name));
            named.and_then(|port| port["containerPort"].as_u64())
        }
        number => number.as_u64(),
    };
    let port = port.and_then(|port| u16::try_from(port).ok()).ok_or_else(|| format!("{name}: no port"))?;
    // Defaults of the API.
    let seconds = |field: &str, default| Duration::from_secs(probe[field].as_u64().unwrap_or(default));
    Ok(Probe {
        host: get["host"].as_str().unwrap_or("127.0.0.1").to_owned(),
        port,
        path: get["path"].as_str().ok_or_else(|| format!("{name}: no path"))?.to_owned(),
        initial_delay: seconds("initialDelaySeconds", 0),
        timeout: seconds("timeoutSeconds", 1),
        period: seconds("periodSeconds", 10),
        failure_threshold: probe["failureThreshold"]
            .as_u64()
            .and_then(|n| u32::try_from(n).ok())
            .unwrap_or(3),
    })
}

/// A process without a container sees the host's paths, so a volume must be mounted where it lies.
fn folders(pod: &Value) -> Result<Vec<PathBuf>, String> {
    let mounts = pod["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
    let mut folders = Vec::new();
    for volume in pod["spec"]["volumes"].as_array().into_iter().flatten() {
        let host = volume["hostPath"]["path"].as_str().ok_or("a volume that is no host path")?;
        let mount = mounts.iter().find(|mount| mount["name"] == volume["name"]);
        let inside =
            mount.and_then(|mount| mount["mountPath"].as_str()).ok_or("a volume that is not mounted")?;
        if host != inside {
            return Err(format!("{host} is mounted at {inside}, which takes a container"));
        }
        folders.push(PathBuf::from(host));
    }
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stored_manifests_are_what_kubelets_were_given() {
        let pod = parse(include_str!("../manifests/kubeadm-1.33.yaml")).unwrap();
        assert_eq!(pod.command[0], "etcd");
        assert!(pod.command.iter().any(|word| word == "--experimental-initial-corrupt-check=true"));
        let readiness = pod.readiness.unwrap();
        assert_eq!((readiness.port, readiness.path.as_str()), (2381, "/readyz"));
        assert_eq!((readiness.period, readiness.failure_threshold), (Duration::from_secs(1), 3));
        assert_eq!(pod.startup.budget(), Duration::from_secs(250));
        assert_eq!(pod.folders, [Path::new("/etc/kubernetes/pki/etcd"), Path::new("/var/lib/etcd")]);

        let pod = parse(include_str!("../manifests/kubeadm-1.30.yaml")).unwrap();
        assert!(pod.readiness.is_none());
        assert_eq!(pod.liveness.path, "/health?exclude=NOSPACE&serializable=true");
        let pod = parse(include_str!("../manifests/kubeadm-1.20.yaml")).unwrap();
        assert!(!pod.command.iter().any(|word| word.contains("experimental")));
    }

    #[test]
    fn what_cannot_be_run_without_a_container_is_refused() {
        let moved = include_str!("../manifests/kubeadm-1.20.yaml")
            .replace("mountPath: /var/lib/etcd", "mountPath: /data");
        assert!(parse(&moved).is_err());
        assert!(parse("spec: {containers: [{}]}").is_err());
    }
}
