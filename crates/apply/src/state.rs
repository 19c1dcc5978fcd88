//! Everything the cluster agrees on, and how one request changes it.

use bytes::Bytes;
use lease::{Checkpoint, GrantError, LeaseId, Lessor, Record as LeaseRecord};
use membership::{Attributes, Cluster, DowngradeRecord, MemberId, Version};
use mvcc::{
    Answer, Change, Committed, CompactionPlan, DeleteRange, KeyRange, MvccError, OpResult, PrevKv, Revision,
    SourceError, Store, TxnResult, View,
};
use proto::etcdserverpb::{
    AlarmRequest, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, RangeRequest, RequestOp,
    TxnRequest, alarm_request::AlarmAction, request_op,
};
use proto::membershippb::{ClusterMemberAttrSetRequest, ClusterVersionSetRequest, DowngradeInfoSetRequest};

use crate::alarms::{Alarm, AlarmKind, Alarms};
use crate::command::{Command, CommandError};
use crate::outcome::{DeleteRangeOutcome, OpOutcome, Outcome, PutOutcome, RangeOutcome, TxnOutcome};
use crate::wire;

/// The replicated state, but for the lessor: the server keeps that under a lock and lends it, because
/// keep-alives use it too.
pub struct State {
    pub store: Store,
    pub alarms: Alarms,
    pub cluster: Cluster,
    effects: Effects,
}

/// What applied requests change outside this state, gathered until [`State::take_effects`].
#[derive(Default)]
pub struct Effects {
    /// For the file.
    pub writes: Vec<Write>,
    /// For watchers, in revision order.
    pub changes: Vec<Change>,
    /// For the file, behind everything above.
    pub compaction: Option<CompactionPlan>,
    pub alarms_changed: bool,
    pub cluster_changed: bool,
    /// Leases granted, and how many were revoked: for metrics.
    pub granted_ttls_secs: Vec<i64>,
    pub revoked_leases: u64,
}

/// A write to a bucket other than `key`; no value deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    Membership(membership::Write),
    Lease { key: Bytes, value: Option<Bytes> },
    Alarm { key: Bytes, value: Option<Bytes> },
    ScheduledCompaction { value: Bytes },
}

/// Why a request changed nothing. The same on every member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ApplyError {
    Mvcc(MvccError),
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,
    NoSpace,
    Corrupt,
}

/// The member must stop: its state may differ from the others' from here on.
#[derive(Debug)]
pub enum Fatal {
    Command(CommandError),
    File(SourceError),
    Version { wanted: String },
}

impl std::fmt::Display for Fatal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Fatal::Command(error) => error.fmt(f),
            Fatal::File(error) => error.fmt(f),
            Fatal::Version { wanted } => write!(f, "the log sets cluster version {wanted:?}, which is none"),
        }
    }
}

impl std::error::Error for Fatal {}

impl From<MvccError> for ApplyError {
    fn from(error: MvccError) -> ApplyError {
        match error {
            MvccError::LeaseNotFound(_) => ApplyError::LeaseNotFound,
            other => ApplyError::Mvcc(other),
        }
    }
}

type Applied = Result<Outcome, ApplyError>;

impl State {
    pub fn new(store: Store, alarms: Alarms, cluster: Cluster) -> State {
        State { store, alarms, cluster, effects: Effects::default() }
    }

    /// Goes on with what a leader's snapshot holds. Nothing may be applied of which the effects were not taken.
    pub fn take_over(&mut self, fresh: State) -> Store {
        let State { store, alarms, cluster, effects } = fresh;
        (self.alarms, self.cluster, self.effects) = (alarms, cluster, effects);
        self.store.take_over(store)
    }

    /// What has been applied since the last call.
    pub fn take_effects(&mut self) -> Effects {
        std::mem::take(&mut self.effects)
    }

    /// Applies one request. `answer` says whether anyone on this member waits for what it reads.
    pub fn apply(&mut self, lessor: &mut Lessor, command: Command, answer: Answer) -> Result<Applied, Fatal> {
        if let Some(refusal) = self.refuse_for_alarms(&command) {
            return Ok(Err(refusal));
        }
        let applied = match command {
            Command::Range(request) => self.range(&request),
            Command::Put(request) => self.put(lessor, request),
            Command::DeleteRange(request) => self.delete_range(lessor, wire::delete_range(request)),
            Command::Txn(request) => self.txn(lessor, request, answer),
            Command::Compaction(request) => self.compact(request.revision),
            Command::LeaseGrant(request) => self.grant(lessor, &request),
            Command::LeaseRevoke(request) => self.revoke(lessor, &request),
            Command::LeaseCheckpoint(request) => self.checkpoint(lessor, &request),
            Command::Alarm(request) => self.alarm(&request),
            Command::ClusterVersionSet(request) => return self.set_cluster_version(&request).map(Ok),
            Command::MemberAttrSet(request) => self.set_attributes(request),
            Command::DowngradeInfoSet(request) => self.set_downgrade(&request),
        };
        match applied {
            Err(ApplyError::Mvcc(MvccError::Source(error))) => Err(Fatal::File(error)),
            applied => Ok(applied),
        }
    }

    /// Compat: etcd `server/etcdserver/apply/apply_corrupt.go` and the capped applier of `apply.go`.
    fn refuse_for_alarms(&self, command: &Command) -> Option<ApplyError> {
        if self.alarms.stands(AlarmKind::Corrupt) {
            let refused = match command {
                Command::Range(_)
                | Command::Put(_)
                | Command::DeleteRange(_)
                | Command::Txn(_)
                | Command::Compaction(_)
                | Command::LeaseGrant(_)
                | Command::LeaseRevoke(_) => true,
                Command::LeaseCheckpoint(_)
                | Command::Alarm(_)
                | Command::ClusterVersionSet(_)
                | Command::MemberAttrSet(_)
                | Command::DowngradeInfoSet(_) => false,
            };
            if refused {
                return Some(ApplyError::Corrupt);
            }
        }
        if self.alarms.stands(AlarmKind::NoSpace) {
            let refused = match command {
                Command::Put(_) | Command::LeaseGrant(_) => true,
                Command::Txn(txn) => has_put(&txn.success) || has_put(&txn.failure),
                _ => false,
            };
            if refused {
                return Some(ApplyError::NoSpace);
            }
        }
        None
    }

    // --- keys ---

    fn range(&mut self, request: &RangeRequest) -> Applied {
        let txn = self.store.begin();
        let result = txn.range(&wire::range_query(request)).map_err(ApplyError::from)?;
        Ok(Outcome::Range(range_outcome(&result)))
    }

    fn put(&mut self, lessor: &mut Lessor, request: proto::etcdserverpb::PutRequest) -> Applied {
        let mut txn = self.store.begin();
        let exists = |id: mvcc::LeaseId| lessor.contains(LeaseId(id.0));
        let result = txn.put(&wire::put(request), &exists).map_err(ApplyError::from)?;
        let committed = txn.commit();
        self.note(lessor, committed);
        Ok(Outcome::Put(PutOutcome { revision: result.revision, previous: result.prev_kv }))
    }

    fn delete_range(&mut self, lessor: &mut Lessor, delete: DeleteRange) -> Applied {
        let mut txn = self.store.begin();
        let result = txn.delete_range(&delete).map_err(ApplyError::from)?;
        let committed = txn.commit();
        self.note(lessor, committed);
        Ok(Outcome::DeleteRange(delete_outcome(&result)))
    }

    fn txn(&mut self, lessor: &mut Lessor, request: TxnRequest, answer: Answer) -> Applied {
        let mut txn = self.store.begin();
        let exists = |id: mvcc::LeaseId| lessor.contains(LeaseId(id.0));
        let result = txn.txn(&wire::txn(request), &exists, answer).map_err(ApplyError::from)?;
        let committed = txn.commit();
        let revision = committed.revision;
        self.note(lessor, committed);
        Ok(Outcome::Txn { revision, txn: txn_outcome(&result) })
    }

    /// Gathers what a transaction did for watchers, and moves keys between leases.
    fn note(&mut self, lessor: &mut Lessor, committed: Committed) {
        for change in committed.lease_changes {
            match change.new {
                None => {
                    lessor.detach(&change.key);
                }
                Some(id) => lessor
                    .attach(LeaseId(id.0), change.key)
                    .expect("the transaction has checked that the lease exists"),
            }
        }
        self.effects.changes.extend(committed.changes);
    }

    fn compact(&mut self, revision: i64) -> Applied {
        // Compat: a negative revision lies before everything that was ever compacted.
        let Some(requested) = Revision::from_wire(revision) else {
            let compacted = self.store.compact_revision().unwrap_or_default();
            return Err(ApplyError::Mvcc(MvccError::Compacted { requested: Revision::ZERO, compacted }));
        };
        let plan = self.store.compact(requested).map_err(ApplyError::from)?;
        let value = Bytes::copy_from_slice(&plan.revision_bytes());
        self.effects.writes.push(Write::ScheduledCompaction { value });
        // A later plan covers an earlier one of the same batch.
        self.effects.compaction = Some(plan);
        Ok(Outcome::Compaction)
    }

    // --- leases ---

    fn grant(&mut self, lessor: &mut Lessor, request: &LeaseGrantRequest) -> Applied {
        let record = lessor.grant(LeaseId(request.id), request.ttl).map_err(|error| match error {
            GrantError::NoId => ApplyError::LeaseNotFound,
            GrantError::Exists { .. } => ApplyError::LeaseExists,
            GrantError::TtlTooLarge { .. } => ApplyError::LeaseTtlTooLarge,
        })?;
        self.effects.granted_ttls_secs.push(record.ttl_secs);
        self.write_lease(&record);
        Ok(Outcome::LeaseGrant { id: record.id, ttl_secs: record.ttl_secs })
    }

    fn write_lease(&mut self, record: &LeaseRecord) {
        let key = Bytes::copy_from_slice(&LeaseRecord::key(record.id));
        self.effects.writes.push(Write::Lease { key, value: Some(record.value()) });
    }

    /// Deletes the attached keys in one revision, in key order.
    fn revoke(&mut self, lessor: &mut Lessor, request: &LeaseRevokeRequest) -> Applied {
        let id = LeaseId(request.id);
        let keys = lessor.revoke(id).map_err(|_| ApplyError::LeaseNotFound)?;
        let mut txn = self.store.begin();
        for key in keys {
            let delete = DeleteRange { keys: KeyRange::One(key), prev_kv: PrevKv::Unwanted };
            txn.delete_range(&delete).map_err(ApplyError::from)?;
        }
        let committed = txn.commit();
        let revision = committed.revision;
        self.note(lessor, committed);
        let key = Bytes::copy_from_slice(&LeaseRecord::key(id));
        self.effects.writes.push(Write::Lease { key, value: None });
        self.effects.revoked_leases += 1;
        Ok(Outcome::LeaseRevoke { revision })
    }

    fn checkpoint(&mut self, lessor: &mut Lessor, request: &LeaseCheckpointRequest) -> Applied {
        for checkpoint in &request.checkpoints {
            let checkpoint =
                Checkpoint { id: LeaseId(checkpoint.id), remaining_ttl_secs: checkpoint.remaining_ttl };
            // One that was revoked meanwhile is passed over.
            if let Ok(record) = lessor.checkpoint(checkpoint) {
                self.write_lease(&record);
            }
        }
        Ok(Outcome::LeaseCheckpoint)
    }

    // --- alarms and membership ---

    fn alarm(&mut self, request: &AlarmRequest) -> Applied {
        let kind = AlarmKind::from_wire(request.alarm);
        let alarm = kind.map(|kind| Alarm { kind, member: MemberId(request.member_id) });
        let alarms = match (AlarmAction::try_from(request.action), alarm) {
            (Ok(AlarmAction::Get), _) => self.alarms.list(kind),
            (Ok(AlarmAction::Activate), Some(alarm)) => {
                if self.alarms.activate(alarm) {
                    self.write_alarm(alarm, Some(Bytes::new()));
                }
                vec![alarm]
            }
            (Ok(AlarmAction::Deactivate), Some(alarm)) if self.alarms.deactivate(alarm) => {
                self.write_alarm(alarm, None);
                vec![alarm]
            }
            _ => Vec::new(),
        };
        Ok(Outcome::Alarm(alarms))
    }

    fn write_alarm(&mut self, alarm: Alarm, value: Option<Bytes>) {
        self.effects.writes.push(Write::Alarm { key: alarm.record_key().into(), value });
        self.effects.alarms_changed = true;
    }

    fn set_cluster_version(&mut self, request: &ClusterVersionSetRequest) -> Result<Outcome, Fatal> {
        let version: Version =
            request.ver.parse().map_err(|_| Fatal::Version { wanted: request.ver.clone() })?;
        let writes = self.cluster.set_version(version);
        self.note_membership(writes);
        Ok(Outcome::Done)
    }

    fn set_attributes(&mut self, request: ClusterMemberAttrSetRequest) -> Applied {
        let attributes = request.member_attributes.unwrap_or_default();
        let attributes = Attributes { name: attributes.name, client_urls: attributes.client_urls };
        let writes = self.cluster.set_attributes(MemberId(request.member_id), attributes);
        self.note_membership(writes);
        Ok(Outcome::Done)
    }

    fn set_downgrade(&mut self, request: &DowngradeInfoSetRequest) -> Applied {
        let record = DowngradeRecord { target_version: request.ver.clone(), enabled: request.enabled };
        let writes = self.cluster.set_downgrade(record);
        self.note_membership(writes);
        Ok(Outcome::Done)
    }

    /// Gathers what a membership change, a request's or a configuration change's, writes to the file.
    pub fn note_membership(&mut self, writes: Vec<membership::Write>) {
        self.effects.cluster_changed = true;
        self.effects.writes.extend(writes.into_iter().map(Write::Membership));
    }
}

fn has_put(ops: &[RequestOp]) -> bool {
    ops.iter().any(|op| match &op.request {
        Some(request_op::Request::RequestPut(_)) => true,
        Some(request_op::Request::RequestTxn(txn)) => has_put(&txn.success) || has_put(&txn.failure),
        Some(request_op::Request::RequestRange(_) | request_op::Request::RequestDeleteRange(_)) | None => {
            false
        }
    })
}

// --- reading without the log ---

/// A range of a published state, every record in memory.
pub fn read_range(view: &View, request: &RangeRequest) -> Result<RangeOutcome, MvccError> {
    Ok(range_outcome(&view.range(&wire::range_query(request))?))
}

/// A txn of ranges only.
pub fn read_txn(view: &View, request: TxnRequest) -> Result<TxnOutcome, MvccError> {
    Ok(txn_outcome(&view.read_txn(&wire::txn(request))?))
}

fn range_outcome(result: &mvcc::RangeResult) -> RangeOutcome {
    RangeOutcome {
        revision: result.revision,
        records: records(result),
        count: result.count as u64,
        more: result.more,
    }
}

fn records(result: &mvcc::RangeResult) -> Vec<Bytes> {
    (0..result.records.len())
        .map(|at| match &result.records[at] {
            mvcc::RecordRef::Memory(bytes) => bytes.clone(),
            mvcc::RecordRef::File(_) => Bytes::copy_from_slice(result.record(at)),
        })
        .collect()
}

fn delete_outcome(result: &mvcc::DeleteRangeResult) -> DeleteRangeOutcome {
    DeleteRangeOutcome {
        revision: result.revision,
        deleted: result.deleted as u64,
        previous: result.prev_kvs.as_ref().map(records).unwrap_or_default(),
    }
}

fn txn_outcome(result: &TxnResult) -> TxnOutcome {
    let responses = result.responses.iter().map(|response| match response {
        OpResult::Range(result) => OpOutcome::Range(range_outcome(result)),
        OpResult::Put(result) => {
            OpOutcome::Put(PutOutcome { revision: result.revision, previous: result.prev_kv.clone() })
        }
        OpResult::DeleteRange(result) => OpOutcome::DeleteRange(delete_outcome(result)),
        OpResult::Txn(result) => OpOutcome::Txn(txn_outcome(result)),
    });
    TxnOutcome { succeeded: result.succeeded, responses: responses.collect() }
}
