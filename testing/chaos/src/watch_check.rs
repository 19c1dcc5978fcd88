//! Whether each watcher was told everything, once, in order and rightly.

use crate::finding::Finding;
use crate::history::{Notice, WatchRecord};
use crate::linearizable::Replay;
use crate::operation::{Call, Event, Micros, Operation, Revision, Span};
use crate::real_time::is_compacted;

/// Findings of one watcher: a watcher that lost its place would fill the report alone.
const FINDINGS_MAX: usize = 5;

/// Checks what one watcher was told against the history.
pub fn check(records: &[WatchRecord], replay: &Replay, operations: &[Operation]) -> Vec<Finding> {
    let mut watch = Watch {
        replay,
        operations,
        span: Span::everything(),
        prev_kv: false,
        deletes: true,
        next: 0,
        findings: Vec::new(),
    };
    for record in records {
        watch.told(record);
        if watch.findings.len() >= FINDINGS_MAX {
            break;
        }
    }
    watch.findings
}

struct Watch<'a> {
    replay: &'a Replay,
    operations: &'a [Operation],
    span: Span,
    prev_kv: bool,
    /// Whether it asked for deletions too.
    deletes: bool,
    /// The lowest revision that it was not told of, once it is known.
    next: Revision,
    findings: Vec<Finding>,
}

impl Watch<'_> {
    fn told(&mut self, record: &WatchRecord) {
        match &record.notice {
            Notice::Opened { span, start_revision, prev_kv, deletes } => {
                let goes_on = self.next == 0 || *start_revision == self.next;
                assert!(goes_on, "watcher {} skips by itself: the history is no good", record.watcher);
                (self.span, self.prev_kv, self.deletes) = (span.clone(), *prev_kv, *deletes);
                self.next = *start_revision;
            }
            // A watch from now on begins behind what the store was at.
            Notice::Created { revision } if self.next == 0 => self.next = revision + 1,
            Notice::Created { .. } | Notice::Canceled { .. } | Notice::Broken { .. } => {}
            Notice::Events { revision, events } => self.events(record, *revision, events),
            Notice::Progress { revision } => self.progress(record, *revision),
            Notice::Compacted { compact_revision } => self.compacted(record, *compact_revision),
            Notice::Finished { revision } => {
                self.complete(record, *revision);
                if self.next <= *revision {
                    let at = self.next - 1;
                    self.find(record, *revision, format!("it is still at revision {at} at the end"));
                }
            }
        }
    }

    fn events(&mut self, record: &WatchRecord, header: Revision, events: &[Event]) {
        let Some(last) = events.last().map(|event| event.kv.mod_revision) else { return };
        if header < last {
            self.find(record, last, format!("the header's revision {header} is below that of its events"));
        }
        for group in events.chunk_by(|a, b| a.kv.mod_revision == b.kv.mod_revision) {
            let revision = group[0].kv.mod_revision;
            if revision < self.next {
                let why = "again, out of order, or in two responses";
                self.find(record, revision, format!("it came {why}: {group:?}"));
                return;
            }
            self.complete(record, revision - 1);
            self.next = revision + 1;
            self.right(record, revision, group);
        }
    }

    /// Nothing that it watches lies between what it was told and `last`, which it was told to have all of.
    fn complete(&mut self, record: &WatchRecord, last: Revision) {
        if self.next == 0 || last < self.next {
            return;
        }
        for (revision, (_, events)) in self.replay.revisions.range(self.next..=last) {
            let missed: Vec<&Event> = events.iter().filter(|event| self.watches(event)).collect();
            if let [first, ..] = missed[..] {
                let what = format!("it was not told of {first:?}");
                self.next = revision + 1;
                self.find(record, *revision, what);
                return;
            }
        }
    }

    fn right(&mut self, record: &WatchRecord, revision: Revision, told: &[Event]) {
        let Some((_, events)) = self.replay.revisions.get(&revision) else {
            if revision <= self.replay.last() {
                self.find(record, revision, format!("nothing is known of {told:?}"));
            }
            return;
        };
        let expected: Vec<&Event> = events.iter().filter(|event| self.watches(event)).collect();
        let is_same = told.len() == expected.len()
            && told.iter().zip(&expected).all(|(told, expected)| told.bare() == expected.bare());
        if !is_same {
            self.find(record, revision, format!("it was told {told:?}; what happened was {expected:?}"));
            return;
        }
        if revision > self.replay.explained {
            // Behind that, nobody knows what was there before.
            return;
        }
        for (told, expected) in told.iter().zip(expected) {
            if !self.has_right_previous(record.at, told, expected) {
                let what = format!("prev_kv is {:?} and had to be {:?}", told.prev, expected.prev);
                self.find(record, revision, what);
            }
        }
    }

    fn has_right_previous(&self, by: Micros, told: &Event, expected: &Event) -> bool {
        if !self.prev_kv {
            return told.prev.is_none();
        }
        // Compat: read at the revision before, so a compaction may have taken it.
        told.prev == expected.prev
            || told.prev.is_none() && is_compacted(told.kv.mod_revision - 1, by, self.operations)
    }

    fn progress(&mut self, record: &WatchRecord, revision: Revision) {
        if self.next == 0 {
            return;
        }
        self.complete(record, revision);
        self.next = self.next.max(revision + 1);
    }

    fn compacted(&mut self, record: &WatchRecord, compact_revision: Revision) {
        let asked_for = self.operations.iter().any(|operation| {
            matches!(operation.call, Call::Compact { revision, .. } if revision == compact_revision)
                && !operation.is_refused()
                && operation.called <= record.at
        });
        if !asked_for || compact_revision <= self.next {
            let what = format!("it was said to be compacted at {compact_revision}, wrongly");
            self.find(record, self.next, what);
        }
        self.next = self.next.max(compact_revision);
    }

    fn watches(&self, event: &Event) -> bool {
        self.span.holds(&event.kv.key) && (self.deletes || !event.deleted)
    }

    fn find(&mut self, record: &WatchRecord, revision: Revision, what: String) {
        let WatchRecord { watcher, member, at, .. } = record;
        let what =
            format!("watcher {watcher} on member {member}, {} ms, revision {revision}: {what}", at / 1000);
        self.findings.push(Finding::new("watch", what).at(revision));
    }
}

#[cfg(test)]
#[path = "watch_check_tests.rs"]
mod tests;
