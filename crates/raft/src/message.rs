//! What members say to each other.

use bytes::Bytes;

use crate::entry::Entry;
use crate::position::{Index, NodeId, Term};
use crate::snapshot::Snapshot;

/// The types that may travel between members. etcd-raft also has local ones (a tick that fires, a report
/// of its driver); with us those are method calls, and the codec refuses them from the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    /// A proposal on its way to the leader.
    Prop,
    App,
    AppResp,
    Vote,
    VoteResp,
    Snap,
    Heartbeat,
    HeartbeatResp,
    TransferLeader,
    TimeoutNow,
    ReadIndex,
    ReadIndexResp,
    PreVote,
    PreVoteResp,
    ForgetLeader,
}

/// One message; each type uses a part of the fields and leaves the rest at zero.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub kind: MessageType,
    pub to: NodeId,
    pub from: NodeId,
    /// The sender's term; the term campaigned for in `PreVote` and its grant; 0 in `Prop` and `ReadIndex`.
    pub term: Term,
    /// `App`: term of the entry at `index`. `Vote`: term of the candidate's last entry. A rejecting
    /// `AppResp`: the follower's term at `reject_hint`.
    pub log_term: Term,
    /// `App`: the entry before `entries`. `AppResp`: last matching entry, or the rejected `index`.
    pub index: Index,
    pub entries: Vec<Entry>,
    pub commit: Index,
    pub snapshot: Option<Snapshot>,
    pub reject: bool,
    /// Where the follower guesses that its log meets the leader's.
    pub reject_hint: Index,
    /// `Vote`: [`crate::codec::CAMPAIGN_TRANSFER`] or nothing. `Heartbeat` and its response: read round.
    pub context: Bytes,
}

impl Message {
    pub fn new(kind: MessageType, to: NodeId) -> Message {
        Message {
            kind,
            to,
            from: 0,
            term: Term::ZERO,
            log_term: Term::ZERO,
            index: Index::ZERO,
            entries: Vec::new(),
            commit: Index::ZERO,
            snapshot: None,
            reject: false,
            reject_hint: Index::ZERO,
            context: Bytes::new(),
        }
    }

    /// The heartbeat that etcd's streams send on an idle connection. It is not raft's: never step it.
    pub fn link_heartbeat() -> Message {
        Message::new(MessageType::Heartbeat, 0)
    }

    pub fn is_link_heartbeat(&self) -> bool {
        self.kind == MessageType::Heartbeat && self.from == 0 && self.to == 0
    }
}

impl MessageType {
    /// True for answers, which only a known member may send.
    pub fn is_response(self) -> bool {
        match self {
            MessageType::AppResp
            | MessageType::VoteResp
            | MessageType::HeartbeatResp
            | MessageType::ReadIndexResp
            | MessageType::PreVoteResp => true,
            MessageType::Prop
            | MessageType::App
            | MessageType::Vote
            | MessageType::Snap
            | MessageType::Heartbeat
            | MessageType::TransferLeader
            | MessageType::TimeoutNow
            | MessageType::ReadIndex
            | MessageType::PreVote
            | MessageType::ForgetLeader => false,
        }
    }

    /// True for requests that travel to the leader of whatever term, and so carry none.
    pub(crate) fn is_termless(self) -> bool {
        matches!(self, MessageType::Prop | MessageType::ReadIndex)
    }
}
