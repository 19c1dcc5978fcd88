//! What applying a request brought: the answer's content, before any wire form.

use bytes::Bytes;
use lease::LeaseId;
use mvcc::Revision;

use crate::alarms::Alarm;

/// The answer to one applied request. Records are encoded `mvccpb.KeyValue`s.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    Range(RangeOutcome),
    Put(PutOutcome),
    DeleteRange(DeleteRangeOutcome),
    Txn {
        /// The txn's own revision, or the unchanged one of the store.
        revision: Revision,
        txn: TxnOutcome,
    },
    Compaction,
    LeaseGrant {
        id: LeaseId,
        /// As granted, which may be longer than asked.
        ttl_secs: i64,
    },
    LeaseRevoke {
        revision: Revision,
    },
    LeaseCheckpoint,
    /// The alarms that the request listed, raised or disarmed.
    Alarm(Vec<Alarm>),
    /// Membership and version settings have nothing to say.
    Done,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct RangeOutcome {
    /// The revision that the answer's header names.
    pub revision: Revision,
    pub records: Vec<Bytes>,
    /// Keys in the range, beyond the limit too.
    pub count: u64,
    pub more: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub struct PutOutcome {
    pub revision: Revision,
    pub previous: Option<Bytes>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct DeleteRangeOutcome {
    pub revision: Revision,
    pub deleted: u64,
    /// In key order; empty unless asked for.
    pub previous: Vec<Bytes>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct TxnOutcome {
    pub succeeded: bool,
    /// One for each operation of the branch taken, in its order.
    pub responses: Vec<OpOutcome>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum OpOutcome {
    Range(RangeOutcome),
    Put(PutOutcome),
    DeleteRange(DeleteRangeOutcome),
    /// Compat: the header of a nested txn's answer is present and empty.
    Txn(TxnOutcome),
}
