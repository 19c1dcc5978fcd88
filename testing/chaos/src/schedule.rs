//! Which faults come when: all from one seed.

use std::time::Duration;

use sim::rng::Rng;

use crate::cluster::Program;
use crate::namespace::{Cut, Unplug};
use crate::slow_disk::Disk;

/// Whom a fault meets. Who leads is found out at the moment itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    Leader,
    Follower,
}

/// Who hears whom in a partition of the members. Clients reach all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    LeaderAlone,
    /// A minority with the leader in it.
    LeaderInMinority,
    LeaderInMajority,
    /// Nobody hears anybody.
    Shattered,
    /// What the leader sends is lost.
    LeaderMute,
    /// What is sent to the leader is lost.
    LeaderDeaf,
    /// Two sides that do not hear each other, and one member that hears both.
    Bridge,
    /// The leader is alone, and is not, and is.
    Flapping,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    Kill {
        who: Who,
    },
    KillAll,
    Pause {
        who: Who,
    },
    Unplug {
        who: Who,
        how: Unplug,
    },
    Partition {
        shape: Shape,
        how: Cut,
    },
    SlowLinks {
        late: Option<Duration>,
        bytes_per_sec: u64,
    },
    SlowDisk {
        who: Who,
        disk: Disk,
    },
    FullDisk {
        who: Who,
    },
    /// All at once, by SIGTERM.
    RestartAll,
    /// One after the other, by SIGTERM.
    RestartEach,
    MoveLeader,
    /// A member comes as a learner, is promoted, and another goes.
    Replace {
        who: Who,
    },
    /// A follower stays away until it needs a snapshot.
    FarBehind,
    /// A member stops, and another program goes on with its data.
    Change {
        slot: usize,
        program: Program,
    },
    /// The cluster is made ready for members of this older version.
    Downgrade {
        version: String,
    },
}

impl Fault {
    /// The name under which its figures are added up.
    pub fn kind(&self) -> String {
        let who = |who: &Who| if *who == Who::Leader { "leader" } else { "follower" };
        match self {
            Fault::Kill { who: whom } => format!("kill {}", who(whom)),
            Fault::KillAll => "kill all".to_owned(),
            Fault::Pause { who: whom } => format!("pause {}", who(whom)),
            Fault::Unplug { who: whom, .. } => format!("unplug {}", who(whom)),
            Fault::Partition { shape, .. } => format!("partition: {}", shape.name()),
            Fault::SlowLinks { .. } => "slow links".to_owned(),
            Fault::SlowDisk { who: whom, .. } => format!("slow disk of {}", who(whom)),
            Fault::FullDisk { who: whom } => format!("full disk of {}", who(whom)),
            Fault::RestartAll => "restart all".to_owned(),
            Fault::RestartEach => "restart each".to_owned(),
            Fault::MoveLeader => "move leader".to_owned(),
            Fault::Replace { who: whom } => format!("replace {}", who(whom)),
            Fault::FarBehind => "far behind".to_owned(),
            Fault::Change { program, .. } => format!("change to {}", program.name),
            Fault::Downgrade { .. } => "downgrade".to_owned(),
        }
    }
}

impl Shape {
    fn name(self) -> &'static str {
        match self {
            Shape::LeaderAlone => "leader alone",
            Shape::LeaderInMinority => "leader in minority",
            Shape::LeaderInMajority => "leader in majority",
            Shape::Shattered => "shattered",
            Shape::LeaderMute => "leader mute",
            Shape::LeaderDeaf => "leader deaf",
            Shape::Bridge => "bridge",
            Shape::Flapping => "flapping",
        }
    }
}

/// A fault, how long it lasts, and the quiet time before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub quiet: Duration,
    pub fault: Fault,
    pub hold: Duration,
}

/// What a cluster can be put through.
#[derive(Clone, Copy, Debug)]
pub struct Means {
    pub has_proxy: bool,
    /// Whether some member's disk can be played with.
    pub has_disks: bool,
}

/// Deals faults so that each kind comes once before any comes twice.
pub struct Schedule {
    rng: Rng,
    means: Means,
    deck: Vec<Fault>,
}

impl Schedule {
    pub fn new(seed: u64, means: Means) -> Schedule {
        Schedule { rng: Rng::new(seed ^ 0xFA), means, deck: Vec::new() }
    }

    pub fn next_turn(&mut self) -> Turn {
        if self.deck.is_empty() {
            self.deck = self.all();
        }
        let index = self.rng.index(self.deck.len());
        let fault = self.deck.swap_remove(index);
        let quiet = self.milliseconds(700, 2_500);
        let hold = match &fault {
            // Shorter and longer than the election timeout of a second.
            Fault::Pause { .. } if self.rng.chance(400) => self.milliseconds(200, 900),
            Fault::Kill { .. } if self.rng.chance(400) => Duration::ZERO,
            Fault::FarBehind | Fault::Replace { .. } | Fault::MoveLeader => Duration::ZERO,
            Fault::RestartAll | Fault::RestartEach => Duration::ZERO,
            _ => self.milliseconds(1_500, 7_000),
        };
        Turn { quiet, fault, hold }
    }

    fn milliseconds(&mut self, least: u64, most: u64) -> Duration {
        Duration::from_millis(least + self.rng.below(most - least))
    }

    /// One of each kind, details drawn.
    fn all(&mut self) -> Vec<Fault> {
        let rng = &mut self.rng;
        let both = [Who::Leader, Who::Follower];
        let mut faults =
            vec![Fault::KillAll, Fault::RestartAll, Fault::RestartEach, Fault::MoveLeader, Fault::FarBehind];
        for who in both {
            let how = rng.pick(&[Unplug::Cable, Unplug::Port]);
            faults.extend([
                Fault::Kill { who },
                Fault::Pause { who },
                Fault::Unplug { who, how },
                Fault::Replace { who },
            ]);
        }
        for shape in [
            Shape::LeaderAlone,
            Shape::LeaderInMinority,
            Shape::LeaderInMajority,
            Shape::Shattered,
            Shape::LeaderMute,
            Shape::LeaderDeaf,
            Shape::Bridge,
            Shape::Flapping,
        ] {
            faults.push(Fault::Partition { shape, how: rng.pick(&[Cut::Silent, Cut::Refused]) });
        }
        if self.means.has_proxy {
            let late = Duration::from_millis(20 + rng.below(180));
            faults.push(Fault::SlowLinks { late: Some(late), bytes_per_sec: 0 });
            faults.push(Fault::SlowLinks { late: None, bytes_per_sec: 20_000 + rng.below(100_000) });
        }
        if self.means.has_disks {
            for who in both {
                let sync_delay_ms = 20 + rng.below(600) as u32;
                let write_delay_ms = rng.below(30) as u32;
                faults.push(Fault::SlowDisk {
                    who,
                    disk: Disk { sync_delay_ms, write_delay_ms, ..Disk::default() },
                });
                faults.push(Fault::FullDisk { who });
            }
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_seed_repeats_and_every_kind_comes_before_any_comes_again() {
        let means = Means { has_proxy: true, has_disks: true };
        let deal = |seed| {
            let mut schedule = Schedule::new(seed, means);
            (0..27).map(|_| schedule.next_turn()).collect::<Vec<_>>()
        };
        assert_eq!(deal(7), deal(7));
        assert_ne!(deal(7), deal(8));
        let kinds: BTreeSet<String> = deal(7).iter().map(|turn| turn.fault.kind()).collect();
        assert_eq!(kinds.len(), 26, "slow links come late and narrow: {kinds:?}");
    }

    #[test]
    fn what_cannot_be_done_is_not_dealt() {
        let mut schedule = Schedule::new(1, Means { has_proxy: false, has_disks: false });
        for _ in 0..100 {
            let fault = schedule.next_turn().fault;
            let needs_more =
                matches!(fault, Fault::SlowLinks { .. } | Fault::SlowDisk { .. } | Fault::FullDisk { .. });
            assert!(!needs_more, "{fault:?}");
        }
    }
}
