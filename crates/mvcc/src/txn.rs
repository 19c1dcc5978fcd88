//! Transactions: compares choose a branch, its operations are checked, then executed.
//!
//! All compares, nested ones included, and all checks see the state before the transaction; operations see
//! what earlier ones of the same transaction wrote. So nothing is executed unless everything will succeed.

use std::cmp::Ordering;
use std::ops::ControlFlow;

use bytes::Bytes;

use crate::error::MvccError;
use crate::index::Modification;
use crate::key_range::{Key, KeyRange};
use crate::range::{RangeQuery, RangeResult};
use crate::record::{LeaseId, Record};
use crate::revision::Revision;
use crate::snapshot::Snapshot;
use crate::source::{FindHint, SourceError};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Txn {
    /// All must hold for `success` to be chosen.
    pub compares: Vec<Compare>,
    pub success: Vec<Op>,
    pub failure: Vec<Op>,
}

impl Txn {
    /// All operations of both branches are ranges: no revision is made, a view can answer
    /// ([`crate::View::read_txn`]). A nested transaction counts as a write, whatever it holds.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| matches!(op, Op::Range(_)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Op {
    Range(RangeQuery),
    Put(Put),
    DeleteRange(DeleteRange),
    Txn(Box<Txn>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub key: Key,
    pub value: PutValue,
    pub lease: PutLease,
    pub prev_kv: PrevKv,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PutValue {
    Set(Bytes),
    /// `ignore_value`: the key must exist.
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PutLease {
    Set(Option<LeaseId>),
    /// `ignore_lease`: the key must exist.
    Keep,
}

/// Whether the response shall hold what was there before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PrevKv {
    #[default]
    Unwanted,
    Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeleteRange {
    pub keys: KeyRange,
    pub prev_kv: PrevKv,
}

/// Holds when it holds for every key of the range, with the stored value on the left: `Greater` means
/// stored > given. A range without keys is compared as one key whose numbers are all zero, but never equals,
/// exceeds or differs from a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Compare {
    pub keys: KeyRange,
    pub relation: Relation,
    pub target: CompareTarget,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    Equal,
    Greater,
    Less,
    NotEqual,
    /// Compat: a number that the wire does not define. Holds (`etcdserver/txn/txn.go`, compareKV), except
    /// for the value of a missing key.
    Undefined,
}

/// What is compared with what. On the wire a target without its operand compares with zero or nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompareTarget {
    Version(i64),
    Create(i64),
    Mod(i64),
    Value(Bytes),
    Lease(i64),
    /// Compat: a number that the wire does not define. Always found equal.
    Undefined,
}

/// Whether anyone on this member waits for what ranges find. A member that does not answer the client need
/// not read; the state after the transaction is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    Wanted,
    Unwanted,
}

#[derive(Clone)]
pub struct TxnResult {
    pub succeeded: bool,
    /// For the header: the transaction's own revision, or the unchanged one. A nested transaction's header
    /// stays empty on the wire.
    pub revision: Revision,
    /// One per operation of the chosen branch.
    pub responses: Vec<OpResult>,
}

#[derive(Clone)]
pub enum OpResult {
    Range(RangeResult),
    Put(PutResult),
    DeleteRange(DeleteRangeResult),
    Txn(TxnResult),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PutResult {
    pub revision: Revision,
    /// The encoded record that was there before; `None` when there was none or it is unwanted.
    pub prev_kv: Option<Bytes>,
}

#[derive(Clone)]
pub struct DeleteRangeResult {
    /// The store's unchanged revision when the transaction changed nothing so far.
    pub revision: Revision,
    pub deleted: usize,
    /// `None` when unwanted.
    pub prev_kvs: Option<RangeResult>,
}

/// The branches that the compares chose: of the transaction itself, then of each nested one on the path, in
/// order.
pub(crate) struct Path {
    pub succeeded: bool,
    pub nested: Vec<Path>,
}

impl Txn {
    pub(crate) fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.success } else { &self.failure }
    }
}

impl Snapshot<'_> {
    pub fn choose_path(&self, txn: &Txn) -> Result<Path, SourceError> {
        let mut succeeded = true;
        for compare in &txn.compares {
            if !self.compare(compare)? {
                succeeded = false;
                break;
            }
        }
        let mut nested = Vec::new();
        for op in txn.branch(succeeded) {
            if let Op::Txn(inner) = op {
                nested.push(self.choose_path(inner)?);
            }
        }
        Ok(Path { succeeded, nested })
    }

    /// The first operation on the path that cannot succeed is the transaction's error.
    pub fn check_path(
        &self,
        txn: &Txn,
        path: &Path,
        lease_exists: &dyn Fn(LeaseId) -> bool,
    ) -> Result<(), MvccError> {
        let mut nested = path.nested.iter();
        for op in txn.branch(path.succeeded) {
            match op {
                Op::Range(query) => drop(self.resolve(query.at)?),
                Op::Put(put) => self.check_put(put, lease_exists)?,
                Op::DeleteRange(_) => {}
                Op::Txn(inner) => {
                    let path = nested.next().expect("choose_path made one path per nested transaction");
                    self.check_path(inner, path, lease_exists)?;
                }
            }
        }
        Ok(())
    }

    pub fn check_put(&self, put: &Put, lease_exists: &dyn Fn(LeaseId) -> bool) -> Result<(), MvccError> {
        if let PutLease::Set(Some(lease)) = put.lease
            && !lease_exists(lease)
        {
            return Err(MvccError::LeaseNotFound(lease));
        }
        let keeps = put.value == PutValue::Keep || put.lease == PutLease::Keep;
        let exists = || self.index.get(&put.key).is_some_and(|entry| entry.is_live());
        if keeps && !exists() { Err(MvccError::KeyNotFound) } else { Ok(()) }
    }

    pub fn read_txn(&self, txn: &Txn) -> Result<TxnResult, MvccError> {
        assert!(txn.is_read_only(), "a view cannot execute writes");
        let path = self.choose_path(txn)?;
        self.check_path(txn, &path, &|_| false)?;
        let mut responses = Vec::new();
        for op in txn.branch(path.succeeded) {
            if let Op::Range(query) = op {
                responses.push(OpResult::Range(self.range(query)?));
            }
        }
        Ok(TxnResult { succeeded: path.succeeded, revision: self.revision, responses })
    }

    fn compare(&self, compare: &Compare) -> Result<bool, SourceError> {
        let mut hint = FindHint::default();
        let mut outcome = Ok(true);
        let mut found = false;
        self.index.walk(&compare.keys, &mut |_, entry| {
            let Some(latest) = Some(entry.latest()).filter(|_| entry.is_live()) else {
                return ControlFlow::Continue(());
            };
            found = true;
            outcome = self.compare_one(compare, latest, &mut hint);
            if matches!(outcome, Ok(true)) { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        });
        if found { outcome } else { Ok(compare_missing(compare)) }
    }

    fn compare_one(
        &self,
        compare: &Compare,
        latest: &Modification,
        hint: &mut FindHint,
    ) -> Result<bool, SourceError> {
        let ordering = match &compare.target {
            CompareTarget::Version(given) => (latest.version as i64).cmp(given),
            CompareTarget::Create(given) => latest.create_revision.to_wire().cmp(given),
            CompareTarget::Mod(given) => latest.main().to_wire().cmp(given),
            CompareTarget::Lease(given) if !latest.has_lease() => 0.cmp(given),
            CompareTarget::Lease(given) => {
                self.with_record(latest, hint, |record| record.lease.cmp(given))?
            }
            CompareTarget::Value(given) => {
                self.with_record(latest, hint, |record| record.value.cmp(&given[..]))?
            }
            CompareTarget::Undefined => Ordering::Equal,
        };
        Ok(compare.relation.holds(ordering))
    }

    pub fn with_record<R>(
        &self,
        at: &Modification,
        hint: &mut FindHint,
        read: impl FnOnce(&Record<'_>) -> R,
    ) -> Result<R, SourceError> {
        let found = self.find(at.revision(), hint)?;
        match Record::parse(self.bytes(&found)) {
            Ok(record) => Ok(read(&record)),
            Err(_) => Err(SourceError::MalformedRecord(at.revision())),
        }
    }
}

fn compare_missing(compare: &Compare) -> bool {
    match &compare.target {
        CompareTarget::Version(given)
        | CompareTarget::Create(given)
        | CompareTarget::Mod(given)
        | CompareTarget::Lease(given) => compare.relation.holds(0.cmp(given)),
        // Compat: nothing and an empty value look alike on the wire, so a missing one never matches.
        CompareTarget::Value(_) => false,
        CompareTarget::Undefined => compare.relation.holds(Ordering::Equal),
    }
}

impl Relation {
    fn holds(self, stored_to_given: Ordering) -> bool {
        match self {
            Relation::Equal => stored_to_given.is_eq(),
            Relation::Greater => stored_to_given.is_gt(),
            Relation::Less => stored_to_given.is_lt(),
            Relation::NotEqual => stored_to_given.is_ne(),
            Relation::Undefined => true,
        }
    }
}
