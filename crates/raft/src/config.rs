//! How one member runs.

use crate::error::ConfigError;
use crate::position::{Index, NodeId};

/// How a leader proves that it still leads before it answers a read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ReadOnlyOption {
    /// By a round of heartbeats that a quorum answers.
    #[default]
    Safe,
    /// By its lease, which drifting clocks can break. Needs `check_quorum`.
    LeaseBased,
}

/// All sizes are in bytes, all times in ticks.
#[derive(Clone, Debug)]
pub struct Config {
    /// Not 0.
    pub id: NodeId,
    /// A follower that hears nothing from a leader for this long (randomised up to twice) campaigns.
    pub election_ticks: u32,
    pub heartbeat_ticks: u32,
    pub pre_vote: bool,
    /// The leader steps down when no quorum answered for `election_ticks`; followers that hear a leader
    /// ignore votes.
    pub check_quorum: bool,
    /// Less waiting around elections than in etcd, with the same messages: followers notice a silent leader
    /// in the order of their ids instead of after drawn timeouts, failed pre-votes are soon repeated, a
    /// driver may report that a leader's process ended, and a leader that hears no quorum steps down after
    /// `election_ticks` instead of up to twice that. Needs `pre_vote` and `check_quorum`.
    pub prompt_elections: bool,
    /// Limit of the entries in one `App`; 0 sends them one by one.
    pub max_size_per_msg: u64,
    /// `App`s that may be unanswered per follower. Not 0. Full: the flow pauses until an answer.
    pub max_inflight_msgs: usize,
    /// Payload bytes that may be unanswered per follower; 0 means no limit.
    pub max_inflight_bytes: u64,
    /// Payload bytes in the leader's log beyond the commit index; 0 means no limit. Full: proposals are
    /// dropped.
    pub max_uncommitted_bytes: u64,
    /// Entries handed out and not yet reported as applied; 0 takes `max_size_per_msg`.
    pub max_committed_bytes_per_ready: u64,
    /// Last index that the application has applied, when restarting.
    pub applied: Index,
    pub read_only: ReadOnlyOption,
    /// Followers drop proposals instead of sending them to the leader.
    pub disable_proposal_forwarding: bool,
    /// A leader that is removed or demoted becomes a follower as soon as it applies that.
    pub step_down_on_removal: bool,
    /// Proposed configuration changes are not checked against the configuration in force.
    pub disable_conf_change_validation: bool,
    /// Seeds the election timeouts; members of a cluster need different ones.
    pub seed: u64,
}

impl Config {
    /// etcd's settings, with an election after ten heartbeats.
    pub fn new(id: NodeId) -> Config {
        Config {
            id,
            election_ticks: 10,
            heartbeat_ticks: 1,
            pre_vote: true,
            check_quorum: true,
            prompt_elections: false,
            max_size_per_msg: 1 << 20,
            max_inflight_msgs: 512,
            max_inflight_bytes: 0,
            max_uncommitted_bytes: 0,
            max_committed_bytes_per_ready: 0,
            applied: Index::ZERO,
            read_only: ReadOnlyOption::Safe,
            disable_proposal_forwarding: false,
            step_down_on_removal: false,
            disable_conf_change_validation: false,
            seed: id,
        }
    }

    pub(crate) fn validate(&self) -> Result<(), ConfigError> {
        if self.id == 0 {
            return Err(ConfigError::IdIsZero);
        }
        if self.heartbeat_ticks == 0 {
            return Err(ConfigError::HeartbeatTicksAreZero);
        }
        if self.election_ticks <= self.heartbeat_ticks {
            return Err(ConfigError::ElectionNotLongerThanHeartbeat {
                election_ticks: self.election_ticks,
                heartbeat_ticks: self.heartbeat_ticks,
            });
        }
        if self.prompt_elections && !(self.pre_vote && self.check_quorum) {
            return Err(ConfigError::PromptElectionsWithoutPreVoteAndCheckQuorum);
        }
        if self.max_inflight_msgs == 0 {
            return Err(ConfigError::NoInflightMessages);
        }
        if self.max_inflight_bytes != 0 && self.max_inflight_bytes < self.max_size_per_msg {
            return Err(ConfigError::InflightBytesBelowMessageSize {
                max_inflight_bytes: self.max_inflight_bytes,
                max_size_per_msg: self.max_size_per_msg,
            });
        }
        if self.read_only == ReadOnlyOption::LeaseBased && !self.check_quorum {
            return Err(ConfigError::LeaseWithoutCheckQuorum);
        }
        Ok(())
    }

    pub(crate) fn uncommitted_bytes_max(&self) -> u64 {
        or_unlimited(self.max_uncommitted_bytes)
    }

    pub(crate) fn inflight_bytes_max(&self) -> u64 {
        or_unlimited(self.max_inflight_bytes)
    }

    pub(crate) fn applying_bytes_max(&self) -> u64 {
        let limit = match self.max_committed_bytes_per_ready {
            0 => self.max_size_per_msg,
            limit => limit,
        };
        // One entry at a time always passes; a window of 0 would stay full for ever.
        limit.max(1)
    }
}

fn or_unlimited(limit: u64) -> u64 {
    if limit == 0 { u64::MAX } else { limit }
}
