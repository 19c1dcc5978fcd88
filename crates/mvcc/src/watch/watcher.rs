//! One watcher: what it wants, and how far it has been told.

use std::collections::VecDeque;
use std::fmt;

use bytes::Bytes;

use crate::{ChangeKind, KeyRange, Revision};

/// Identity of a watcher within its stream. −1 on the wire means "not about one watcher"; it is never
/// assigned, but a client may insist on it as on any other number but zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WatchId(pub i64);

impl fmt::Display for WatchId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// From which revision on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatchStart {
    /// The revision after the present one (0 on the wire).
    Now,
    /// This one, be it past or future. Negative numbers on the wire are refused by
    /// [`WatchStart::from_wire`].
    From(Revision),
}

impl WatchStart {
    /// # Errors
    /// [`CreateError::NegativeStart`].
    pub fn from_wire(start_revision: i64) -> Result<WatchStart, CreateError> {
        match Revision::from_wire(start_revision) {
            None => Err(CreateError::NegativeStart),
            Some(Revision::ZERO) => Ok(WatchStart::Now),
            Some(revision) => Ok(WatchStart::From(revision)),
        }
    }
}

/// Kinds of events a watcher does not want.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Filters {
    pub no_put: bool,
    pub no_delete: bool,
}

impl Filters {
    pub(super) fn pass(self, kind: ChangeKind) -> bool {
        match kind {
            ChangeKind::Put { .. } => !self.no_put,
            ChangeKind::Delete => !self.no_delete,
        }
    }
}

/// A watch to be created.
#[derive(Clone, Debug)]
pub struct WatchSpec {
    pub range: KeyRange,
    pub start: WatchStart,
    pub prev_kv: bool,
    pub filters: Filters,
    /// Wants a `Progress` when a tick passes without events.
    pub progress_notify: bool,
    /// Big responses may be split; the api does it.
    pub fragment: bool,
    /// `None`: the first unused from 0 (0 on the wire).
    pub id: Option<WatchId>,
}

/// Answer to a successful create; a `Created` output precedes all else of this watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Created {
    pub watch_id: WatchId,
    /// The store's revision at creation.
    pub revision: Revision,
}

/// Why a watch was not created. The api answers created + canceled with watch id −1 and this text (a
/// negative start bears etcd's prefix, the others do not).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreateError {
    /// No key can be in the range.
    EmptyRange,
    /// The id is in use on this stream.
    DuplicateId,
    NegativeStart,
}

impl fmt::Display for CreateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            CreateError::EmptyRange => "mvcc: watcher range is empty",
            CreateError::DuplicateId => "mvcc: duplicate watch ID provided on the WatchStream",
            CreateError::NegativeStart => "etcdserver: mvcc: required revision has been compacted",
        })
    }
}

impl std::error::Error for CreateError {}

/// How a watcher gets its next event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WatcherState {
    /// From the next publish that concerns it; what is published before `from` is not for it.
    Synced { from: Revision },
    /// From history: all before `next` is queued or sent, what is published meanwhile is skipped.
    CatchingUp { next: Revision },
}

/// An event waiting in a stream's queue.
#[derive(Clone, Copy, Debug)]
pub(super) struct EventRef {
    pub(super) revision: Revision,
    /// Position in the ring.
    pub(super) sequence: u64,
}

/// A piece of history for one watcher: whole revisions.
#[derive(Debug)]
pub(super) struct Chunk {
    pub(super) events: Vec<Bytes>,
    /// Bytes of the events, for the stream's bound.
    pub(super) len_bytes: usize,
    /// For the header: the revision of the view that was read.
    pub(super) revision: Revision,
}

/// What catch-up has to do for this watcher.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Demand {
    None,
    /// In the stream's list of those that want history.
    Listed,
    /// The catch-up thread is reading for it.
    Reading,
}

/// A watcher, as its stream's queue holds it.
///
/// Order of delivery: `chunk`, then `pending`. Invariant: events in `chunk` and `pending` ascend, and all
/// are before `next` of a watcher that is catching up.
#[derive(Debug)]
pub(super) struct Watcher {
    pub(super) id: WatchId,
    /// Tells this watcher from a later one in the same slot.
    pub(super) generation: u64,
    pub(super) range: KeyRange,
    pub(super) prev_kv: bool,
    pub(super) filters: Filters,
    pub(super) progress_notify: bool,
    pub(super) fragment: bool,
    /// As asked for; a progress below it would say nothing. Zero for "now".
    pub(super) start: Revision,
    /// The revision in its `Created`.
    pub(super) created_at: Revision,
    pub(super) state: WatcherState,
    pub(super) pending: VecDeque<EventRef>,
    pub(super) chunk: Option<Chunk>,
    /// It has an entry in the stream's ready list. Invariant: true if `chunk` or `pending` has anything.
    pub(super) ready: bool,
    pub(super) demand: Demand,
    /// Its periodic progress is in the ready list.
    pub(super) progress_queued: bool,
    /// Events left since the last progress tick.
    pub(super) sent_since_tick: bool,
}

impl Watcher {
    pub(super) fn is_slow(&self) -> bool {
        matches!(self.state, WatcherState::CatchingUp { .. })
    }

    /// It can take a chunk, and needs one.
    pub(super) fn wants_history(&self) -> bool {
        self.is_slow() && self.chunk.is_none() && self.pending.is_empty() && self.demand == Demand::None
    }

    /// All its events up to this revision have been sent.
    pub(super) fn has_sent_all_until(&self, revision: Revision) -> bool {
        let read = match self.state {
            WatcherState::Synced { .. } => true,
            WatcherState::CatchingUp { next } => next > revision,
        };
        let sent = self.chunk.is_none() && self.pending.front().is_none_or(|event| event.revision > revision);
        read && sent
    }
}
