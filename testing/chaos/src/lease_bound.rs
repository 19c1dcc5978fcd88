//! When a lease may end: its time to live counts from its grant and from each renewal.
//!
//! An acknowledged renewal happened while the lease lived, so it comes before the end, however late the
//! end was seen; and it cannot have happened before it was called. The members' clocks run as ours does:
//! they are on this machine.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::operation::{Answer, Call, LeaseId, Micros, Operation, Outcome};

#[derive(Clone, Debug, Default)]
struct Bound {
    granted: Option<Micros>,
    /// Not before this moment by itself.
    expires: Micros,
    /// The first call to revoke it that may have had effect.
    revoked: Option<Micros>,
}

#[derive(Clone, Debug, Default)]
pub struct LeaseBounds(BTreeMap<LeaseId, Bound>);

impl LeaseBounds {
    pub fn of(operations: &[Operation]) -> LeaseBounds {
        let mut bounds = BTreeMap::<LeaseId, Bound>::new();
        for operation in operations.iter().filter(|operation| !operation.is_refused()) {
            let answer = operation.answered().map(|(_, answer)| answer);
            match (&operation.call, answer) {
                (Call::Grant { lease, ttl_secs }, answer) => {
                    // A granted time is never shorter than the one asked for.
                    let ttl = if let Some(Answer::Grant { ttl_secs }) = answer { ttl_secs } else { ttl_secs };
                    let bound = bounds.entry(*lease).or_default();
                    bound.granted = Some(operation.called);
                    bound.expires = bound.expires.max(end(operation.called, *ttl));
                }
                (Call::KeepAlive { lease }, Some(Answer::KeepAlive { ttl_secs })) if *ttl_secs > 0 => {
                    let bound = bounds.entry(*lease).or_default();
                    bound.expires = bound.expires.max(end(operation.called, *ttl_secs));
                }
                (Call::Revoke { lease }, _) => {
                    let bound = bounds.entry(*lease).or_default();
                    let first = bound.revoked.map_or(operation.called, |at| at.min(operation.called));
                    bound.revoked = Some(first);
                }
                _ => {}
            }
        }
        LeaseBounds(bounds)
    }

    /// Whether the lease can have run out by this moment.
    pub fn may_have_expired(&self, lease: LeaseId, by: Micros) -> bool {
        self.0.get(&lease).is_some_and(|bound| bound.granted.is_some() && bound.expires <= by)
    }

    /// When it can run out at the earliest.
    pub fn expires(&self, lease: LeaseId) -> Option<Micros> {
        self.0.get(&lease).map(|bound| bound.expires)
    }

    fn may_be_gone(&self, lease: LeaseId, by: Micros) -> bool {
        let Some(bound) = self.0.get(&lease) else { return true };
        bound.granted.is_none() || bound.expires <= by || bound.revoked.is_some_and(|at| at <= by)
    }

    /// Answers that say that a lease is gone when it cannot be.
    pub fn check(&self, operations: &[Operation]) -> Vec<Finding> {
        let mut findings = Vec::new();
        for operation in operations {
            let gone = match (&operation.call, &operation.outcome) {
                (Call::KeepAlive { lease }, Outcome::Answered { answer, .. }) => {
                    matches!(answer, Answer::KeepAlive { ttl_secs: ..=0 }).then_some(*lease)
                }
                (Call::Put(put), Outcome::Refused { why }) if is_gone(why) => Some(put.lease),
                (Call::Revoke { lease }, Outcome::Refused { why }) if is_gone(why) => Some(*lease),
                _ => None,
            };
            let Some(lease) = gone else { continue };
            if !self.surely_granted_before(lease, operation.called, operations) {
                continue;
            }
            if !self.may_be_gone(lease, operation.finished) {
                let what = format!("lease {lease:x} was said to be gone before it could end");
                findings.push(Finding::new("leases live", what).by([operation.id]));
            }
        }
        findings
    }

    fn surely_granted_before(&self, lease: LeaseId, moment: Micros, operations: &[Operation]) -> bool {
        operations.iter().any(|operation| {
            matches!(operation.call, Call::Grant { lease: granted, .. } if granted == lease)
                && operation.answered().is_some()
                && operation.finished < moment
        })
    }
}

fn is_gone(why: &str) -> bool {
    why.contains("requested lease not found")
}

fn end(from: Micros, ttl_secs: i64) -> Micros {
    from.saturating_add(u64::try_from(ttl_secs).unwrap_or(0).saturating_mul(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: u64, called: Micros, finished: Micros, call: Call, answer: Option<Answer>) -> Operation {
        let outcome = match answer {
            Some(answer) => Outcome::Answered { revision: 2, answer },
            None => Outcome::Refused { why: "etcdserver: requested lease not found".into() },
        };
        Operation { id, client: 0, member: 0, called, finished, call, outcome }
    }

    #[test]
    fn renewals_put_the_end_off_and_early_ends_are_found() {
        let second = 1_000_000;
        let grant =
            operation(1, 0, 10, Call::Grant { lease: 7, ttl_secs: 2 }, Some(Answer::Grant { ttl_secs: 3 }));
        let keep = |id, called, ttl_secs| {
            let answer = Some(Answer::KeepAlive { ttl_secs });
            operation(id, called, called + 10, Call::KeepAlive { lease: 7 }, answer)
        };
        let operations = [grant, keep(2, 2 * second, 3)];
        let bounds = LeaseBounds::of(&operations);
        assert!(!bounds.may_have_expired(7, 5 * second - 1));
        assert!(bounds.may_have_expired(7, 5 * second));
        assert!(!bounds.may_have_expired(8, 5 * second), "nobody granted it");

        let revoke = |called| operation(3, called, called + 10, Call::Revoke { lease: 7 }, None);
        for (said_gone, fine) in
            [(keep(3, 4 * second, 0), false), (keep(3, 5 * second, 0), true), (revoke(second), false)]
        {
            let mut operations = operations.to_vec();
            operations.push(said_gone);
            assert_eq!(LeaseBounds::of(&operations).check(&operations).is_empty(), fine, "{operations:?}");
        }
    }
}
