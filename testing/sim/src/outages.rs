//! Tables of what faults cost: `sim outages`.

use crate::check::Violation;
use crate::timed::{Cluster, Conditions, Fault, MILLISECOND, Micros, Scenario};

/// Runs of one scenario, sorted by outage.
#[derive(Clone, Debug)]
pub struct Distribution {
    outages: Vec<Micros>,
    /// Runs that took more than one election.
    pub split: usize,
    /// The longest time until an old leader that was cut off stepped down.
    pub step_down_max: Micros,
}

/// A data centre's network and disks.
pub fn fast() -> Conditions {
    Conditions {
        name: "fast",
        link: 100..=MILLISECOND,
        sync: 500..=10 * MILLISECOND,
        notice: MILLISECOND..=30 * MILLISECOND,
    }
}

/// A bad day: far apart, on disks that others use.
pub fn slow() -> Conditions {
    Conditions {
        name: "slow",
        link: MILLISECOND..=20 * MILLISECOND,
        sync: 5 * MILLISECOND..=80 * MILLISECOND,
        notice: MILLISECOND..=100 * MILLISECOND,
    }
}

impl Distribution {
    pub fn of(scenario: &Scenario, seeds: u64) -> Result<Distribution, (u64, Violation)> {
        let mut distribution = Distribution { outages: Vec::new(), split: 0, step_down_max: 0 };
        for seed in 0..seeds {
            let outcome = scenario.run(seed).map_err(|violation| (seed, violation))?;
            distribution.outages.push(outcome.outage);
            distribution.split += usize::from(outcome.terms > 1);
            let after = outcome.stepped_down_after.unwrap_or(0);
            distribution.step_down_max = distribution.step_down_max.max(after);
        }
        distribution.outages.sort_unstable();
        Ok(distribution)
    }

    /// The outage that this share of runs stays within.
    pub fn per_mille(&self, share: usize) -> Micros {
        let last = self.outages.len() - 1;
        self.outages[(last * share).div_ceil(1000)]
    }

    pub fn row(&self) -> String {
        let [min, p50, p99, max] = [0, 500, 990, 1000].map(|share| self.per_mille(share) / MILLISECOND);
        format!(
            "{min:>5} {p50:>5} {p99:>5} {max:>5} {:>6} {:>6}",
            self.split,
            self.step_down_max / MILLISECOND
        )
    }
}

const FAULTS: [Fault; 15] = [
    Fault::ProcessEnds,
    Fault::ProcessEndsBeforeLaggard,
    Fault::TwoProcessesEnd,
    Fault::FollowerEnds,
    Fault::Freezes,
    Fault::Isolated,
    Fault::DiskStalls,
    Fault::Transfer,
    Fault::TransferToFrozen,
    Fault::LinkBroken,
    Fault::LinkDeaf,
    Fault::LinkRefused,
    Fault::WronglyTold,
    Fault::MinorityWronglyTold,
    Fault::AllWronglyTold,
];

fn title(conditions: &str, cluster: Cluster, members: u64, fault: Fault) -> String {
    let (cluster, fault) = (format!("{cluster:?}"), format!("{fault:?}"));
    format!("{conditions} {cluster:<6} {members} {fault:<24}")
}

/// All scenarios whose line begins with `only`, a line each, in milliseconds.
pub fn print(seeds: u64, only: &str) -> Result<(), String> {
    println!("conditions, members, fault               min   p50   p99   max  split   down");
    for conditions in [fast(), slow()] {
        for cluster in [Cluster::AsEtcd, Cluster::Prompt, Cluster::Mixed] {
            for members in [3, 5, 7] {
                for fault in FAULTS {
                    if members == 3 && fault == Fault::TwoProcessesEnd {
                        continue;
                    }
                    let scenario = Scenario { members, cluster, fault, conditions: conditions.clone() };
                    let title = title(conditions.name, cluster, members, fault);
                    if !title.contains(only) {
                        continue;
                    }
                    match Distribution::of(&scenario, seeds) {
                        Ok(distribution) => println!("{title} {}", distribution.row()),
                        Err((seed, violation)) => {
                            return Err(format!("{title} seed {seed}: {violation}"));
                        }
                    }
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::timed::SECOND;

    /// The worst of a few runs of prompt members; `sim outages` makes many.
    fn worst(members: u64, fault: Fault, conditions: Conditions) -> Distribution {
        let scenario = Scenario { members, cluster: Cluster::Prompt, fault, conditions };
        match Distribution::of(&scenario, 4) {
            Ok(distribution) => distribution,
            Err((seed, violation)) => panic!("{members} members, {fault:?}, seed {seed}: {violation}"),
        }
    }

    #[test]
    fn a_leader_that_a_majority_hears_is_not_deposed() {
        for members in [3, 5, 7] {
            for fault in FAULTS.into_iter().filter(|fault| fault.leaves_leader()) {
                // That it stays is judged by the scenario itself.
                let outage = worst(members, fault, slow()).per_mille(1000);
                assert!(outage < SECOND / 5, "{members} members, {fault:?}: {outage}");
            }
        }
    }

    #[test]
    fn who_notice_the_end_of_a_leader_s_process_soon_have_another() {
        for members in [3, 5, 7] {
            for fault in [Fault::ProcessEnds, Fault::ProcessEndsBeforeLaggard] {
                let worst = worst(members, fault, fast());
                let outage = worst.per_mille(1000);
                assert!(outage < SECOND / 2, "{members} members, {fault:?}: {outage}");
                assert_eq!(worst.split, 0);
            }
        }
    }

    #[test]
    fn a_silent_leader_costs_less_than_two_seconds() {
        for members in [3, 5, 7] {
            for fault in [Fault::Freezes, Fault::Isolated, Fault::TransferToFrozen] {
                let outage = worst(members, fault, slow()).per_mille(1000);
                assert!(outage < 2 * SECOND, "{members} members, {fault:?}: {outage}");
            }
        }
    }

    #[test]
    fn a_leader_that_is_cut_off_knows_it_when_the_leases_end() {
        let step_down = worst(3, Fault::Isolated, fast()).step_down_max;
        assert!((SECOND * 9 / 10..=SECOND).contains(&step_down), "{step_down}");
    }

    #[test]
    fn a_leader_with_a_stalled_disk_hands_over() {
        let worst = worst(3, Fault::DiskStalls, fast());
        assert!(worst.per_mille(1000) < SECOND / 2, "{worst:?}");
        assert!((SECOND / 2..SECOND).contains(&worst.step_down_max), "{worst:?}");
    }
}
