//! Histories of a cluster that never was: right by construction, to be spoilt in tests.

use std::collections::BTreeMap;

use sim::rng::Rng;

use crate::history::{Notice, WatchRecord};
use crate::model::{Effect, Model};
use crate::operation::*;

pub struct Synthetic {
    pub operations: Vec<Operation>,
    /// When each revision came about, and with what.
    pub revisions: Vec<(Micros, Vec<Event>)>,
}

/// How much goes on in a history.
#[derive(Clone, Copy)]
pub struct Shape {
    pub operations: usize,
    pub clients: u64,
    pub keys: u64,
    pub unknown_per_mille: u64,
    pub with_leases: bool,
}

pub const TINY: Shape =
    Shape { operations: 5, clients: 3, keys: 2, unknown_per_mille: 200, with_leases: false };
pub const LARGE: Shape =
    Shape { operations: 300, clients: 6, keys: 5, unknown_per_mille: 60, with_leases: true };

struct Plan {
    effect: Micros,
    operation: Operation,
    takes_effect: bool,
}

impl Synthetic {
    pub fn generate(seed: u64, shape: Shape) -> Synthetic {
        let mut rng = Rng::new(seed);
        let mut plans = plans(&mut rng, shape);
        plans.sort_by_key(|plan| plan.effect);
        let mut run =
            Run { model: Model::fresh(), past: Vec::new(), revisions: Vec::new(), leases: BTreeMap::new() };
        run.past.push(run.model.clone());
        let mut operations = Vec::new();
        for plan in plans {
            run.expire(plan.effect);
            operations.push(run.perform(&mut rng, plan));
        }
        operations.sort_by_key(|operation| operation.finished);
        Synthetic { operations, revisions: run.revisions }
    }

    /// What a watcher of everything was told, one response for each `batch` revisions.
    pub fn watch(&self, watcher: u32, batch: usize) -> Vec<WatchRecord> {
        let record = |at, notice| WatchRecord { watcher, member: 0, at, notice };
        let span = Span::everything();
        let opened = Notice::Opened { span, start_revision: 1, prev_kv: true, deletes: true };
        let mut records = vec![record(0, opened)];
        for part in self.revisions.chunks(batch) {
            let events: Vec<Event> = part.iter().flat_map(|(_, events)| events.clone()).collect();
            let revision = events.last().unwrap().kv.mod_revision;
            let at = part.last().unwrap().0 + 1;
            records.push(record(at, Notice::Events { revision, events }));
            records.push(record(at, Notice::Progress { revision }));
        }
        let revision = self.revisions.len() as i64 + 1;
        let at = self.revisions.last().map_or(0, |(at, _)| *at) + 10;
        records.push(record(at, Notice::Finished { revision }));
        records
    }
}

fn plans(rng: &mut Rng, shape: Shape) -> Vec<Plan> {
    let mut clock = vec![0; shape.clients as usize];
    let mut leases = vec![0];
    let plans = (0..shape.operations).map(|index| {
        let client = rng.index(clock.len());
        let called = clock[client] + rng.below(4);
        let finished = called + 1 + rng.below(8);
        clock[client] = finished;
        let id = index as u64 + 1;
        let call = call(rng, shape, id, &mut leases);
        let is_unknown = rng.chance(shape.unknown_per_mille) && call.may_write();
        let effect = called + rng.below(finished - called + 1);
        // What nobody heard the end of may take effect much later.
        let late = if is_unknown && rng.chance(300) { rng.below(20) } else { 0 };
        let unknown = Outcome::Unknown { why: "deadline".into() };
        let operation = Operation {
            id,
            client: client as u32,
            member: 0,
            called,
            finished,
            term: 0,
            call,
            outcome: unknown,
        };
        Plan { effect: effect + late, operation, takes_effect: !is_unknown || rng.chance(600) }
    });
    let mut plans: Vec<Plan> = plans.collect();
    for plan in &mut plans {
        let is_late = plan.effect > plan.operation.finished;
        if !is_late && plan.takes_effect && !rng.chance(shape.unknown_per_mille) {
            // To be answered.
            plan.operation.outcome = Outcome::Refused { why: "not yet".into() };
        }
    }
    plans
}

fn call(rng: &mut Rng, shape: Shape, id: u64, leases: &mut Vec<LeaseId>) -> Call {
    let key = format!("k{}", rng.below(shape.keys));
    let value = format!("v{id}");
    let lease = if shape.with_leases && rng.chance(300) { rng.pick(leases) } else { 0 };
    let put = Put { key: key.clone(), value, lease, prev_kv: rng.chance(500), ..Put::default() };
    let span = if rng.chance(500) { Span::one(key.clone()) } else { Span::prefix("k") };
    match rng.below(if shape.with_leases { 100 } else { 88 }) {
        0..30 => Call::Put(put),
        30..42 => Call::Delete(Delete { span, prev_kv: rng.chance(500) }),
        42..62 => Call::Range(Range::of(span)),
        62..70 => Call::Range(Range { serializable: true, ..Range::of(span) }),
        70..75 => Call::Range(Range { revision: 1 + rng.below(3) as i64, ..Range::of(span) }),
        75..88 => {
            let target = Target::Version(rng.below(3) as i64);
            let compare = Compare { span: Span::one(key), relation: Relation::Equal, target };
            let success = vec![Step::Put(put), Step::Range(Range::of(span.clone()))];
            let failure = vec![Step::Delete(Delete { span, prev_kv: true })];
            Call::Txn(Txn { compares: vec![compare], success, failure })
        }
        88..94 => {
            leases.push(id as i64);
            Call::Grant { lease: id as i64, ttl_secs: 0 }
        }
        _ => Call::Revoke { lease: rng.pick(leases) },
    }
}

struct Run {
    model: Model,
    /// By revision, from 1 on.
    past: Vec<Model>,
    revisions: Vec<(Micros, Vec<Event>)>,
    /// When each lease runs out.
    leases: BTreeMap<LeaseId, Micros>,
}

impl Run {
    fn expire(&mut self, now: Micros) {
        for lease in self.model.leases() {
            let is_over = self.leases.get(&lease).is_some_and(|at| *at <= now);
            if let (true, Some(effect)) = (is_over, self.model.revoke(lease)) {
                self.commit(now, &effect);
            }
        }
    }

    fn commit(&mut self, now: Micros, effect: &Effect) {
        self.model.commit(effect);
        if !effect.events.is_empty() {
            self.revisions.push((now, effect.events.clone()));
            self.past.push(self.model.clone());
        }
    }

    fn perform(&mut self, rng: &mut Rng, plan: Plan) -> Operation {
        let mut operation = plan.operation;
        if !plan.takes_effect {
            return operation;
        }
        let refused = Outcome::Refused { why: "refused".into() };
        let is_answered = operation.is_refused();
        let mut revision = self.model.revision;
        let effect = match &operation.call {
            Call::Grant { lease, ttl_secs } => {
                self.leases.insert(*lease, operation.finished + 20);
                Some(Effect { answer: Answer::Grant { ttl_secs: *ttl_secs }, events: vec![], ends: None })
            }
            Call::Put(put) if put.lease != 0 && !self.leases.contains_key(&put.lease) => None,
            Call::Revoke { lease } if !self.leases.contains_key(lease) => None,
            Call::Range(range) if range.revision > self.model.revision => None,
            Call::Range(range) if range.revision > 0 => {
                self.past[range.revision as usize - 1].evaluate(&operation.call)
            }
            Call::Range(Range { serializable: true, .. }) => {
                let back = rng.below(self.past.len() as u64).min(rng.below(4));
                let at = &self.past[self.past.len() - 1 - back as usize];
                revision = at.revision;
                at.evaluate(&operation.call)
            }
            call => self.model.evaluate(call),
        };
        let Some(effect) = effect else {
            operation.outcome = if is_answered { refused } else { operation.outcome };
            return operation;
        };
        self.commit(plan.effect, &effect);
        if operation.call.may_write() {
            revision = self.model.revision;
        }
        if is_answered {
            operation.outcome = Outcome::Answered { revision, answer: effect.answer };
        }
        operation
    }
}
