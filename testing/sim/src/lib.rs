//! Whole raft clusters on one thread, from one seed, under faults.
//!
//! A run is a sequence of events, each drawn from the seed: a tick, the delivery of some message (not the
//! oldest), the end of a disk write, an applied entry, a client's request, an operator's command, a fault.
//! After every event the [`check::Checker`] looks at the member that it touched:
//!
//! | property | how it is checked |
//! |---|---|
//! | election safety | one leader per term, and not the same member again after a restart |
//! | log matching | an entry's index and term determine its content and the term before it |
//! | leader completeness | a leader holds everything that was committed in earlier terms |
//! | commit rule | what a leader commits is on the disks of a quorum, with power off |
//! | state machine safety | equal entry and equal state at equal applied index |
//! | no stale read | a read's index is not below any commit index at the time of the call |
//!
//! Then everything heals, and within a bounded number of rounds the cluster must elect, commit, bring
//! everybody up to date and answer a read.

pub mod check;
pub mod member;
pub mod network;
pub mod outages;
pub mod plan;
pub mod rng;
pub mod timed;
pub mod world;

pub use world::{Failure, Report, run};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_stay_safe_under_faults_and_recover() {
        let mut total = Report::default();
        for seed in 0..120 {
            match run(seed, 3_000) {
                Ok(report) => total.add(&report),
                Err(failure) => panic!("{failure}"),
            }
        }
        // A run in which nothing happens proves nothing.
        assert!(total.elections > 100, "{total:?}");
        assert!(total.committed > 1_000, "{total:?}");
        assert!(total.reads > 100, "{total:?}");
        assert!(total.conf_changes > 20, "{total:?}");
        assert!(total.snapshots > 10, "{total:?}");
        assert!(total.crashes > 50, "{total:?}");
        assert!(total.writes_lost > 20, "{total:?}");
    }

    #[test]
    fn a_seed_repeats_exactly() {
        for seed in [3, 11] {
            assert_eq!(run(seed, 2_000).unwrap(), run(seed, 2_000).unwrap());
        }
    }
}
