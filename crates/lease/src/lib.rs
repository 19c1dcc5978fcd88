//! The lessor: which leases exist, which keys hang on them, and when the leader lets them expire.
//!
//! A lease has two sides, and this crate keeps them apart because only one of them is replicated:
//!
//! * **Replicated state**, changed by applied entries only and equal on every member: the leases with
//!   their granted and checkpointed times to live, and the keys attached to each. These calls
//!   ([`Lessor::grant`], [`Lessor::revoke`], [`Lessor::attach`], [`Lessor::detach`],
//!   [`Lessor::checkpoint`]) take no time, as apply has no clock.
//! * **The leader's clock** ([`schedule`]): deadlines, retries and due checkpoints. It exists while the
//!   member is primary ([`Lessor::promote`]) and is thrown away by [`Lessor::demote`]. Nothing here
//!   ends a lease: a passed deadline only names it in [`Lessor::expired`], and the lease ends on all
//!   members when the revoke that the leader proposes is applied.
//!
//! A lease granted or moved by apply starts to run at the first clocked call after it, so it can only
//! live longer than asked (by the caller's polling interval), never shorter.
//!
//! The crate is a core: no clock, no IO, no threads. One caller at a time; the server puts a mutex
//! around it, and every call is short (logarithmic, or linear in what it returns).

pub mod lessor;
pub mod record;
pub mod schedule;

pub use lessor::{
    CHECKPOINT_INTERVAL, CheckpointPolicy, Config, Counters, GrantError, LeaseNotFound, Lessor, RenewError,
    Renewed, TimeToLive,
};
pub use record::{LEASE_KEY_LEN, Record, RecordError};
pub use schedule::{Checkpoint, Now};

use std::fmt;

/// Identity of a lease: any value but zero, which on the wire means "no lease" (in a put) or "you
/// choose" (in a grant). Clients may choose negative ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub i64);

impl LeaseId {
    /// The id of a key's lease field: zero is none.
    #[must_use]
    pub fn from_wire(id: i64) -> Option<LeaseId> {
        (id != 0).then_some(LeaseId(id))
    }
}

/// Sixteen lower-case hex digits at most, as etcdctl and etcd's logs print it.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
