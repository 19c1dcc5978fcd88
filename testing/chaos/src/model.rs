//! What etcd promises to do with a call: the store as a value, written for clearness and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use crate::operation::{
    Answer, Call, Compare, Delete, Event, KeyValue, LeaseId, Part, Put, Range, Relation, Revision, Span,
    Step, Target, Txn,
};

/// Keys and leases at one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Model {
    pub revision: Revision,
    keys: BTreeMap<String, KeyValue>,
    /// Leases that were revoked or ran out. Clients choose the ids and use none twice.
    ended: BTreeSet<LeaseId>,
}

/// What a call answers, and what it changes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Effect {
    pub answer: Answer,
    /// In order; all of the next revision. Empty: the call makes none.
    pub events: Vec<Event>,
    pub ends: Option<LeaseId>,
}

impl Model {
    /// A fresh store: revision 1, nothing in it.
    pub fn fresh() -> Model {
        Model { revision: 1, keys: BTreeMap::new(), ended: BTreeSet::new() }
    }

    #[cfg(test)]
    pub fn key(&self, key: &str) -> Option<&KeyValue> {
        self.keys.get(key)
    }

    pub fn has_ended(&self, lease: LeaseId) -> bool {
        self.ended.contains(&lease)
    }

    /// Leases that have keys.
    pub fn leases(&self) -> BTreeSet<LeaseId> {
        self.keys.values().map(|kv| kv.lease).filter(|lease| *lease != 0).collect()
    }

    /// What the call would do now; `None` if it would be refused. Not for reads of older revisions.
    pub fn evaluate(&self, call: &Call) -> Option<Effect> {
        let mut txn = Transaction { at: self, keys: None, events: Vec::new() };
        let answer = match call {
            Call::Put(put) => {
                self.admits(put).then_some(())?;
                txn.put(put)
            }
            Call::Range(range) => txn.range(range),
            Call::Delete(delete) => txn.delete(delete),
            Call::Txn(request) => {
                self.admits_txn(request).then_some(())?;
                txn.txn(request)
            }
            Call::Revoke { lease } => return self.revoke(*lease),
            Call::Compact { .. } => Answer::Compact,
            Call::Grant { ttl_secs, .. } => Answer::Grant { ttl_secs: *ttl_secs },
            Call::KeepAlive { .. } => Answer::KeepAlive { ttl_secs: 0 },
        };
        Some(Effect { answer, events: txn.events, ends: None })
    }

    /// The end of a lease: its keys go, in order, in one revision.
    pub fn revoke(&self, lease: LeaseId) -> Option<Effect> {
        if self.has_ended(lease) {
            return None;
        }
        let mut txn = Transaction { at: self, keys: None, events: Vec::new() };
        let attached: Vec<String> =
            self.keys.values().filter(|kv| kv.lease == lease).map(|kv| kv.key.clone()).collect();
        for key in attached {
            txn.delete(&Delete { span: Span::one(key), prev_kv: false });
        }
        Some(Effect { answer: Answer::Revoke, events: txn.events, ends: Some(lease) })
    }

    /// Takes over what an effect changes.
    pub fn commit(&mut self, effect: &Effect) {
        if !effect.events.is_empty() {
            self.advance(&effect.events);
        }
        self.ended.extend(effect.ends);
    }

    /// One more revision, with these changes.
    pub fn advance(&mut self, events: &[Event]) {
        self.revision += 1;
        for event in events {
            if event.deleted {
                self.keys.remove(&event.kv.key);
            } else {
                self.keys.insert(event.kv.key.clone(), event.kv.clone());
            }
        }
    }

    fn admits(&self, put: &Put) -> bool {
        let exists = self.keys.contains_key(&put.key);
        !self.has_ended(put.lease) && (exists || !(put.ignore_value || put.ignore_lease))
    }

    /// Compat: every step on the chosen path is checked against the state before the transaction.
    fn admits_txn(&self, txn: &Txn) -> bool {
        self.chosen(txn).iter().all(|step| match step {
            Step::Put(put) => self.admits(put),
            Step::Txn(nested) => self.admits_txn(nested),
            Step::Range(_) | Step::Delete(_) => true,
        })
    }

    fn chosen<'a>(&self, txn: &'a Txn) -> &'a [Step] {
        if self.holds(txn) { &txn.success } else { &txn.failure }
    }

    fn holds(&self, txn: &Txn) -> bool {
        txn.compares.iter().all(|compare| self.compare(compare))
    }

    fn compare(&self, compare: &Compare) -> bool {
        let in_span = self.keys.values().filter(|kv| compare.span.holds(&kv.key));
        let mut found = in_span.peekable();
        if found.peek().is_none() {
            // Compat: a key that is not there has no value at all, and 0 for everything else.
            let nothing = KeyValue {
                key: String::new(),
                value: String::new(),
                create_revision: 0,
                mod_revision: 0,
                version: 0,
                lease: 0,
            };
            return !matches!(compare.target, Target::Value(_)) && relates(&nothing, compare);
        }
        found.all(|kv| relates(kv, compare))
    }
}

fn relates(kv: &KeyValue, compare: &Compare) -> bool {
    let order = match &compare.target {
        Target::Version(given) => kv.version.cmp(given),
        Target::Create(given) => kv.create_revision.cmp(given),
        Target::Mod(given) => kv.mod_revision.cmp(given),
        Target::Value(given) => kv.value.cmp(given),
        Target::Lease(given) => kv.lease.cmp(given),
    };
    match compare.relation {
        Relation::Equal => order.is_eq(),
        Relation::Greater => order.is_gt(),
        Relation::Less => order.is_lt(),
        Relation::NotEqual => order.is_ne(),
    }
}

/// The steps of one call: later ones see what earlier ones wrote.
struct Transaction<'a> {
    at: &'a Model,
    /// A copy, from the first change on.
    keys: Option<BTreeMap<String, KeyValue>>,
    events: Vec<Event>,
}

impl Transaction<'_> {
    fn keys(&self) -> &BTreeMap<String, KeyValue> {
        self.keys.as_ref().unwrap_or(&self.at.keys)
    }

    fn change(&mut self) -> &mut BTreeMap<String, KeyValue> {
        self.keys.get_or_insert_with(|| self.at.keys.clone())
    }

    /// What a step sees: the next revision as soon as anything changed.
    fn revision(&self) -> Revision {
        self.at.revision + i64::from(!self.events.is_empty())
    }

    fn put(&mut self, put: &Put) -> Answer {
        let revision = self.at.revision + 1;
        let prev = self.keys().get(&put.key).cloned();
        let kept = |ignore: bool| prev.as_ref().filter(|_| ignore);
        let kv = KeyValue {
            key: put.key.clone(),
            value: kept(put.ignore_value).map_or_else(|| put.value.clone(), |prev| prev.value.clone()),
            create_revision: prev.as_ref().map_or(revision, |prev| prev.create_revision),
            mod_revision: revision,
            version: prev.as_ref().map_or(1, |prev| prev.version + 1),
            lease: kept(put.ignore_lease).map_or(put.lease, |prev| prev.lease),
        };
        self.change().insert(put.key.clone(), kv.clone());
        self.events.push(Event { deleted: false, kv, prev: prev.clone() });
        Answer::Put { prev: prev.filter(|_| put.prev_kv) }
    }

    fn range(&self, range: &Range) -> Answer {
        let found: Vec<&KeyValue> = self.keys().values().filter(|kv| range.span.holds(&kv.key)).collect();
        let count = found.len() as i64;
        if range.count_only {
            return Answer::Range { kvs: Vec::new(), more: false, count };
        }
        let limit = if range.limit > 0 { range.limit as usize } else { found.len() };
        let kvs: Vec<KeyValue> = found.iter().take(limit).map(|&kv| kv.clone()).collect();
        Answer::Range { more: found.len() > kvs.len(), kvs, count }
    }

    fn delete(&mut self, delete: &Delete) -> Answer {
        let revision = self.at.revision + 1;
        let found: Vec<KeyValue> =
            self.keys().values().filter(|kv| delete.span.holds(&kv.key)).cloned().collect();
        for prev in &found {
            self.change().remove(&prev.key);
            let kv = tombstone(prev.key.clone(), revision);
            self.events.push(Event { deleted: true, kv, prev: Some(prev.clone()) });
        }
        let deleted = found.len() as i64;
        Answer::Delete { deleted, prevs: if delete.prev_kv { found } else { Vec::new() } }
    }

    /// Compat: all compares, those of nested transactions too, look at the state before the first change.
    fn txn(&mut self, txn: &Txn) -> Answer {
        let succeeded = self.at.holds(txn);
        let steps = if succeeded { &txn.success } else { &txn.failure };
        let parts = steps.iter().map(|step| {
            let answer = match step {
                Step::Put(put) => self.put(put),
                Step::Range(range) => self.range(range),
                Step::Delete(delete) => self.delete(delete),
                Step::Txn(nested) => self.txn(nested),
            };
            // Compat: the header of a nested transaction is there, and empty.
            let revision = if matches!(step, Step::Txn(_)) { 0 } else { self.revision() };
            Part { revision, answer }
        });
        Answer::Txn { succeeded, parts: parts.collect() }
    }
}

/// The key value of a deletion's event.
pub fn tombstone(key: String, revision: Revision) -> KeyValue {
    KeyValue { key, value: String::new(), create_revision: 0, mod_revision: revision, version: 0, lease: 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(key: &str, value: &str, lease: LeaseId) -> Call {
        Call::Put(Put { key: key.into(), value: value.into(), lease, prev_kv: true, ..Put::default() })
    }

    fn run(model: &mut Model, call: &Call) -> Option<Answer> {
        let effect = model.evaluate(call)?;
        model.commit(&effect);
        Some(effect.answer)
    }

    #[test]
    fn revisions_and_versions_of_a_key() {
        let mut model = Model::fresh();
        assert_eq!(run(&mut model, &put("a", "1", 0)), Some(Answer::Put { prev: None }));
        let first = KeyValue {
            key: "a".into(),
            value: "1".into(),
            create_revision: 2,
            mod_revision: 2,
            version: 1,
            lease: 0,
        };
        assert_eq!(run(&mut model, &put("a", "2", 0)), Some(Answer::Put { prev: Some(first.clone()) }));
        let second = KeyValue { value: "2".into(), mod_revision: 3, version: 2, ..first };
        assert_eq!(model.key("a"), Some(&second));
        let delete = Call::Delete(Delete { span: Span::everything(), prev_kv: true });
        assert_eq!(run(&mut model, &delete), Some(Answer::Delete { deleted: 1, prevs: vec![second] }));
        assert_eq!(run(&mut model, &delete), Some(Answer::Delete { deleted: 0, prevs: vec![] }));
        assert_eq!(model.revision, 4, "a deletion of nothing makes no revision");
    }

    #[test]
    fn a_lease_takes_its_keys_along_and_none_that_left_it() {
        let mut model = Model::fresh();
        for (key, lease) in [("a", 7), ("b", 7), ("c", 7), ("b", 0)] {
            run(&mut model, &put(key, "x", lease)).unwrap();
        }
        let ignore = Put { key: "c".into(), value: "y".into(), ignore_lease: true, ..Put::default() };
        run(&mut model, &Call::Put(ignore)).unwrap();
        let effect = model.revoke(7).unwrap();
        let gone: Vec<&str> = effect.events.iter().map(|event| event.kv.key.as_str()).collect();
        assert_eq!(gone, ["a", "c"]);
        model.commit(&effect);
        assert_eq!(model.revision, 7);
        assert_eq!(model.evaluate(&put("a", "x", 7)), None, "a lease that ended takes no key");
        assert_eq!(model.revoke(7), None);
    }

    #[test]
    fn compares_see_the_state_before_and_ranges_the_state_within() {
        let mut model = Model::fresh();
        run(&mut model, &put("a", "1", 0));
        let absent = Compare { span: Span::one("b"), relation: Relation::Equal, target: Target::Version(0) };
        let nested = Txn {
            compares: vec![absent.clone()],
            success: vec![Step::Range(Range::of(Span::prefix("")))],
            failure: vec![],
        };
        let txn = Txn {
            compares: vec![absent],
            success: vec![
                Step::Range(Range::of(Span::one("b"))),
                Step::Put(Put { key: "b".into(), ..Put::default() }),
                Step::Txn(nested),
            ],
            failure: vec![],
        };
        let Some(Answer::Txn { succeeded: true, parts }) = run(&mut model, &Call::Txn(txn)) else { panic!() };
        assert_eq!(parts.iter().map(|part| part.revision).collect::<Vec<_>>(), [2, 3, 0]);
        let Answer::Txn { succeeded: true, parts } = &parts[2].answer else { panic!() };
        assert!(matches!(parts[0].answer, Answer::Range { count: 2, .. }));
    }

    #[test]
    fn a_key_that_is_not_there_has_no_value_to_compare() {
        let model = Model::fresh();
        for (relation, target, holds) in [
            (Relation::NotEqual, Target::Value("x".into()), false),
            (Relation::Equal, Target::Value(String::new()), false),
            (Relation::Less, Target::Mod(1), true),
            (Relation::Greater, Target::Version(0), false),
        ] {
            let compare = Compare { span: Span::one("a"), relation, target };
            assert_eq!(model.compare(&compare), holds, "{compare:?}");
        }
    }

    #[test]
    fn a_refused_step_refuses_the_whole() {
        let model = Model::fresh();
        let keep = Put { key: "a".into(), ignore_value: true, ..Put::default() };
        let fine = Put { key: "b".into(), ..Put::default() };
        let txn = Txn { compares: vec![], success: vec![Step::Put(fine), Step::Put(keep)], failure: vec![] };
        assert_eq!(model.evaluate(&Call::Txn(txn)), None);
    }

    #[test]
    fn limits_cut_and_counts_do_not() {
        let mut model = Model::fresh();
        for key in ["k/1", "k/2", "k/3"] {
            run(&mut model, &put(key, "x", 0)).unwrap();
        }
        let range = Range { limit: 2, ..Range::of(Span::prefix("k/")) };
        let Some(Answer::Range { kvs, more: true, count: 3 }) = run(&mut model, &Call::Range(range)) else {
            panic!()
        };
        assert_eq!(kvs.len(), 2);
        let range = Range { count_only: true, ..Range::of(Span::prefix("k/")) };
        let nothing = Answer::Range { kvs: vec![], more: false, count: 3 };
        assert_eq!(run(&mut model, &Call::Range(range)), Some(nothing));
    }
}
