//! Building the store from the file's records.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::compaction::CompactionPlan;
use crate::index::{KeyIndex, Lease, Modification};
use crate::key_range::KeyRange;
use crate::record::{LeaseId, Record, RecordWriter};
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::source::{FindHint, RecordSource, SourceError};
use crate::store::Store;
use crate::view::{View, ViewCell};

/// What the `meta` bucket remembers of compactions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionsOnFile {
    pub scheduled: Option<Revision>,
    pub finished: Option<Revision>,
}

/// A store as the file left it.
pub struct Restored {
    pub store: Store,
    /// A compaction that a restart interrupted.
    pub resumed: Option<CompactionPlan>,
}

/// Records are sorted by key in runs of this many before they enter the index: neighbours then touch the
/// same nodes, which is several times faster than revision order, at 64 bytes and a key each.
const RUN_LEN: usize = 1 << 17;

impl Store {
    /// Reads every record of the file. `attach` gets each existing key that has a lease, in key order.
    pub fn restore(
        source: Arc<dyn RecordSource>,
        compactions: CompactionsOnFile,
        attach: &mut dyn FnMut(&[u8], LeaseId),
    ) -> Result<Restored, SourceError> {
        Store::restore_with_pauses(source, compactions, attach, &mut || ())
    }

    /// As [`Store::restore`], for work beside others: `pause` is called behind each small piece of it.
    pub fn restore_with_pauses(
        source: Arc<dyn RecordSource>,
        compactions: CompactionsOnFile,
        attach: &mut dyn FnMut(&[u8], LeaseId),
        pause: &mut dyn FnMut(),
    ) -> Result<Restored, SourceError> {
        let (index, newest) = read_index(&*source, pause)?;
        attach_leases(&index, &*source, attach)?;
        // All records near the compact revision may be deleted: the revision must not fall behind it.
        let revision = newest
            .max(compactions.finished.unwrap_or_default())
            .max(compactions.scheduled.unwrap_or_default());
        let view = View {
            revision,
            compact_revision: compactions.finished,
            index: index.clone(),
            pending: Default::default(),
            source,
        };
        let mut store = Store {
            revision,
            compact_revision: compactions.finished,
            index,
            open: Vec::new(),
            writer: RecordWriter::default(),
            cell: Arc::new(ViewCell::new(view)),
            index_compaction: None,
        };
        // Refused when the scheduled one is also the finished one.
        let resumed = compactions.scheduled.and_then(|scheduled| store.compact(scheduled).ok());
        assert!(store.publish().is_none(), "nothing was written yet");
        Ok(Restored { store, resumed })
    }

    /// Goes on with what `fresh` holds, in the cell that readers already have: a leader's snapshot took the
    /// place of the file. Records that were not folded are forgotten; the snapshot holds them or their
    /// successors. Gives back the store that was, as freeing it takes long.
    pub fn take_over(&mut self, fresh: Store) -> Store {
        let cell = self.cell.clone();
        cell.reset(&fresh.cell.load());
        std::mem::replace(self, Store { cell, ..fresh })
    }
}

struct Item {
    /// Where the key lies in the run's buffer.
    key_start: usize,
    key_len: usize,
    modification: Modification,
}

/// Records not yet in the index, in revision order until they are sorted.
#[derive(Default)]
struct Run {
    keys: Vec<u8>,
    items: Vec<Item>,
}

fn read_index(
    source: &dyn RecordSource,
    pause: &mut dyn FnMut(),
) -> Result<(KeyIndex, Revision), SourceError> {
    let mut index = KeyIndex::default();
    let mut run = Run::default();
    let mut newest: Option<RevisionPair> = None;
    let mut failure = None;
    let first = RevisionPair::new(Revision::FIRST, 0).to_bytes();
    source.scan(&first, &mut |key, value| match read_item(key, value, newest) {
        Ok((at, record, modification)) => {
            newest = Some(at);
            run.push(record.key, modification);
            if run.items.len() == RUN_LEN {
                run.merge_into(&mut index, pause);
            }
            pause();
            ControlFlow::Continue(())
        }
        Err(error) => {
            failure = Some(error);
            ControlFlow::Break(())
        }
    })?;
    match failure {
        Some(error) => Err(error),
        None => {
            run.merge_into(&mut index, pause);
            Ok((index, newest.map_or(Revision::FIRST, |newest| newest.main)))
        }
    }
}

fn read_item<'v>(
    key: &[u8],
    value: &'v [u8],
    newest: Option<RevisionPair>,
) -> Result<(RevisionPair, Record<'v>, Modification), SourceError> {
    let RecordKey { revision, tombstone } = SourceError::parse_key(key)?;
    if newest.is_some_and(|newest| revision <= newest) {
        return Err(SourceError::MalformedKey(key.to_vec()));
    }
    let malformed = SourceError::MalformedRecord(revision);
    let Ok(record) = Record::parse(value) else { return Err(malformed) };
    let modification = if tombstone {
        Modification::tombstone(revision)
    } else {
        let Some(created) = Revision::from_wire(record.create_revision) else { return Err(malformed) };
        let lease = if record.lease != 0 { Lease::Some } else { Lease::None };
        Modification::put(revision, created, record.version as u64, lease)
    };
    Ok((revision, record, modification))
}

impl Run {
    fn push(&mut self, key: &[u8], modification: Modification) {
        let key_start = self.keys.len();
        self.keys.extend_from_slice(key);
        self.items.push(Item { key_start, key_len: key.len(), modification });
    }

    fn merge_into(&mut self, index: &mut KeyIndex, pause: &mut dyn FnMut()) {
        let Run { keys, items } = self;
        let key_of = |item: &Item| &keys[item.key_start..item.key_start + item.key_len];
        // Stable: modifications of one key stay in revision order.
        items.sort_by(|one, next| key_of(one).cmp(key_of(next)));
        for item in items.iter() {
            index.push(key_of(item), item.modification);
            pause();
        }
        items.clear();
        keys.clear();
    }
}

fn attach_leases(
    index: &KeyIndex,
    source: &dyn RecordSource,
    attach: &mut dyn FnMut(&[u8], LeaseId),
) -> Result<(), SourceError> {
    let mut hint = FindHint::default();
    let mut outcome = Ok(());
    index.walk(&KeyRange::all(), &mut |key, entry| {
        let latest = entry.latest();
        if !latest.has_lease() {
            return ControlFlow::Continue(());
        }
        match read_lease(source, latest.revision(), &mut hint) {
            Ok(lease) => {
                lease.into_iter().for_each(|lease| attach(key, lease));
                ControlFlow::Continue(())
            }
            Err(error) => {
                outcome = Err(error);
                ControlFlow::Break(())
            }
        }
    });
    outcome
}

fn read_lease(
    source: &dyn RecordSource,
    at: RevisionPair,
    hint: &mut FindHint,
) -> Result<Option<LeaseId>, SourceError> {
    let found = source.find(&RecordKey::put(at).to_bytes(), hint)?;
    let bytes = found.map(|found| source.bytes(found)).ok_or(SourceError::MissingRecord(at))?;
    let record = Record::parse(bytes).map_err(|_| SourceError::MalformedRecord(at))?;
    Ok(record.lease_id())
}
