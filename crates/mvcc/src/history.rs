//! Reading changes back from the records, for watchers that are behind.

use std::ops::ControlFlow;

use bytes::Bytes;

use crate::change::{Change, ChangeKind};
use crate::error::MvccError;
use crate::record::{Record, RecordWriter, key_of};
use crate::revision::{RecordKey, Revision, RevisionPair};
use crate::source::SourceError;
use crate::view::View;

/// How much history to read at once. Whole revisions are returned, at least one, so a bound may be passed
/// by the last of them.
#[derive(Clone, Copy, Debug)]
pub struct HistoryLimit {
    pub revisions: usize,
    /// Bytes of the events' `kv`.
    pub bytes: usize,
}

/// Records looked at in one call, wanted or not: bounds the time it takes.
const SCAN_LEN_MAX: usize = 100_000;

/// A piece of history.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct History {
    /// Ascending, only revisions that have a wanted change.
    pub revisions: Vec<RevisionChanges>,
    /// Everything before this revision was looked at: ask again from here. One past the view's revision
    /// when nothing is left.
    pub next: Revision,
}

/// All wanted changes of one revision, by sub revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevisionChanges {
    pub revision: Revision,
    pub changes: Vec<Change>,
}

impl View {
    /// The changes from `from` on whose key is `wanted`. Refused when `from` is compacted (equal is fine);
    /// empty when it is in the future.
    pub fn history(
        &self,
        from: Revision,
        limit: HistoryLimit,
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> Result<History, MvccError> {
        if let Some(compacted) = self.compact_revision().filter(|compacted| from < *compacted) {
            return Err(MvccError::Compacted { requested: from, compacted });
        }
        let mut reader = Reader::new(self, limit);
        self.scan_records(RevisionPair::new(from, 0), &mut |key, value| reader.read(key, value, wanted))?;
        reader.finish(from)
    }
}

struct Reader<'v> {
    view: &'v View,
    limit: HistoryLimit,
    writer: RecordWriter,
    revisions: Vec<RevisionChanges>,
    bytes: usize,
    scanned: usize,
    /// Main revision of the last record looked at.
    current: Option<Revision>,
    /// Set when a limit ended the reading.
    next: Option<Revision>,
    failure: Option<SourceError>,
}

impl<'v> Reader<'v> {
    fn new(view: &'v View, limit: HistoryLimit) -> Reader<'v> {
        Reader {
            view,
            limit,
            writer: RecordWriter::default(),
            revisions: Vec::new(),
            bytes: 0,
            scanned: 0,
            current: None,
            next: None,
            failure: None,
        }
    }

    fn read(
        &mut self,
        key: RecordKey,
        value: &[u8],
        wanted: &mut dyn FnMut(&[u8]) -> bool,
    ) -> ControlFlow<()> {
        let main = key.revision.main;
        if main > self.view.revision() {
            return ControlFlow::Break(());
        }
        if self.current.is_some_and(|current| current != main) && self.is_full() {
            self.next = Some(main);
            return ControlFlow::Break(());
        }
        self.current = Some(main);
        self.scanned += 1;
        let Ok(record) = Record::parse(value) else {
            self.failure = Some(SourceError::MalformedRecord(key.revision));
            return ControlFlow::Break(());
        };
        if wanted(record.key) {
            let change = self.change(key, value, &record);
            self.bytes += change.kv.len();
            match self.revisions.last_mut() {
                Some(last) if last.revision == main => last.changes.push(change),
                _ => self.revisions.push(RevisionChanges { revision: main, changes: vec![change] }),
            }
        }
        ControlFlow::Continue(())
    }

    fn is_full(&self) -> bool {
        self.revisions.len() >= self.limit.revisions
            || self.bytes >= self.limit.bytes
            || self.scanned >= SCAN_LEN_MAX
    }

    fn change(&mut self, key: RecordKey, value: &[u8], record: &Record<'_>) -> Change {
        let main = key.revision.main;
        let (kv, kind) = if key.tombstone {
            (self.writer.tombstone(record.key, main).event, ChangeKind::Delete)
        } else {
            (
                Bytes::copy_from_slice(value),
                ChangeKind::Put { created: record.create_revision == record.mod_revision },
            )
        };
        let previous = self.view.previous_revision(record.key, main);
        Change { revision: key.revision, key: key_of(&kv), kv, kind, previous }
    }

    fn finish(self, from: Revision) -> Result<History, MvccError> {
        match self.failure {
            Some(error) => Err(error.into()),
            None => {
                let next = self.next.unwrap_or_else(|| self.view.revision().next().max(from));
                Ok(History { revisions: self.revisions, next })
            }
        }
    }
}
