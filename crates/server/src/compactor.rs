//! Compaction that the leader starts by itself (`--auto-compaction-mode`, `--auto-compaction-retention`).
//!
//! A small machine without a clock of its own: the server calls [`Compactor::tick`] now and then with
//! the time and the store's revision, and proposes what comes back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::config::AutoCompaction;

/// How often revision mode looks.
const REVISION_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Longest time between two compactions in periodic mode.
const PERIODIC_INTERVAL_MAX: Duration = Duration::from_secs(60 * 60);

/// Samples of the revision per compaction interval in periodic mode.
const SAMPLES_PER_INTERVAL: u32 = 10;

pub struct Compactor {
    mode: Mode,
}

enum Mode {
    Off,
    Periodic(Periodic),
    Revision { keep: i64, next: Duration, last: i64 },
}

/// Compacts at the revision seen one retention ago. The first compaction comes after a whole retention,
/// later ones after each interval.
struct Periodic {
    retention: Duration,
    interval: Duration,
    /// Oldest first; full once a whole retention has been watched.
    samples: VecDeque<i64>,
    samples_max: usize,
    next_sample: Duration,
    next_compaction: Duration,
    last: i64,
}

impl Compactor {
    pub fn new(policy: AutoCompaction, now: Duration) -> Compactor {
        let mode = match policy {
            AutoCompaction::Off => Mode::Off,
            AutoCompaction::Revision(keep) => Mode::Revision {
                keep: i64::try_from(keep).unwrap_or(i64::MAX),
                next: now + REVISION_INTERVAL,
                last: 0,
            },
            AutoCompaction::Periodic(retention) => Mode::Periodic(Periodic::new(retention, now)),
        };
        Compactor { mode }
    }

    /// How long the server may wait before it calls [`Compactor::tick`] again; `None` if never.
    pub fn interval(&self) -> Option<Duration> {
        match &self.mode {
            Mode::Off => None,
            Mode::Revision { .. } => Some(REVISION_INTERVAL),
            Mode::Periodic(periodic) => Some(periodic.sample_interval()),
        }
    }

    /// The revision to compact at now, if any. A follower samples too, so that it can go on where a lost
    /// leader stopped, but gets no revision to propose.
    pub fn tick(&mut self, now: Duration, revision: i64, is_leader: bool) -> Option<i64> {
        match &mut self.mode {
            Mode::Off => None,
            Mode::Periodic(periodic) => periodic.tick(now, revision, is_leader),
            Mode::Revision { keep, next, last } => {
                if now < *next {
                    return None;
                }
                *next = now + REVISION_INTERVAL;
                let target = revision.saturating_sub(*keep);
                if !is_leader || target <= 0 || target == *last {
                    return None;
                }
                *last = target;
                Some(target)
            }
        }
    }

    /// The proposed compaction failed: try again at the next sample.
    pub fn failed(&mut self) {
        match &mut self.mode {
            Mode::Off => {}
            Mode::Periodic(periodic) => {
                periodic.next_compaction = periodic.next_sample;
                periodic.last = 0;
            }
            Mode::Revision { last, .. } => *last = 0,
        }
    }
}

impl Periodic {
    fn new(retention: Duration, now: Duration) -> Periodic {
        let interval = retention.min(PERIODIC_INTERVAL_MAX);
        let sample_interval = interval / SAMPLES_PER_INTERVAL;
        let samples_max = retention.as_nanos().div_ceil(sample_interval.as_nanos().max(1));
        Periodic {
            retention,
            interval,
            samples: VecDeque::new(),
            samples_max: usize::try_from(samples_max).unwrap_or(usize::MAX),
            next_sample: now,
            next_compaction: now + retention,
            last: 0,
        }
    }

    fn sample_interval(&self) -> Duration {
        self.interval / SAMPLES_PER_INTERVAL
    }

    fn tick(&mut self, now: Duration, revision: i64, is_leader: bool) -> Option<i64> {
        if now < self.next_sample {
            return None;
        }
        self.next_sample = now + self.sample_interval();
        self.samples.push_back(revision);
        if self.samples.len() > self.samples_max {
            self.samples.pop_front();
        }
        if now < self.next_compaction || !is_leader {
            return None;
        }
        debug_assert!(self.retention >= self.interval);
        let target = *self.samples.front()?;
        if target <= 0 || target == self.last {
            return None;
        }
        self.last = target;
        self.next_compaction = now + self.interval;
        Some(target)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn minutes(count: u64) -> Duration {
        Duration::from_secs(60 * count)
    }

    /// Ticks each minute; the revision is the minute. Returns (minute, compacted revision).
    fn run(policy: AutoCompaction, until: u64) -> Vec<(u64, i64)> {
        let mut compactor = Compactor::new(policy, Duration::ZERO);
        let tick = |minute| compactor.tick(minutes(minute), minute as i64, true).map(|rev| (minute, rev));
        (0..until).filter_map(tick).collect()
    }

    #[test]
    fn periodic_mode_keeps_one_retention() {
        let compactions = run(AutoCompaction::Periodic(minutes(10)), 40);
        assert_eq!(compactions, vec![(10, 1), (20, 11), (30, 21)]);
    }

    #[test]
    fn a_long_retention_compacts_each_hour_once_it_has_passed() {
        let compactions = run(AutoCompaction::Periodic(minutes(180)), 320);
        let at: Vec<u64> = compactions.iter().map(|(minute, _)| *minute).collect();
        assert_eq!(at, vec![180, 240, 300]);
        for (minute, revision) in compactions {
            assert!((170..=181).contains(&(minute as i64 - revision)), "{minute} {revision}");
        }
    }

    #[test]
    fn revision_mode_keeps_a_count() {
        assert_eq!(run(AutoCompaction::Revision(7), 16), vec![(10, 3), (15, 8)]);
    }

    #[test]
    fn a_follower_proposes_nothing_and_a_failure_is_tried_again() {
        let mut compactor = Compactor::new(AutoCompaction::Periodic(minutes(10)), Duration::ZERO);
        for minute in 0..15 {
            assert_eq!(compactor.tick(minutes(minute), minute as i64 + 1, false), None);
        }
        assert!(compactor.tick(minutes(15), 16, true).is_some());
        compactor.failed();
        assert!(compactor.tick(minutes(16), 17, true).is_some());
    }
}
