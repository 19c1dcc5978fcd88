//! What a member must remember across restarts, and what it merely reports.

use crate::position::{Index, NodeId, Term};

/// Durable before any message that depends on it leaves. `commit` alone may be written lazily: it is
/// relearned from the leader, so its loss costs time, not safety.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    pub term: Term,
    /// Whom this member voted for in `term`. Forgetting it could elect two leaders.
    pub vote: Option<NodeId>,
    pub commit: Index,
}

impl HardState {
    /// True for a member that has never run.
    pub fn is_empty(&self) -> bool {
        *self == HardState::default()
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Follower,
    /// Asks whether an election could be won, without touching any term.
    PreCandidate,
    Candidate,
    Leader,
}

/// Volatile: worth a log line and a metric, never worth a disk write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SoftState {
    pub leader: Option<NodeId>,
    pub role: Role,
}
