//! A new machine takes the place of an old one, as kubeadm and the documentation of Kubernetes do it.

use std::fs;
use std::time::{Duration, Instant};

use crate::failure::{During, Outcome};
use crate::ha::cluster::{Cluster, MASTER_COUNT, SOON};
use crate::ha::rolling::SNAPSHOT_FLAGS;
use crate::ha::{Plan, settled};

pub fn replace(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    add(cluster, plan)?;
    remove(cluster, plan)
}

/// A machine loses its data and comes back empty, under the same name and address.
pub fn wipe(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    let (victim, through) = (1, 0);
    let name = cluster.name(victim).to_owned();
    cluster.transcript.step("The leader's machine loses its data and joins anew; its API server stays");
    cluster.make_leader(victim)?;
    let (all, others) = (cluster.all(), cluster.others(victim));
    let peer_url = cluster.masters[victim].etcd.peer_url();
    let id = member_id(cluster, through, &peer_url)?;
    let load = cluster.start_load(&all)?;
    let since = Instant::now();
    let etcd = &mut cluster.masters[victim].etcd;
    etcd.kill()?;
    fs::remove_dir_all(&etcd.data_dir).during(etcd.data_dir.display())?;
    cluster.wait_writes(&load, &others)?;
    cluster.transcript.command(&format!("etcdctl member remove <{name}>"));
    cluster.masters[through].etcd.ctl(&["member", "remove", &id], None)?.must("member remove")?;
    cluster.show_etcdctl(through, &format!("member add {name} --learner --peer-urls={peer_url}"))?;
    let id = member_id(cluster, through, &peer_url)?;
    let promoted = start_and_promote(cluster, victim, through, &id)?;
    cluster.transcript.remark(&format!("promoted {:.2} s after its start", promoted.as_secs_f64()));
    cluster.wait_writes(&load, &all)?;
    let written = cluster.end_load(load, &format!("data of {name}, the leader, lost"), since, &[victim])?;
    settled::check(cluster, &written, plan.rounds)
}

fn add(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("A learner is added, started and promoted under writes; a control plane follows");
    let old = cluster.all();
    let load = cluster.start_load(&old)?;
    let since = Instant::now();
    let new = old.len();
    cluster.add_machine(MASTER_COUNT + 1)?;
    let (name, peer_url) = (cluster.name(new).to_owned(), cluster.masters[new].etcd.peer_url());
    cluster.show_etcdctl(0, &format!("member add {name} --learner --peer-urls={peer_url}"))?;
    let id = member_id(cluster, 0, &peer_url)?;
    let refused = promote(cluster, 0, &id)?.unwrap_or_default();
    cluster.transcript.command(&format!("etcdctl member promote <{name}>"));
    cluster.transcript.output(refused.lines().last().unwrap_or_default());
    cluster.transcript.check(
        "a learner that has not started cannot be promoted",
        refused.contains("can only promote a learner member which is in sync with leader"),
    );

    let promoted = start_and_promote(cluster, new, 0, &id)?;
    cluster.transcript.remark(&format!("promoted {:.2} s after its start", promoted.as_secs_f64()));
    cluster.transcript.check("it is promoted once it is in sync", true);
    cluster.wait_writes(&load, &old)?;
    let written = cluster.end_load(load, "learner added and promoted", since, &[])?;
    let started = Instant::now();
    cluster.spawn_apiserver(new)?;
    cluster.masters[new].plane_mut()?.wait_ready()?;
    cluster.masters[new].plane_mut()?.start_controllers()?;
    cluster.serve_nodes()?;
    cluster
        .transcript
        .remark(&format!("a control plane at {name} after {:.1} s", started.elapsed().as_secs_f64()));
    settled::check(cluster, &written, plan.rounds)
}

/// Starts a member that was added as a learner, and promotes it as soon as that is allowed: after how long.
fn start_and_promote(cluster: &mut Cluster, new: usize, through: usize, id: &str) -> Outcome<Duration> {
    let all = cluster.initial_cluster();
    let etcd = &mut cluster.masters[new].etcd;
    etcd.bootstrap.cluster = all;
    etcd.bootstrap.joins = true;
    etcd.extra_flags = SNAPSHOT_FLAGS.map(str::to_owned).to_vec();
    etcd.spawn()?;
    let started = Instant::now();
    cluster.wait("the learner is promoted", SOON, |cluster| {
        let refused = promote(cluster, through, id).map_err(|error| error.to_string())?;
        refused.map_or(Ok(()), Err)
    })?;
    let promoted = started.elapsed();
    cluster.masters[new].etcd.wait_ready()?;
    Ok(promoted)
}

/// Why the member was not promoted, or nothing when it was.
fn promote(cluster: &Cluster, through: usize, id: &str) -> Outcome<Option<String>> {
    let ran = cluster.masters[through].etcd.ctl(&["member", "promote", id], None)?;
    Ok(if ran.success { None } else { Some(ran.stderr) })
}

pub fn member_id(cluster: &Cluster, through: usize, peer_url: &str) -> Outcome<String> {
    let list = cluster.masters[through].etcd.ctl(&["member", "list"], None)?.must("member list")?;
    let list = String::from_utf8_lossy(&list).into_owned();
    let line = list.lines().find(|line| line.contains(peer_url)).unwrap_or_default();
    Ok(line.split(',').next().unwrap_or_default().trim().to_owned())
}

fn remove(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("The leader is removed: its process ends by itself, its API server lives on");
    let victim = 0;
    let name = cluster.name(victim).to_owned();
    cluster.make_leader(victim)?;
    let id = member_id(cluster, 0, &cluster.masters[victim].etcd.peer_url())?;
    let others = cluster.others(victim);
    let load = cluster.start_load(&others)?;
    let since = Instant::now();
    cluster.transcript.command(&format!("etcdctl member remove <{name}>"));
    let text = cluster.masters[1].etcd.ctl(&["member", "remove", &id], None)?.must("member remove")?;
    cluster.transcript.remark(&String::from_utf8_lossy(&text));
    let status = cluster
        .wait("the removed member ends by itself", SOON, |cluster| cluster.masters[victim].etcd.ended())?;
    cluster.transcript.output(&format!("{name}'s etcd ended with {status}"));
    cluster.wait_writes(&load, &others)?;
    cluster.hold(plan.hold.saturating_sub(since.elapsed()))?;
    let lives = cluster.masters[victim].plane_mut()?.apiserver_still_running();
    cluster.transcript.check_equal("its API server runs", &format!("{lives:?}"), "Ok(())");
    let ready = cluster.masters[victim].plane()?.ready();
    cluster.transcript.check("and is not ready", ready.is_err());
    let written = cluster.end_load(load, "member remove of the leader", since, &[])?;

    cluster.remove_machine(victim)?;
    cluster.serve_nodes()?;
    cluster.show_etcdctl(0, "member list -w table")?;
    settled::check(cluster, &written, plan.rounds)
}
