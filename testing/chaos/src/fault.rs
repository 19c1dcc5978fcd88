//! Playing a fault: what it does, how long it stays, and taking it back.

use std::sync::Arc;
use std::time::Duration;

use proto::etcdserverpb::MoveLeaderRequest;
use rustix::process::Signal;
use sim::rng::Rng;
use tokio::sync::watch;

use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::history::{FaultRecord, Record};
use crate::membership;
use crate::memory::Memory;
use crate::namespace;
use crate::operation::Revision;
use crate::partition::{self, Partition};
use crate::proxy::Rule;
use crate::rolling;
use crate::schedule::{Fault, Shape, Turn, Who};
use crate::slow_disk::Disk;

/// A stopping member has so long to hand over and to end.
const STOP_LIMIT: Duration = Duration::from_secs(40);
/// Revisions that pass while a member is away, so that the others have dropped the entries that it lacks.
const FAR_REVISIONS: Revision = 400;
/// How long to wait for them at most.
const FAR_LIMIT: Duration = Duration::from_secs(25);
/// A member whose disk is full may take so long to find out and end.
const FULL_LIMIT: Duration = Duration::from_secs(5);
/// Times that all members are killed in a row, and how long they may take to serve in between.
const KILLS: u32 = 4;
const SERVE_LIMIT: Duration = Duration::from_secs(20);
/// Faults of this length may meet another one: a member that is killed and started again.
const KILL_AMID_LEAST: Duration = Duration::from_millis(1_500);
const KILL_AMID_PER_MILLE: u64 = 250;
const POLL: Duration = Duration::from_millis(20);

/// Plays faults on a cluster.
pub struct Player {
    cluster: Arc<Cluster>,
    memory: Arc<Memory>,
    rng: Rng,
    stop: watch::Receiver<bool>,
}

impl Player {
    pub fn new(
        seed: u64,
        cluster: &Arc<Cluster>,
        memory: &Arc<Memory>,
        stop: watch::Receiver<bool>,
    ) -> Player {
        let rng = Rng::new(seed ^ 0x9A);
        Player { cluster: Arc::clone(cluster), memory: Arc::clone(memory), rng, stop }
    }

    /// Lets the fault come, stay and go. Afterwards all members run and reach each other.
    pub async fn play(&mut self, turn: &Turn) -> Outcome<FaultRecord> {
        let from = self.cluster.recorder.now();
        let detail = self.fault(&turn.fault, turn.hold).await?;
        for slot in self.cluster.members() {
            self.cluster.run(slot)?;
        }
        let healed = self.cluster.recorder.now();
        let record = FaultRecord { kind: turn.fault.kind(), detail, from, healed };
        self.cluster.recorder.note(Record::Fault(record.clone()));
        Ok(record)
    }

    async fn fault(&mut self, fault: &Fault, hold: Duration) -> Outcome<String> {
        let cluster = Arc::clone(&self.cluster);
        match fault {
            Fault::Kill { who } => {
                let slot = self.find(*who).await;
                cluster.kill(slot).await?;
                self.hold(hold).await;
                Ok(format!("member {slot} for {} ms", hold.as_millis()))
            }
            Fault::KillAll => self.kill_all().await,
            Fault::Pause { who } => {
                let slot = self.find(*who).await;
                cluster.signal(slot, Signal::STOP)?;
                self.hold_amid(hold).await?;
                cluster.signal(slot, Signal::CONT)?;
                Ok(format!("member {slot} for {} ms", hold.as_millis()))
            }
            Fault::Unplug { who, how } => {
                let slot = self.find(*who).await;
                namespace::unplug(slot, *how).await?;
                self.hold_amid(hold).await?;
                namespace::plug(slot).await?;
                Ok(format!("member {slot}, {how:?}, for {} ms", hold.as_millis()))
            }
            Fault::Partition { shape, how } => {
                let leader = self.find(Who::Leader).await;
                let pairs = partition::pairs(*shape, &cluster.members(), leader, &mut self.rng);
                let detail = format!("leader {leader}, {how:?}, {pairs:?}, for {} ms", hold.as_millis());
                if *shape == Shape::Flapping {
                    self.flap(pairs, *how, hold).await?;
                } else {
                    let partition = Partition::make(&cluster, pairs, *how).await?;
                    self.hold_amid(hold).await?;
                    partition.heal().await?;
                }
                Ok(detail)
            }
            Fault::SlowLinks { late, bytes_per_sec } => {
                let rule = match late {
                    Some(late) => Rule::Late(*late),
                    None => Rule::Narrow { bytes_per_sec: *bytes_per_sec },
                };
                self.slow_links(rule, hold).await?;
                Ok(format!("{rule:?} for {} ms", hold.as_millis()))
            }
            Fault::SlowDisk { who, disk } => {
                let slot = self.find_with_disk(*who).await;
                let is_played = cluster.set_disk(slot, *disk)?;
                self.hold_amid(hold).await?;
                let ends_by_kill = self.rng.chance(500);
                if ends_by_kill {
                    // What it acknowledged must be there, however much was still on its way to the disk.
                    cluster.kill(slot).await?;
                }
                cluster.set_disk(slot, Disk::default())?;
                let (played, killed) = (told(is_played, "played"), told(ends_by_kill, "killed"));
                Ok(format!("member {slot}, {disk:?}, for {} ms, {played}, {killed}", hold.as_millis()))
            }
            Fault::FullDisk { who } => self.full_disk(*who, hold).await,
            Fault::RestartAll => {
                let stops = cluster.members().into_iter().map(|slot| {
                    let cluster = &cluster;
                    async move { cluster.stop(slot, STOP_LIMIT).await }
                });
                for stopped in futures_util::future::join_all(stops).await {
                    self.see(stopped);
                }
                Ok("all at once".to_owned())
            }
            Fault::RestartEach => {
                for slot in cluster.members() {
                    let stopped = cluster.stop(slot, STOP_LIMIT).await;
                    self.see(stopped);
                    cluster.run(slot)?;
                    self.hold(Duration::from_secs(1)).await;
                }
                Ok("one after the other".to_owned())
            }
            Fault::MoveLeader => self.move_leader().await,
            Fault::Replace { who } => {
                let slot = self.find(*who).await;
                membership::replace(&cluster, slot).await?;
                Ok(format!("member {slot} goes"))
            }
            Fault::FarBehind => self.far_behind().await,
            Fault::Change { slot, program } => {
                let stopped = cluster.stop(*slot, STOP_LIMIT).await;
                self.see(stopped);
                cluster.change_program(*slot, program);
                cluster.run(*slot)?;
                rolling::until_settled(&cluster).await;
                Ok(format!("member {slot}"))
            }
            Fault::Downgrade { version } => {
                rolling::downgrade(&cluster, version).await?;
                Ok(version.clone())
            }
        }
    }

    /// The time a fault stays, unless the run is stopped.
    async fn hold(&mut self, time: Duration) {
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = self.stop.wait_for(|stop| *stop) => {}
        }
    }

    /// The same; now and then a member is killed and started again meanwhile.
    async fn hold_amid(&mut self, time: Duration) -> Outcome {
        if time < KILL_AMID_LEAST || !self.rng.chance(KILL_AMID_PER_MILLE) {
            self.hold(time).await;
            return Ok(());
        }
        self.hold(time / 2).await;
        let slot = self.rng.pick(&self.cluster.members());
        self.cluster.kill(slot).await?;
        self.cluster.run(slot)?;
        self.hold(time / 2).await;
        Ok(())
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    /// A member that does not stop when asked is a finding, and is killed.
    fn see(&self, stopped: Outcome) {
        if let Err(error) = stopped {
            self.cluster.recorder.seen("members stop", None, error.to_string());
        }
    }

    async fn find(&mut self, who: Who) -> usize {
        let members = self.cluster.members();
        let leader = match self.cluster.leader().await {
            Some(leader) if members.contains(&leader) => leader,
            _ => self.rng.pick(&members),
        };
        match who {
            Who::Leader => leader,
            Who::Follower => {
                let others: Vec<usize> = members.into_iter().filter(|slot| *slot != leader).collect();
                if others.is_empty() { leader } else { self.rng.pick(&others) }
            }
        }
    }

    /// The leader, or a follower, if its disk can be played with; otherwise another whose disk can.
    async fn find_with_disk(&mut self, who: Who) -> usize {
        let found = self.find(who).await;
        let can = |slot: &usize| self.cluster.program(*slot).uses_libc;
        if can(&found) {
            return found;
        }
        self.cluster.members().into_iter().find(can).unwrap_or(found)
    }

    /// All at once, several times: what is lost is what was under way at the moment.
    async fn kill_all(&mut self) -> Outcome<String> {
        let cluster = Arc::clone(&self.cluster);
        let slow = Disk { sync_delay_ms: self.rng.below(250) as u32, ..Disk::default() };
        let mut times = 0;
        while times < KILLS && !self.is_stopping() {
            if times > 0 {
                for slot in cluster.members() {
                    cluster.run(slot)?;
                }
                // The slower the disk, the more is on its way to it when the end comes.
                for slot in cluster.members() {
                    cluster.set_disk(slot, slow)?;
                }
                let count = 1 + self.rng.below(60) as Revision;
                self.wait_revisions(count, SERVE_LIMIT).await;
            }
            let kills = cluster.members().into_iter().map(|slot| {
                let cluster = &cluster;
                async move { cluster.kill(slot).await }
            });
            futures_util::future::join_all(kills).await.into_iter().collect::<Outcome>()?;
            times += 1;
        }
        Ok(format!("all at once, {times} times, syncs {} ms late where that can be", slow.sync_delay_ms))
    }

    /// Waits until so many revisions have come about; how many did in time.
    async fn wait_revisions(&self, count: Revision, limit: Duration) -> Revision {
        let start = self.memory.revision();
        let end = tokio::time::Instant::now() + limit;
        while self.memory.revision() < start + count
            && tokio::time::Instant::now() < end
            && !self.is_stopping()
        {
            tokio::time::sleep(POLL).await;
        }
        self.memory.revision() - start
    }

    async fn flap(&mut self, pairs: Vec<(usize, usize)>, how: namespace::Cut, hold: Duration) -> Outcome {
        let end = tokio::time::Instant::now() + hold;
        while tokio::time::Instant::now() < end && !self.is_stopping() {
            let partition = Partition::make(&self.cluster, pairs.clone(), how).await?;
            let cut = Duration::from_millis(200 + self.rng.below(1_300));
            self.hold(cut).await;
            partition.heal().await?;
            let mended = Duration::from_millis(200 + self.rng.below(1_000));
            self.hold(mended).await;
        }
        Ok(())
    }

    async fn slow_links(&mut self, rule: Rule, hold: Duration) -> Outcome {
        let cluster = Arc::clone(&self.cluster);
        let Some(proxy) = &cluster.proxy else { return Ok(()) };
        for from in cluster.slots() {
            for to in cluster.slots().filter(|to| *to != from) {
                proxy.set(from, to, rule);
            }
        }
        self.hold_amid(hold).await?;
        proxy.clear();
        Ok(())
    }

    /// The member ends or bears it; when there is space again it must be well, at the latest restarted.
    async fn full_disk(&mut self, who: Who, hold: Duration) -> Outcome<String> {
        let cluster = Arc::clone(&self.cluster);
        let slot = self.find_with_disk(who).await;
        cluster.may_end(slot);
        let full = Disk { is_full: true, ..Disk::default() };
        if !cluster.set_disk(slot, full)? {
            return Ok(format!("member {slot}: not played, its program makes its own system calls"));
        }
        self.hold(hold.max(FULL_LIMIT)).await;
        let ended = !cluster.is_running(slot);
        cluster.set_disk(slot, Disk::default())?;
        if !ended {
            // Its process may end by itself, so it is started anew to be watched again.
            cluster.kill(slot).await?;
        }
        Ok(format!("member {slot}, it {}", if ended { "ended" } else { "went on" }))
    }

    async fn move_leader(&mut self) -> Outcome<String> {
        let leader = self.find(Who::Leader).await;
        let target = self.find(Who::Follower).await;
        let Some(status) = self.cluster.status(target).await else {
            return Ok("nobody to move to".to_owned());
        };
        let target_id = status.header.map_or(0, |header| header.member_id);
        let client = self.cluster.client(leader)?.with_timeout(Duration::from_secs(5));
        let moved = client.move_leader(MoveLeaderRequest { target_id }).await;
        let outcome = moved.map_or_else(|error| error.to_string(), |_| "done".to_owned());
        Ok(format!("from {leader} to {target}: {outcome}"))
    }

    async fn far_behind(&mut self) -> Outcome<String> {
        let slot = self.find(Who::Follower).await;
        self.cluster.kill(slot).await?;
        let missed = self.wait_revisions(FAR_REVISIONS, FAR_LIMIT).await;
        Ok(format!("member {slot} by {missed} revisions"))
    }
}

fn told(is_so: bool, what: &str) -> String {
    format!("{}{what}", if is_so { "" } else { "not " })
}
