//! Effects, in the order in which they may happen.

use crate::entry::Entry;
use crate::hard_state::{HardState, SoftState};
use crate::message::Message;
use crate::position::{EntryId, Index, Term};
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
    /// is needed then, only the order.
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
    /// Whether nothing but the commit index moved, and nothing waits for this write. Once all writes before it
    /// are durable it may count as such at once, and go into the log with the next.
    pub fn only_commits(&self) -> bool {
        let Synced { messages, ack } = &self.synced;
        !self.must_sync && messages.is_empty() && ack.to_self.is_empty()
    }

    /// Hands out the promises. Call it only when this write and all before it are durable; there is no
    /// other way to reach them.
    pub fn synced(self) -> Synced {
        self.synced
    }
}
