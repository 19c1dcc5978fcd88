//! The members, their progress and their votes.

use std::collections::{BTreeMap, BTreeSet};

use crate::conf_state::ConfState;
use crate::position::{Index, NodeId};
use crate::progress::Progress;
use crate::quorum::{JointConfig, MajorityConfig, VoteResult};

/// The membership in force. Invariant: nobody is voter and learner at once; who turns from an outgoing voter
/// into a learner waits in `learners_next`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Configuration {
    pub voters: JointConfig,
    pub learners: BTreeSet<NodeId>,
    pub learners_next: BTreeSet<NodeId>,
    /// The joint configuration is left without being asked to.
    pub auto_leave: bool,
}

impl Configuration {
    pub fn to_conf_state(&self) -> ConfState {
        let list = |ids: &BTreeSet<NodeId>| ids.iter().copied().collect();
        ConfState {
            voters: list(&self.voters.incoming.0),
            learners: list(&self.learners),
            voters_outgoing: list(&self.voters.outgoing.0),
            learners_next: list(&self.learners_next),
            auto_leave: self.auto_leave,
        }
    }
}

pub(crate) type ProgressMap = BTreeMap<NodeId, Progress>;

/// Limits of what may be unanswered per follower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InflightLimits {
    pub count_max: usize,
    pub bytes_max: u64,
}

/// Invariant: every member of `config` has a progress, and nobody else.
#[derive(Debug)]
pub(crate) struct Tracker {
    pub config: Configuration,
    pub progress: ProgressMap,
    pub votes: BTreeMap<NodeId, bool>,
    pub limits: InflightLimits,
}

impl Tracker {
    pub fn new(limits: InflightLimits) -> Tracker {
        Tracker {
            config: Configuration::default(),
            progress: ProgressMap::new(),
            votes: BTreeMap::new(),
            limits,
        }
    }

    /// True when nobody but `id` votes, so that nobody else can lead. A leader that removed itself goes on
    /// leading for a while and may leave one voter behind: that is not it.
    pub fn is_only_voter(&self, id: NodeId) -> bool {
        let MajorityConfig(voters) = &self.config.voters.incoming;
        voters.len() == 1 && voters.contains(&id) && !self.config.voters.is_joint()
    }

    /// The largest index that a quorum has acknowledged.
    pub fn committed_index(&self) -> Index {
        self.config.voters.committed_index(|id| self.progress.get(&id).map(|progress| progress.matched))
    }

    /// Everybody with a progress but `id`, ascending.
    pub fn others(&self, id: NodeId) -> Vec<NodeId> {
        self.progress.keys().copied().filter(|&other| other != id).collect()
    }

    /// True when a quorum was heard from since the last check.
    pub fn is_quorum_active(&self) -> bool {
        self.is_quorum(|progress| progress.recent_active)
    }

    /// True when less than `ticks` ago a quorum had been heard from.
    pub fn is_quorum_heard_within(&self, ticks: u32) -> bool {
        self.is_quorum(|progress| progress.silent_ticks < ticks)
    }

    fn is_quorum(&self, counts: impl Fn(&Progress) -> bool) -> bool {
        let result = self
            .config
            .voters
            .vote_result(|id| self.progress.get(&id).filter(|progress| !progress.is_learner).map(&counts));
        result == VoteResult::Won
    }

    /// The first answer of each voter counts.
    pub fn record_vote(&mut self, id: NodeId, granted: bool) -> VoteResult {
        self.votes.entry(id).or_insert(granted);
        self.config.voters.vote_result(|id| self.votes.get(&id).copied())
    }
}
