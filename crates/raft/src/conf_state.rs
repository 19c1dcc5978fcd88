//! The membership in force after some index, as written into snapshots.

use crate::changer::Changer;
use crate::conf_change::ConfChangeV2;
use crate::error::ConfChangeError;
use crate::position::{Index, NodeId};
use crate::tracker::{InflightLimits, Tracker};

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

    /// The configuration that a change makes of this one, as every member works it out when the change is
    /// applied. A change of nobody (`node_id` 0) changes nothing.
    pub fn after(&self, change: &ConfChangeV2) -> Result<ConfState, ConfChangeError> {
        let limits = InflightLimits { count_max: 1, bytes_max: u64::MAX };
        let mut tracker = Tracker::new(limits);
        // Progress is of no interest here; any index will do.
        let last_index = Index(1);
        (tracker.config, tracker.progress) = Changer::restore(limits, last_index, self)?;
        let (config, _) = Changer::new(&tracker, last_index).apply(change)?;
        Ok(config.to_conf_state())
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conf_change::{ConfChange, ConfChangeSingle, ConfChangeType};

    #[test]
    fn a_change_leads_to_the_next_configuration_or_is_refused() {
        let lone = ConfState::of_voters([1]);
        let with_learner = lone.after(&ConfChange::add_learner(2).into()).unwrap();
        assert_eq!(with_learner, ConfState { learners: vec![2], ..lone.clone() });
        let promoted = with_learner.after(&ConfChange::add_node(2).into()).unwrap();
        assert_eq!(promoted, ConfState::of_voters([1, 2]));
        assert_eq!(promoted.after(&ConfChange::remove_node(1).into()), Ok(ConfState::of_voters([2])));
        assert_eq!(promoted.after(&ConfChange::remove_node(0).into()), Ok(promoted.clone()));
        assert_eq!(lone.after(&ConfChange::remove_node(1).into()), Err(ConfChangeError::RemovesAllVoters));
        assert_eq!(
            ConfState::default().after(&ConfChange::add_node(7).into()),
            Ok(ConfState::of_voters([7]))
        );
    }

    #[test]
    fn a_joint_configuration_is_entered_and_left() {
        let single = |change, node_id| ConfChangeSingle { change, node_id };
        let three = ConfState::of_voters([1, 2, 3]);
        let change = ConfChangeV2 {
            changes: vec![single(ConfChangeType::AddLearnerNode, 3), single(ConfChangeType::AddNode, 4)],
            ..ConfChangeV2::default()
        };
        let joint = ConfState {
            voters: vec![1, 2, 4],
            voters_outgoing: vec![1, 2, 3],
            learners_next: vec![3],
            auto_leave: true,
            ..ConfState::default()
        };
        assert_eq!(three.after(&change), Ok(joint.clone()));
        assert_eq!(joint.after(&change), Err(ConfChangeError::AlreadyJoint));
        let left = ConfState { learners: vec![3], ..ConfState::of_voters([1, 2, 4]) };
        assert_eq!(joint.after(&ConfChangeV2::leave_joint()), Ok(left.clone()));
        assert_eq!(left.after(&ConfChangeV2::leave_joint()), Err(ConfChangeError::NotJoint));
        let contradiction = ConfState { learners: vec![1], ..three };
        assert!(contradiction.after(&change).is_err());
    }
}
