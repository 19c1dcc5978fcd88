//! Reads and changes through kubectl: each answer comes from etcd, or from a cache that etcd calls current.

use serde_json::Value;

use crate::bench::Bench;
use crate::failure::Outcome;

pub fn counted(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Every kubectl get asks etcd");
    let before = bench.etcd.handled("Range")?;
    bench.show("-n shop get pod lone -o 'jsonpath={.status.phase}'")?;
    let after_get = bench.etcd.handled("Range")?;
    bench.transcript.check("a get is at least one Range", after_get > before);
    bench.show_remark("-n shop get pods")?;
    let after_list = bench.etcd.handled("Range")?;
    bench.transcript.check("a list is at least one Range", after_list > after_get);
    bench
        .transcript
        .remark(&format!("Range: {before}, {after_get} after the get, {after_list} after the list"));

    let told = bench.etcd.ctl(&["get", "x", "-w", "json"], None)?.must("etcdctl get")?;
    let revision = serde_json::from_slice::<Value>(&told)?["header"]["revision"].as_i64().unwrap_or(i64::MAX);
    let list: Value = serde_json::from_str(&bench.ask(&["get", "--raw", "/api/v1/namespaces/shop/pods"])?)?;
    let version =
        list["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok()).unwrap_or(0);
    bench.transcript.check("a list is as new as etcd was when it began", version >= revision);
    Ok(())
}

pub fn pages(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Lists by pages");
    bench.show("create namespace paging")?;
    let mut client = bench.control_plane()?.admin();
    const CONFIGS: &str = "/api/v1/namespaces/paging/configmaps";
    for index in 0..23 {
        let config = serde_json::json!({
            "metadata": {"name": format!("page-{index:02}"), "labels": {"bench": "paging"}}, "data": {"n": index.to_string()},
        });
        client.post(CONFIGS, &config)?.must("create a config")?;
    }
    let whole = bench.ask(&["-n", "paging", "get", "cm", "-l", "bench=paging", "-o", "name"])?;
    let paged = bench.show("-n paging get cm -l bench=paging -o name --chunk-size=5")?;
    bench.transcript.check_equal("pages together are the whole", &paged, &whole);

    let mut path = format!("{CONFIGS}?limit=10&fieldSelector=metadata.name!%3Dkube-root-ca.crt");
    let (mut revisions, mut names) = (Vec::new(), Vec::new());
    loop {
        let page = client.get(&path)?.must("list a page")?;
        let items = page["items"].as_array().cloned().unwrap_or_default();
        names.extend(items.iter().map(|item| item["metadata"]["name"].to_string()));
        revisions.push(page["metadata"]["resourceVersion"].to_string());
        bench.transcript.output(&format!("a page of {}", items.len()));
        let Some(token) = page["metadata"]["continue"].as_str().filter(|token| !token.is_empty()) else {
            break;
        };
        // A write between two pages must not be seen by the later ones.
        let late = serde_json::json!({"metadata": {"name": format!("page-99-{}", revisions.len())}});
        client.post(CONFIGS, &late)?.must("create a config")?;
        path = format!("{CONFIGS}?limit=10&fieldSelector=metadata.name!%3Dkube-root-ca.crt&continue={token}");
    }
    bench.transcript.check("23 names, none twice", names.len() == 23 && names.is_sorted());
    bench
        .transcript
        .check("all pages are of one revision", revisions.windows(2).all(|pair| pair[0] == pair[1]));
    Ok(())
}

pub fn changes(bench: &mut Bench) -> Outcome {
    bench.transcript.step("Apply, patch, label, replace, delete, seen by a watch");
    bench.show("apply -f manifests/opening-hours.yaml")?;
    let watch = bench.watch("changes", "-n shop get configmap opening-hours")?;
    watch.event(1)?;
    for command in [
        "apply -f manifests/opening-hours-later.yaml",
        r#"-n shop patch configmap opening-hours --type=merge -p '{"data":{"friday":"9-20"}}'"#,
        r#"-n shop patch configmap opening-hours --type=json -p '[{"op":"remove","path":"/data/friday"}]'"#,
        "-n shop label configmap opening-hours season=summer",
        "-n shop annotate configmap opening-hours note=short",
        "-n shop get configmap opening-hours -o 'jsonpath={.data} {.metadata.labels}'",
        "-n shop delete configmap opening-hours",
    ] {
        bench.show(command)?;
        bench.transcript.output("");
    }
    watch.event(7)?;
    for event in watch.events()? {
        bench.transcript.output(&format!("{} {}", event["type"], event["object"]["data"]));
    }
    bench.show_refusal("-n shop get configmap opening-hours")
}

/// Cached and stored, side by side.
pub fn caches(bench: &mut Bench) -> Outcome {
    bench.transcript.step("The API server's caches hold what etcd holds");
    for (path, prefix) in [
        ("/api/v1/namespaces", "/registry/namespaces/"),
        ("/api/v1/pods", "/registry/pods/"),
        ("/api/v1/configmaps", "/registry/configmaps/"),
        ("/api/v1/secrets", "/registry/secrets/"),
        ("/api/v1/serviceaccounts", "/registry/serviceaccounts/"),
        ("/apis/apps/v1/deployments", "/registry/deployments/"),
        ("/apis/apps/v1/replicasets", "/registry/replicasets/"),
        ("/apis/rbac.authorization.k8s.io/v1/clusterroles", "/registry/clusterroles/"),
        ("/apis/example.com/v1/gadgets", "/registry/example.com/gadgets/"),
    ] {
        let list = bench.control_plane()?.admin().get(&format!("{path}?resourceVersion=0"))?.must(path)?;
        let items = list["items"].as_array().cloned().unwrap_or_default();
        let mut cached: Vec<(String, String)> = items
            .iter()
            .map(|item| {
                let text = |name: &str| item["metadata"][name].as_str().unwrap_or_default().to_owned();
                let namespace = text("namespace");
                let separator = if namespace.is_empty() { "" } else { "/" };
                (format!("{prefix}{namespace}{separator}{}", text("name")), text("resourceVersion"))
            })
            .collect();
        cached.sort();
        let stored = bench.etcd.stored(prefix)?;
        let stored: Vec<(String, String)> =
            stored.into_iter().map(|(key, stored)| (key, stored.mod_revision.to_string())).collect();
        if cached != stored {
            bench.transcript.remark(&format!("cached {cached:?}\nstored {stored:?}"));
        }
        bench
            .transcript
            .check(&format!("{path}: {} objects, the same revisions", stored.len()), cached == stored);
    }
    let memory = bench.etcd.peak_memory_mib()?;
    bench.transcript.remark(&format!("etcd held {memory} MiB at most"));
    consistent_reads(bench)
}

pub fn consistent_reads(bench: &mut Bench) -> Outcome {
    const READS: &str = "apiserver_watch_cache_consistent_read_total";
    let plane = bench.control_plane()?;
    let fallen_back = plane.metric(READS, &["fallback=\"true\""])?;
    let from_cache = plane.metric(READS, &["fallback=\"false\"", "success=\"true\""])?;
    bench
        .transcript
        .remark(&format!("consistent reads from a cache: {from_cache}; fallen back: {fallen_back}"));
    bench.transcript.check("consistent reads are served from caches", from_cache > 0.0);
    bench.transcript.check("none fell back to a whole list from etcd", fallen_back == 0.0);
    Ok(())
}
