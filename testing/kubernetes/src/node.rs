//! Fake nodes: what a kubelet tells the API server, without a machine behind it.
//!
//! A node registers itself, keeps its lease fresh, calls every pod that is bound to it running, and confirms
//! the end of those that shall go. It does so with a node's own certificate and rights.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{During, Outcome, fail};
use crate::http::{Client, Identity, Next};
use crate::pki::Pki;

/// A kubelet renews its lease of 40 s every 10 s.
const LEASE_RENEWAL: Duration = Duration::from_secs(10);

/// Longest silence that a node bears before it tries the next server: well below the 40 s of its lease.
const REQUEST_LIMIT: Duration = Duration::from_secs(10);

/// Pause before a failed node tries again.
const RETRY: Duration = Duration::from_millis(250);

/// Some nodes, each with its thread. Dropping them ends the threads, not the objects.
pub struct Nodes {
    stop: Arc<AtomicBool>,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Nodes {
    /// Nodes that go to the next of `servers` whenever one fails them, as they would behind a balancer.
    pub fn start(count: usize, pki: &Pki, servers: &[SocketAddr]) -> Outcome<Nodes> {
        let Some(first) = servers.first() else { return fail("nodes need an API server") };
        let (stop, all) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(servers.to_vec())));
        let mut threads = Vec::new();
        for index in 0..count {
            let name = format!("node-{index}");
            if !pki.path(&format!("{name}.crt")).is_file() {
                pki.client(&name, &format!("system:node:{name}"), Some("system:nodes"))?;
            }
            let node = Node {
                index,
                identity: identity(pki, &name, *first)?,
                name,
                servers: Arc::clone(&all),
                stop: Arc::clone(&stop),
                started_count: AtomicU32::new(0),
            };
            let thread = std::thread::Builder::new().name(node.name.clone());
            threads.push(thread.spawn(move || node.live()).during("start a thread")?);
        }
        Ok(Nodes { stop, servers: all, threads })
    }

    /// Other servers from now on, for those nodes that have to look for one.
    pub fn change_servers(&self, servers: &[SocketAddr]) {
        servers.clone_into(&mut lock(&self.servers));
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn identity(pki: &Pki, name: &str, server: SocketAddr) -> Outcome<Identity> {
    let file = |extension: &str| pki.path(&format!("{name}.{extension}"));
    let ca = pki.path("ca.crt");
    let identity = Identity::load(server, Path::new(&ca), &file("crt"), &file("key"))?;
    Ok(identity.with_limit(REQUEST_LIMIT))
}

struct Node {
    index: usize,
    name: String,
    identity: Identity,
    servers: Arc<Mutex<Vec<SocketAddr>>>,
    stop: Arc<AtomicBool>,
    /// Pods started so far: each gets the next address.
    started_count: AtomicU32,
}

impl Node {
    fn live(&self) {
        // They begin at different servers.
        let mut server = self.index;
        while !self.stop.load(Ordering::Relaxed) {
            // Whatever fails (etcd is killed under us, a watch expires) is tried again from its start.
            let all = lock(&self.servers).clone();
            let identity = self.identity.at(all[server % all.len()]);
            if self.register_and_serve(&identity).is_err() {
                std::thread::sleep(RETRY);
                server += 1;
            }
        }
    }

    fn register_and_serve(&self, identity: &Identity) -> Outcome {
        let mut client = identity.client();
        self.register(&mut client)?;
        let mut renewed = Instant::now();
        self.renew_lease(&mut client)?;
        let pods = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.name);
        let list = client.get(&pods)?.must("list pods")?;
        for pod in list["items"].as_array().into_iter().flatten() {
            self.serve_pod(&mut client, pod)?;
        }
        let version = list["metadata"]["resourceVersion"].as_str().unwrap_or("0").to_owned();
        let mut watch = identity.watch(&format!("{pods}&watch=1&resourceVersion={version}"))?;
        while !self.stop.load(Ordering::Relaxed) {
            if renewed.elapsed() > LEASE_RENEWAL {
                self.renew_lease(&mut client)?;
                renewed = Instant::now();
            }
            match watch.next()? {
                Next::Quiet => {}
                Next::Ended => return Ok(()),
                Next::Event(event) => match event["type"].as_str() {
                    Some("ADDED" | "MODIFIED") => self.serve_pod(&mut client, &event["object"])?,
                    Some("ERROR") => return fail(event.to_string()),
                    _ => {}
                },
            }
        }
        Ok(())
    }

    fn register(&self, client: &mut Client) -> Outcome {
        let node = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": self.name, "labels": {"kubernetes.io/hostname": self.name}},
        });
        let answer = client.post("/api/v1/nodes", &node)?;
        // Compat: 409 is the API server's "exists already".
        if answer.status == 409 {
            let path = format!("/api/v1/nodes/{}", self.name);
            // A kubelet that comes back tells nothing new when it was not missed.
            if is_ready(&client.get(&path)?.must("get a node")?) {
                return Ok(());
            }
        } else {
            answer.must("register a node")?;
        }
        let now = now("%Y-%m-%dT%H:%M:%SZ");
        let room = json!({"cpu": "64", "memory": "256Gi", "pods": "110"});
        let status = json!({"status": {
            "capacity": room,
            "allocatable": room,
            "addresses": [{"type": "InternalIP", "address": format!("10.254.0.{}", self.index + 1)}],
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "a fake node",
                "lastHeartbeatTime": now, "lastTransitionTime": now,
            }],
            "nodeInfo": {
                "kubeletVersion": "v1.37.2", "operatingSystem": "linux", "architecture": "amd64",
                "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "osImage": "",
                "containerRuntimeVersion": "none://0", "kubeProxyVersion": "",
            },
        }});
        client.patch(&format!("/api/v1/nodes/{}/status", self.name), &status)?.must("status of a node")?;
        Ok(())
    }

    fn renew_lease(&self, client: &mut Client) -> Outcome {
        const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
        let renewal = json!({"spec": {"renewTime": now("%Y-%m-%dT%H:%M:%S%.6fZ")}});
        let answer = client.patch(&format!("{LEASES}/{}", self.name), &renewal)?;
        if answer.status != 404 {
            answer.must("renew a lease")?;
            return Ok(());
        }
        let lease = json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.name, "namespace": "kube-node-lease"},
            "spec": {
                "holderIdentity": self.name, "leaseDurationSeconds": 40,
                "renewTime": renewal["spec"]["renewTime"],
            },
        });
        client.post(LEASES, &lease)?.must("create a lease")?;
        Ok(())
    }

    fn serve_pod(&self, client: &mut Client, pod: &Value) -> Outcome {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let (namespace, name) = (text(&pod["metadata"]["namespace"]), text(&pod["metadata"]["name"]));
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let answer = if !pod["metadata"]["deletionTimestamp"].is_null() {
            let now = json!({"gracePeriodSeconds": 0, "preconditions": {"uid": pod["metadata"]["uid"]}});
            client.delete(&path, &now)?
        } else if pod["status"]["phase"] == "Pending" {
            client.patch(&format!("{path}/status"), &self.running(pod))?
        } else {
            return Ok(());
        };
        // It may be gone already, or have been replaced.
        if !matches!(answer.status, 404 | 409) {
            answer.must(&path)?;
        }
        Ok(())
    }

    fn running(&self, pod: &Value) -> Value {
        let now = now("%Y-%m-%dT%H:%M:%SZ");
        let conditions =
            ["PodScheduled", "PodReadyToStartContainers", "Initialized", "ContainersReady", "Ready"]
                .map(|kind| json!({"type": kind, "status": "True", "lastTransitionTime": now}));
        let containers: Vec<Value> = pod["spec"]["containers"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|container| {
                json!({
                    "name": container["name"], "image": container["image"], "imageID": "none",
                    "containerID": "fake://1", "ready": true, "started": true, "restartCount": 0,
                    "state": {"running": {"startedAt": now}},
                })
            })
            .collect();
        let [.., third, last] = self.started_count.fetch_add(1, Ordering::Relaxed).to_be_bytes();
        let address = format!("10.{}.{third}.{last}", 200 + self.index);
        json!({"status": {
            "phase": "Running", "startTime": now, "hostIP": format!("10.254.0.{}", self.index + 1),
            "hostIPs": [{"ip": format!("10.254.0.{}", self.index + 1)}],
            "podIP": address, "podIPs": [{"ip": address}],
            "conditions": conditions, "containerStatuses": containers,
        }})
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_ready(node: &Value) -> bool {
    let conditions = node["status"]["conditions"].as_array();
    conditions.into_iter().flatten().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

fn now(format: &str) -> String {
    jiff::Timestamp::now().strftime(format).to_string()
}
