//! Small histories by hand, tiny ones against a search through all orders, large ones with one lie in them.

use sim::rng::Rng;

use super::*;
use crate::history::{Notice, WatchRecord};
use crate::operation::{Delete, KeyValue, Outcome, Put, Span};
use crate::synthetic::{LARGE, Shape, Synthetic, TINY};

/// Of histories that nobody watched.
fn is_fine(operations: &[Operation]) -> bool {
    check(operations, &Evidence::default(), Promise::Always).findings.is_empty()
}

/// Histories of one key, `a`.
#[derive(Default)]
struct ByHand(Vec<Operation>);

impl ByHand {
    fn add(mut self, called: u64, finished: u64, call: Call, outcome: Outcome) -> ByHand {
        let id = self.0.len() as u64 + 1;
        self.0.push(Operation { id, client: id as u32, member: 0, called, finished, term: 0, call, outcome });
        self
    }

    fn put(self, called: u64, finished: u64, value: &str, revision: Revision) -> ByHand {
        let outcome = Outcome::Answered { revision, answer: Answer::Put { prev: None } };
        self.add(called, finished, put(value), outcome)
    }

    fn lost_put(self, called: u64, value: &str) -> ByHand {
        self.add(called, called + 1, put(value), Outcome::Unknown { why: "deadline".into() })
    }

    fn lost_delete(self, called: u64) -> ByHand {
        let call = Call::Delete(Delete { span: Span::one("a"), prev_kv: false });
        self.add(called, called + 1, call, Outcome::Unknown { why: "deadline".into() })
    }

    fn delete(self, called: u64, finished: u64, deleted: i64, revision: Revision) -> ByHand {
        let call = Call::Delete(Delete { span: Span::one("a"), prev_kv: false });
        let answer = Answer::Delete { deleted, prevs: vec![] };
        self.add(called, finished, call, Outcome::Answered { revision, answer })
    }

    fn read(self, called: u64, finished: u64, kv: Option<KeyValue>, revision: Revision) -> ByHand {
        self.range(called, finished, kv, revision, Range::of(Span::one("a")))
    }

    fn range(
        self,
        called: u64,
        finished: u64,
        kv: Option<KeyValue>,
        revision: Revision,
        range: Range,
    ) -> ByHand {
        let count = i64::from(kv.is_some());
        let answer = Answer::Range { kvs: kv.into_iter().collect(), more: false, count };
        self.add(called, finished, Call::Range(range), Outcome::Answered { revision, answer })
    }
}

fn put(value: &str) -> Call {
    Call::Put(Put { key: "a".into(), value: value.into(), ..Put::default() })
}

fn kv(value: &str, mod_revision: Revision, version: i64) -> Option<KeyValue> {
    let create_revision = mod_revision - version + 1;
    Some(KeyValue { key: "a".into(), value: value.into(), create_revision, mod_revision, version, lease: 0 })
}

#[test]
fn calls_at_the_same_time_may_come_in_any_order() {
    let history = ByHand::default().put(0, 10, "x", 3).put(0, 10, "y", 2).read(0, 10, kv("y", 2, 1), 2);
    assert!(is_fine(&history.0));
}

#[test]
fn a_stale_read_is_found() {
    let history = ByHand::default().put(0, 1, "x", 2).put(2, 3, "y", 3).read(4, 5, kv("x", 2, 1), 2);
    let findings = check(&history.0, &Evidence::default(), Promise::Always).findings;
    assert_eq!((findings.len(), findings[0].property, &findings[0].operations), (1, "real time", &vec![3]));
    // The same read is right if it began before the second write had ended.
    assert!(is_fine(&ByHand::default().put(0, 1, "x", 2).put(2, 4, "y", 3).read(4, 5, kv("x", 2, 1), 2).0));
    // And it may always be stale if it asked for no more.
    let local = Range { serializable: true, ..Range::of(Span::one("a")) };
    let history = ByHand::default().put(0, 1, "x", 2).put(2, 3, "y", 3);
    assert!(is_fine(&history.range(4, 5, kv("x", 2, 1), 2, local).0));
}

#[test]
fn a_stale_value_under_a_new_revision_is_found() {
    let history = ByHand::default().put(0, 1, "x", 2).put(2, 3, "y", 3).read(4, 5, kv("x", 2, 1), 3);
    let findings = check(&history.0, &Evidence::default(), Promise::Always).findings;
    assert_eq!((findings.len(), &findings[0].operations, findings[0].revision), (1, &vec![3], Some(3)));
}

#[test]
fn a_lost_write_is_found() {
    // Acknowledged, and then another write gets its revision, or a read shows nothing of it.
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 2).put(2, 3, "y", 2).0));
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 2).read(2, 3, None, 2).0));
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 2).read(2, 3, None, 1).0));
}

#[test]
fn an_unknown_write_happens_once_or_never() {
    let begin = || ByHand::default().lost_put(0, "x");
    assert!(is_fine(&begin().put(5, 6, "y", 2).0));
    assert!(is_fine(&begin().put(5, 6, "y", 3).0));
    assert!(is_fine(&begin().put(5, 6, "y", 2).read(7, 8, kv("x", 3, 2), 3).0));
    // Twice would be two revisions.
    assert!(!is_fine(&begin().put(5, 6, "y", 2).put(7, 8, "z", 5).0));
    assert!(!is_fine(&begin().put(5, 6, "y", 3).read(7, 8, kv("x", 4, 3), 4).0));
}

#[test]
fn an_unknown_write_does_not_happen_before_its_call() {
    assert!(is_fine(&ByHand::default().lost_put(0, "x").put(1, 2, "y", 3).0));
    assert!(!is_fine(&ByHand::default().put(0, 1, "y", 3).lost_put(2, "x").0));
}

#[test]
fn the_search_takes_a_wrong_choice_back() {
    // Either lost write may be revision 2; only what the read saw tells which.
    for value in ["x", "y"] {
        let history = ByHand::default().lost_put(0, "x").lost_put(0, "y").put(5, 6, "z", 3);
        assert!(is_fine(
            &history.range(7, 8, kv(value, 2, 1), 3, Range { revision: 2, ..Range::of(Span::one("a")) }).0
        ));
    }
    let history = ByHand::default().lost_put(0, "x").lost_delete(1).put(5, 6, "z", 4);
    assert!(is_fine(&history.read(7, 8, kv("z", 4, 1), 4).0));
    let history = ByHand::default().lost_put(0, "x").lost_delete(1).put(5, 6, "z", 4);
    assert!(!is_fine(&history.read(7, 8, kv("z", 4, 2), 4).0));
}

#[test]
fn a_phantom_is_found() {
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 2).read(2, 3, kv("never", 2, 1), 2).0));
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 3).0), "nobody wrote revision 2");
    // A read of the future: the write begins after the read has ended.
    assert!(!is_fine(&ByHand::default().read(0, 1, kv("x", 2, 1), 2).put(2, 3, "x", 2).0));
}

#[test]
fn deletions_count_what_was_there() {
    assert!(is_fine(&ByHand::default().put(0, 1, "x", 2).delete(2, 3, 1, 3).delete(4, 5, 0, 3).0));
    assert!(!is_fine(&ByHand::default().put(0, 1, "x", 2).delete(2, 3, 0, 2).0));
    assert!(!is_fine(&ByHand::default().delete(2, 3, 1, 2).0));
}

#[test]
fn a_lease_ends_only_when_its_time_is_over() {
    let second = 1_000_000;
    let grant = Call::Grant { lease: 7, ttl_secs: 2 };
    let granted = Outcome::Answered { revision: 1, answer: Answer::Grant { ttl_secs: 2 } };
    let attached = Call::Put(Put { key: "a".into(), value: "x".into(), lease: 7, ..Put::default() });
    let done = Outcome::Answered { revision: 2, answer: Answer::Put { prev: None } };
    let begin = || {
        ByHand::default().add(0, 1, grant.clone(), granted.clone()).add(2, 3, attached.clone(), done.clone())
    };
    assert!(is_fine(&begin().read(2 * second, 2 * second + 1, None, 3).0));
    assert!(!is_fine(&begin().read(second, 2 * second - 1, None, 3).0), "too early");
    let again = || Outcome::Answered { revision: 4, answer: Answer::Put { prev: None } };
    assert!(!is_fine(
        &begin()
            .read(2 * second, 2 * second + 1, None, 3)
            .add(3 * second, 4 * second, attached.clone(), again())
            .0
    ));
    let revoked = Outcome::Answered { revision: 3, answer: Answer::Revoke };
    assert!(is_fine(&begin().add(4, 5, Call::Revoke { lease: 7 }, revoked.clone()).read(6, 7, None, 3).0));
    let kept = kv("x", 2, 1).map(|kv| KeyValue { lease: 7, ..kv });
    assert!(!is_fine(&begin().add(4, 5, Call::Revoke { lease: 7 }, revoked).read(6, 7, kept, 3).0));
}

/// Tries every order. Only for the calls that [`TINY`] makes.
struct BruteForce<'a> {
    operations: &'a [Operation],
    done: Vec<bool>,
    past: Vec<Model>,
}

impl BruteForce<'_> {
    fn explains(operations: &[Operation]) -> bool {
        BruteForce { operations, done: vec![false; operations.len()], past: vec![Model::fresh()] }.search()
    }

    fn search(&mut self) -> bool {
        let open = |(operation, done): (&Operation, &bool)| !*done && operation.answered().is_some();
        let waiting: Vec<&Operation> = self
            .operations
            .iter()
            .zip(&self.done)
            .filter(|&(operation, done)| open((operation, done)))
            .map(|(operation, _)| operation)
            .collect();
        if waiting.is_empty() {
            return true;
        }
        let first_end = waiting.iter().map(|operation| operation.finished).min().unwrap_or(u64::MAX);
        for index in 0..self.operations.len() {
            let operation = &self.operations[index];
            if self.done[index] || operation.is_refused() || first_end < operation.called {
                continue;
            }
            let Some(next) = self.outcome(operation) else { continue };
            self.done[index] = true;
            let before = self.past.len();
            self.past.extend(next);
            if self.search() {
                return true;
            }
            self.past.truncate(before);
            self.done[index] = false;
        }
        false
    }

    /// The state behind the call, if it changes it; `None` if it cannot happen now as it was answered.
    fn outcome(&self, operation: &Operation) -> Option<Option<Model>> {
        let now = self.past.last().unwrap();
        let Some((revision, answer)) = operation.answered() else {
            let effect = now.evaluate(&operation.call)?;
            let mut next = now.clone();
            next.commit(&effect);
            return (!effect.events.is_empty()).then_some(Some(next));
        };
        let seen = match &operation.call {
            Call::Range(range) if range.revision > 0 => {
                (revision == now.revision && range.revision <= revision).then_some(range.revision)?
            }
            Call::Range(Range { serializable: true, .. }) => {
                (revision <= now.revision).then_some(revision)?
            }
            _ => now.revision,
        };
        let state = self.past.get(usize::try_from(seen - 1).ok()?)?;
        let effect = state.evaluate(&operation.call)?;
        let mut next = state.clone();
        next.commit(&effect);
        let is_local = matches!(operation.call, Call::Range(_));
        if effect.answer != *answer || !is_local && next.revision != revision {
            return None;
        }
        if is_local && seen == now.revision && revision != now.revision {
            return None;
        }
        Some((!effect.events.is_empty()).then_some(next))
    }
}

/// Makes one answer a little wrong.
fn spoil(rng: &mut Rng, operations: &mut [Operation]) {
    let index = rng.index(operations.len());
    let other = operations[rng.index(operations.len())].outcome.clone();
    let operation = &mut operations[index];
    match (&mut operation.outcome, rng.below(6)) {
        (Outcome::Answered { revision, .. }, 0) => *revision += 1,
        (Outcome::Answered { revision, .. }, 1) => *revision -= 1,
        (Outcome::Answered { answer: Answer::Range { kvs, count, .. }, .. }, 2) => {
            kvs.pop();
            *count = kvs.len() as i64;
        }
        (Outcome::Answered { answer: Answer::Delete { deleted, .. }, .. }, 2) => *deleted ^= 1,
        (outcome, 3) => *outcome = other,
        (_, 4) => {
            operation.called += 4;
            operation.finished += 4;
        }
        (outcome @ Outcome::Unknown { .. }, _) => *outcome = Outcome::Refused { why: "no".into() },
        (outcome, _) => *outcome = Outcome::Unknown { why: "lost".into() },
    }
}

fn has_shape_of_its_call(operation: &Operation) -> bool {
    let Some((revision, answer)) = operation.answered() else { return true };
    let fits = matches!(
        (&operation.call, answer),
        (Call::Put(_), Answer::Put { .. })
            | (Call::Range(_), Answer::Range { .. })
            | (Call::Delete(_), Answer::Delete { .. })
            | (Call::Txn(_), Answer::Txn { .. })
    );
    fits && revision > 0
}

#[test]
fn the_walk_agrees_with_a_search_through_all_orders() {
    let (mut right, mut wrong) = (0, 0);
    for seed in 0..12_000 {
        let shape = Shape { operations: 3 + (seed % 4) as usize, ..TINY };
        let mut operations = Synthetic::generate(seed, shape).operations;
        let mut rng = Rng::new(seed ^ 0xABCD);
        for _ in 0..rng.below(3) {
            spoil(&mut rng, &mut operations);
        }
        if !operations.iter().all(has_shape_of_its_call) {
            continue;
        }
        let expected = BruteForce::explains(&operations);
        let verdict = check(&operations, &Evidence::default(), Promise::Always);
        let lines = operations.iter().map(|operation| format!("{operation:?}\n")).collect::<String>();
        assert_eq!(verdict.findings.is_empty(), expected, "seed {seed}: {:?}\n{lines}", verdict.findings);
        if expected { right += 1 } else { wrong += 1 }
    }
    assert!(right > 2_000 && wrong > 2_000, "{right} right, {wrong} wrong");
}

#[test]
fn right_histories_are_accepted_with_and_without_watchers() {
    for seed in 0..200 {
        let history = Synthetic::generate(seed, LARGE);
        let watch = history.watch(1, 3);
        let evidence = Evidence::of([&watch[..]]);
        let verdict = check(&history.operations, &evidence, Promise::Always);
        assert_eq!(verdict.findings, [], "seed {seed}");
        assert_eq!(verdict.replay.revisions.len(), history.revisions.len(), "seed {seed}");
        for ((_, expected), (_, events)) in history.revisions.iter().zip(verdict.replay.revisions.values()) {
            assert_eq!(events, expected, "seed {seed}");
        }
    }
}

/// Nobody reads behind the last write, and only a watcher of its key sees it.
#[test]
fn a_watcher_of_a_part_tells_which_unknown_write_came_last() {
    for value in ["x", "y"] {
        let history = ByHand::default().lost_put(0, "x").lost_put(0, "y").0;
        let told = Event { deleted: false, kv: kv(value, 2, 1).expect("some"), prev: None };
        let opened = Notice::Opened { span: Span::one("a"), start_revision: 1, prev_kv: true, deletes: true };
        let events = Notice::Events { revision: 2, events: vec![told.clone()] };
        let watch = [opened, events].map(|notice| WatchRecord { watcher: 1, member: 0, at: 5, notice });
        let verdict = check(&history, &Evidence::of([&watch[..]]), Promise::Always);
        assert_eq!(verdict.findings, []);
        assert_eq!(verdict.replay.revisions[&2].1, [told]);
    }
}

/// Lies that a server could tell; each is put into a history that is right otherwise.
#[test]
fn one_lie_in_a_large_history_is_found() {
    let mut told = [0; 5];
    for seed in 0..300 {
        let history = Synthetic::generate(seed, LARGE);
        let watch = history.watch(1, 3);
        let evidence = Evidence::of([&watch[..]]);
        let mut operations = history.operations.clone();
        let kind = (seed % 5) as usize;
        let mut rng = Rng::new(seed);
        let victims: Vec<usize> = (50..250).filter(|&index| suits(kind, &operations[index])).collect();
        if victims.is_empty() {
            continue;
        }
        let victim = victims[rng.index(victims.len())];
        if !lie(kind, victim, &mut operations, &history) {
            continue;
        }
        told[kind] += 1;
        let findings = check(&operations, &evidence, Promise::Always).findings;
        assert!(!findings.is_empty(), "seed {seed}: lie {kind} about {:?}", operations[victim]);
    }
    assert!(told.iter().all(|count| *count > 20), "{told:?}");
}

fn suits(kind: usize, operation: &Operation) -> bool {
    match (kind, &operation.call, operation.answered()) {
        (0, Call::Range(range), Some(_)) => !range.serializable && range.revision == 0,
        (1 | 3, Call::Put(_), Some(_)) => true,
        (2, Call::Range(_), Some((_, Answer::Range { kvs, .. }))) => !kvs.is_empty(),
        (4, Call::Txn(_), Some(_)) => true,
        _ => false,
    }
}

/// Whether it could be told.
fn lie(kind: usize, victim: usize, operations: &mut Vec<Operation>, history: &Synthetic) -> bool {
    let called = operations[victim].called;
    let Outcome::Answered { revision, answer } = &mut operations[victim].outcome else { return false };
    match (kind, answer) {
        // A linearizable read from a state of long ago.
        (0, _) => {
            let seen = history.operations.iter().filter(|operation| operation.finished < called);
            let seen = seen.filter_map(|operation| Some(operation.answered()?.0)).max().unwrap_or(0);
            if seen < 4 {
                return false;
            }
            let mut model = Model::fresh();
            for (_, events) in &history.revisions[..seen as usize - 3] {
                model.advance(events);
            }
            *revision = model.revision;
            let Some(effect) = model.evaluate(&operations[victim].call) else { return false };
            let Outcome::Answered { answer, .. } = &mut operations[victim].outcome else { return false };
            let _stale = std::mem::replace(answer, effect.answer);
            true
        }
        // An acknowledgement of a put that never was.
        (1, _) => {
            let mut ghost = operations[victim].clone();
            ghost.id = 10_000;
            if let Call::Put(put) = &mut ghost.call {
                put.value = "ghost".into();
            }
            operations.push(ghost);
            true
        }
        // A field of a read's key value.
        (2, Answer::Range { kvs, .. }) => {
            kvs[0].version += 1;
            true
        }
        // The revision of another write.
        (3, _) => {
            *revision += 1;
            true
        }
        (4, Answer::Txn { succeeded, .. }) => {
            *succeeded = !*succeeded;
            true
        }
        _ => false,
    }
}
