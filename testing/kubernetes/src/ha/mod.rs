//! Three masters, and everything that can happen to one, two or all of them.

mod cluster;
mod disk;
mod fault;
mod gap;
mod kubeadm;
mod load;
mod membership;
pub mod network;
mod outage;
mod restore;
mod rolling;
mod settled;

use std::path::Path;
use std::time::Duration;

pub use crate::ha::gap::{Gap, side_by_side};

use crate::etcd::Programs;
use crate::failure::Outcome;
use crate::ha::cluster::{Cluster, MASTER_COUNT, NODE_COUNT, SOON, Storage};
use crate::ha::fault::{Fault, Role};
use crate::ha::rolling::Recently;
use crate::options::{Depth, Part};
use crate::transcript::Transcript;

/// What is run, how often and how long.
pub struct Plan {
    depth: Depth,
    parts: Vec<Part>,
    /// Time that a fault lasts at least.
    hold: Duration,
    /// Rounds of write and read after each fault.
    rounds: usize,
    /// The same while nothing fails.
    quiet_rounds: usize,
}

impl Plan {
    /// No part stands for all that belong to this depth.
    pub fn new(depth: Depth, parts: &[Part]) -> Plan {
        let all: &[Part] = match depth {
            Depth::Short => &[Part::Faults, Part::Kubeadm],
            Depth::Quick => {
                &[Part::Faults, Part::Snapshots, Part::Outages, Part::Members, Part::Programs, Part::Kubeadm]
            }
            Depth::Full => &[
                Part::Faults,
                Part::Snapshots,
                Part::Outages,
                Part::Programs,
                Part::Members,
                Part::Restore,
                Part::Kubeadm,
            ],
        };
        let parts = if parts.is_empty() { all } else { parts }.to_vec();
        let (hold, rounds, quiet_rounds) = match depth {
            Depth::Short => (3, 6, 20),
            Depth::Quick => (4, 9, 60),
            Depth::Full => (8, 30, 500),
        };
        Plan { depth, parts, hold: Duration::from_secs(hold), rounds, quiet_rounds }
    }

    fn has(&self, part: Part) -> bool {
        self.parts.contains(&part)
    }

    /// Whether it takes so long that every API server compares its caches with etcd.
    fn is_long(&self) -> bool {
        self.depth == Depth::Full && self.has(Part::Faults)
    }

    /// Disks that can hang are for those runs where one does.
    fn storage(&self) -> Storage {
        if self.depth == Depth::Full && self.has(Part::Faults) { Storage::Own } else { Storage::Shared }
    }
}

/// One run on one etcd.
pub struct Run {
    cluster: Cluster,
}

impl Run {
    pub fn create(folder: &Path, kubernetes: &Path, programs: &Programs, plan: &Plan) -> Outcome<Run> {
        Ok(Run { cluster: Cluster::create(folder, kubernetes, programs, plan.storage())? })
    }

    pub fn transcript(&mut self) -> &mut Transcript {
        &mut self.cluster.transcript
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.cluster.gaps.clone()
    }

    pub fn all(&mut self, plan: &Plan) -> Outcome {
        let cluster = &mut self.cluster;
        let restarts = plan.depth == Depth::Full && plan.has(Part::Snapshots);
        if !restarts {
            // Without the rolling restart that would bring them.
            for master in &mut cluster.masters {
                master.etcd.extra_flags = rolling::SNAPSHOT_FLAGS.map(str::to_owned).to_vec();
            }
        }
        start(cluster)?;
        fault::none(cluster, plan)?;
        if plan.has(Part::Snapshots) && !restarts {
            rolling::behind_a_snapshot(cluster, plan, Recently::Nothing)?;
        }
        if plan.has(Part::Faults) {
            faults_in_turn(cluster, plan)?;
        }
        if restarts {
            rolling::restart(cluster, plan)?;
            rolling::behind_a_snapshot(cluster, plan, Recently::Sent)?;
        }
        if plan.has(Part::Outages) {
            outage::all_killed(cluster, plan)?;
            outage::two_of_three(cluster, plan)?;
        }
        if plan.has(Part::Programs) {
            rolling::exchange(cluster, plan)?;
        }
        if plan.has(Part::Members) {
            membership::wipe(cluster, plan)?;
            membership::replace(cluster, plan)?;
        }
        if plan.has(Part::Restore) {
            restore::from_snapshot(cluster, plan)?;
        }
        if plan.has(Part::Kubeadm) {
            kubeadm::join_and_reset(cluster, plan)?;
        }
        settled::logs(cluster, plan)?;
        end(cluster)
    }
}

/// Every fault to each master in turn, or each fault once where the depth leaves time for no more.
fn faults_in_turn(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    const OFTEN: [Fault; 3] = [Fault::Kill, Fault::Pause, Fault::Cut];
    const SELDOM: [Fault; 4] = [Fault::Stop, Fault::Deafen, Fault::Mute, Fault::Stall];
    if plan.depth != Depth::Full {
        for (victim, fault) in OFTEN.into_iter().enumerate() {
            fault::one(cluster, plan, fault, victim, Role::Leader)?;
        }
        return Ok(());
    }
    for fault in OFTEN.into_iter().chain(SELDOM) {
        for victim in cluster.all() {
            fault::one(cluster, plan, fault, victim, Role::Leader)?;
        }
    }
    for fault in OFTEN {
        for victim in cluster.all() {
            fault::one(cluster, plan, fault, victim, Role::Follower)?;
        }
    }
    for (victim, fault) in SELDOM.into_iter().enumerate() {
        fault::one(cluster, plan, fault, victim % MASTER_COUNT, Role::Follower)?;
    }
    Ok(())
}

fn start(cluster: &mut Cluster) -> Outcome {
    cluster.transcript.step("Three members with TLS under kubeadm's flags, a control plane at each");
    cluster.start_members()?;
    cluster.show_etcdctl(0, "member list -w table")?;
    cluster.start_control_planes()?;
    cluster.serve_nodes()?;
    cluster.show_etcdctl(0, "endpoint status --cluster -w table")?;
    cluster.show_etcdctl(0, "endpoint health --cluster")?;
    let wanted = (0..NODE_COUNT).map(|index| format!("node-{index}=True ")).collect::<String>();
    let arguments = [
        "get",
        "nodes",
        "-o",
        r#"jsonpath={range .items[*]}{.metadata.name}={.status.conditions[?(@.type=="Ready")].status} {end}"#,
    ];
    for index in cluster.all() {
        cluster.wait("nodes are ready", SOON, |cluster| {
            let text = cluster.kubectl(index, &arguments).map_err(|error| error.to_string())?.text();
            if text == wanted { Ok(()) } else { Err(text) }
        })?;
        let name = cluster.name(index).to_owned();
        cluster.transcript.check(&format!("{NODE_COUNT} nodes are ready as seen through {name}"), true);
    }
    Ok(())
}

fn end(cluster: &mut Cluster) -> Outcome {
    cluster.transcript.step("The end");
    let table = gap::table(&cluster.gaps);
    cluster.transcript.remark(&table);
    println!("{table}");
    let restarts = cluster.controller_restarts;
    cluster
        .transcript
        .remark(&format!("controllers that lost their lease and were started again: {restarts}"));
    cluster.stop_everything()
}
