//! The control plane, its nodes, and one object of each kind that the issue names.

use crate::bench::{Bench, NODE_COUNT, SOON};
use crate::failure::Outcome;
use crate::wait;

pub fn control_plane(bench: &mut Bench) -> Outcome {
    bench.transcript.step("etcd with TLS under kubeadm's flags, and a control plane over it");
    bench.etcd.start()?;
    let version = bench.etcd.ctl(&["endpoint", "status", "-w", "table"], None)?;
    bench.transcript.command("etcdctl endpoint status -w table");
    bench.transcript.remark(&version.text());
    let health = bench.etcd.ctl(&["endpoint", "health"], None)?;
    bench.transcript.check("etcdctl endpoint health", health.success);
    let stored = bench.etcd.stored("")?;
    bench.transcript.check("etcd is empty", stored.is_empty());
    bench.start_apiserver("first")?;
    bench.start_controllers_and_nodes()?;
    bench.show_remark("version")?;
    bench.show("get --raw /readyz")?;
    bench.transcript.output("");
    Ok(())
}

pub fn nodes(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Fake nodes register and become ready");
    let ready = r#"{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status} {.spec.taints}{"\n"}{end}"#;
    let wanted: String = (0..NODE_COUNT).map(|index| format!("node-{index} True \n")).collect();
    bench.show_when(&format!("get nodes -o 'jsonpath={ready}'"), &wanted)?;
    bench.show_remark("get nodes -o wide")?;
    Ok(())
}

pub fn objects(bench: &mut Bench) -> Outcome {
    bench.transcript.step(
        "Namespace, config, secret, account, roles, bindings, custom resource, pod, deployment, service",
    );
    bench.show("create namespace shop")?;
    bench.show("create namespace storm")?;
    // Pods are refused until the controller has made the account that they run under.
    wait::until("the default account", SOON, || {
        bench.ask(&["-n", "shop", "get", "serviceaccount", "default"]).map_err(|error| error.to_string())
    })?;
    for command in [
        "-n shop create configmap colours --from-literal=wall=blue --from-literal=floor=grey",
        "-n shop create secret generic till --from-literal=password=open-sesame-7431",
        "-n shop create serviceaccount clerk",
        "-n shop create role reader --verb=get,list,watch --resource=pods,configmaps",
        "-n shop create rolebinding clerk-reads --role=reader --serviceaccount=shop:clerk",
        "create clusterrole node-viewer --verb=get,list --resource=nodes",
        "create clusterrolebinding clerk-views-nodes --clusterrole=node-viewer --serviceaccount=shop:clerk",
        "apply -f manifests/gadgets.yaml",
        "wait --for=condition=Established --timeout=60s crd/gadgets.example.com",
    ] {
        bench.show(command)?;
    }
    // The kind is established a moment before every discovery answer names it.
    wait::until("the custom kind", SOON, || {
        bench.ask(&["-n", "shop", "get", "gadgets"]).map_err(|error| error.to_string())
    })?;
    for command in [
        "apply -f manifests/gadget.yaml",
        "-n shop run lone --image=example.org/lone:1 --restart=Never",
        "-n shop create deployment web --image=example.org/web:1 --replicas=10",
        "-n shop expose deployment web --port=80",
        "-n shop wait --for=condition=Ready --timeout=120s pod/lone",
    ] {
        bench.show(command)?;
    }
    bench.show("-n shop get gadget first -o 'jsonpath={.spec}'")?;
    bench.show("auth can-i list pods -n shop --as=system:serviceaccount:shop:clerk")?;
    bench.show_refusal("auth can-i delete pods -n shop --as=system:serviceaccount:shop:clerk")?;
    bench.show_refusal("create namespace shop")?;
    let token = bench.ask(&["-n", "shop", "create", "token", "clerk"])?;
    bench.transcript.check("the account gets a token", token.trim().split('.').count() == 3);
    Ok(())
}
