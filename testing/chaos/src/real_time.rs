//! The order in which things were seen to happen: who finished before another began comes first.
//!
//! Every answer carries the revision it speaks of, so the rule is short. What was seen before a call began
//! is not undone by it: a write gets a higher revision, a linearizable read at least that one.

use crate::evidence::Sightings;
use crate::finding::Finding;
use crate::operation::{Call, Operation, Outcome, Range, Revision};

const PROPERTY: &str = "real time";

/// Answers whose revision contradicts what was seen before they were asked for.
pub fn check(operations: &[Operation], sightings: &Sightings) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        operations.iter().filter_map(|operation| contradiction(operation, sightings)).collect();
    findings.extend(refusals(operations, sightings));
    findings
}

fn contradiction(operation: &Operation, sightings: &Sightings) -> Option<Finding> {
    let (revision, answer) = operation.answered()?;
    if let Call::Range(range) = &operation.call
        && range.revision > revision
    {
        let what = format!("revision {} was read when the store was at {revision}", range.revision);
        return Some(Finding::new(PROPERTY, what).by([operation.id]));
    }
    // A renewal is answered from the leader's clock, not from the log.
    if operation.call.is_serializable() || matches!(operation.call, Call::KeepAlive { .. }) {
        return None;
    }
    let seen = sightings.before(operation.called);
    let is_write = operation.call.may_write() && answer.changed();
    let fine = if is_write { revision > seen } else { revision >= seen };
    if fine {
        return None;
    }
    let what = format!(
        "a {} was answered at revision {revision}, but revision {seen} had been seen before it was called",
        if is_write { "write" } else { "linearizable read" }
    );
    Some(Finding::new(PROPERTY, what).by([operation.id]).at(revision))
}

/// Refusals that name a revision: it must really be compacted, or really be to come.
fn refusals(operations: &[Operation], sightings: &Sightings) -> Vec<Finding> {
    let mut findings = Vec::new();
    for operation in operations {
        let (Call::Range(range), Outcome::Refused { why }) = (&operation.call, &operation.outcome) else {
            continue;
        };
        let wrong = if why.contains("required revision has been compacted") {
            !is_compacted(range.revision, operation.finished, operations)
        } else if why.contains("required revision is a future revision") {
            !range.serializable && sightings.before(operation.called) >= range.revision
        } else {
            false
        };
        if wrong {
            let Range { revision, .. } = range;
            let what = format!("a read of revision {revision} was refused wrongly: {why}");
            findings.push(Finding::new(PROPERTY, what).by([operation.id]));
        }
    }
    findings
}

/// Whether somebody had asked, by that moment, for a compaction that takes this revision.
pub fn is_compacted(revision: Revision, by: u64, operations: &[Operation]) -> bool {
    operations.iter().any(|operation| {
        matches!(operation.call, Call::Compact { revision: upto, .. } if upto > revision)
            && operation.called <= by
            && !operation.is_refused()
    })
}
