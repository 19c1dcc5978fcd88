//! What the cluster did: every revision as some member applied it, and every call of a client with its outcome.

use std::collections::BTreeMap;

use bytes::Bytes;
use prost::Message;
use proto::mvccpb;

/// One key's change in one revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub key: Bytes,
    /// `None`: deleted.
    pub put: Option<Put>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Put {
    pub value: Bytes,
    pub create_revision: i64,
    pub version: i64,
    pub lease: i64,
}

/// The cluster's one history, put together from what members tell their observers.
#[derive(Default)]
pub struct History {
    pub revisions: BTreeMap<i64, Vec<Change>>,
    /// When each revision was first seen, in simulated nanoseconds.
    pub seen_at: BTreeMap<i64, u64>,
}

impl History {
    /// A member says what happened in these events, which are of whole revisions.
    pub fn observe(&mut self, events: &[Bytes], now: u64) -> Result<(), String> {
        let mut by_revision: BTreeMap<i64, Vec<Change>> = BTreeMap::new();
        for event in events {
            let event = mvccpb::Event::decode(event.clone()).map_err(|error| error.to_string())?;
            let kv = event.kv.ok_or("an event without a key")?;
            let put = (event.r#type == mvccpb::event::EventType::Put as i32).then(|| Put {
                value: kv.value.clone(),
                create_revision: kv.create_revision,
                version: kv.version,
                lease: kv.lease,
            });
            self.check_previous(&kv.key, kv.mod_revision, event.prev_kv.as_ref())?;
            by_revision.entry(kv.mod_revision).or_default().push(Change { key: kv.key, put });
        }
        for (revision, changes) in by_revision {
            match self.revisions.get(&revision) {
                Some(known) if *known == changes => {}
                Some(known) => {
                    return Err(format!(
                        "revision {revision} is {known:?} for one member and {changes:?} for another"
                    ));
                }
                None => {
                    self.seen_at.insert(revision, now);
                    self.revisions.insert(revision, changes);
                }
            }
        }
        Ok(())
    }

    /// `prev_kv` may be missing when it is compacted, but not wrong.
    fn check_previous(
        &self,
        key: &Bytes,
        revision: i64,
        previous: Option<&mvccpb::KeyValue>,
    ) -> Result<(), String> {
        let Some(previous) = previous else { return Ok(()) };
        match self.revisions.get(&previous.mod_revision) {
            // Not everything before is known to this history yet.
            None => Ok(()),
            Some(changes) => {
                let stored = changes.iter().find(|change| change.key == *key).and_then(|it| it.put.as_ref());
                if stored.is_some_and(|put| put.value == previous.value) {
                    Ok(())
                } else {
                    Err(format!(
                        "prev_kv of {key:?} at {revision} is {previous:?}, the history has {stored:?}"
                    ))
                }
            }
        }
    }

    /// The first revision that nobody has shown.
    pub fn gap(&self) -> Option<i64> {
        let first_missing = (2..).zip(self.revisions.keys()).find(|(expected, found)| expected != *found);
        first_missing.map(|(expected, _)| expected)
    }

    /// The counters of each key follow from its changes.
    pub fn check_counters(&self) -> Result<(), String> {
        let mut lives: BTreeMap<&Bytes, (i64, i64)> = BTreeMap::new();
        for (revision, changes) in &self.revisions {
            for change in changes {
                let before = lives.get(&change.key).copied();
                match &change.put {
                    None => {
                        if lives.remove(&change.key).is_none() {
                            return Err(format!("{:?} was deleted at {revision} and not there", change.key));
                        }
                    }
                    Some(put) => {
                        let expected =
                            before.map_or((*revision, 1), |(created, version)| (created, version + 1));
                        if (put.create_revision, put.version) != expected {
                            return Err(format!(
                                "{:?} at {revision}: created at {} and version {}, not {expected:?}",
                                change.key, put.create_revision, put.version
                            ));
                        }
                        lives.insert(&change.key, expected);
                    }
                }
            }
        }
        Ok(())
    }
}

/// What a client asks.
#[derive(Clone, Debug)]
pub enum Call {
    Put {
        key: Bytes,
        value: Bytes,
        lease: i64,
    },
    Delete {
        key: Bytes,
    },
    /// Puts if the key is at this mod revision.
    Cas {
        key: Bytes,
        expected: i64,
        value: Bytes,
    },
    Get {
        key: Bytes,
        linearizable: bool,
    },
    Grant {
        ttl_secs: i64,
    },
    KeepAlive {
        lease: i64,
    },
    Compact {
        revision: i64,
    },
}

#[derive(Clone, Debug)]
pub enum Outcome {
    Written {
        revision: i64,
    },
    Deleted {
        revision: i64,
        count: u64,
    },
    Compared {
        succeeded: bool,
        revision: i64,
    },
    /// The view's revision, and the key's mod revision and value.
    Got {
        revision: i64,
        found: Option<(i64, Bytes)>,
    },
    Granted {
        lease: i64,
    },
    Kept {
        alive: bool,
    },
    Done,
    /// It was surely not carried out.
    Failed,
    /// Nobody can say whether it was carried out.
    Unknown,
}

/// One call, from when it was made to when its outcome was known, in simulated nanoseconds.
#[derive(Clone, Debug)]
pub struct Record {
    pub call: Call,
    pub invoked: u64,
    pub returned: u64,
    pub outcome: Outcome,
}
