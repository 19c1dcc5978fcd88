//! Right histories with one watcher that is told something wrong.

use super::*;
use crate::evidence::Evidence;
use crate::lease_bound::Promise;
use crate::linearizable;
use crate::synthetic::{LARGE, Synthetic};

struct Case {
    operations: Vec<Operation>,
    replay: Replay,
    records: Vec<WatchRecord>,
}

fn case(seed: u64) -> Case {
    let history = Synthetic::generate(seed, LARGE);
    let records = history.watch(2, 3);
    let evidence = Evidence::of([&records[..]]);
    let verdict = linearizable::check(&history.operations, &evidence, Promise::Always);
    assert_eq!(verdict.findings, [], "seed {seed}");
    Case { operations: history.operations, replay: verdict.replay, records }
}

impl Case {
    fn findings(&self) -> Vec<Finding> {
        check(&self.records, &self.replay, &self.operations)
    }

    /// The response in the middle, with its header.
    fn middle(&mut self) -> (&mut Revision, &mut Vec<Event>) {
        let responses = self.records.iter_mut().filter_map(|record| match &mut record.notice {
            Notice::Events { revision, events } => Some((revision, events)),
            _ => None,
        });
        let mut responses: Vec<_> = responses.collect();
        let middle = responses.len() / 2;
        responses.swap_remove(middle)
    }

    fn only_finding(&self, seed: u64) -> String {
        let findings = self.findings();
        assert!(!findings.is_empty(), "seed {seed}");
        findings[0].what.clone()
    }
}

#[test]
fn a_right_watcher_is_right() {
    for seed in 0..50 {
        assert_eq!(case(seed).findings(), [], "seed {seed}");
    }
}

#[test]
fn a_missing_event_is_found() {
    for seed in 0..50 {
        let mut case = case(seed);
        case.middle().1.remove(0);
        let what = case.only_finding(seed);
        assert!(what.contains("not told of") || what.contains("what happened was"), "{what}");
    }
}

#[test]
fn a_missing_end_is_found() {
    let mut case = case(1);
    let is_last_event = |record: &WatchRecord| matches!(record.notice, Notice::Events { .. });
    let last = case.records.iter().rposition(is_last_event).unwrap();
    case.records.truncate(last);
    let revision = case.replay.last();
    let finished = Notice::Finished { revision };
    case.records.push(WatchRecord { watcher: 2, member: 0, at: 1_000, notice: finished });
    assert!(case.only_finding(1).contains("not told of"));
}

#[test]
fn a_watcher_that_got_nothing_is_found() {
    let mut case = case(1);
    case.records.truncate(1);
    let finished = Notice::Finished { revision: case.replay.last() + 1 };
    case.replay.revisions.clear();
    case.records.push(WatchRecord { watcher: 2, member: 0, at: 1_000, notice: finished });
    assert!(case.only_finding(1).contains("still at revision 0"));
}

#[test]
fn an_event_told_twice_is_found() {
    for seed in 0..50 {
        let mut case = case(seed);
        let events = case.middle().1;
        events.insert(0, events[0].clone());
        assert!(!case.findings().is_empty(), "seed {seed}");
    }
}

#[test]
fn a_revision_in_two_responses_is_found() {
    let mut case = case(3);
    let position = case.records.iter().position(|record| matches!(record.notice, Notice::Events { .. }));
    let again = case.records[position.unwrap()].clone();
    case.records.insert(position.unwrap() + 1, again);
    assert!(case.only_finding(3).contains("in two responses"));
}

#[test]
fn a_wrong_previous_value_is_found() {
    let mut found = 0;
    for seed in 0..50 {
        let mut case = case(seed);
        let Some(event) = case.middle().1.iter_mut().find(|event| event.prev.is_some()) else { continue };
        event.prev.as_mut().unwrap().version += 1;
        assert!(case.only_finding(seed).contains("prev_kv"));
        let mut case = self::case(seed);
        let Some(event) = case.middle().1.iter_mut().find(|event| event.prev.is_some()) else { continue };
        event.prev = None;
        assert!(case.only_finding(seed).contains("prev_kv"), "nothing was compacted");
        found += 1;
    }
    assert!(found > 20, "{found}");
}

#[test]
fn progress_above_a_later_event_is_found() {
    for seed in 0..50 {
        let mut case = case(seed);
        let position =
            case.records.iter().position(|record| matches!(record.notice, Notice::Progress { .. }));
        let Notice::Progress { revision } = &mut case.records[position.unwrap()].notice else { panic!() };
        *revision += 1;
        assert!(case.only_finding(seed).contains("not told of"), "seed {seed}");
    }
}

#[test]
fn a_header_below_its_events_is_found() {
    let mut case = case(4);
    *case.middle().0 = 1;
    assert!(case.only_finding(4).contains("header"));
}

#[test]
fn only_what_was_compacted_may_be_said_to_be() {
    let mut case = case(5);
    let told = Notice::Compacted { compact_revision: 40 };
    case.records.insert(1, WatchRecord { watcher: 2, member: 0, at: 1, notice: told });
    assert!(case.only_finding(5).contains("compacted at 40"));
}
