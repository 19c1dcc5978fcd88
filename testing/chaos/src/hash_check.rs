//! Equal revision, equal compaction, equal hash: on every member.

use std::collections::BTreeMap;

use crate::finding::Finding;
use crate::history::{HashRecord, Record};

pub fn check(records: &[Record]) -> Vec<Finding> {
    let mut first = BTreeMap::<_, &HashRecord>::new();
    let mut findings = Vec::new();
    for record in records {
        let Record::Hash(record) = record else { continue };
        let known = first.entry((record.revision, record.compact_revision)).or_insert(record);
        if known.hash != record.hash {
            let what = format!(
                "at revision {} compacted at {} member {} has hash {:x} ({} ms) and member {} has {:x} ({} ms)",
                record.revision,
                record.compact_revision,
                known.member,
                known.hash,
                known.at / 1000,
                record.member,
                record.hash,
                record.at / 1000,
            );
            findings.push(Finding::new("equal hashes", what).at(record.revision));
        }
    }
    findings
}

/// Revisions whose hash is known from more than one member.
pub fn compared(records: &[Record]) -> usize {
    let mut members = BTreeMap::<_, std::collections::BTreeSet<usize>>::new();
    for record in records {
        let Record::Hash(record) = record else { continue };
        members.entry((record.revision, record.compact_revision)).or_default().insert(record.member);
    }
    members.values().filter(|members| members.len() > 1).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_compared_at_equal_revision_and_compaction() {
        let record = |member, revision, compact_revision, hash| {
            Record::Hash(HashRecord { member, at: 0, revision, compact_revision, hash })
        };
        let fine = [record(0, 9, 3, 1), record(1, 9, 4, 2), record(2, 9, 3, 1), record(1, 8, 3, 5)];
        assert_eq!((check(&fine), compared(&fine)), (vec![], 1));
        let mut wrong = fine.to_vec();
        wrong.push(record(0, 8, 3, 6));
        assert_eq!(check(&wrong).len(), 1);
    }
}
