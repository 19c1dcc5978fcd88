//! Whether one order of all calls explains all answers.
//!
//! etcd gives each write its revision, so most of the order is told by the answers; [`crate::real_time`]
//! checks it against the clock. This walk goes through the revisions, lets each write happen to the
//! [`Model`] and compares every answer with it: results of the write, and all reads at that revision.
//! A revision without an acknowledged write must come from a call of unknown outcome or from a lease that
//! ran out. If there are several that fit, each is tried: what a wrong choice breaks later leads back to it.

use std::collections::BTreeMap;

use crate::evidence::{Evidence, Sightings};
use crate::finding::Finding;
use crate::lease_bound::{LeaseBounds, Promise};
use crate::model::{Effect, Model};
use crate::operation::{Answer, Call, Event, LeaseId, Operation, Range, Revision, Step, Txn};
use crate::real_time;

/// Effects tried at most, beyond one for each revision. More than that would mean that hardly anything is
/// known of the order: the run then ends with a finding that says so.
const TRIES_MAX: u64 = 2_000_000;
/// Findings of one history: the first few tell the story.
const FINDINGS_MAX: usize = 20;

/// Where a revision comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writer {
    /// The operation with this id.
    Operation(u64),
    Expiry(LeaseId),
    /// Only watchers know of it.
    Unexplained,
}

/// The history of the store, put together.
#[derive(Clone, Debug, Default)]
pub struct Replay {
    pub revisions: BTreeMap<Revision, (Writer, Vec<Event>)>,
    /// Revisions up to here are explained; behind it they are what watchers say.
    pub explained: Revision,
}

impl Replay {
    pub fn last(&self) -> Revision {
        self.revisions.last_key_value().map_or(1, |(revision, _)| *revision)
    }
}

#[derive(Clone, Debug, Default)]
pub struct Verdict {
    pub findings: Vec<Finding>,
    pub replay: Replay,
    /// Effects that were tried: the cost of the search.
    pub tries: u64,
    /// Leases with keys that ran out too early, excused by a new term.
    pub early_leases: usize,
}

/// Checks all answers, those of leases too.
pub fn check(operations: &[Operation], evidence: &Evidence, promise: Promise) -> Verdict {
    let sightings = Sightings::of(operations, evidence);
    let mut findings = real_time::check(operations, &sightings);
    let timeline = match Timeline::of(operations, evidence, sightings, promise) {
        Ok(timeline) => timeline,
        Err(finding) => {
            findings.push(finding);
            return Verdict { findings, ..Verdict::default() };
        }
    };
    findings.extend(timeline.leases.check(operations));
    let mut walk = Walk {
        timeline: &timeline,
        model: Model::fresh(),
        used: vec![false; operations.len()],
        replay: BTreeMap::new(),
        branches: Vec::new(),
        deepest: None,
        findings,
        tries: 0,
    };
    walk.run();
    let mut early_leases = 0;
    let mut replay = Replay { explained: walk.model.revision, revisions: BTreeMap::new() };
    for (revision, (source, events)) in walk.replay {
        let writer = match source {
            Source::Operation(index) => Writer::Operation(operations[index].id),
            Source::Expiry(lease) => {
                let seen = timeline.sightings.first_of(revision).unwrap_or(0);
                early_leases += usize::from(timeline.leases.is_early(lease, seen));
                Writer::Expiry(lease)
            }
        };
        replay.revisions.insert(revision, (writer, events));
    }
    for revision in replay.explained + 1..=timeline.last {
        if let Some(told) = evidence.at(revision).first() {
            replay.revisions.insert(revision, (Writer::Unexplained, told.clone()));
        }
    }
    Verdict { findings: walk.findings, replay, tries: walk.tries, early_leases }
}

/// Operations by what they tell.
struct Timeline<'a> {
    operations: &'a [Operation],
    evidence: &'a Evidence,
    sightings: Sightings,
    leases: LeaseBounds,
    /// The acknowledged write of a revision.
    writers: BTreeMap<Revision, usize>,
    /// Answers that show the state at a revision: reads, and writes that changed nothing.
    states: BTreeMap<Revision, Vec<usize>>,
    /// Acknowledged revokes: the write of that revision, or without keys and thus none.
    revokes: BTreeMap<Revision, Vec<usize>>,
    unknown: Vec<usize>,
    last: Revision,
}

impl<'a> Timeline<'a> {
    fn of(
        operations: &'a [Operation],
        evidence: &'a Evidence,
        sightings: Sightings,
        promise: Promise,
    ) -> Result<Timeline<'a>, Finding> {
        let last = sightings.last().max(evidence.last());
        let leases = LeaseBounds::of(operations, promise);
        let (mut writers, mut states) = (BTreeMap::new(), BTreeMap::<Revision, Vec<usize>>::new());
        let (mut revokes, mut unknown) = (BTreeMap::<Revision, Vec<usize>>::new(), Vec::new());
        for (index, operation) in operations.iter().enumerate() {
            if operation.is_unknown() && operation.call.may_write() {
                unknown.push(index);
            }
            let Some((revision, answer)) = operation.answered() else { continue };
            let first = 1 + i64::from(operation.call.may_write() && answer.changed());
            if revision < first {
                let what = format!("there is no revision {revision}: a store begins at 1");
                return Err(Finding::new("linearizable", what).by([operation.id]).at(revision));
            }
            match &operation.call {
                Call::Grant { .. } | Call::KeepAlive { .. } | Call::Compact { .. } => {}
                Call::Revoke { .. } => revokes.entry(revision).or_default().push(index),
                Call::Range(Range { revision: at @ 1.., .. }) => states.entry(*at).or_default().push(index),
                _ if answer.changed() => {
                    if let Some(other) = writers.insert(revision, index) {
                        let ids = [operations[other].id, operation.id];
                        let what = format!("two writes were acknowledged with revision {revision}");
                        return Err(Finding::new("one revision, one write", what).by(ids).at(revision));
                    }
                }
                _ => states.entry(revision).or_default().push(index),
            }
        }
        // Those that say most precisely when they apply come first: the others remain for elsewhere.
        unknown.sort_by_key(|&index| freedom(&operations[index].call));
        Ok(Timeline { operations, evidence, sightings, leases, writers, states, revokes, unknown, last })
    }
}

/// How many states let the call take effect, roughly.
fn freedom(call: &Call) -> u8 {
    match call {
        Call::Txn(Txn { compares, .. }) if !compares.is_empty() => 0,
        Call::Revoke { .. } => 1,
        Call::Put(_) => 2,
        Call::Delete(delete) if delete.span.end.is_empty() => 3,
        _ => 4,
    }
}

/// Whether the call can change the key at all: spares evaluating those that cannot.
fn may_touch(call: &Call, key: &str) -> bool {
    fn steps(txn: &Txn, key: &str) -> bool {
        txn.success.iter().chain(&txn.failure).any(|step| match step {
            Step::Put(put) => put.key == key,
            Step::Delete(delete) => delete.span.holds(key),
            Step::Txn(txn) => steps(txn, key),
            Step::Range(_) => false,
        })
    }
    match call {
        Call::Put(put) => put.key == key,
        Call::Delete(delete) => delete.span.holds(key),
        Call::Txn(txn) => steps(txn, key),
        Call::Revoke { .. } => true,
        _ => false,
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Source {
    Operation(usize),
    Expiry(LeaseId),
}

struct Candidate {
    source: Source,
    effect: Effect,
}

/// A place where more than one writer fits.
struct Branch {
    /// Before the revision in question.
    model: Model,
    untried: Vec<Candidate>,
}

struct Walk<'a> {
    timeline: &'a Timeline<'a>,
    model: Model,
    used: Vec<bool>,
    replay: BTreeMap<Revision, (Source, Vec<Event>)>,
    branches: Vec<Branch>,
    /// What stopped the attempt that came furthest.
    deepest: Option<(Revision, Finding)>,
    findings: Vec<Finding>,
    tries: u64,
}

impl Walk<'_> {
    fn run(&mut self) {
        let mut next = self.look_at_states();
        loop {
            if let Err(finding) = next {
                next = match self.turn_back(finding) {
                    Some(candidate) => self.take(candidate),
                    None => return,
                };
                continue;
            }
            if self.model.revision >= self.timeline.last {
                return;
            }
            next = self.step();
        }
    }

    /// Goes one revision on.
    fn step(&mut self) -> Result<(), Finding> {
        let revision = self.model.revision + 1;
        let mut candidates = self.candidates(revision)?;
        // The first is taken now, so it stands last.
        candidates.reverse();
        let Some(first) = candidates.pop() else {
            return Err(self.nobody_wrote(revision));
        };
        if !candidates.is_empty() {
            self.branches.push(Branch { model: self.model.clone(), untried: candidates });
        }
        self.take(first)
    }

    fn take(&mut self, candidate: Candidate) -> Result<(), Finding> {
        self.model.commit(&candidate.effect);
        if let Source::Operation(index) = candidate.source {
            self.used[index] = true;
        }
        self.replay.insert(self.model.revision, (candidate.source, candidate.effect.events));
        self.look_at_states()
    }

    /// Goes back to the last place with another way to go. None left, or none of use: notes the finding.
    fn turn_back(&mut self, finding: Finding) -> Option<Candidate> {
        let here = self.model.revision;
        if self.deepest.as_ref().is_none_or(|(deepest, _)| here > *deepest) {
            self.deepest = Some((here, finding));
        }
        let exhausted = self.tries > TRIES_MAX;
        while let Some(branch) = self.branches.last_mut() {
            if exhausted {
                break;
            }
            let Some(candidate) = branch.untried.pop() else {
                self.branches.pop();
                continue;
            };
            self.model = branch.model.clone();
            let undone = self.replay.split_off(&(self.model.revision + 1));
            for (source, _) in undone.values() {
                if let Source::Operation(index) = source {
                    self.used[*index] = false;
                }
            }
            return Some(candidate);
        }
        if let Some((_, mut finding)) = self.deepest.take() {
            if exhausted {
                finding.what += &format!(" (the search ended after {TRIES_MAX} tries)");
            }
            self.findings.push(finding);
        }
        None
    }

    fn candidates(&mut self, revision: Revision) -> Result<Vec<Candidate>, Finding> {
        if let Some(&index) = self.timeline.writers.get(&revision) {
            return self.acknowledged(revision, index).map(|candidate| vec![candidate]);
        }
        let mut candidates = self.revoked(revision);
        candidates.extend(self.expired(revision));
        let told = self.timeline.evidence.at(revision);
        let timeline = self.timeline;
        for &index in &timeline.unknown {
            let operation = &timeline.operations[index];
            let out_of_place = self.used[index] || timeline.sightings.before(operation.called) >= revision;
            let elsewhere =
                !told.is_empty() && !told.iter().any(|events| may_touch(&operation.call, &events[0].kv.key));
            if out_of_place || elsewhere {
                continue;
            }
            self.tries += 1;
            let Some(effect) = self.model.evaluate(&operation.call) else { continue };
            // Equal calls with equal effects may stand for each other.
            let is_known = candidates.iter().any(|known| match known.source {
                Source::Operation(other) => timeline.operations[other].call == operation.call,
                Source::Expiry(lease) => operation.call == Call::Revoke { lease },
            });
            if !effect.events.is_empty() && !is_known {
                candidates.push(Candidate { source: Source::Operation(index), effect });
            }
        }
        candidates.retain(|candidate| timeline.evidence.allows(revision, &candidate.effect.events));
        // A write that came in behind all reads of the end is perhaps seen by watchers of a part alone. If none fits
        // what they were told, that is for the check of the watches to say.
        let fits =
            |candidate: &Candidate| timeline.evidence.includes_glimpses(revision, &candidate.effect.events);
        if candidates.iter().any(fits) {
            candidates.retain(fits);
        }
        Ok(candidates)
    }

    fn acknowledged(&mut self, revision: Revision, index: usize) -> Result<Candidate, Finding> {
        let operation = &self.timeline.operations[index];
        let finding = |what: String| Finding::new("linearizable", what).by([operation.id]).at(revision);
        let Some(effect) = self.model.evaluate(&operation.call) else {
            let what =
                "was acknowledged, but would have been refused: its lease had ended, or its key is not there";
            return Err(finding(format!("the write at revision {revision} {what}")));
        };
        let told = self.timeline.evidence.at(revision);
        if !self.timeline.evidence.allows(revision, &effect.events) {
            let events: Vec<Event> = effect.events.iter().map(Event::bare).collect();
            let what = format!(
                "revision {revision} was acknowledged as {events:?}, but watchers were told {told:?}"
            );
            return Err(finding(what));
        }
        compare(operation, &effect.answer, &self.model).map_err(|finding| finding.at(revision))?;
        Ok(Candidate { source: Source::Operation(index), effect })
    }

    /// Acknowledged revokes that may have made this revision.
    fn revoked(&self, revision: Revision) -> Vec<Candidate> {
        let at = self.timeline.revokes.get(&revision).into_iter().flatten();
        let candidates = at.filter_map(|&index| {
            let operation = &self.timeline.operations[index];
            let effect = self.model.evaluate(&operation.call)?;
            let in_time = self.timeline.sightings.before(operation.called) < revision;
            let fits = in_time && !effect.events.is_empty();
            fits.then_some(Candidate { source: Source::Operation(index), effect })
        });
        candidates.collect()
    }

    fn expired(&self, revision: Revision) -> Vec<Candidate> {
        let Some(seen) = self.timeline.sightings.first_of(revision) else { return Vec::new() };
        let leases = self.model.leases().into_iter();
        let ended = leases.filter(|lease| self.timeline.leases.may_have_expired(*lease, seen));
        ended
            .filter_map(|lease| {
                let effect = self.model.revoke(lease)?;
                Some(Candidate { source: Source::Expiry(lease), effect })
            })
            .collect()
    }

    fn nobody_wrote(&self, revision: Revision) -> Finding {
        let told = self.timeline.evidence.at(revision);
        let mut what = format!("nobody can have written revision {revision}");
        if !told.is_empty() {
            what += &format!(", of which watchers were told {told:?}");
        }
        for lease in self.model.leases() {
            let expires = self.timeline.leases.expires(lease);
            let seen = self.timeline.sightings.first_of(revision);
            let effect = self.model.revoke(lease);
            let fits = effect.is_some_and(|effect| {
                !told.is_empty() && self.timeline.evidence.allows(revision, &effect.events)
            });
            if let (true, Some(expires), Some(seen)) = (fits, expires, seen) {
                what += &format!(
                    "; it looks like the end of lease {lease:x}, seen at {} ms, which may not end before {} ms",
                    seen / 1000,
                    expires / 1000
                );
            }
        }
        Finding::new("linearizable", what).at(revision)
    }

    /// Compares all answers that show the state at the revision that was just reached.
    fn look_at_states(&mut self) -> Result<(), Finding> {
        let revision = self.model.revision;
        for &index in self.timeline.states.get(&revision).into_iter().flatten() {
            let operation = &self.timeline.operations[index];
            let looked = match self.model.evaluate(&operation.call) {
                Some(effect) if effect.events.is_empty() => compare(operation, &effect.answer, &self.model),
                Some(_) => Err(wrong(operation, "said that it changed nothing, but it must have".into())),
                None => Err(wrong(operation, "was answered, but would have been refused".into())),
            };
            self.settle(looked.map_err(|finding| finding.at(revision)))?;
        }
        for &index in self.timeline.revokes.get(&revision).into_iter().flatten() {
            if self.used[index] {
                continue;
            }
            let operation = &self.timeline.operations[index];
            let looked = match self.model.evaluate(&operation.call) {
                Some(effect) if effect.events.is_empty() => {
                    self.model.commit(&effect);
                    Ok(())
                }
                Some(_) => Err(wrong(operation, "left the keys of its lease behind".into())),
                None => Err(wrong(operation, "was acknowledged for a lease that had ended".into())),
            };
            self.settle(looked.map_err(|finding| finding.at(revision)))?;
        }
        Ok(())
    }

    /// A wrong read does not change the state: where there is no other way to go, the walk goes on.
    fn settle(&mut self, looked: Result<(), Finding>) -> Result<(), Finding> {
        let Err(finding) = looked else { return Ok(()) };
        if !self.branches.is_empty() || self.findings.len() >= FINDINGS_MAX {
            return Err(finding);
        }
        self.findings.push(finding);
        Ok(())
    }
}

fn wrong(operation: &Operation, what: String) -> Finding {
    Finding::new("linearizable", format!("operation {} {what}", operation.id)).by([operation.id])
}

fn compare(operation: &Operation, expected: &Answer, before: &Model) -> Result<(), Finding> {
    let Some((_, answer)) = operation.answered() else { return Ok(()) };
    if answer == expected {
        return Ok(());
    }
    let at = before.revision;
    let what = format!("was answered {answer:?}; from the state at revision {at} it had to be {expected:?}");
    Err(wrong(operation, what))
}

#[cfg(test)]
#[path = "linearizable_tests.rs"]
mod tests;
