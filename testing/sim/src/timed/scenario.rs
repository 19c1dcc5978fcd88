//! One fault at a random moment, and what it costs.

use raft::{Config, NodeId, Role};

use super::{Conditions, Micros, SECOND, Timeline};
use crate::check::Violation;
use crate::plan::Plan;
use crate::rng::Rng;

/// How long a cluster is watched after the fault.
const WATCHED: Micros = 6 * SECOND;

/// Who waits how around elections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cluster {
    /// All as etcd does.
    AsEtcd,
    /// All with [`raft::Config::prompt_elections`].
    Prompt,
    /// Prompt members, and fewer than half as etcd has them.
    Mixed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The leader's process ends; its machine refuses connections.
    ProcessEnds,
    /// That, and another member's process ends with it.
    TwoProcessesEnd,
    /// The leader's process ends, and the log of who would come first is behind.
    ProcessEndsBeforeLaggard,
    /// The process of a follower ends.
    FollowerEnds,
    /// The leader's process is stopped: nothing but silence tells.
    Freezes,
    /// The leader is cut from everybody.
    Isolated,
    DiskStalls,
    /// The leader is asked to hand over.
    Transfer,
    /// The leader is asked to hand over to one whose process is stopped.
    TransferToFrozen,
    /// The leader and one follower do not hear each other.
    LinkBroken,
    /// One follower does not hear the leader, and is heard.
    LinkDeaf,
    /// The leader and one follower do not hear each other, and attempts to connect are refused, as by a
    /// firewall.
    LinkRefused,
    /// One follower is told again and again that the leader's process has ended. It has not.
    WronglyTold,
    /// As many are told so as leave a majority that is not.
    MinorityWronglyTold,
    /// All are told so, the leader included.
    AllWronglyTold,
}

impl Fault {
    /// True when a majority still hears the leader, so that it must go on leading, in the same term.
    pub fn leaves_leader(self) -> bool {
        match self {
            Fault::FollowerEnds
            | Fault::LinkBroken
            | Fault::LinkDeaf
            | Fault::LinkRefused
            | Fault::WronglyTold
            | Fault::MinorityWronglyTold => true,
            Fault::ProcessEnds
            | Fault::ProcessEndsBeforeLaggard
            | Fault::TwoProcessesEnd
            | Fault::Freezes
            | Fault::Isolated
            | Fault::DiskStalls
            | Fault::Transfer
            | Fault::TransferToFrozen
            | Fault::AllWronglyTold => false,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Scenario {
    pub members: u64,
    pub cluster: Cluster,
    pub fault: Fault,
    pub conditions: Conditions,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The longest time without an acknowledged write.
    pub outage: Micros,
    /// How many terms later the cluster ended. More than 1 after one fault: votes were split.
    pub terms: u64,
    pub leader_stayed: bool,
    /// When the old leader, cut off, knew it.
    pub stepped_down_after: Option<Micros>,
}

impl Scenario {
    pub fn run(&self, seed: u64) -> Result<Outcome, Violation> {
        let mut rng = Rng::new(seed ^ 0x7131_ED00);
        let plan = self.plan(&mut rng);
        let mut timeline = Timeline::new(seed, plan, self.conditions.clone());
        timeline.campaign(1 + rng.below(self.members))?;
        timeline.run_until(SECOND + rng.below(SECOND))?;
        let Some((term, leader)) = timeline.leader() else { return Err(no_leader("before the fault")) };
        timeline.watch_outages();
        let begin = timeline.now;
        self.strike(&mut timeline, &mut rng, leader)?;
        let mut stepped_down_after = None;
        while timeline.now < begin + WATCHED {
            timeline.run_until(timeline.now + SECOND / 100)?;
            if stepped_down_after.is_none() && timeline.role(leader) != Some(Role::Leader) {
                stepped_down_after = Some(timeline.now - begin);
            }
        }
        let outage = timeline.longest_outage();
        // Who was stopped comes back and finds the others gone on.
        timeline.heal();
        timeline.run_until(timeline.now + 3 * SECOND)?;
        let Some((last_term, last_leader)) = timeline.leader() else { return Err(no_leader("in the end")) };
        self.judge(Outcome {
            outage,
            terms: last_term.0 - term.0,
            leader_stayed: (last_term, last_leader) == (term, leader),
            stepped_down_after,
        })
    }

    fn plan(&self, rng: &mut Rng) -> Plan {
        let prompt_elections = self.cluster != Cluster::AsEtcd;
        let mut plan = Plan::quiet(self.members, Config { prompt_elections, ..Config::new(1) });
        if self.cluster == Cluster::Mixed {
            while plan.as_etcd.len() < (self.members as usize - 1) / 2 {
                plan.as_etcd.insert(1 + rng.below(self.members));
            }
        }
        plan
    }

    fn strike(&self, timeline: &mut Timeline, rng: &mut Rng, leader: NodeId) -> Result<(), Violation> {
        let follower = 1 + (leader + rng.below(self.members - 1)) % self.members;
        assert!(follower != leader, "{follower} of {} members follows itself", self.members);
        match self.fault {
            Fault::ProcessEnds => timeline.end_process(leader),
            Fault::TwoProcessesEnd => {
                timeline.end_process(leader);
                timeline.end_process(follower);
            }
            Fault::ProcessEndsBeforeLaggard => {
                let first = if leader == 1 { 2 } else { 1 };
                timeline.cut_link(leader, first);
                timeline.run_until(timeline.now + SECOND / 2)?;
                timeline.end_process(leader);
            }
            Fault::FollowerEnds => timeline.end_process(follower),
            Fault::Freezes => timeline.freeze(leader),
            Fault::Isolated => {
                (1..=self.members).filter(|&id| id != leader).for_each(|id| timeline.cut_link(leader, id));
            }
            Fault::DiskStalls => timeline.stall_disk(leader),
            Fault::Transfer => timeline.transfer_leader(leader, follower)?,
            Fault::TransferToFrozen => {
                timeline.freeze(follower);
                timeline.transfer_leader(leader, follower)?;
            }
            Fault::LinkBroken => timeline.cut_link(leader, follower),
            Fault::LinkDeaf => timeline.cut.push((leader, follower)),
            Fault::LinkRefused => {
                timeline.cut_link(leader, follower);
                timeline.tell_refused(follower, leader);
                timeline.tell_refused(leader, follower);
            }
            Fault::WronglyTold => timeline.tell_refused(follower, leader),
            Fault::MinorityWronglyTold => {
                let followers = (0..self.members - 1).map(|offset| 1 + (leader + offset) % self.members);
                let told = (self.members as usize - 1) / 2;
                followers.take(told).for_each(|id| timeline.tell_refused(id, leader));
            }
            Fault::AllWronglyTold => (1..=self.members).for_each(|id| timeline.tell_refused(id, leader)),
        }
        Ok(())
    }

    fn judge(&self, outcome: Outcome) -> Result<Outcome, Violation> {
        if self.fault.leaves_leader() && !outcome.leader_stayed {
            let what = format!("{outcome:?} although a majority heard the leader");
            return Err(Violation { property: "a leader that is heard stays", what });
        }
        Ok(outcome)
    }
}

fn no_leader(when: &str) -> Violation {
    Violation { property: "liveness", what: format!("nobody leads {when}") }
}
