//! Majorities, plain and joint.

use std::collections::BTreeSet;

use crate::position::{Index, NodeId};

/// How an election stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VoteResult {
    Pending,
    Lost,
    Won,
}

/// One set of voters. The empty set agrees to everything, so that a joint configuration with an empty half
/// behaves like its other half.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MajorityConfig(pub BTreeSet<NodeId>);

/// Two sets of voters that must both agree; outside a joint configuration `outgoing` is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JointConfig {
    pub incoming: MajorityConfig,
    pub outgoing: MajorityConfig,
}

impl MajorityConfig {
    fn quorum(&self) -> usize {
        self.0.len() / 2 + 1
    }

    /// The largest index that a majority has acknowledged, voters without an answer counting as 0.
    fn committed_index(&self, acked: impl Fn(NodeId) -> Option<Index>) -> Index {
        if self.0.is_empty() {
            return Index::MAX;
        }
        let mut stack = [Index::ZERO; 9];
        let mut heap;
        let sorted: &mut [Index] = if self.0.len() <= stack.len() {
            &mut stack[..self.0.len()]
        } else {
            heap = vec![Index::ZERO; self.0.len()];
            &mut heap
        };
        for (slot, &id) in sorted.iter_mut().zip(&self.0) {
            *slot = acked(id).unwrap_or(Index::ZERO);
        }
        sorted.sort_unstable();
        sorted[self.0.len() - self.quorum()]
    }

    fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        if self.0.is_empty() {
            return VoteResult::Won;
        }
        let mut granted = 0;
        let mut missing = 0;
        for &id in &self.0 {
            match vote(id) {
                Some(true) => granted += 1,
                Some(false) => {}
                None => missing += 1,
            }
        }
        if granted >= self.quorum() {
            VoteResult::Won
        } else if granted + missing >= self.quorum() {
            VoteResult::Pending
        } else {
            VoteResult::Lost
        }
    }
}

impl JointConfig {
    pub fn of_voters(voters: impl IntoIterator<Item = NodeId>) -> JointConfig {
        JointConfig {
            incoming: MajorityConfig(voters.into_iter().collect()),
            outgoing: MajorityConfig::default(),
        }
    }

    pub fn is_joint(&self) -> bool {
        !self.outgoing.0.is_empty()
    }

    pub fn contains(&self, id: NodeId) -> bool {
        self.incoming.0.contains(&id) || self.outgoing.0.contains(&id)
    }

    /// All voters, ascending.
    pub fn ids(&self) -> BTreeSet<NodeId> {
        self.incoming.0.union(&self.outgoing.0).copied().collect()
    }

    /// The largest index that both majorities have acknowledged.
    pub fn committed_index(&self, acked: impl Fn(NodeId) -> Option<Index>) -> Index {
        self.incoming.committed_index(&acked).min(self.outgoing.committed_index(&acked))
    }

    pub fn vote_result(&self, vote: impl Fn(NodeId) -> Option<bool>) -> VoteResult {
        match (self.incoming.vote_result(&vote), self.outgoing.vote_result(&vote)) {
            (VoteResult::Lost, _) | (_, VoteResult::Lost) => VoteResult::Lost,
            (VoteResult::Won, VoteResult::Won) => VoteResult::Won,
            (VoteResult::Pending, _) | (_, VoteResult::Pending) => VoteResult::Pending,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn empty_configuration_agrees_to_everything() {
        let empty = JointConfig::default();
        assert_eq!(empty.committed_index(|_| None), Index::MAX);
        assert_eq!(empty.vote_result(|_| None), VoteResult::Won);
    }

    #[test]
    fn vote_table() {
        use VoteResult::{Lost, Pending, Won};
        // Votes of 1, 2, 3 (incoming) and 3, 4, 5 (outgoing): y, n or no answer.
        let table = [
            ("-----", "123", "", Pending),
            ("yy---", "123", "", Won),
            ("yn---", "123", "", Pending),
            ("nn---", "123", "", Lost),
            ("yyn--", "123", "345", Pending),
            ("yy-yy", "123", "345", Won),
            ("yynny", "123", "345", Lost),
            ("nn-yy", "123", "345", Lost),
            ("y-y-y", "123", "345", Won),
            ("y", "1", "", Won),
            ("yn", "12", "", Lost),
        ];
        for (votes, incoming, outgoing, expected) in table {
            let ids =
                |text: &str| MajorityConfig(text.bytes().map(|digit| u64::from(digit - b'0')).collect());
            let config = JointConfig { incoming: ids(incoming), outgoing: ids(outgoing) };
            let result = config.vote_result(|id| match votes.as_bytes()[id as usize - 1] {
                b'y' => Some(true),
                b'n' => Some(false),
                _ => None,
            });
            assert_eq!(result, expected, "{votes} in {incoming}/{outgoing}");
        }
    }

    /// Tries every acknowledged index and counts who has it: slow and plain.
    fn committed_by_counting(config: &JointConfig, acked: &BTreeMap<NodeId, Index>) -> Index {
        let agree = |voters: &BTreeSet<NodeId>, index: Index| {
            let count = voters.iter().filter(|id| acked.get(id).is_some_and(|at| *at >= index)).count();
            voters.is_empty() || 2 * count > voters.len()
        };
        if config.ids().is_empty() {
            return Index::MAX;
        }
        let candidates = acked.values().copied().chain([Index::ZERO]);
        candidates
            .filter(|&index| {
                index == Index::ZERO || agree(&config.incoming.0, index) && agree(&config.outgoing.0, index)
            })
            .max()
            .unwrap_or(Index::ZERO)
    }

    fn ids() -> impl Strategy<Value = BTreeSet<NodeId>> {
        prop::collection::btree_set(1..12u64, 0..10)
    }

    proptest! {
        #[test]
        fn committed_index_agrees_with_counting(
            incoming in ids(),
            outgoing in ids(),
            acked in prop::collection::btree_map(1..12u64, (0..20u64).prop_map(Index), 0..12),
        ) {
            let config = JointConfig {
                incoming: MajorityConfig(incoming),
                outgoing: MajorityConfig(outgoing),
            };
            prop_assert_eq!(
                config.committed_index(|id| acked.get(&id).copied()),
                committed_by_counting(&config, &acked)
            );
        }

        #[test]
        fn a_won_election_shares_a_voter_with_every_commit_quorum(
            incoming in ids(),
            outgoing in ids(),
            granted in ids(),
            acked in ids(),
        ) {
            let config = JointConfig {
                incoming: MajorityConfig(incoming),
                outgoing: MajorityConfig(outgoing),
            };
            prop_assume!(!config.ids().is_empty());
            let won = config.vote_result(|id| Some(granted.contains(&id))) == VoteResult::Won;
            let committed =
                config.committed_index(|id| acked.contains(&id).then_some(Index(1))) >= Index(1);
            if won && committed {
                prop_assert!(granted.intersection(&acked).any(|id| config.contains(*id)));
            }
        }
    }
}
