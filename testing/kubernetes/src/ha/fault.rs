//! One member or its machine fails while everybody writes, and comes back.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::failure::{Failure, Outcome};
use crate::ha::cluster::{Cluster, SOON};
use crate::ha::gap::table;
use crate::ha::load::{Load, Measure, Written};
use crate::ha::{Plan, settled};

/// Acknowledged writes through each master before a fault, and through each that is well after it.
const WRITES: usize = 5;

#[derive(Clone, Copy, PartialEq)]
pub enum Fault {
    Kill,
    Pause,
    /// SIGTERM, as when a machine is shut down.
    Stop,
    /// Neither hears nor is heard.
    Cut,
    /// Is heard, but hears nobody.
    Deafen,
    /// Hears, but is not heard.
    Mute,
    /// Its disk hangs. Needs [`crate::ha::disk::Disk`].
    Stall,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Role {
    Leader,
    Follower,
}

impl Fault {
    fn title(self) -> &'static str {
        match self {
            Fault::Kill => "kill -9 of",
            Fault::Pause => "SIGSTOP of",
            Fault::Stop => "SIGTERM of",
            Fault::Cut => "network cut of",
            Fault::Deafen => "network cut towards",
            Fault::Mute => "network cut from",
            Fault::Stall => "disk hangs at",
        }
    }

    /// Whether the member lives on but takes no part, so that its API server must say so.
    fn isolates(self) -> bool {
        match self {
            Fault::Cut | Fault::Deafen | Fault::Mute => true,
            Fault::Kill | Fault::Pause | Fault::Stop | Fault::Stall => false,
        }
    }

    fn begin(self, cluster: &mut Cluster, victim: usize) -> Outcome {
        let others = cluster.other_hosts(victim);
        let Cluster { masters, network, .. } = cluster;
        let master = &mut masters[victim];
        match self {
            Fault::Kill => master.etcd.kill(),
            Fault::Pause => master.etcd.process()?.signal(Signal::STOP),
            Fault::Stop => master.etcd.stop().map(drop),
            Fault::Cut => network.cut(&master.host),
            Fault::Deafen => others.iter().try_for_each(|other| network.silence(other, &master.host)),
            Fault::Mute => others.iter().try_for_each(|other| network.silence(&master.host, other)),
            Fault::Stall => master.disk()?.freeze(),
        }
    }

    fn end(self, cluster: &mut Cluster, victim: usize) -> Outcome {
        let others = cluster.other_hosts(victim);
        let Cluster { masters, network, .. } = cluster;
        let master = &mut masters[victim];
        match self {
            Fault::Kill | Fault::Stop => master.etcd.start(),
            Fault::Pause => master.etcd.process()?.signal(Signal::CONT),
            Fault::Cut => network.heal(&master.host),
            Fault::Deafen => others.iter().try_for_each(|other| network.end_silence(other, &master.host)),
            Fault::Mute => others.iter().try_for_each(|other| network.end_silence(&master.host, other)),
            Fault::Stall => master.disk()?.thaw(),
        }
    }
}

impl Cluster {
    /// Writes, reads and watches through these masters, each of which has had some writes acknowledged.
    pub fn start_load(&mut self, masters: &[usize]) -> Outcome<Load> {
        let namespace = format!("load-{:02}", self.next_load());
        let one = |index: &usize| {
            let master = &self.masters[*index];
            Ok((master.host.name.clone(), master.plane()?.identity().clone()))
        };
        let load = Load::start(&namespace, masters.iter().map(one).collect::<Outcome<_>>()?)?;
        self.wait_writes(&load, masters)?;
        Ok(load)
    }

    /// Waits until each of these masters has had writes acknowledged that were begun from now on.
    pub fn wait_writes(&mut self, load: &Load, masters: &[usize]) -> Outcome {
        let start = Instant::now();
        let names: Vec<String> = masters.iter().map(|index| self.name(*index).to_owned()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        self.wait("writes go on", SOON, |_| load.acknowledged(&names, WRITES, start))
    }

    /// Lets time pass under writes. What is waited for is the time itself.
    pub fn hold(&mut self, length: Duration) -> Outcome {
        let start = Instant::now();
        self.wait("time passes", SOON + length, |_| {
            if start.elapsed() >= length { Ok(()) } else { Err(String::new()) }
        })
    }

    /// Ends the load and keeps its gap.
    pub fn end_load(
        &mut self,
        load: Load,
        fault: &str,
        since: Instant,
        struck: &[usize],
    ) -> Outcome<Written> {
        self.end_load_from(load, fault, since, Measure::FromLastWrite, struck)
    }

    pub fn end_load_from(
        &mut self,
        load: Load,
        fault: &str,
        since: Instant,
        measure: Measure,
        struck: &[usize],
    ) -> Outcome<Written> {
        let written = load.finish()?;
        let struck: Vec<String> = struck.iter().map(|index| self.name(*index).to_owned()).collect();
        let gap = written.gap(fault, since, measure, &struck);
        self.transcript.remark(&table(std::slice::from_ref(&gap)));
        self.transcript.remark(&gap.patient_story);
        self.gaps.push(gap);
        Ok(written)
    }
}

/// How long the gaps are when nothing happens.
pub fn none(cluster: &mut Cluster, plan: &Plan) -> Outcome {
    cluster.transcript.step("Writes through all masters, undisturbed");
    let load = cluster.start_load(&cluster.all())?;
    let since = Instant::now();
    cluster.hold(plan.hold)?;
    let written = cluster.end_load(load, "nothing", since, &[])?;
    settled::check(cluster, &written, plan.rounds)?;
    cluster.transcript.step("Every write is seen at once through the other masters, and caches can tell so");
    let before = settled::fallen_back(cluster)?;
    settled::seen_everywhere(cluster, plan.quiet_rounds)?;
    let fallen_back = settled::fallen_back(cluster)? - before;
    cluster.transcript.check("no list had to be read whole from etcd", fallen_back == 0.0);
    Ok(())
}

pub fn one(cluster: &mut Cluster, plan: &Plan, fault: Fault, victim: usize, role: Role) -> Outcome {
    let name = cluster.name(victim).to_owned();
    let role_name = if role == Role::Leader { "the leader" } else { "a follower" };
    let title = format!("{} {name}, {role_name}", fault.title());
    cluster.transcript.step(&title);
    let others = cluster.others(victim);
    let leader = if role == Role::Leader { victim } else { others[0] };
    cluster.make_leader(leader)?;
    let load = cluster.start_load(&cluster.all())?;

    let since = Instant::now();
    fault.begin(cluster, victim)?;
    cluster.wait_writes(&load, &others)?;
    if fault.isolates() {
        cut_off(cluster, victim, &others)?;
    }
    cluster.hold(plan.hold.saturating_sub(since.elapsed()))?;
    fault.end(cluster, victim)?;
    let all = cluster.all();
    cluster.wait_writes(&load, &all)?;

    let written = cluster.end_load(load, &title, since, &[victim])?;
    settled::check(cluster, &written, plan.rounds)
}

/// A master that is cut off says so, and the others do not mind.
fn cut_off(cluster: &mut Cluster, victim: usize, others: &[usize]) -> Outcome {
    let name = cluster.name(victim).to_owned();
    let text = cluster.wait("the cut master is not ready", SOON, |cluster| {
        let plane = cluster.masters[victim].plane().map_err(|error| error.to_string())?;
        plane.ready().err().ok_or_else(|| "it is ready".to_owned())
    })?;
    let failed = text.lines().filter(|line| line.starts_with("[-]")).collect::<Vec<_>>().join("\n");
    cluster.transcript.remark(&failed);
    cluster.transcript.check(&format!("{name}'s API server fails /readyz"), true);
    for other in others {
        let ready = cluster.masters[*other].plane()?.ready().map_err(Failure);
        cluster.transcript.remark(&ready.as_ref().err().map(ToString::to_string).unwrap_or_default());
        let name = cluster.name(*other).to_owned();
        cluster.transcript.check(&format!("{name}'s is ready"), ready.is_ok());
    }
    Ok(())
}
