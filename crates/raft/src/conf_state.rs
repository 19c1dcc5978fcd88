//! The membership in force after some index, as written into snapshots.

use crate::position::NodeId;

/// Lists, not sets, because that is how they are encoded; ours are always sorted, a peer's may not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfState {
    pub voters: Vec<NodeId>,
    pub learners: Vec<NodeId>,
    /// Non-empty exactly while the configuration is joint: the voters being left behind.
    pub voters_outgoing: Vec<NodeId>,
    /// Voters that become learners when the joint configuration is left.
    pub learners_next: Vec<NodeId>,
    /// The leader leaves the joint configuration by itself as soon as it is applied.
    pub auto_leave: bool,
}

impl ConfState {
    /// A plain configuration of these voters, as a new cluster begins with.
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> ConfState {
        ConfState { voters: voters.into_iter().collect(), ..ConfState::default() }.sorted()
    }

    /// True when nobody belongs to it: the member has not joined a cluster yet.
    pub fn is_empty(&self) -> bool {
        self.voters.is_empty() && self.learners.is_empty() && self.voters_outgoing.is_empty()
    }

    /// True when `id` takes part in it. `learners_next` need no look: they are outgoing voters.
    pub fn contains(&self, id: NodeId) -> bool {
        [&self.voters, &self.learners, &self.voters_outgoing].iter().any(|ids| ids.contains(&id))
    }

    /// True when both name the same members in the same parts, whatever the order.
    pub fn is_equivalent(&self, other: &ConfState) -> bool {
        self.clone().sorted() == other.clone().sorted()
    }

    fn sorted(mut self) -> ConfState {
        for ids in [&mut self.voters, &mut self.learners, &mut self.voters_outgoing, &mut self.learners_next]
        {
            ids.sort_unstable();
        }
        self
    }
}
