//! The obvious store: every record ever written in one map, compaction as deletion from it.

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::store_view::StoreView;
use crate::record::{Record, RecordWriter};
use crate::{Change, ChangeKind, History, HistoryLimit, MvccError, Revision, RevisionChanges, RevisionPair};

/// One write of a transaction.
#[derive(Clone, Debug)]
pub(super) enum Write {
    Put { key: Bytes, value: Bytes },
    Delete { key: Bytes },
}

pub(super) fn put(key: &str, value: &str) -> Write {
    Write::Put {
        key: Bytes::copy_from_slice(key.as_bytes()),
        value: Bytes::copy_from_slice(value.as_bytes()),
    }
}

pub(super) fn delete(key: &str) -> Write {
    Write::Delete { key: Bytes::copy_from_slice(key.as_bytes()) }
}

pub(super) fn revision(value: u64) -> Revision {
    Revision::new(value).unwrap()
}

/// A key's newest put, if it is alive.
#[derive(Clone, Copy, Debug)]
struct Live {
    at: RevisionPair,
    created: Revision,
    version: i64,
}

/// Writer and view in one; cloned, it is a frozen view.
#[derive(Clone, Debug)]
pub(super) struct FakeStore {
    revision: Revision,
    compacted: Option<Revision>,
    live: BTreeMap<Bytes, Live>,
    /// Every change, never compacted: what the tests compare with.
    pub(super) all: BTreeMap<RevisionPair, Change>,
    /// Records of puts that compaction has left.
    records: BTreeMap<RevisionPair, Bytes>,
    /// Records of all puts ever.
    pub(super) all_records: BTreeMap<RevisionPair, Bytes>,
}

impl FakeStore {
    pub(super) fn new() -> FakeStore {
        FakeStore {
            revision: Revision::FIRST,
            compacted: None,
            live: BTreeMap::new(),
            all: BTreeMap::new(),
            records: BTreeMap::new(),
            all_records: BTreeMap::new(),
        }
    }

    /// One transaction; nothing when it changes nothing.
    pub(super) fn write(&mut self, writes: &[Write]) -> Vec<Change> {
        let main = self.revision.next();
        let before = self.live.clone();
        let mut changes = Vec::new();
        let mut writer = RecordWriter::default();
        for write in writes {
            let at = RevisionPair::new(main, changes.len() as u32);
            let previous = |key: &Bytes| before.get(key).map(|live| live.at);
            match write {
                Write::Put { key, value } => {
                    let old = self.live.get(key);
                    let live = Live {
                        at,
                        created: old.map_or(main, |old| old.created),
                        version: old.map_or(1, |old| old.version + 1),
                    };
                    let record = writer.write(&Record {
                        key,
                        create_revision: live.created.to_wire(),
                        mod_revision: main.to_wire(),
                        version: live.version,
                        value,
                        lease: 0,
                    });
                    self.records.insert(at, record.clone());
                    self.all_records.insert(at, record.clone());
                    let kind = ChangeKind::Put { created: live.version == 1 };
                    let previous = previous(key);
                    changes.push(Change { revision: at, key: key.clone(), kv: record, kind, previous });
                    self.live.insert(key.clone(), live);
                }
                Write::Delete { key } => {
                    if self.live.remove(key).is_some() {
                        let kv = writer.tombstone(key, main).event;
                        let (kind, previous) = (ChangeKind::Delete, previous(key));
                        changes.push(Change { revision: at, key: key.clone(), kv, kind, previous });
                    }
                }
            }
        }
        if !changes.is_empty() {
            self.revision = main;
            self.all.extend(changes.iter().map(|change| (change.revision, change.clone())));
        }
        changes
    }

    /// Forgets all but the newest put of each key at this revision.
    pub(super) fn compact(&mut self, at: Revision) {
        let mut kept: BTreeMap<&Bytes, Option<RevisionPair>> = BTreeMap::new();
        for (pair, change) in self.all.iter().filter(|(pair, _)| pair.main <= at) {
            kept.insert(&change.key, matches!(change.kind, ChangeKind::Put { .. }).then_some(*pair));
        }
        let kept: Vec<RevisionPair> = kept.into_values().flatten().collect();
        self.records.retain(|pair, _| pair.main > at || kept.contains(pair));
        self.compacted = Some(at);
    }
}

impl StoreView for FakeStore {
    fn revision(&self) -> Revision {
        self.revision
    }

    fn compact_revision(&self) -> Option<Revision> {
        self.compacted
    }

    fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        if let Some(compacted) = self.compacted.filter(|compacted| from < *compacted) {
            return Err(MvccError::Compacted { requested: from, compacted });
        }
        let mut history = History { revisions: Vec::new(), next: self.revision.next().max(from) };
        let mut bytes = 0;
        let start = Bound::Included(RevisionPair::new(from, 0));
        for (pair, change) in self.all.range((start, Bound::Unbounded)).filter(|(_, c)| wanted(&c.key)) {
            if history.revisions.last().is_none_or(|last: &RevisionChanges| last.revision != pair.main) {
                if history.revisions.len() >= limit.revisions.max(1)
                    || (bytes >= limit.bytes && !history.revisions.is_empty())
                {
                    history.next = pair.main;
                    break;
                }
                history.revisions.push(RevisionChanges { revision: pair.main, changes: Vec::new() });
            }
            bytes += change.kv.len();
            let mut change = change.clone();
            change.previous = change.previous.filter(|at| self.records.contains_key(at));
            history.revisions.last_mut().unwrap().changes.push(change);
        }
        Ok(history)
    }

    fn record(&self, at: RevisionPair) -> Result<Option<Bytes>, MvccError> {
        Ok(self.records.get(&at).cloned())
    }
}
