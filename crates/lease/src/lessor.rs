//! The lessor itself: replicated leases and their keys, with the leader's [`Schedule`] beside them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use bytes::Bytes;

use crate::schedule::{Checkpoint, Now, Schedule};
use crate::{LeaseId, Record};

/// Longest time to live that may be asked for, in seconds. Source: etcd `server/lease/lessor.go`.
pub const TTL_SECS_MAX: i64 = 9_000_000_000;

/// Leases named by one call of [`Lessor::expired`]: half of etcd's 1000 a second, as the server asks
/// twice a second. The rest comes with the next call.
pub const EXPIRED_LEN_MAX: usize = 500;

/// Leases that one second of expiries may hold before a new leader spreads them out.
pub const REVOKE_RATE_PER_SEC: usize = 1000;

/// What it spreads them to: less than the revoke rate, so that other leases can expire meanwhile.
pub const SPREAD_RATE_PER_SEC: usize = 750;

/// Checkpoints in one proposal.
pub const CHECKPOINT_LEN_MAX: usize = 1000;

/// How often the time left of a long lease is replicated.
pub const CHECKPOINT_INTERVAL: Duration = Duration::from_secs(5 * 60);

/// Whether the leader proposes checkpoints (etcd's feature gate `LeaseCheckpoint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CheckpointPolicy {
    Off,
    /// Propose one for each lease with more time left than this, this often.
    Every(Duration),
}

#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Grants below this are raised to it: ceil(1.5 × election timeout), so that no lease ends while the
    /// cluster elects a leader. In seconds, at least 1.
    pub ttl_secs_min: i64,
    pub checkpoint_policy: CheckpointPolicy,
}

impl Config {
    /// The limits that follow from the election timeout.
    #[must_use]
    pub fn for_election_timeout(election_timeout: Duration, checkpoint_policy: CheckpointPolicy) -> Config {
        let millis = u64::try_from(election_timeout.as_millis()).unwrap_or(u64::MAX);
        let secs = millis.saturating_mul(3).div_ceil(2).div_ceil(1000).max(1);
        let ttl_secs_min = i64::try_from(secs).unwrap_or(TTL_SECS_MAX).min(TTL_SECS_MAX);
        Config { ttl_secs_min, checkpoint_policy }
    }
}

/// There is no lease of that id (any more).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseNotFound {
    pub id: LeaseId,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrantError {
    /// Id zero; etcd answers "not found". The server chooses an id before it proposes.
    NoId,
    Exists {
        id: LeaseId,
    },
    TtlTooLarge {
        ttl_secs: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenewError {
    /// Only the primary renews: ask the leader.
    NotPrimary,
    NotFound {
        id: LeaseId,
    },
    /// The deadline has passed and the revoke is under way. The caller waits until it is applied (then
    /// "not found") or until this member is demoted (then [`RenewError::NotPrimary`]), and asks again:
    /// an answer now could promise life to keys that are about to go.
    Expired {
        id: LeaseId,
    },
}

/// A keep-alive that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Renewed {
    /// What the client is told: the granted time to live.
    pub ttl_secs: i64,
    /// The lease has a replicated remaining time that is now wrong: the caller proposes a
    /// [`Checkpoint`] of zero for it.
    pub clear_checkpoint: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeToLive {
    /// Seconds left, truncated toward zero; zero or less between the deadline and the revoke; `i64::MAX`
    /// where this member is not primary.
    pub remaining_secs: i64,
    pub granted_secs: i64,
}

/// Totals since the start, for the metrics `etcd_debugging_lease_*_total`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub granted: u64,
    pub revoked: u64,
    pub renewed: u64,
}

#[derive(Debug)]
struct Lease {
    ttl_secs: i64,
    /// Zero: none is known and the full time counts.
    remaining_ttl_secs: i64,
    /// Ordered, as a revoke deletes in key order on every member.
    keys: BTreeSet<Bytes>,
}

impl Lease {
    /// Where the clock starts after a leader change.
    fn effective_ttl(&self) -> Duration {
        let secs = if self.remaining_ttl_secs > 0 { self.remaining_ttl_secs } else { self.ttl_secs };
        Duration::from_secs(secs.unsigned_abs())
    }
}

#[derive(Debug)]
enum Role {
    /// No deadlines: leases count as endless here.
    Secondary,
    Primary {
        schedule: Schedule,
        /// Granted since the last clocked call; they begin to run at the next.
        fresh: Vec<LeaseId>,
    },
}

/// All leases of the store.
#[derive(Debug)]
pub struct Lessor {
    config: Config,
    leases: BTreeMap<LeaseId, Lease>,
    /// The lease of each attached key. Invariant: `keys[k] == id` exactly if `leases[id].keys` has `k`.
    keys: BTreeMap<Bytes, LeaseId>,
    role: Role,
    counters: Counters,
}

impl Lessor {
    /// An empty lessor, not primary.
    #[must_use]
    pub fn new(config: Config) -> Lessor {
        assert!(
            (1..=TTL_SECS_MAX).contains(&config.ttl_secs_min),
            "shortest time to live of {} s is out of range",
            config.ttl_secs_min
        );
        if let CheckpointPolicy::Every(interval) = config.checkpoint_policy {
            assert!(!interval.is_zero(), "a checkpoint interval of zero would never end");
        }
        Lessor {
            config,
            leases: BTreeMap::new(),
            keys: BTreeMap::new(),
            role: Role::Secondary,
            counters: Counters::default(),
        }
    }

    /// A lessor with the leases of the bucket, not primary. The caller attaches the keys afterwards, from
    /// the lease fields of the restored key-values.
    #[must_use]
    pub fn restore(config: Config, records: impl IntoIterator<Item = Record>) -> Lessor {
        let mut lessor = Lessor::new(config);
        for record in records {
            let lease = Lease {
                ttl_secs: record.ttl_secs.clamp(config.ttl_secs_min, TTL_SECS_MAX),
                remaining_ttl_secs: record.remaining_ttl_secs.clamp(0, TTL_SECS_MAX),
                keys: BTreeSet::new(),
            };
            lessor.leases.insert(record.id, lease);
        }
        lessor
    }

    // ---- replicated state: called by apply, no clock ----

    /// Creates a lease and returns the record to store. `ttl_secs` is what the client asked for.
    ///
    /// # Errors
    /// [`GrantError`]; nothing has changed then.
    pub fn grant(&mut self, id: LeaseId, ttl_secs: i64) -> Result<Record, GrantError> {
        if id.0 == 0 {
            return Err(GrantError::NoId);
        }
        if ttl_secs > TTL_SECS_MAX {
            return Err(GrantError::TtlTooLarge { ttl_secs });
        }
        if self.leases.contains_key(&id) {
            return Err(GrantError::Exists { id });
        }
        let ttl_secs = ttl_secs.max(self.config.ttl_secs_min);
        self.leases.insert(id, Lease { ttl_secs, remaining_ttl_secs: 0, keys: BTreeSet::new() });
        if let Role::Primary { fresh, .. } = &mut self.role {
            fresh.push(id);
        }
        self.counters.granted += 1;
        Ok(Record { id, ttl_secs, remaining_ttl_secs: 0 })
    }

    /// Ends a lease and returns its keys in ascending order, detached: the caller deletes them all in
    /// one transaction, and the record with them.
    ///
    /// # Errors
    /// When there is no such lease.
    pub fn revoke(&mut self, id: LeaseId) -> Result<Vec<Bytes>, LeaseNotFound> {
        let lease = self.leases.remove(&id).ok_or(LeaseNotFound { id })?;
        for key in &lease.keys {
            let owner = self.keys.remove(key);
            assert_eq!(owner, Some(id), "a key of lease {id} was indexed under another");
        }
        if let Role::Primary { schedule, .. } = &mut self.role {
            schedule.remove(id);
        }
        self.counters.revoked += 1;
        Ok(lease.keys.into_iter().collect())
    }

    /// Hangs a key on a lease, taking it off the one it hung on.
    ///
    /// # Errors
    /// When there is no such lease; the key then stays where it was.
    pub fn attach(&mut self, id: LeaseId, key: Bytes) -> Result<(), LeaseNotFound> {
        let lease = self.leases.get_mut(&id).ok_or(LeaseNotFound { id })?;
        match self.keys.get_mut(&key) {
            Some(owner) if *owner == id => return Ok(()),
            Some(owner) => {
                lease.keys.insert(key.clone());
                let old = std::mem::replace(owner, id);
                let old_lease = self.leases.get_mut(&old).expect("the owner of a key is a lease");
                assert!(old_lease.keys.remove(&key), "lease {old} did not hold the key indexed under it");
            }
            None => {
                lease.keys.insert(key.clone());
                self.keys.insert(key, id);
            }
        }
        Ok(())
    }

    /// Takes a key off its lease (a put without a lease, or a delete) and says which that was.
    pub fn detach(&mut self, key: &[u8]) -> Option<LeaseId> {
        let id = self.keys.remove(key)?;
        let lease = self.leases.get_mut(&id).expect("the owner of a key is a lease");
        assert!(lease.keys.remove(key), "lease {id} did not hold the key indexed under it");
        Some(id)
    }

    /// Sets the remaining time of a lease as replicated by a checkpoint (zero: forget it, the full time
    /// counts) and returns the record to store, where checkpoints are persisted. Deadlines of a running
    /// primary do not move.
    ///
    /// # Errors
    /// When there is no such lease.
    pub fn checkpoint(&mut self, checkpoint: Checkpoint) -> Result<Record, LeaseNotFound> {
        let Checkpoint { id, remaining_ttl_secs } = checkpoint;
        let lease = self.leases.get_mut(&id).ok_or(LeaseNotFound { id })?;
        // The value comes from the log: never trust it to be in range.
        lease.remaining_ttl_secs = remaining_ttl_secs.clamp(0, TTL_SECS_MAX);
        Ok(Record { id, ttl_secs: lease.ttl_secs, remaining_ttl_secs: lease.remaining_ttl_secs })
    }

    #[must_use]
    pub fn contains(&self, id: LeaseId) -> bool {
        self.leases.contains_key(&id)
    }

    /// The lease a key hangs on.
    #[must_use]
    pub fn lease_of(&self, key: &[u8]) -> Option<LeaseId> {
        self.keys.get(key).copied()
    }

    /// Keys of a lease in ascending order; none when there is no such lease.
    pub fn keys(&self, id: LeaseId) -> impl Iterator<Item = &Bytes> {
        self.leases.get(&id).into_iter().flat_map(|lease| lease.keys.iter())
    }

    /// How many leases there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.leases.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.leases.is_empty()
    }

    /// Every lease as the bucket should hold it, by id.
    pub fn records(&self) -> impl Iterator<Item = Record> {
        self.leases.iter().map(|(&id, lease)| Record {
            id,
            ttl_secs: lease.ttl_secs,
            remaining_ttl_secs: lease.remaining_ttl_secs,
        })
    }

    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    // ---- the leader's side: clocked, never replicated ----

    #[must_use]
    pub fn is_primary(&self) -> bool {
        matches!(self.role, Role::Primary { .. })
    }

    /// Starts the clock of every lease: called when the first entry of this leader's own term has been
    /// applied, so that renewals and grants of earlier terms are all known. `extend` (the election
    /// timeout) makes good for the time without a leader, when nobody could renew.
    pub fn promote(&mut self, now: Now, extend: Duration) {
        let mut schedule = Schedule::default();
        for (&id, lease) in &self.leases {
            schedule.set_deadline(id, now.after(lease.effective_ttl()).after(extend));
        }
        if self.leases.len() > REVOKE_RATE_PER_SEC {
            schedule.spread(SPREAD_RATE_PER_SEC);
        }
        for (&id, lease) in &self.leases {
            schedule.set_checkpoint(id, next_checkpoint(self.config.checkpoint_policy, lease, now));
        }
        self.role = Role::Primary { schedule, fresh: Vec::new() };
    }

    /// Stops the clock: another member leads, and only it knows the deadlines.
    pub fn demote(&mut self) {
        self.role = Role::Secondary;
    }

    /// Keeps a lease alive for its full time from now.
    ///
    /// # Errors
    /// See [`RenewError`]; nothing has changed then.
    pub fn renew(&mut self, id: LeaseId, now: Now) -> Result<Renewed, RenewError> {
        let schedule = self.clocked(now).ok_or(RenewError::NotPrimary)?;
        let Some(deadline) = schedule.deadline(id) else { return Err(RenewError::NotFound { id }) };
        if deadline <= now {
            return Err(RenewError::Expired { id });
        }
        let lease = self.leases.get_mut(&id).expect("a scheduled lease exists");
        let ttl_secs = lease.ttl_secs;
        let clear_checkpoint =
            self.config.checkpoint_policy != CheckpointPolicy::Off && lease.remaining_ttl_secs > 0;
        let full = Duration::from_secs(ttl_secs.unsigned_abs());
        if let Role::Primary { schedule, .. } = &mut self.role {
            schedule.set_deadline(id, now.after(full));
        }
        self.counters.renewed += 1;
        Ok(Renewed { ttl_secs, clear_checkpoint })
    }

    /// Time left and time granted; none when there is no such lease.
    pub fn time_to_live(&mut self, id: LeaseId, now: Now) -> Option<TimeToLive> {
        let deadline = self.clocked(now).and_then(|schedule| schedule.deadline(id));
        let granted_secs = self.leases.get(&id)?.ttl_secs;
        let remaining_secs = deadline.map_or(i64::MAX, |deadline| now.secs_until(deadline));
        Some(TimeToLive { remaining_secs, granted_secs })
    }

    /// Every lease, the least time left first; by id where this member knows no deadlines.
    pub fn leases(&mut self, now: Now) -> Vec<LeaseId> {
        match self.clocked(now) {
            Some(schedule) => schedule.by_deadline(),
            None => self.leases.keys().copied().collect(),
        }
    }

    /// Leases to revoke now, at most [`EXPIRED_LEN_MAX`]: the caller proposes a revoke for each. One
    /// whose revoke is not applied within 3 s is named again. Empty when not primary.
    pub fn expired(&mut self, now: Now) -> Vec<LeaseId> {
        self.clocked(now).map_or_else(Vec::new, |schedule| schedule.expired(now, EXPIRED_LEN_MAX))
    }

    /// When [`Lessor::expired`] will next have something; none while nothing runs.
    pub fn next_expiry(&mut self, now: Now) -> Option<Now> {
        self.clocked(now).and_then(|schedule| schedule.next_expiry())
    }

    /// Checkpoints to propose now, at most [`CHECKPOINT_LEN_MAX`]; ask again while it is full. Each
    /// lease comes again after the interval for as long as it has more than that left.
    pub fn due_checkpoints(&mut self, now: Now) -> Vec<Checkpoint> {
        let CheckpointPolicy::Every(interval) = self.config.checkpoint_policy else { return Vec::new() };
        let Some(schedule) = self.clocked(now) else { return Vec::new() };
        let due = schedule.due_checkpoints(now, CHECKPOINT_LEN_MAX);
        let mut checkpoints = Vec::with_capacity(due.len());
        for (id, deadline) in due {
            let Some(left) = deadline.0.checked_sub(now.0).filter(|left| !left.is_zero()) else { continue };
            let Role::Primary { schedule, .. } = &mut self.role else { continue };
            // Also one renewed just now goes on being looked at.
            schedule.set_checkpoint(id, (left > interval).then(|| now.after(interval)));
            // Rounded up: a checkpoint must not shorten a lease, nor round the last second to "none".
            let secs = left.as_secs() + u64::from(left.subsec_nanos() > 0);
            let remaining_ttl_secs = i64::try_from(secs).unwrap_or(TTL_SECS_MAX);
            let lease = self.leases.get(&id).expect("a scheduled lease exists");
            if remaining_ttl_secs < lease.ttl_secs {
                checkpoints.push(Checkpoint { id, remaining_ttl_secs });
            }
        }
        checkpoints
    }

    /// The schedule with every fresh grant started; none when not primary.
    fn clocked(&mut self, now: Now) -> Option<&mut Schedule> {
        let Role::Primary { schedule, fresh } = &mut self.role else { return None };
        for id in fresh.drain(..) {
            // It may have been revoked since.
            if let Some(lease) = self.leases.get(&id)
                && schedule.deadline(id).is_none()
            {
                schedule.set_deadline(id, now.after(lease.effective_ttl()));
                schedule.set_checkpoint(id, next_checkpoint(self.config.checkpoint_policy, lease, now));
            }
        }
        Some(schedule)
    }

    /// Checks the invariants between leases, keys and schedule; for tests.
    pub fn check(&self) {
        let held: usize = self.leases.values().map(|lease| lease.keys.len()).sum();
        assert_eq!(held, self.keys.len(), "every attached key is indexed once in both directions");
        for (key, id) in &self.keys {
            assert!(self.leases[id].keys.contains(key), "lease {id} does not hold {key:?}");
        }
        if let Role::Primary { schedule, .. } = &self.role {
            schedule.check();
        }
    }
}

/// When the time left of this lease should first be replicated, if ever.
fn next_checkpoint(policy: CheckpointPolicy, lease: &Lease, now: Now) -> Option<Now> {
    match policy {
        CheckpointPolicy::Off => None,
        CheckpointPolicy::Every(interval) => (lease.effective_ttl() > interval).then(|| now.after(interval)),
    }
}

impl fmt::Display for LeaseNotFound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "lease {} not found", self.id)
    }
}

impl std::error::Error for LeaseNotFound {}

impl fmt::Display for GrantError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GrantError::NoId => write!(f, "grant a lease without an id"),
            GrantError::Exists { id } => write!(f, "lease {id} already exists"),
            GrantError::TtlTooLarge { ttl_secs } => {
                write!(f, "time to live of {ttl_secs} s is more than {TTL_SECS_MAX} s")
            }
        }
    }
}

impl std::error::Error for GrantError {}

impl fmt::Display for RenewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RenewError::NotPrimary => write!(f, "not the primary lessor"),
            RenewError::NotFound { id } => write!(f, "lease {id} not found"),
            RenewError::Expired { id } => write!(f, "lease {id} has expired and is being revoked"),
        }
    }
}

impl std::error::Error for RenewError {}

#[cfg(test)]
mod tests;
