//! The leader's clock over the leases: deadlines, revokes under way, and due checkpoints.
//!
//! Ordered sets of (time, id) with the time kept per lease make every change exact: there are no stale
//! entries to skip, so a lease kept alive a million times costs no more than one kept alive once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::LeaseId;

/// A revoke proposed for an expired lease that has not been applied after this long is proposed again:
/// the proposal may have been lost with a leader change. Source: etcd `server/lease/lessor.go`.
pub const REVOKE_RETRY: Duration = Duration::from_secs(3);

/// A point on the caller's monotonic clock, counted from any origin that stays the same for the life of
/// one [`crate::Lessor`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Now(pub Duration);

impl Now {
    #[must_use]
    pub fn after(self, wait: Duration) -> Now {
        Now(self.0.saturating_add(wait))
    }

    /// Seconds from `self` to `deadline`, truncated toward zero; negative when it has passed.
    #[must_use]
    pub fn secs_until(self, deadline: Now) -> i64 {
        let secs = |wait: Duration| i64::try_from(wait.as_secs()).unwrap_or(i64::MAX);
        match deadline.0.checked_sub(self.0) {
            Some(left) => secs(left),
            None => -secs(self.0 - deadline.0),
        }
    }
}

/// One entry of a `LeaseCheckpointRequest`: what the leader proposes so that the next leader does not
/// begin the lease's time anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    pub id: LeaseId,
    pub remaining_ttl_secs: i64,
}

/// Times of one lease.
#[derive(Clone, Copy, Debug)]
struct Times {
    /// The lease has expired once this has come.
    deadline: Now,
    /// When to name it in `expired`: the deadline at first, then the retries.
    /// Invariant: `(next_expiry, id)` is in `expiries`.
    next_expiry: Now,
    /// Invariant: if there is one, `(next_checkpoint, id)` is in `checkpoints`.
    next_checkpoint: Option<Now>,
}

/// Deadlines of all leases, as the leader sees them.
#[derive(Debug, Default)]
pub struct Schedule {
    times: BTreeMap<LeaseId, Times>,
    expiries: BTreeSet<(Now, LeaseId)>,
    checkpoints: BTreeSet<(Now, LeaseId)>,
}

impl Schedule {
    /// Sets the deadline of a lease, new or known. A running checkpoint timer goes on.
    pub fn set_deadline(&mut self, id: LeaseId, deadline: Now) {
        let next_checkpoint = match self.times.get(&id) {
            Some(times) => {
                self.expiries.remove(&(times.next_expiry, id));
                times.next_checkpoint
            }
            None => None,
        };
        self.times.insert(id, Times { deadline, next_expiry: deadline, next_checkpoint });
        self.expiries.insert((deadline, id));
    }

    /// Sets or stops the checkpoint timer of a lease that has a deadline.
    pub fn set_checkpoint(&mut self, id: LeaseId, at: Option<Now>) {
        let Some(times) = self.times.get_mut(&id) else { return };
        if let Some(old) = times.next_checkpoint {
            self.checkpoints.remove(&(old, id));
        }
        times.next_checkpoint = at;
        if let Some(at) = at {
            self.checkpoints.insert((at, id));
        }
    }

    /// Forgets a lease.
    pub fn remove(&mut self, id: LeaseId) {
        if let Some(times) = self.times.remove(&id) {
            self.expiries.remove(&(times.next_expiry, id));
            if let Some(at) = times.next_checkpoint {
                self.checkpoints.remove(&(at, id));
            }
        }
    }

    #[must_use]
    pub fn deadline(&self, id: LeaseId) -> Option<Now> {
        self.times.get(&id).map(|times| times.deadline)
    }

    /// Up to `len_max` leases whose deadline or retry has come, the longest due first. Each comes again
    /// after [`REVOKE_RETRY`] unless it is removed before.
    pub fn expired(&mut self, now: Now, len_max: usize) -> Vec<LeaseId> {
        let due: Vec<(Now, LeaseId)> =
            self.expiries.iter().take_while(|(at, _)| *at <= now).take(len_max).copied().collect();
        for &(at, id) in &due {
            self.expiries.remove(&(at, id));
            let retry = now.after(REVOKE_RETRY);
            self.expiries.insert((retry, id));
            let times = self.times.get_mut(&id).expect("every entry of expiries has its times");
            times.next_expiry = retry;
        }
        due.into_iter().map(|(_, id)| id).collect()
    }

    /// Up to `len_max` leases whose checkpoint is due, with their deadlines. Their timers are stopped:
    /// the caller sets the next.
    pub fn due_checkpoints(&mut self, now: Now, len_max: usize) -> Vec<(LeaseId, Now)> {
        let mut due = Vec::new();
        while due.len() < len_max {
            match self.checkpoints.first() {
                Some(&(at, id)) if at <= now => {
                    self.checkpoints.remove(&(at, id));
                    let times = self.times.get_mut(&id).expect("every entry of checkpoints has its times");
                    times.next_checkpoint = None;
                    due.push((id, times.deadline));
                }
                _ => break,
            }
        }
        due
    }

    /// When the next lease expires or wants another try; the caller may sleep until then.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Now> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Puts off deadlines so that no second has more than `per_sec` of them: the i-th lease expires no
    /// sooner than one second after the (i − per_sec)-th. The order stays, none comes sooner.
    pub fn spread(&mut self, per_sec: usize) {
        assert!(per_sec > 0, "a rate of {per_sec} leases a second would never expire any");
        let mut moved: Vec<(LeaseId, Now)> = Vec::new();
        let mut spread: Vec<Now> = Vec::with_capacity(self.expiries.len());
        for (i, &(at, id)) in self.expiries.iter().enumerate() {
            let floor = if i >= per_sec { spread[i - per_sec].after(Duration::from_secs(1)) } else { at };
            let new = at.max(floor);
            spread.push(new);
            if new != at {
                moved.push((id, new));
            }
        }
        for (id, deadline) in moved {
            self.set_deadline(id, deadline);
        }
    }

    /// All leases, the soonest deadline first; equal ones by id.
    #[must_use]
    pub fn by_deadline(&self) -> Vec<LeaseId> {
        let mut ids: Vec<(Now, LeaseId)> =
            self.times.iter().map(|(id, times)| (times.deadline, *id)).collect();
        ids.sort_unstable();
        ids.into_iter().map(|(_, id)| id).collect()
    }

    /// Checks the invariants between the three maps; for tests.
    pub fn check(&self) {
        assert_eq!(self.expiries.len(), self.times.len(), "one expiry entry for each lease");
        let timers = self.times.values().filter(|times| times.next_checkpoint.is_some()).count();
        assert_eq!(self.checkpoints.len(), timers, "one checkpoint entry for each running timer");
        for (id, times) in &self.times {
            assert!(self.expiries.contains(&(times.next_expiry, *id)), "lease {id} lost its expiry entry");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Now {
        Now(Duration::from_millis(millis))
    }

    #[test]
    fn seconds_are_truncated_toward_zero() {
        assert_eq!(at(0).secs_until(at(1999)), 1);
        assert_eq!(at(0).secs_until(at(999)), 0);
        assert_eq!(at(999).secs_until(at(0)), 0);
        assert_eq!(at(1999).secs_until(at(0)), -1);
    }

    #[test]
    fn an_expired_lease_comes_again_only_after_the_retry_time() {
        let mut schedule = Schedule::default();
        schedule.set_deadline(LeaseId(1), at(1000));
        assert_eq!(schedule.expired(at(999), 10), []);
        assert_eq!(schedule.expired(at(1000), 10), [LeaseId(1)]);
        assert_eq!(schedule.expired(at(3999), 10), []);
        assert_eq!(schedule.expired(at(4000), 10), [LeaseId(1)]);
        assert_eq!(schedule.deadline(LeaseId(1)), Some(at(1000)), "a retry does not prolong the lease");
        schedule.remove(LeaseId(1));
        assert_eq!(schedule.expired(at(60_000), 10), []);
        schedule.check();
    }

    #[test]
    fn a_limit_leaves_the_rest_for_the_next_call() {
        let mut schedule = Schedule::default();
        for id in 1..=5 {
            schedule.set_deadline(LeaseId(id), at(1000));
        }
        assert_eq!(schedule.expired(at(2000), 3), [LeaseId(1), LeaseId(2), LeaseId(3)]);
        assert_eq!(schedule.expired(at(2000), 3), [LeaseId(4), LeaseId(5)]);
        assert_eq!(schedule.expired(at(2000), 3), []);
        schedule.check();
    }

    #[test]
    fn spreading_bounds_every_second_and_keeps_the_order() {
        let mut schedule = Schedule::default();
        for id in 1..=10 {
            schedule.set_deadline(LeaseId(id), at(1000 + id as u64));
        }
        schedule.set_deadline(LeaseId(11), at(60_000));
        schedule.spread(4);
        schedule.check();
        assert_eq!(schedule.by_deadline(), (1..=11).map(LeaseId).collect::<Vec<_>>());
        let deadlines: Vec<Now> = (1..=11).map(|id| schedule.deadline(LeaseId(id)).unwrap()).collect();
        assert_eq!(deadlines[..4], [at(1001), at(1002), at(1003), at(1004)], "the first stay");
        assert_eq!(deadlines[10], at(60_000), "one that stands alone stays");
        for window in deadlines.windows(5) {
            assert!(window[4].0 - window[0].0 >= Duration::from_secs(1), "{window:?}");
        }
    }
}
