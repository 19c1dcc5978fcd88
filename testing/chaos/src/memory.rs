//! What the clients of a run know together: enough to compare with, to read back, and to renew.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::operation::{Answer, Call, KeyValue, LeaseId, Micros, Revision};

/// Leases that are in use at a time. Full: none is granted until one is over.
pub const LEASES_MAX: usize = 12;

#[derive(Default)]
pub struct Memory(Mutex<Known>);

#[derive(Default)]
struct Known {
    keys: BTreeMap<String, KeyValue>,
    revision: Revision,
    compacted: Revision,
    leases: Vec<Lease>,
}

#[derive(Clone, Copy, Debug)]
pub struct Lease {
    pub id: LeaseId,
    /// Whether it is renewed, or left to run out.
    pub is_kept: bool,
    /// When it is forgotten.
    pub until: Micros,
}

impl Memory {
    /// Learns from an answer.
    pub fn learn(&self, call: &Call, revision: Revision, answer: &Answer) {
        let mut known = self.lock();
        known.revision = known.revision.max(revision);
        match (call, answer) {
            (_, Answer::Range { kvs, .. }) => {
                for kv in kvs {
                    known.keys.insert(kv.key.clone(), kv.clone());
                }
            }
            (Call::Compact { revision, .. }, _) => known.compacted = known.compacted.max(*revision),
            (Call::Revoke { lease }, _) => known.leases.retain(|kept| kept.id != *lease),
            _ => {}
        }
    }

    pub fn add_lease(&self, lease: Lease, now: Micros) {
        let mut known = self.lock();
        known.leases.retain(|known| known.until > now);
        if known.leases.len() < LEASES_MAX {
            known.leases.push(lease);
        }
    }

    pub fn leases(&self) -> Vec<Lease> {
        self.lock().leases.clone()
    }

    /// The latest that was seen of a key.
    pub fn key(&self, key: &str) -> Option<KeyValue> {
        self.lock().keys.get(key).cloned()
    }

    pub fn revision(&self) -> Revision {
        self.lock().revision
    }

    pub fn compacted(&self) -> Revision {
        self.lock().compacted
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // Nothing in here is half done at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
