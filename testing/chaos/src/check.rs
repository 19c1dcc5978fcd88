//! All checkers over one history.

use std::collections::BTreeMap;

use crate::evidence::Evidence;
use crate::finding::Finding;
use crate::history::{self, Notice, Record};
use crate::lease_bound::Promise;
use crate::linearizable::{self, Replay};
use crate::operation::Operation;
use crate::{hash_check, watch_check};

/// What came out, with the figures that show that something was looked at.
#[derive(Default)]
pub struct Checked {
    pub findings: Vec<Finding>,
    pub replay: Replay,
    pub operations: Vec<Operation>,
    pub answered: usize,
    pub refused: usize,
    pub unknown: usize,
    pub events: usize,
    pub resumptions: usize,
    pub hashes: usize,
    pub tries: u64,
    pub early_leases: usize,
}

pub fn all(records: &[Record], promise: Promise) -> Checked {
    let operations = history::operations(records);
    let watches = history::watches(records);
    let evidence = Evidence::of(watches.values().map(Vec::as_slice));
    let mut findings: Vec<Finding> = records.iter().filter_map(seen).collect();
    findings.extend(hash_check::check(records));
    findings.extend(evidence.disagreements());
    let verdict = linearizable::check(&operations, &evidence, promise);
    findings.extend(verdict.findings);
    for watch in watches.values() {
        findings.extend(watch_check::check(watch, &verdict.replay, &operations));
    }
    let notices = || watches.values().flatten().map(|record| &record.notice);
    let events = notices().map(|notice| match notice {
        Notice::Events { events, .. } => events.len(),
        _ => 0,
    });
    Checked {
        findings,
        replay: verdict.replay,
        answered: operations.iter().filter(|operation| operation.answered().is_some()).count(),
        refused: operations.iter().filter(|operation| operation.is_refused()).count(),
        unknown: operations.iter().filter(|operation| operation.is_unknown()).count(),
        operations,
        events: events.sum(),
        resumptions: notices().filter(|notice| matches!(notice, Notice::Broken { .. })).count(),
        hashes: hash_check::compared(records),
        tries: verdict.tries,
        early_leases: verdict.early_leases,
    }
}

fn seen(record: &Record) -> Option<Finding> {
    let Record::Seen(seen) = record else { return None };
    // The name lives as long as the program: there are a handful of them.
    let property = PROPERTIES.iter().find(|property| **property == seen.property).unwrap_or(&"seen");
    let member = seen.member.map(|member| format!("member {member}, ")).unwrap_or_default();
    Some(Finding::new(property, format!("{member}{} ms: {}", seen.at / 1000, seen.what)))
}

/// Properties that are noted while the cluster runs.
const PROPERTIES: [&str; 9] = [
    "members run",
    "members stop",
    "members change",
    "it comes back",
    "members converge",
    "leases converge",
    "member lists converge",
    "no alarm",
    "equal hashes",
];

/// Answers by kind of call: a run in which nothing happens proves nothing.
pub fn answers_by_kind(operations: &[Operation]) -> BTreeMap<&'static str, usize> {
    use crate::operation::Call;
    let mut kinds = BTreeMap::new();
    for operation in operations.iter().filter(|operation| operation.answered().is_some()) {
        let kind = match &operation.call {
            Call::Put(_) => "put",
            Call::Range(range) if range.streamed => "streamed range",
            Call::Range(range) if range.serializable => "serializable range",
            Call::Range(_) => "range",
            Call::Delete(_) => "delete",
            Call::Txn(txn) if txn.is_read_only() => "reading txn",
            Call::Txn(_) => "txn",
            Call::Compact { .. } => "compact",
            Call::Grant { .. } => "grant",
            Call::Revoke { .. } => "revoke",
            Call::KeepAlive { .. } => "keep alive",
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    kinds
}
