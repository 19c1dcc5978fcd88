//! Members restarted one after the other, and one that missed so much that it needs a whole snapshot.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::failure::Outcome;
use crate::ha::cluster::Cluster;
use crate::ha::{Plan, settled};

/// So few that a follower is soon behind what the leader's log still holds.
pub const SNAPSHOT_FLAGS: [&str; 2] = ["--snapshot-count=100", "--snapshot-catchup-entries=50"];

/// Objects that a follower must miss beside the load's, and the size of each: more entries than the above, and
/// more bytes than a leader keeps because it looks only now and then.
const MISSED_COUNT: usize = 200;
const MISSED_BYTES: usize = 8 << 10;

/// A leader that has sent a snapshot keeps its log whole for half a minute. Source: etcd
/// `server/etcdserver/server.go`, `releaseDelayAfterSnapshot`.
const LOG_KEPT: Duration = Duration::from_secs(35);

pub fn restart(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("Each member in turn is stopped by SIGTERM and started with a new flag");
    for flag in SNAPSHOT_FLAGS {
        cluster.transcript.output(flag);
    }
    let all = cluster.all();
    let load = cluster.start_load(&all)?;
    let since = Instant::now();
    for index in &all {
        let etcd = &mut cluster.masters[*index].etcd;
        let status = etcd.stop()?;
        etcd.extra_flags = SNAPSHOT_FLAGS.map(str::to_owned).to_vec();
        etcd.start()?;
        let name = cluster.name(*index).to_owned();
        cluster.transcript.remark(&format!("{name} ended with {status}"));
        cluster.wait_writes(&load, &all)?;
    }
    let written = cluster.end_load(load, "rolling restart", since, &all)?;
    settled::check(cluster, &written, plan.rounds)
}

/// Go's program takes over each data directory in place, and gives it back: members of both kinds are one
/// cluster, in every mixture. On Go's own run this is two rolling restarts.
pub fn exchange(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster
        .transcript
        .step("Each member in turn is taken over by Go's etcd, then each by the one before, in place");
    let all = cluster.all();
    let own = cluster.masters[0].etcd.programs.etcd.clone();
    let go = cluster.masters[0].etcd.programs.reference_etcd.clone();
    let load = cluster.start_load(&all)?;
    let since = Instant::now();
    for (program, whose) in [(go, "Go's"), (own, "the one before")] {
        for index in &all {
            let etcd = &mut cluster.masters[*index].etcd;
            etcd.stop()?;
            etcd.programs.etcd.clone_from(&program);
            etcd.start()?;
            cluster.wait_writes(&load, &all)?;
            let name = cluster.name(*index).to_owned();
            cluster.transcript.output(&format!("{name} runs {whose}"));
            settled::members_agree(cluster)?;
        }
    }
    let written = cluster.end_load(load, "rolling change to Go's etcd and back", since, &all)?;
    settled::check(cluster, &written, plan.rounds)
}

/// `recently` says whether a leader may have sent one already.
pub fn behind_a_snapshot(cluster: &mut Cluster, plan: &Plan, recently: Recently) -> Outcome {
    cluster.transcript.step("A follower is cut off for so long that it needs a snapshot");
    cluster.make_leader(0)?;
    let (victim, all) = (2, cluster.all());
    let others = cluster.others(victim);
    let received =
        |cluster: &Cluster| cluster.masters[victim].etcd.metric("etcd_network_snapshot_receive_success", &[]);
    let load = cluster.start_load(&all)?;
    let before = received(cluster)?;
    let since = Instant::now();
    cluster.network.cut(&cluster.masters[victim].host)?;
    let least = if recently == Recently::Sent { LOG_KEPT } else { plan.hold };
    cluster.hold(least)?;
    write_much(cluster, others[0])?;
    cluster.wait_writes(&load, &others)?;
    cluster.transcript.remark(&format!("cut off for {:.1} s", since.elapsed().as_secs_f64()));
    cluster.network.heal(&cluster.masters[victim].host)?;
    cluster.wait_writes(&load, &all)?;
    let snapshots = received(cluster)? - before;
    cluster.transcript.remark(&format!("{snapshots} snapshots received"));
    cluster.transcript.check("it got a snapshot", snapshots > 0.0);
    let written = cluster.end_load(load, "follower cut until it needs a snapshot", since, &[victim])?;
    settled::check(cluster, &written, plan.rounds)
}

#[derive(Clone, Copy, PartialEq)]
pub enum Recently {
    Sent,
    Nothing,
}

fn write_much(cluster: &mut Cluster, through: usize) -> Outcome {
    const NAMESPACE: &str = "much";
    let mut client = cluster.masters[through].plane()?.admin();
    client
        .post("/api/v1/namespaces", &json!({"metadata": {"name": NAMESPACE}}))?
        .must("create a namespace")?;
    for number in 0..MISSED_COUNT {
        let object = json!({
            "metadata": {"name": format!("much-{number:03}")},
            "data": {"text": "x".repeat(MISSED_BYTES)},
        });
        let path = format!("/api/v1/namespaces/{NAMESPACE}/configmaps");
        client.post(&path, &object)?.must("create an object")?;
    }
    Ok(())
}
