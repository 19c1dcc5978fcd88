//! When a lease may end: its time to live counts from its grant and from each renewal.
//!
//! An acknowledged renewal happened while the lease lived, so it comes before the end, however late the
//! end was seen; and it cannot have happened before it was called. The members' clocks run as ours does:
//! they are on this machine.
//!
//! Compat: etcd (3.7.3) keeps this only as long as the leader stays. A leader that was frozen or cut off
//! still revokes, or still renews, by what it last knew, and its revoke takes effect although the lease was
//! renewed at the new leader meanwhile (etcd issues 12528 and 15247; their repair leaves a gap of some
//! ticks). Unless told to be strict, an end after a change of the term is therefore counted, not reported.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::operation::{Answer, Call, LeaseId, Micros, Operation, Outcome};

/// A new leader acts some time before a client can have heard of its term. Microseconds.
const TERM_LATENCY: Micros = 2_000_000;

/// What is asked of leases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promise {
    #[default]
    WithinOneTerm,
    Always,
}

#[derive(Clone, Debug, Default)]
struct Bound {
    granted: Option<Micros>,
    term: u64,
    /// Not before this moment by itself.
    expires: Micros,
    /// The first call to revoke it that may have had effect.
    revoked: Option<Micros>,
}

#[derive(Clone, Debug, Default)]
pub struct LeaseBounds {
    bounds: BTreeMap<LeaseId, Bound>,
    /// When which term was first seen, ascending in both.
    terms: Vec<(Micros, u64)>,
    promise: Promise,
}

impl LeaseBounds {
    pub fn of(operations: &[Operation], promise: Promise) -> LeaseBounds {
        let mut bounds = LeaseBounds { bounds: BTreeMap::new(), terms: terms(operations), promise };
        for operation in operations.iter().filter(|operation| !operation.is_refused()) {
            bounds.learn(operation);
        }
        bounds
    }

    fn learn(&mut self, operation: &Operation) {
        let answer = operation.answered().map(|(_, answer)| answer);
        match (&operation.call, answer) {
            (Call::Grant { lease, ttl_secs }, answer) => {
                // A granted time is never shorter than the one asked for.
                let ttl = if let Some(Answer::Grant { ttl_secs }) = answer { ttl_secs } else { ttl_secs };
                let bound = self.bounds.entry(*lease).or_default();
                bound.granted = Some(operation.called);
                bound.term = operation.term;
                bound.expires = bound.expires.max(end(operation.called, *ttl));
            }
            (Call::KeepAlive { lease }, Some(Answer::KeepAlive { ttl_secs })) if *ttl_secs > 0 => {
                let bound = self.bounds.entry(*lease).or_default();
                bound.expires = bound.expires.max(end(operation.called, *ttl_secs));
            }
            (Call::Revoke { lease }, _) => {
                let bound = self.bounds.entry(*lease).or_default();
                let first = bound.revoked.map_or(operation.called, |at| at.min(operation.called));
                bound.revoked = Some(first);
            }
            _ => {}
        }
    }

    /// Whether the lease can have run out by this moment.
    pub fn may_have_expired(&self, lease: LeaseId, by: Micros) -> bool {
        let Some(bound) = self.bounds.get(&lease) else { return false };
        bound.granted.is_some() && (bound.expires <= by || self.is_excused(bound, by))
    }

    /// Whether it ran out before the time that was promised, for all that is known.
    pub fn is_early(&self, lease: LeaseId, by: Micros) -> bool {
        self.bounds.get(&lease).is_some_and(|bound| bound.expires > by)
    }

    /// When it can run out at the earliest.
    pub fn expires(&self, lease: LeaseId) -> Option<Micros> {
        self.bounds.get(&lease).map(|bound| bound.expires)
    }

    fn is_excused(&self, bound: &Bound, by: Micros) -> bool {
        let count = self.terms.partition_point(|(at, _)| *at <= by.saturating_add(TERM_LATENCY));
        let newest = count.checked_sub(1).map_or(0, |last| self.terms[last].1);
        self.promise == Promise::WithinOneTerm && newest > bound.term
    }

    fn may_be_gone(&self, lease: LeaseId, by: Micros) -> bool {
        let revoked = self.bounds.get(&lease).and_then(|bound| bound.revoked);
        self.may_have_expired(lease, by) || revoked.is_some_and(|at| at <= by)
    }

    /// Answers that say that a lease is gone when it cannot be.
    pub fn check(&self, operations: &[Operation]) -> Vec<Finding> {
        let mut granted = BTreeMap::<LeaseId, Micros>::new();
        for operation in operations {
            if let (Call::Grant { lease, .. }, Some(_)) = (&operation.call, operation.answered()) {
                granted.insert(*lease, operation.finished);
            }
        }
        let told_gone = operations.iter().filter_map(|operation| {
            let lease = told_gone(operation)?;
            let was_there = granted.get(&lease).is_some_and(|at| *at < operation.called);
            (was_there && !self.may_be_gone(lease, operation.finished)).then_some((lease, operation.id))
        });
        let finding = |(lease, id)| {
            let what = format!("lease {lease:x} was said to be gone before it could end");
            Finding::new("leases live", what).by([id])
        };
        told_gone.map(finding).collect()
    }
}

/// The lease that is gone by this answer.
fn told_gone(operation: &Operation) -> Option<LeaseId> {
    let is_gone = |why: &str| why.contains("requested lease not found");
    match (&operation.call, &operation.outcome) {
        (Call::KeepAlive { lease }, Outcome::Answered { answer, .. }) => {
            matches!(answer, Answer::KeepAlive { ttl_secs: ..=0 }).then_some(*lease)
        }
        (Call::Put(put), Outcome::Refused { why }) => is_gone(why).then_some(put.lease),
        (Call::Revoke { lease }, Outcome::Refused { why }) => is_gone(why).then_some(*lease),
        _ => None,
    }
}

fn terms(operations: &[Operation]) -> Vec<(Micros, u64)> {
    let mut all: Vec<(Micros, u64)> =
        operations.iter().map(|operation| (operation.finished, operation.term)).collect();
    all.sort_unstable();
    let mut terms: Vec<(Micros, u64)> = Vec::new();
    for (at, term) in all {
        if terms.last().is_none_or(|(_, newest)| term > *newest) {
            terms.push((at, term));
        }
    }
    terms
}

fn end(from: Micros, ttl_secs: i64) -> Micros {
    from.saturating_add(u64::try_from(ttl_secs).unwrap_or(0).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Micros = 1_000_000;

    fn operation(id: u64, called: Micros, call: Call, answer: Option<Answer>) -> Operation {
        let outcome = match answer {
            Some(answer) => Outcome::Answered { revision: 2, answer },
            None => Outcome::Refused { why: "etcdserver: requested lease not found".into() },
        };
        Operation { id, client: 0, member: 0, called, finished: called + 10, term: 2, call, outcome }
    }

    fn keep(id: u64, called: Micros, ttl_secs: i64) -> Operation {
        operation(id, called, Call::KeepAlive { lease: 7 }, Some(Answer::KeepAlive { ttl_secs }))
    }

    /// Granted for three seconds, and renewed after two.
    fn lease() -> Vec<Operation> {
        let grant = Call::Grant { lease: 7, ttl_secs: 2 };
        vec![operation(1, 0, grant, Some(Answer::Grant { ttl_secs: 3 })), keep(2, 2 * SECOND, 3)]
    }

    #[test]
    fn renewals_put_the_end_off_and_early_ends_are_found() {
        let bounds = LeaseBounds::of(&lease(), Promise::WithinOneTerm);
        assert!(!bounds.may_have_expired(7, 5 * SECOND - 1));
        assert!(bounds.may_have_expired(7, 5 * SECOND));
        assert!(!bounds.may_have_expired(8, 5 * SECOND), "nobody granted it");

        let revoke = operation(3, SECOND, Call::Revoke { lease: 7 }, None);
        for (said_gone, fine) in
            [(keep(3, 4 * SECOND, 0), false), (keep(3, 5 * SECOND, 0), true), (revoke, false)]
        {
            let mut operations = lease();
            operations.push(said_gone);
            let bounds = LeaseBounds::of(&operations, Promise::WithinOneTerm);
            assert_eq!(bounds.check(&operations).is_empty(), fine, "{operations:?}");
        }
    }

    #[test]
    fn a_new_term_excuses_an_early_end_unless_the_promise_is_strict() {
        let mut operations = lease();
        operations.push(Operation { term: 3, ..keep(3, 4 * SECOND, 0) });
        for (promise, fine) in [(Promise::WithinOneTerm, true), (Promise::Always, false)] {
            let bounds = LeaseBounds::of(&operations, promise);
            assert_eq!(bounds.check(&operations).is_empty(), fine, "{promise:?}");
            assert!(bounds.is_early(7, 4 * SECOND));
        }
    }
}
