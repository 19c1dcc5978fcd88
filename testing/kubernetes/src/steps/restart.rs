//! A new control plane on the old data finds everything again.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::bench::{Bench, NODE_COUNT};
use crate::failure::Outcome;
use crate::steps::read;

/// Everything that holds still when the controllers and nodes do.
const KINDS: &str = "nodes,namespaces,pods,deployments,replicasets,services,endpointslices,configmaps,secrets,\
    serviceaccounts,roles,rolebindings,clusterroles,clusterrolebindings,customresourcedefinitions,gadgets,\
    apiservices,priorityclasses,flowschemas,prioritylevelconfigurations";

pub fn everything(bench: &mut Bench) -> Outcome {
    bench
        .transcript
        .step("Everything is stopped; a new control plane on the same data finds everything again");
    bench.stop_controllers_and_nodes()?;
    let before = objects(bench)?;
    let problems = log_problems(bench)?;
    bench.transcript.check_equal(
        "the first API server found no inconsistent cache and did not panic",
        &problems,
        "",
    );
    bench.stop_apiserver()?;
    let status = bench.etcd.stop()?;
    bench.transcript.remark(&format!("etcd ended with {status}"));
    for folder in ["apiserver", "controller-manager", "scheduler", "kubectl-cache"] {
        let _ = fs::remove_dir_all(bench.folder.join(folder));
    }
    bench.etcd.start()?;
    bench.start_apiserver("second")?;
    let after = objects(bench)?;
    bench.transcript.command(&format!("kubectl get {KINDS} -A -o json"));
    for (kind, items) in &before {
        let same = after.get(kind) == Some(items);
        if !same {
            bench.transcript.remark(&first_difference(items, after.get(kind).map_or(&[], Vec::as_slice)));
        }
        let count = items.iter().filter(|item| item["metadata"]["namespace"] != "storm").count();
        bench.transcript.check(&format!("{count:3} {kind}, the same to the last resourceVersion"), same);
    }
    bench.transcript.check("and no more kinds than before", before.len() == after.len());
    bench.show("-n shop get secret till -o 'go-template={{.data.password | base64decode}}'")?;
    bench.transcript.output("");

    // The old controllers' leases would be waited for; that is their design and not what is shown here.
    bench.ask(&["-n", "kube-system", "delete", "lease", "kube-controller-manager", "kube-scheduler"])?;
    bench.start_controllers_and_nodes()?;
    bench.transcript.step("The new control plane works");
    bench.show("-n shop scale deployment web --replicas=8")?;
    bench.show_when(
        "-n shop get deployment web -o 'jsonpath={.status.replicas} {.status.readyReplicas}'",
        "8 8",
    )?;
    let ready =
        r#"{range .items[*]}{.metadata.name} {.status.conditions[?(@.type=="Ready")].status}{"\n"}{end}"#;
    let nodes: String = (0..NODE_COUNT).map(|index| format!("node-{index} True\n")).collect();
    bench.show_when(&format!("get nodes -o 'jsonpath={ready}'"), &nodes)?;
    bench.show("delete namespace shop --timeout=120s")?;
    let left = bench.etcd.stored("/registry/")?;
    let left: Vec<&String> = left.keys().filter(|key| key.contains("/shop")).collect();
    bench.transcript.check_equal("nothing of the namespace is left in etcd", &format!("{left:?}"), "[]");
    Ok(())
}

fn objects(bench: &Bench) -> Outcome<BTreeMap<String, Vec<Value>>> {
    let list: Value = serde_json::from_str(&bench.ask(&["get", KINDS, "-A", "-o", "json"])?)?;
    let mut by_kind: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for item in list["items"].as_array().into_iter().flatten() {
        let kind = item["kind"].as_str().unwrap_or_default().to_owned();
        by_kind.entry(kind).or_default().push(item.clone());
    }
    Ok(by_kind)
}

fn first_difference(before: &[Value], after: &[Value]) -> String {
    let pair = before.iter().zip(after).find(|(before, after)| before != after);
    match pair {
        Some((before, after)) => format!("before: {before}\nafter:  {after}"),
        None => format!("{} before, {} after", before.len(), after.len()),
    }
}

pub fn logs(bench: &mut Bench) -> Outcome {
    bench.transcript.step("The logs and counters of the second API server");
    let problems = log_problems(bench)?;
    bench.transcript.check_equal("no inconsistent cache, no panic", &problems, "");
    read::consistent_reads(bench)?;
    bench.stop_controllers_and_nodes()?;
    bench.stop_apiserver()?;
    bench.etcd.stop()?;
    Ok(())
}

/// What the API server found wrong, with a remark on how often it looked.
fn log_problems(bench: &mut Bench) -> Outcome<String> {
    let report = bench.control_plane()?.consistency()?;
    bench.transcript.remark(&report.summary);
    Ok(report.problems.join("\n"))
}
