//! Members restarted one after the other, and one that missed so much that it needs a whole snapshot.

use std::time::Instant;

use crate::failure::Outcome;
use crate::ha::cluster::{Cluster, SOON};
use crate::ha::{Plan, settled};

/// So few that a follower is soon behind what the leader's log still holds.
pub const SNAPSHOT_FLAGS: [&str; 2] = ["--snapshot-count=100", "--snapshot-catchup-entries=50"];

/// Writes that a follower must miss: some times the above.
const MISSED_WRITES: usize = 500;

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

pub fn behind_a_snapshot(cluster: &mut Cluster, plan: &Plan) -> Outcome {
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
    cluster.wait("writes that it misses", 2 * SOON, |_| {
        let count = load.writes_since(since);
        if count >= MISSED_WRITES { Ok(()) } else { Err(format!("{count} of {MISSED_WRITES}")) }
    })?;
    cluster.hold(plan.hold.saturating_sub(since.elapsed()))?;
    cluster.transcript.remark(&format!("cut off for {:.1} s", since.elapsed().as_secs_f64()));
    cluster.wait_writes(&load, &others)?;
    cluster.network.heal(&cluster.masters[victim].host)?;
    cluster.wait_writes(&load, &all)?;
    let snapshots = received(cluster)? - before;
    cluster.transcript.remark(&format!("{snapshots} snapshots received"));
    cluster.transcript.check("it got a snapshot", snapshots > 0.0);
    let written = cluster.end_load(load, "follower cut until it needs a snapshot", since, &[victim])?;
    settled::check(cluster, &written, plan.rounds)
}
