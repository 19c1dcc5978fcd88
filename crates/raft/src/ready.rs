//! Effects, in the order in which they may happen.

use crate::entry::Entry;
use crate::hard_state::{HardState, SoftState};
use crate::message::{Message, MessageType};
use crate::position::{EntryId, Index, NodeId, Term};
use crate::read_only::ReadState;
use crate::snapshot::Snapshot;

/// Everything the core wants done since the last one.
#[derive(Debug, Default)]
#[must_use = "a dropped Ready loses entries and votes"]
pub struct Ready {
    /// Set when it changed.
    pub soft_state: Option<SoftState>,
    /// Confirmed reads.
    pub read_states: Vec<ReadState>,
    /// Promises nothing that is not durable, so it may leave before any write.
    pub send_now: Vec<Message>,
    /// To be made durable, in the order of the `Ready`s.
    pub persist: Option<Persist>,
    /// Entries to apply, in order: committed, and durable here. Report them with
    /// [`crate::RawNode::applied`].
    pub committed: Vec<Entry>,
}

/// A write to the log, and the promises that depend on it. Several may be in flight; a driver may merge
/// those that wait into one append and one sync.
#[derive(Debug)]
#[must_use = "a dropped Persist loses entries and votes"]
pub struct Persist {
    /// Set when it changed.
    pub hard_state: Option<HardState>,
    /// Replace what the log holds from the first one's index on. Written before `hard_state`.
    pub entries: Vec<Entry>,
    /// A snapshot from the leader. It replaces the log and the application's state; `entries` follow it.
    pub snapshot: Option<Snapshot>,
    /// False when only the commit index moved, or only promises wait for earlier writes: no sync of its own
    /// is needed then, only the order. Once all writes before it are durable it may count as durable too, and
    /// its hard state go into the log with the next.
    pub must_sync: bool,
    pub(crate) synced: Synced,
}

/// What may happen only once a [`Persist`] and all before it are durable.
#[derive(Debug)]
#[must_use = "votes and acknowledgements must be sent"]
pub struct Synced {
    /// Votes and acknowledgements for other members.
    pub messages: Vec<Message>,
    /// For [`crate::RawNode::persisted`].
    pub ack: PersistAck,
}

/// That a follower holds the leader's log up to an index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Acknowledgement {
    leader: NodeId,
    term: Term,
    index: Index,
}

impl Acknowledgement {
    /// What a message acknowledges, if it does nothing else.
    pub fn of(message: &Message) -> Option<Acknowledgement> {
        let Message { kind, to, term, index, reject, .. } = *message;
        (kind == MessageType::AppResp && !reject).then_some(Acknowledgement { leader: to, term, index })
    }
}

/// Tells the core that a [`Persist`] is durable; handed back in order.
#[derive(Debug)]
#[must_use = "the core waits for it"]
pub struct PersistAck {
    /// Counts `Persist`s from 0, to catch a driver that loses or swaps them.
    pub(crate) sequence: u64,
    /// Messages of this member to itself: its own vote and its own append acknowledgement.
    pub(crate) to_self: Vec<Message>,
    /// The log's end when the `Persist` was made, if any of the log was unstable then.
    pub(crate) stable: Option<StableAt>,
    pub(crate) snapshot: Option<Index>,
}

/// `last` counts as stable only while the member is still in `term`: in a later term an overlapping write
/// may be under way that replaces it and comes back to it (A, B, A again), and the storage may hold B then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct StableAt {
    pub term: Term,
    pub last: EntryId,
}

impl Persist {
    /// What this write lets the member acknowledge to its leader, and is not yet true.
    pub fn acknowledgement(&self) -> Option<Acknowledgement> {
        self.synced.messages.iter().rev().find_map(Acknowledgement::of)
    }

    /// Hands out the promises. Call it only when this write and all before it are durable; there is no
    /// other way to reach them.
    pub fn synced(self) -> Synced {
        self.synced
    }
}
