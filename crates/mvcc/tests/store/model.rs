//! etcd's semantics in the plainest way: all versions ever, in a vector.

use std::collections::BTreeMap;

use mvcc::{
    Compare, CompareTarget, DeleteRange, KeyRange, LeaseId, MvccError, Op, PrevKv, Put, PutLease, PutValue,
    RangeQuery, ReadAt, Relation, Revision, SortOrder, SortTarget, Txn, Want,
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kv {
    pub key: Vec<u8>,
    pub create: i64,
    pub modified: i64,
    pub version: i64,
    pub value: Vec<u8>,
    pub lease: i64,
}

#[derive(Clone, Debug)]
pub struct Version {
    pub main: i64,
    pub sub: u32,
    pub key: Vec<u8>,
    /// `None`: deleted.
    pub kv: Option<Kv>,
}

#[derive(Clone, Debug)]
pub struct Model {
    pub versions: Vec<Version>,
    pub revision: i64,
    /// -1: never.
    pub compacted: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub kvs: Vec<Kv>,
    pub count: usize,
    pub more: bool,
    pub revision: i64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Response {
    Range(Answer),
    Put { revision: i64, prev: Option<Kv> },
    Delete { revision: i64, deleted: usize, prev: Option<Vec<Kv>> },
    Txn { succeeded: bool, responses: Vec<Response> },
}

impl Model {
    pub fn new() -> Model {
        Model { versions: Vec::new(), revision: 1, compacted: -1 }
    }

    pub fn state_at(&self, at: i64) -> BTreeMap<Vec<u8>, Kv> {
        let mut state = BTreeMap::new();
        for version in self.versions.iter().filter(|version| version.main <= at) {
            match &version.kv {
                Some(kv) => state.insert(version.key.clone(), kv.clone()),
                None => state.remove(&version.key),
            };
        }
        state
    }

    pub fn range(&self, query: &RangeQuery, current: i64) -> Result<Answer, MvccError> {
        let at = match query.at {
            ReadAt::Latest => current,
            ReadAt::Revision(at) => at.to_wire(),
        };
        let requested = Revision::from_wire(at).unwrap();
        if at > current {
            let current = Revision::from_wire(current).unwrap();
            return Err(MvccError::FutureRevision { requested, current });
        }
        if at < self.compacted {
            let compacted = Revision::from_wire(self.compacted).unwrap();
            return Err(MvccError::Compacted { requested, compacted });
        }
        let state = self.state_at(at);
        let mut kvs: Vec<Kv> = state.into_values().filter(|kv| query.keys.contains(&kv.key)).collect();
        let count = kvs.len();
        if query.want == Want::Count {
            return Ok(Answer { kvs: Vec::new(), count, more: false, revision: current });
        }
        let sort = query.sort;
        let default_order = sort.order == SortOrder::None
            || (sort.order == SortOrder::Ascend && sort.target == SortTarget::Key);
        if let Some(limit) = query.limit
            && default_order
            && query.filters == Default::default()
        {
            kvs.truncate(limit + 1);
        }
        let filters = query.filters;
        kvs.retain(|kv| {
            filters.max_mod.is_none_or(|max| kv.modified <= max)
                && filters.min_mod.is_none_or(|min| kv.modified >= min)
                && filters.max_create.is_none_or(|max| kv.create <= max)
                && filters.min_create.is_none_or(|min| kv.create >= min)
        });
        let compare = |one: &Kv, next: &Kv| match sort.target {
            SortTarget::Key => one.key.cmp(&next.key),
            SortTarget::Version => one.version.cmp(&next.version),
            SortTarget::Create => one.create.cmp(&next.create),
            SortTarget::Mod => one.modified.cmp(&next.modified),
            SortTarget::Value => one.value.cmp(&next.value),
        };
        match sort.order {
            SortOrder::Descend => kvs.sort_by(|one, next| compare(next, one)),
            SortOrder::None | SortOrder::Ascend => kvs.sort_by(compare),
        }
        let more = query.limit.is_some_and(|limit| kvs.len() > limit);
        kvs.truncate(query.limit.unwrap_or(usize::MAX));
        if query.want == Want::Keys {
            for kv in &mut kvs {
                kv.value.clear();
                if sort.target != SortTarget::Value {
                    kv.lease = 0;
                }
            }
        }
        Ok(Answer { kvs, count, more, revision: current })
    }

    /// Executes, or refuses and changes nothing.
    pub fn txn(&mut self, txn: &Txn, lease_exists: &dyn Fn(LeaseId) -> bool) -> Result<Response, MvccError> {
        let before = self.state_at(self.revision);
        let mut path = Vec::new();
        choose(txn, &before, &mut path);
        self.check(txn, &before, &mut path.iter(), lease_exists)?;
        let mut sub = 0;
        let response = self.execute(txn, &mut path.iter(), &mut sub);
        if sub > 0 {
            self.revision += 1;
        }
        Ok(response)
    }

    fn check(
        &self,
        txn: &Txn,
        before: &BTreeMap<Vec<u8>, Kv>,
        path: &mut std::slice::Iter<'_, bool>,
        lease_exists: &dyn Fn(LeaseId) -> bool,
    ) -> Result<(), MvccError> {
        let succeeded = *path.next().unwrap();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            match op {
                Op::Range(query) => drop(self.range(query, self.revision)?),
                Op::Put(put) => {
                    if let PutLease::Set(Some(lease)) = put.lease
                        && !lease_exists(lease)
                    {
                        return Err(MvccError::LeaseNotFound(lease));
                    }
                    let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
                    if keeps && !before.contains_key(&put.key[..]) {
                        return Err(MvccError::KeyNotFound);
                    }
                }
                Op::DeleteRange(_) => {}
                Op::Txn(inner) => self.check(inner, before, path, lease_exists)?,
            }
        }
        Ok(())
    }

    fn execute(&mut self, txn: &Txn, path: &mut std::slice::Iter<'_, bool>, sub: &mut u32) -> Response {
        let succeeded = *path.next().unwrap();
        let mut responses = Vec::new();
        for op in if succeeded { &txn.success } else { &txn.failure } {
            let now = self.revision + i64::from(*sub > 0);
            responses.push(match op {
                Op::Range(query) => Response::Range(self.range(query, now).unwrap()),
                Op::Put(put) => self.put(put, sub),
                Op::DeleteRange(delete) => self.delete(delete, sub),
                Op::Txn(inner) => self.execute(inner, path, sub),
            });
        }
        Response::Txn { succeeded, responses }
    }

    fn put(&mut self, put: &Put, sub: &mut u32) -> Response {
        let main = self.revision + 1;
        let prev = self.state_at(main).remove(&put.key[..]);
        let kept = prev.clone().unwrap_or_default();
        let kv = Kv {
            key: put.key.to_vec(),
            create: if prev.is_some() { kept.create } else { main },
            modified: main,
            version: kept.version + 1,
            value: match &put.value {
                PutValue::Set(value) => value.to_vec(),
                PutValue::Keep => kept.value,
            },
            lease: match put.lease {
                PutLease::Set(lease) => LeaseId::to_wire(lease),
                PutLease::Keep => kept.lease,
            },
        };
        self.versions.push(Version { main, sub: *sub, key: kv.key.clone(), kv: Some(kv) });
        *sub += 1;
        Response::Put { revision: main, prev: prev.filter(|_| put.prev_kv == PrevKv::Wanted) }
    }

    fn delete(&mut self, delete: &DeleteRange, sub: &mut u32) -> Response {
        let main = self.revision + 1;
        let state = self.state_at(main);
        let doomed: Vec<Kv> = state.into_values().filter(|kv| delete.keys.contains(&kv.key)).collect();
        for kv in &doomed {
            self.versions.push(Version { main, sub: *sub, key: kv.key.clone(), kv: None });
            *sub += 1;
        }
        Response::Delete {
            revision: self.revision + i64::from(*sub > 0),
            deleted: doomed.len(),
            prev: (delete.prev_kv == PrevKv::Wanted).then_some(doomed),
        }
    }

    /// Every record that a compaction leaves or has not yet dropped, by etcd's rule for `HashKV`.
    pub fn hash(&self, at: i64) -> Option<u32> {
        let kept = self.state_at(at);
        if kept.is_empty() {
            return None; // then it depends on how far the deletes came
        }
        let mut checksum = mvcc::Checksum::default();
        checksum.write(b"key");
        for version in self.versions.iter().filter(|version| version.main <= at) {
            let newest = kept.get(&version.key).zip(version.kv.as_ref()).is_some_and(|(kept, kv)| kept == kv);
            if version.main <= self.compacted && !newest {
                continue;
            }
            let revision = mvcc::RevisionPair::new(Revision::from_wire(version.main).unwrap(), version.sub);
            let key = mvcc::RecordKey { revision, tombstone: version.kv.is_none() };
            checksum.write(&key.to_bytes());
            let only_key = Kv { key: version.key.clone(), ..Kv::default() };
            checksum.write(&encode(version.kv.as_ref().unwrap_or(&only_key)));
        }
        Some(checksum.sum())
    }
}

pub fn encode(kv: &Kv) -> Vec<u8> {
    let mut bytes = Vec::new();
    mvcc::Record {
        key: &kv.key,
        create_revision: kv.create,
        mod_revision: kv.modified,
        version: kv.version,
        value: &kv.value,
        lease: kv.lease,
    }
    .encode(&mut bytes);
    bytes
}

pub fn decode(bytes: &[u8]) -> Kv {
    let record = mvcc::Record::parse(bytes).unwrap();
    Kv {
        key: record.key.to_vec(),
        create: record.create_revision,
        modified: record.mod_revision,
        version: record.version,
        value: record.value.to_vec(),
        lease: record.lease,
    }
}

fn choose(txn: &Txn, state: &BTreeMap<Vec<u8>, Kv>, path: &mut Vec<bool>) {
    let succeeded = txn.compares.iter().all(|compare| holds(compare, state));
    path.push(succeeded);
    for op in if succeeded { &txn.success } else { &txn.failure } {
        if let Op::Txn(inner) = op {
            choose(inner, state, path);
        }
    }
}

fn holds(compare: &Compare, state: &BTreeMap<Vec<u8>, Kv>) -> bool {
    let one = |kv: &Kv| {
        let ordering = match &compare.target {
            CompareTarget::Version(given) => kv.version.cmp(given),
            CompareTarget::Create(given) => kv.create.cmp(given),
            CompareTarget::Mod(given) => kv.modified.cmp(given),
            CompareTarget::Value(given) => kv.value[..].cmp(&given[..]),
            CompareTarget::Lease(given) => kv.lease.cmp(given),
            CompareTarget::Undefined => std::cmp::Ordering::Equal,
        };
        match compare.relation {
            Relation::Equal => ordering.is_eq(),
            Relation::Greater => ordering.is_gt(),
            Relation::Less => ordering.is_lt(),
            Relation::NotEqual => ordering.is_ne(),
            Relation::Undefined => true,
        }
    };
    let found: Vec<&Kv> = state.values().filter(|kv| compare.keys.contains(&kv.key)).collect();
    match found.is_empty() {
        true if matches!(compare.target, CompareTarget::Value(_)) => false,
        true => one(&Kv::default()),
        false => found.into_iter().all(one),
    }
}

/// Every key, whatever it is.
pub fn everything() -> KeyRange {
    KeyRange::all()
}
