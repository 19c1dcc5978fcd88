//! Back to a snapshot, on new data directories, while the API servers run.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::failure::{Failure, Outcome, fail};
use crate::ha::cluster::{Cluster, SOON};
use crate::ha::load::Written;
use crate::ha::{Plan, settled};
use crate::process::run;

/// So far ahead that no client's revision lies beyond. Source: etcd's page on recovery for Kubernetes.
const BUMP: i64 = 1_000_000_000;

const RESTORE_LIMIT: Duration = Duration::from_secs(120);

pub fn from_snapshot(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("A snapshot is saved under writes and restored on three new data directories");
    let file = cluster.folder.join("snapshot.db").display().to_string();
    let all = cluster.all();
    let load = cluster.start_load(&all)?;
    cluster.transcript.command("etcdctl snapshot save snapshot.db");
    cluster.masters[0].etcd.ctl(&["snapshot", "save", &file], None)?.must("snapshot save")?;
    // These writes are to be gone.
    cluster.wait_writes(&load, &all)?;
    let written = load.finish()?;
    let at = snapshot_revision(cluster, &file)?;
    cluster.transcript.remark(&format!("the snapshot is at revision {at}"));

    let path = format!("/api/v1/namespaces/{}/configmaps", written.namespace);
    let since = Instant::now();
    for master in &mut cluster.masters {
        master.etcd.kill()?;
    }
    restore(cluster, &file)?;
    cluster.start_members()?;
    let ready = since.elapsed();
    for index in &all {
        cluster.wait("the API servers converge", SOON, |cluster| {
            let plane = cluster.masters[*index].plane().map_err(|error| error.to_string())?;
            plane.ready()?;
            let list = plane.admin().get(&path).and_then(|answer| answer.must("list"));
            list.map(|_| ()).map_err(|error| error.to_string())
        })?;
    }
    let load = cluster.start_load(&all)?;
    cluster.transcript.remark(&format!(
        "members ready after {:.2} s, writes through all masters after {:.2} s",
        ready.as_secs_f64(),
        since.elapsed().as_secs_f64()
    ));
    let after = cluster.end_load(load, "after the restore", Instant::now(), &[])?;
    as_of(cluster, &written, at)?;
    let revision = cluster.status(0)?.revision;
    cluster.transcript.check("revisions went on far beyond the snapshot's", revision > at + BUMP);
    settled::check(cluster, &after, plan.rounds)
}

fn snapshot_revision(cluster: &Cluster, file: &str) -> Outcome<i64> {
    let mut command = Command::new(&cluster.masters[0].etcd.programs.etcdutl);
    command.args(["snapshot", "status", file, "-w", "json"]);
    let answer = run(&mut command, None, RESTORE_LIMIT)?.must("snapshot status")?;
    let answer: Value = serde_json::from_slice(&answer)?;
    answer["revision"].as_i64().ok_or_else(|| Failure(format!("snapshot status: {answer}")))
}

fn restore(cluster: &mut Cluster, file: &str) -> Outcome {
    let all = cluster.initial_cluster();
    cluster
        .transcript
        .command(&format!("etcdutl snapshot restore snapshot.db --bump-revision={BUMP} --mark-compacted …"));
    for master in &mut cluster.masters {
        let etcd = &mut master.etcd;
        etcd.bootstrap.cluster.clone_from(&all);
        etcd.bootstrap.joins = false;
        etcd.data_dir = master.folder.join("etcd-restored");
        let mut command = Command::new(&etcd.programs.etcdutl);
        command.args(["snapshot", "restore", file]);
        command.args([
            format!("--name={}", master.host.name),
            format!("--initial-cluster={all}"),
            "--initial-cluster-token=restored".to_owned(),
            format!("--initial-advertise-peer-urls={}", etcd.peer_url()),
            format!("--data-dir={}", etcd.data_dir.display()),
            format!("--bump-revision={BUMP}"),
            "--mark-compacted".to_owned(),
        ]);
        run(&mut command, None, RESTORE_LIMIT)?.must("snapshot restore")?;
    }
    Ok(())
}

/// What was written before the snapshot is there, through every master; what was written later is not.
fn as_of(cluster: &mut Cluster, written: &Written, at: i64) -> Outcome {
    let prefix = format!("/registry/configmaps/{}/", written.namespace);
    let stored = cluster.masters[0].etcd.stored(&prefix)?;
    // The last write of each object that the snapshot can hold.
    let mut wanted: BTreeMap<String, i64> = BTreeMap::new();
    for ack in written.acks.iter().filter(|ack| ack.revision <= at) {
        let newest = wanted.entry(ack.name.clone()).or_default();
        *newest = (*newest).max(ack.revision);
    }
    let later = written.acks.iter().filter(|ack| ack.revision > at).count();
    cluster
        .transcript
        .remark(&format!("{} objects before the snapshot, {later} writes after it", wanted.len()));
    if later == 0 {
        return fail("no write came after the snapshot: nothing is shown");
    }
    let there = |(name, revision): (&String, &i64)| {
        stored.get(&format!("{prefix}{name}")).is_some_and(|stored| stored.mod_revision == *revision)
    };
    let all = wanted.iter().all(there);
    cluster.transcript.check("every object is as it was when the snapshot was taken", all);
    let new = stored.values().filter(|stored| stored.mod_revision > at).count();
    cluster.transcript.check_equal("and none is newer", &new.to_string(), "0");
    for index in cluster.all() {
        let path = format!("/api/v1/namespaces/{}/configmaps", written.namespace);
        let list = cluster.masters[index].plane()?.admin().get(&path)?.must("list")?;
        let count = list["items"].as_array().map_or(0, Vec::len);
        let name = cluster.name(index).to_owned();
        cluster.transcript.check(&format!("{name} lists the same objects"), count == stored.len());
    }
    Ok(())
}
