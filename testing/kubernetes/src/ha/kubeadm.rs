//! The real kubeadm adds a master and takes it away again: its own code talks to the etcd under test.
//!
//! `kubeadm join` runs as a whole, but for what needs a container runtime or systemd: discovery, certificates,
//! kubeconfigs, manifests, the health of every member, a learner that is added, and promoted once it is in sync.
//! We are the kubelet: we start etcd by the manifest that kubeadm writes, and tell the API server of the pods.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::failure::{During, Failure, Outcome, fail};
use crate::ha::cluster::{Cluster, SOON};
use crate::ha::network::must;
use crate::ha::rolling::SNAPSHOT_FLAGS;
use crate::ha::{Plan, settled};
use crate::process::Process;

/// The machine that comes and goes: no other part has one of this number.
const NUMBER: usize = 9;

/// kubeadm waits two minutes for etcd, and as long for other things.
const KUBEADM_LIMIT: Duration = Duration::from_secs(300);

/// What of `kubeadm join` there is no machine for.
const SKIPPED: &str = "preflight,kubelet-start,kubelet-wait-bootstrap,control-plane-join,wait-control-plane";

/// Paths that are fixed in kubeadm, and the folders of the machine that lie there.
const FOLDERS: [(&str, &str); 3] =
    [("/etc/kubernetes", "kubernetes"), ("/var/lib/etcd", "etcd"), ("/var/lib/kubelet", "kubelet")];

const PODS: &str = "/api/v1/namespaces/kube-system/pods";

pub fn join_and_reset(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("kubeadm joins a master to the cluster");
    let index = lay_out(cluster)?;
    describe_cluster(cluster, index)?;
    join(cluster, plan, index, "kubeadm join")?;

    cluster.transcript.step("kubeadm resets the master while its member leads");
    reset(cluster, plan, index, Leads::Yes)?;

    cluster.transcript.step("kubeadm joins the same machine again, and resets it while another leads");
    join(cluster, plan, index, "kubeadm join after a reset")?;
    reset(cluster, plan, index, Leads::No)?;
    forget_cluster(cluster)?;
    cluster.remove_machine(index)?;
    Ok(())
}

/// A machine with what an administrator copies there: the authorities, and a kubeconfig to begin with.
fn lay_out(cluster: &mut Cluster) -> Outcome<usize> {
    let index = cluster.masters.len();
    cluster.add_machine(NUMBER)?;
    make_mount_points(&cluster.folder.join("mount-points"))?;
    let endpoint = format!("https://{}", cluster.masters[0].plane()?.address);
    let master = &mut cluster.masters[index];
    for (path, name) in FOLDERS {
        let folder = master.folder.join(name);
        fs::create_dir_all(&folder).during(folder.display())?;
        master.host.mount(&folder, Path::new(path));
    }
    master.etcd.host = master.host.clone();
    master.etcd.data_dir = master.folder.join("etcd");
    let kubernetes = master.folder.join("kubernetes");
    fs::create_dir_all(kubernetes.join("pki/etcd")).during(kubernetes.display())?;
    for file in ["ca.crt", "ca.key", "sa.key", "sa.pub", "etcd/ca.crt", "etcd/ca.key"] {
        fs::copy(master.pki.path(file), kubernetes.join("pki").join(file)).during(file)?;
    }
    let name = &master.host.name;
    master.pki.client("kubelet", &format!("system:node:{name}"), Some("system:nodes"))?;
    for (user, file) in [("admin", "discovery.conf"), ("kubelet", "kubelet.conf")] {
        fs::copy(master.pki.kubeconfig(user, &endpoint)?, kubernetes.join(file)).during(file)?;
    }
    Ok(index)
}

/// The paths of [`FOLDERS`], which the host need not have and must not get: in our own mounts alone.
fn make_mount_points(scratch: &Path) -> Outcome {
    fs::create_dir_all(scratch).during(scratch.display())?;
    let text = |path: &Path| path.display().to_string();
    must("mount", &["-t", "tmpfs", "tmpfs", &text(scratch)])?;
    for (number, above) in ["/etc", "/var/lib"].into_iter().enumerate() {
        let [upper, work] = ["upper", "work"].map(|name| scratch.join(format!("{name}-{number}")));
        fs::create_dir_all(&upper)?;
        fs::create_dir_all(&work)?;
        let how = format!("lowerdir={above},upperdir={},workdir={}", text(&upper), text(&work));
        must("mount", &["-t", "overlay", "overlay", "-o", &how, above])?;
    }
    for (path, _) in FOLDERS {
        fs::create_dir_all(path).during(path)?;
    }
    Ok(())
}

/// What `kubeadm init` would have left in the API server, by kubeadm itself, and the pods of the masters there are.
fn describe_cluster(cluster: &mut Cluster, index: usize) -> Outcome {
    let endpoint = cluster.masters[0].plane()?.address;
    let master = &cluster.masters[index];
    let (name, address) = (master.host.name.clone(), master.host.address);
    let mut arguments = vec![json!({"name": "listen-metrics-urls", "value": "http://0.0.0.0:2381"})];
    for flag in SNAPSHOT_FLAGS {
        let (name, value) = flag.trim_start_matches("--").split_once('=').unwrap_or_default();
        arguments.push(json!({"name": name, "value": value}));
    }
    let api = "kubeadm.k8s.io/v1beta4";
    let local = json!({"advertiseAddress": address, "bindPort": 6443});
    let registration = json!({"name": name, "criSocket": "unix:///run/containerd/containerd.sock"});
    let of_cluster = json!({
        "apiVersion": api, "kind": "ClusterConfiguration", "kubernetesVersion": "v1.37.2",
        "controlPlaneEndpoint": endpoint.to_string(), "networking": {"serviceSubnet": "10.0.0.0/24"},
        "etcd": {"local": {"dataDir": "/var/lib/etcd", "extraArgs": arguments}},
    });
    let of_init = json!({
        "apiVersion": api, "kind": "InitConfiguration", "localAPIEndpoint": local, "nodeRegistration": registration,
    });
    let of_join = json!({
        "apiVersion": api, "kind": "JoinConfiguration", "nodeRegistration": registration,
        "discovery": {"file": {"kubeConfigPath": "/etc/kubernetes/discovery.conf"}},
        "controlPlane": {"localAPIEndpoint": local},
    });
    let kubernetes = master.folder.join("kubernetes");
    fs::write(kubernetes.join("init.yaml"), format!("{of_init}\n---\n{of_cluster}\n"))?;
    fs::write(kubernetes.join("join.yaml"), of_join.to_string())?;
    const CONFIG: &str = "--config=/etc/kubernetes/init.yaml";
    const KUBECONFIG: &str = "--kubeconfig=/etc/kubernetes/discovery.conf";
    for words in [
        vec!["init", "phase", "certs", "front-proxy-ca", CONFIG],
        vec!["init", "phase", "upload-config", "all", CONFIG, KUBECONFIG],
        vec!["init", "phase", "bootstrap-token", CONFIG, KUBECONFIG],
    ] {
        kubeadm(cluster, index, &words)?;
    }
    // A whole `kubeadm init` does this with its own super user: who has an admin.conf is in this group.
    let group = "kubeadm:cluster-admins";
    let rights = json!({
        "metadata": {"name": group},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": group}],
    });
    let mut client = cluster.masters[0].plane()?.admin();
    client.post("/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", &rights)?.must("bind a role")?;
    let others: Vec<(String, String)> = (cluster.others(index).into_iter())
        .map(|other| (cluster.name(other).to_owned(), cluster.masters[other].etcd.client_url()))
        .collect();
    for (number, (name, url)) in others.iter().enumerate() {
        // Where they run does not matter to kubeadm.
        let node = format!("node-{}", number % super::NODE_COUNT);
        add_pod(cluster, "etcd", name, &node, "kubeadm.kubernetes.io/etcd.advertise-client-urls", url)?;
    }
    Ok(())
}

/// What a kubelet tells of a static pod.
fn add_pod(
    cluster: &Cluster,
    component: &str,
    master: &str,
    node: &str,
    annotation: &str,
    value: &str,
) -> Outcome {
    let pod = json!({
        "metadata": {
            "name": format!("{component}-{master}"),
            "labels": {"component": component, "tier": "control-plane"},
            "annotations": {annotation: value},
        },
        "spec": {
            "nodeName": node, "hostNetwork": true, "tolerations": [{"operator": "Exists"}],
            "containers": [{"name": component, "image": component}],
        },
    });
    cluster.masters[0].plane()?.admin().post(PODS, &pod)?.must("tell of a pod")?;
    Ok(())
}

fn forget_cluster(cluster: &Cluster) -> Outcome {
    let mut client = cluster.masters[0].plane()?.admin();
    let now = json!({"gracePeriodSeconds": 0});
    let pods = client.get(&format!("{PODS}?labelSelector=tier%3Dcontrol-plane"))?.must("list pods")?;
    for pod in pods["items"].as_array().into_iter().flatten() {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        client.delete(&format!("{PODS}/{name}"), &now)?.must("delete a pod")?;
    }
    Ok(())
}

/// `kubeadm join` under writes, then the rest of a control plane.
fn join(cluster: &mut Cluster, plan: &Plan, index: usize, fault: &str) -> Outcome {
    let others = cluster.others(index);
    let load = cluster.start_load(&others)?;
    let since = Instant::now();
    let skip = format!("--skip-phases={SKIPPED}");
    cluster.transcript.command(&format!("kubeadm join --config=join.yaml {skip}"));
    let log = kubeadm(cluster, index, &["join", "--config=/etc/kubernetes/join.yaml", &skip])?;
    let said = |line: &&str| line.starts_with("[etcd]") || line.starts_with("[check-etcd]");
    cluster.transcript.output(&log.lines().filter(said).collect::<Vec<_>>().join("\n"));
    cluster.transcript.remark(&format!("it took {:.1} s", since.elapsed().as_secs_f64()));
    cluster.masters[index].etcd.wait_ready()?;
    let name = cluster.name(index).to_owned();
    let member = member(cluster, index)?.unwrap_or_default();
    let wanted = format!("started, {name}, {0}, {0}, false", "*");
    cluster.transcript.check_equal("the new member has a vote", &without_urls(&member), &wanted);
    cluster.wait_writes(&load, &others)?;
    let written = cluster.end_load(load, fault, since, &[])?;

    cluster.spawn_apiserver(index)?;
    cluster.masters[index].plane_mut()?.wait_ready()?;
    cluster.masters[index].plane_mut()?.start_controllers()?;
    register(cluster, index)?;
    settled::check(cluster, &written, plan.rounds)
}

/// The node and its pods, as far as kubeadm asks for them.
fn register(cluster: &Cluster, index: usize) -> Outcome {
    let (name, etcd) = (cluster.name(index), &cluster.masters[index].etcd);
    let mut client = cluster.masters[0].plane()?.admin();
    client.post("/api/v1/nodes", &json!({"metadata": {"name": name}}))?.must("a node")?;
    let etcd_urls = "kubeadm.kubernetes.io/etcd.advertise-client-urls";
    add_pod(cluster, "etcd", name, name, etcd_urls, &etcd.client_url())?;
    let endpoint = cluster.masters[index].plane()?.address.to_string();
    let address = "kubeadm.kubernetes.io/kube-apiserver.advertise-address.endpoint";
    add_pod(cluster, "kube-apiserver", name, name, address, &endpoint)
}

fn unregister(cluster: &Cluster, index: usize) -> Outcome {
    let mut client = cluster.masters[0].plane()?.admin();
    let (name, now) = (cluster.name(index), json!({"gracePeriodSeconds": 0}));
    for component in ["etcd", "kube-apiserver"] {
        client.delete(&format!("{PODS}/{component}-{name}"), &now)?.must("delete a pod")?;
    }
    client.delete(&format!("/api/v1/nodes/{name}"), &now)?.must("delete a node")?;
    Ok(())
}

#[derive(Clone, Copy, PartialEq)]
enum Leads {
    Yes,
    No,
}

/// kubeadm removes the member; its process must end by itself and kubeadm must empty its folder.
fn reset(cluster: &mut Cluster, plan: &Plan, index: usize, leads: Leads) -> Outcome {
    let others = cluster.others(index);
    cluster.make_leader(if leads == Leads::Yes { index } else { others[0] })?;
    let load = cluster.start_load(&others)?;
    let since = Instant::now();
    cluster.transcript.command("kubeadm reset phase remove-etcd-member");
    let log = kubeadm(cluster, index, &["reset", "phase", "remove-etcd-member"])?;
    let said = |line: &&str| line.starts_with("[reset] Deleted") || line.contains("Failed");
    cluster.transcript.output(&log.lines().filter(said).collect::<Vec<_>>().join("\n"));
    let status = cluster
        .wait("the removed member ends by itself", SOON, |cluster| cluster.masters[index].etcd.ended())?;
    let name = cluster.name(index).to_owned();
    cluster.transcript.output(&format!("{name}'s etcd ended with {status}"));
    cluster.transcript.check("it is no member any more", member(cluster, index)?.is_none());
    let left = fs::read_dir(&cluster.masters[index].etcd.data_dir)?.count();
    cluster.transcript.check_equal("files left in /var/lib/etcd", &left.to_string(), "0");
    cluster.wait_writes(&load, &others)?;
    cluster.hold(plan.hold.saturating_sub(since.elapsed()))?;
    let fault = format!("kubeadm reset of {}", if leads == Leads::Yes { "the leader" } else { "a follower" });
    let written = cluster.end_load(load, &fault, since, &[])?;
    unregister(cluster, index)?;
    cluster.masters[index].drop_plane();
    // The rest of a reset removes the manifest too.
    fs::remove_file(manifest(cluster, index))?;
    // It is the last, and nothing of it is left to be asked.
    let away = cluster.masters.remove(index);
    let settled = settled::check(cluster, &written, plan.rounds);
    cluster.masters.push(away);
    settled
}

/// Runs kubeadm on the machine until it has succeeded, and starts etcd once its manifest is there. What it said.
fn kubeadm(cluster: &mut Cluster, index: usize, words: &[&str]) -> Outcome<String> {
    let master = &cluster.masters[index];
    let mut command = master.host.command(&cluster.programs_of_kubernetes().join("kubeadm"));
    command.args(words).arg("--v=5");
    let name = format!("kubeadm-{}", words.join("-").replace(['/', '='], "-"));
    let name: String = name.chars().take(40).collect();
    let log = master.folder.join("logs").join(format!("{name}.log"));
    let begins = fs::metadata(&log).map_or(0, |known| known.len());
    let mut process = Process::start(&name, &master.folder.join("logs"), &mut command)?;
    let status = cluster.wait("kubeadm ends", KUBEADM_LIMIT, |cluster| {
        run_manifest(cluster, index).map_err(|error| error.to_string())?;
        process.ended()
    })?;
    let text = fs::read(&log).during(log.display())?;
    let text = String::from_utf8_lossy(&text[usize::try_from(begins)?.min(text.len())..]).into_owned();
    if status != "exit status: 0" {
        let lines: Vec<&str> = text.lines().collect();
        let last = lines[lines.len().saturating_sub(15)..].join("\n");
        return fail(format!("kubeadm {}: {status}\n{last}", words.join(" ")));
    }
    Ok(text)
}

fn manifest(cluster: &Cluster, index: usize) -> PathBuf {
    cluster.masters[index].folder.join("kubernetes/manifests/etcd.yaml")
}

/// What a kubelet does with a new manifest.
fn run_manifest(cluster: &mut Cluster, index: usize) -> Outcome {
    let path = manifest(cluster, index);
    let etcd = &mut cluster.masters[index].etcd;
    if etcd.process().is_ok() || !path.is_file() || fs::read_dir(&etcd.data_dir)?.next().is_some() {
        return Ok(());
    }
    let text = fs::read_to_string(&path)?;
    // kubeadm writes it at once, but not in one step.
    let Ok(pod) = serde_saphyr::from_str::<Value>(&text) else { return Ok(()) };
    let command = pod["spec"]["containers"][0]["command"].as_array().cloned().unwrap_or_default();
    let command: Vec<String> = command.iter().filter_map(Value::as_str).map(str::to_owned).collect();
    let Some((program, arguments)) = command.split_first() else { return Ok(()) };
    if program != "etcd" {
        return Err(Failure(format!("the manifest runs {program:?}")));
    }
    etcd.manifest_arguments = Some(arguments.to_vec());
    etcd.spawn()
}

/// The member of this machine, as another one lists it, but for its id.
fn member(cluster: &Cluster, index: usize) -> Outcome<Option<String>> {
    let peer_url = cluster.masters[index].etcd.peer_url();
    let list = cluster.masters[0].etcd.ctl(&["member", "list"], None)?.must("member list")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let line = list.lines().find(|line| line.contains(&peer_url));
    Ok(line.and_then(|line| line.split_once(", ")).map(|(_, rest)| rest.to_owned()))
}

fn without_urls(member: &str) -> String {
    let fields = member.split(", ").map(|field| if field.starts_with("https:") { "*" } else { field });
    fields.collect::<Vec<_>>().join(", ")
}
