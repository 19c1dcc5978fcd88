//! Range requests.
//!
//! The index alone decides which records an answer has; only those are then looked up, and only looked up:
//! an answer is a list of references to encoded records, which the wire takes as they are.

use std::ops::ControlFlow;
use std::sync::Arc;

use bytes::{BufMut, Bytes};

use crate::error::MvccError;
use crate::index::Modification;
use crate::key_range::{Key, KeyRange};
use crate::record::{Record, RecordWriter, put_varint, varint_len};
use crate::revision::Revision;
use crate::snapshot::Snapshot;
use crate::source::{FileRef, FindHint, RecordSource, SourceError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RangeQuery {
    pub keys: KeyRange,
    pub at: ReadAt,
    /// `None`: all. Never `Some(0)`.
    pub limit: Option<usize>,
    pub sort: Sort,
    pub filters: RevisionFilters,
    pub want: Want,
}

impl RangeQuery {
    /// All records of the range as they are now, in key order.
    pub fn latest(keys: KeyRange) -> RangeQuery {
        RangeQuery {
            keys,
            at: ReadAt::Latest,
            limit: None,
            sort: Sort::default(),
            filters: RevisionFilters::default(),
            want: Want::Records,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadAt {
    Latest,
    Revision(Revision),
}

impl ReadAt {
    /// Zero and negative mean "latest" on the wire.
    pub fn from_wire(revision: i64) -> ReadAt {
        match Revision::from_wire(revision) {
            Some(revision) if revision > Revision::ZERO => ReadAt::Revision(revision),
            _ => ReadAt::Latest,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sort {
    pub order: SortOrder,
    pub target: SortTarget,
}

impl Sort {
    /// Whether the index's order is the answer's, so that `limit` bounds what is read.
    ///
    /// Compat: "no order" with another target than the key counts too, although the answer is then sorted
    /// by that target (`etcdserver/txn/range.go`): the first `limit + 1` keys, sorted, and cut to `limit`.
    fn fetches_in_key_order(self) -> bool {
        self.order == SortOrder::None || (self.order == SortOrder::Ascend && self.target == SortTarget::Key)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortOrder {
    #[default]
    None,
    Ascend,
    Descend,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SortTarget {
    #[default]
    Key,
    Version,
    Create,
    Mod,
    Value,
}

/// Bounds on the records' revisions, both ends inclusive. `None` is 0 on the wire; a negative bound is one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RevisionFilters {
    pub min_mod: Option<i64>,
    pub max_mod: Option<i64>,
    pub min_create: Option<i64>,
    pub max_create: Option<i64>,
}

impl RevisionFilters {
    fn is_empty(&self) -> bool {
        *self == RevisionFilters::default()
    }

    fn keep(&self, modification: &Modification) -> bool {
        let modified = modification.main().to_wire();
        let created = modification.create_revision.to_wire();
        self.max_mod.is_none_or(|max| modified <= max)
            && self.min_mod.is_none_or(|min| modified >= min)
            && self.max_create.is_none_or(|max| created <= max)
            && self.min_create.is_none_or(|min| created >= min)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    #[default]
    Records,
    /// Records without their value.
    ///
    /// Compat: also without their lease, as these come from the index alone, except when sorted by value
    /// (etcd 3.7, `storage/mvcc/kvstore_txn.go` FastKeysOnly).
    Keys,
    /// Only how many; `limit` is ignored.
    Count,
}

/// An encoded `mvccpb.KeyValue`, in memory or in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordRef {
    Memory(Bytes),
    File(FileRef),
}

/// An answer. It keeps the file's read transaction open: write it out and drop it.
#[derive(Clone)]
pub struct RangeResult {
    /// In the order asked for, at most `limit`.
    pub records: Vec<RecordRef>,
    /// Keys in the range, ignoring limit and filters.
    pub count: usize,
    /// The limit left something out.
    pub more: bool,
    /// For the header: the newest revision at the time of reading (not the one read at).
    pub revision: Revision,
    source: Arc<dyn RecordSource>,
}

/// Tag of `kvs` in `RangeResponse`: field 2, length-delimited.
const KVS_TAG: u8 = 2 << 3 | 2;

impl RangeResult {
    /// Encoded `mvccpb.KeyValue`. Panics when out of bounds.
    pub fn record(&self, at: usize) -> &[u8] {
        match &self.records[at] {
            RecordRef::Memory(bytes) => bytes,
            RecordRef::File(at) => self.source.bytes(*at),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &[u8]> {
        (0..self.records.len()).map(|at| self.record(at))
    }

    fn record_len(&self, at: usize) -> usize {
        match &self.records[at] {
            RecordRef::Memory(bytes) => bytes.len(),
            RecordRef::File(at) => at.len as usize,
        }
    }

    /// Bytes that [`RangeResult::write_kv`] writes.
    pub fn kv_len(&self, at: usize) -> usize {
        let len = self.record_len(at);
        1 + varint_len(len as u64) + len
    }

    /// Bytes of the whole `kvs` field.
    pub fn kvs_len(&self) -> usize {
        (0..self.records.len()).map(|at| self.kv_len(at)).sum()
    }

    /// Writes one element of `RangeResponse.kvs`: tag, length, record.
    pub fn write_kv(&self, at: usize, buf: &mut impl BufMut) {
        let record = self.record(at);
        buf.put_u8(KVS_TAG);
        put_varint(buf, record.len() as u64);
        buf.put_slice(record);
    }

    /// The key of the last record, from which a next page goes on (behind it).
    pub fn last_key(&self) -> Option<Key> {
        let last = self.records.len().checked_sub(1)?;
        Record::parse(self.record(last)).ok().map(|record| Bytes::copy_from_slice(record.key))
    }
}

struct Selected<'a> {
    key: &'a [u8],
    modification: &'a Modification,
}

impl<'a> Snapshot<'a> {
    pub fn range(&self, query: &RangeQuery) -> Result<RangeResult, MvccError> {
        let at = self.resolve(query.at)?;
        let mut result = self.empty_result();
        if query.want == Want::Count {
            result.count = self.index.count(&query.keys, at);
            return Ok(result);
        }
        let bounded = query.sort.fetches_in_key_order() && query.filters.is_empty();
        let fetch = query.limit.filter(|_| bounded).map_or(usize::MAX, |limit| limit.saturating_add(1));
        let mut selected = self.select(&query.keys, at, fetch);
        result.count =
            if selected.len() < fetch { selected.len() } else { self.index.count(&query.keys, at) };
        if !query.filters.is_empty() {
            selected.retain(|one| query.filters.keep(one.modification));
        }
        let limit = query.limit.unwrap_or(usize::MAX);
        result.more = selected.len() > limit;
        result.records = match query.sort.target {
            SortTarget::Value => self.resolve_by_value(selected, query, limit)?,
            _ => {
                sort_selected(&mut selected, query.sort);
                selected.truncate(limit);
                self.resolve_records(&selected, query.want)?
            }
        };
        Ok(result)
    }

    /// An answer without records, at this snapshot's revision.
    pub fn empty_result(&self) -> RangeResult {
        let source = self.view.source.clone();
        RangeResult { records: Vec::new(), count: 0, more: false, revision: self.revision, source }
    }

    fn select(&self, keys: &KeyRange, at: Revision, fetch: usize) -> Vec<Selected<'a>> {
        let mut selected = Vec::new();
        self.index.walk(keys, &mut |key, entry| {
            if let Some(modification) = entry.live_at(at) {
                selected.push(Selected { key, modification });
                if selected.len() == fetch {
                    return ControlFlow::Break(());
                }
            }
            ControlFlow::Continue(())
        });
        selected
    }

    fn resolve_records(&self, selected: &[Selected<'_>], want: Want) -> Result<Vec<RecordRef>, SourceError> {
        if want == Want::Keys {
            let mut writer = RecordWriter::default();
            return Ok(selected
                .iter()
                .map(|one| RecordRef::Memory(writer.write(&one.keys_only())))
                .collect());
        }
        let mut hint = FindHint::default();
        selected.iter().map(|one| self.find(one.modification.revision(), &mut hint)).collect()
    }

    fn resolve_by_value(
        &self,
        selected: Vec<Selected<'_>>,
        query: &RangeQuery,
        limit: usize,
    ) -> Result<Vec<RecordRef>, SourceError> {
        let records = self.resolve_records(&selected, Want::Records)?;
        let mut parsed = Vec::with_capacity(records.len());
        for (one, record) in selected.iter().zip(&records) {
            let malformed = |_| SourceError::MalformedRecord(one.modification.revision());
            parsed.push((Record::parse(self.bytes(record)).map_err(malformed)?, record));
        }
        match query.sort.order {
            SortOrder::None | SortOrder::Ascend => parsed.sort_by_key(|(record, _)| record.value),
            SortOrder::Descend => parsed.sort_by(|(one, _), (next, _)| next.value.cmp(one.value)),
        }
        parsed.truncate(limit);
        let mut writer = RecordWriter::default();
        let strip = |(record, stored): (Record<'_>, &RecordRef)| match query.want {
            Want::Keys => RecordRef::Memory(writer.write(&Record { value: b"", ..record })),
            Want::Records | Want::Count => stored.clone(),
        };
        Ok(parsed.into_iter().map(strip).collect())
    }
}

impl Selected<'_> {
    fn keys_only(&self) -> Record<'_> {
        Record {
            key: self.key,
            create_revision: self.modification.create_revision.to_wire(),
            mod_revision: self.modification.main().to_wire(),
            version: self.modification.version as i64,
            value: b"",
            lease: 0,
        }
    }
}

fn sort_selected(selected: &mut [Selected<'_>], sort: Sort) {
    let rank = |one: &Selected<'_>| match sort.target {
        SortTarget::Version => one.modification.version,
        SortTarget::Create => one.modification.create_revision.get(),
        SortTarget::Mod => one.modification.main().get(),
        // Already in key order; values are sorted where records are at hand.
        SortTarget::Key | SortTarget::Value => 0,
    };
    match (sort.order, sort.target) {
        (SortOrder::Descend, SortTarget::Key) => selected.reverse(),
        (_, SortTarget::Key) => {}
        (SortOrder::Descend, _) => selected.sort_by_key(|one| std::cmp::Reverse(rank(one))),
        (SortOrder::None | SortOrder::Ascend, _) => selected.sort_by_key(rank),
    }
}
