//! Three masters, and everything that can happen to one, two or all of them.

mod cluster;
mod fault;
mod gap;
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
use crate::ha::cluster::{Cluster, NODE_COUNT, SOON};
use crate::ha::fault::{Fault, Role};
use crate::ha::rolling::Recently;
use crate::options::Depth;
use crate::transcript::Transcript;

/// How often and how long.
pub struct Plan {
    depth: Depth,
    /// Time that a fault lasts at least.
    hold: Duration,
    /// Rounds of write and read after each fault.
    rounds: usize,
    /// The same while nothing fails.
    quiet_rounds: usize,
}

impl Plan {
    pub fn new(depth: Depth) -> Plan {
        match depth {
            Depth::Quick => Plan { depth, hold: Duration::from_secs(4), rounds: 9, quiet_rounds: 60 },
            Depth::Full => Plan { depth, hold: Duration::from_secs(10), rounds: 60, quiet_rounds: 1000 },
        }
    }
}

/// One run on one etcd.
pub struct Run {
    cluster: Cluster,
}

impl Run {
    pub fn create(folder: &Path, kubernetes: &Path, programs: &Programs) -> Outcome<Run> {
        Ok(Run { cluster: Cluster::create(folder, kubernetes, programs)? })
    }

    pub fn transcript(&mut self) -> &mut Transcript {
        &mut self.cluster.transcript
    }

    pub fn gaps(&self) -> Vec<Gap> {
        self.cluster.gaps.clone()
    }

    pub fn all(&mut self, plan: &Plan) -> Outcome {
        let cluster = &mut self.cluster;
        if plan.depth == Depth::Quick {
            // Without the rolling restart that would bring them.
            for master in &mut cluster.masters {
                master.etcd.extra_flags = rolling::SNAPSHOT_FLAGS.map(str::to_owned).to_vec();
            }
        }
        start(cluster)?;
        fault::none(cluster, plan)?;
        match plan.depth {
            Depth::Quick => {
                rolling::behind_a_snapshot(cluster, plan, Recently::Nothing)?;
                faults_in_turn(cluster, plan)?;
            }
            Depth::Full => {
                faults_in_turn(cluster, plan)?;
                rolling::restart(cluster, plan)?;
                rolling::behind_a_snapshot(cluster, plan, Recently::Sent)?;
            }
        }
        outage::all_killed(cluster, plan)?;
        outage::two_of_three(cluster, plan)?;
        membership::replace(cluster, plan)?;
        if plan.depth == Depth::Full {
            restore::from_snapshot(cluster, plan)?;
        }
        settled::logs(cluster, plan.depth)?;
        end(cluster)
    }
}

fn faults_in_turn(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    const FAULTS: [Fault; 3] = [Fault::Kill, Fault::Pause, Fault::Cut];
    match plan.depth {
        Depth::Quick => {
            for (victim, fault) in FAULTS.into_iter().enumerate() {
                fault::one(cluster, plan, fault, victim, Role::Leader)?;
            }
        }
        Depth::Full => {
            for role in [Role::Leader, Role::Follower] {
                for fault in FAULTS {
                    for victim in cluster.all() {
                        fault::one(cluster, plan, fault, victim, role)?;
                    }
                }
            }
        }
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
