//! What can go wrong, by who is to blame: the configuration, the disk, a peer or a proposal.

use std::fmt;

use crate::codec::CodecError;
use crate::message::MessageType;
use crate::position::{Index, NodeId};

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    IdIsZero,
    HeartbeatTicksAreZero,
    ElectionNotLongerThanHeartbeat { election_ticks: u32, heartbeat_ticks: u32 },
    NoInflightMessages,
    InflightBytesBelowMessageSize { max_inflight_bytes: u64, max_size_per_msg: u64 },
    LeaseWithoutCheckQuorum,
    PromptElectionsWithoutPreVoteAndCheckQuorum,
}

/// A member cannot start from what its storage holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StartError {
    Config(ConfigError),
    /// The hard state's commit index lies outside the log.
    CommitOutOfRange {
        commit: Index,
        committed: Index,
        last: Index,
    },
    /// `Config::applied` lies outside what is committed.
    AppliedOutOfRange {
        applied: Index,
        compacted: Index,
        committed: Index,
    },
    ConfState(ConfChangeError),
}

/// Why a configuration change cannot be applied on top of the configuration in force. Committed changes
/// that fail fail on every member alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfChangeError {
    AlreadyJoint,
    NotJoint,
    /// A configuration without voters cannot become joint.
    NoVoters,
    RemovesAllVoters,
    ChangesSeveralVotersAtOnce {
        count: usize,
    },
    /// A snapshot's lists contradict each other.
    Inconsistent {
        node_id: NodeId,
    },
}

/// Why an input was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StepError {
    /// No leader, forwarding is off, leadership is being handed over, or too much is uncommitted. The
    /// proposal is not in the log; the caller may try again.
    ProposalDropped,
    /// A response from somebody who is not a member.
    PeerNotFound {
        from: NodeId,
    },
    /// A message that no correct member sends; ignored.
    Malformed {
        kind: MessageType,
        from: NodeId,
        problem: Malformed,
    },
    ConfChange(CodecError),
    /// This member's log has lost entries that it acknowledged, or a peer lies. Fatal.
    CommitBeyondLog {
        from: NodeId,
        commit: Index,
        last: Index,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Only local messages and forwarded requests have no term.
    NoTerm,
    /// No member, or this one itself.
    BadSender,
    /// A proposal or read request without entries.
    NoEntries,
    /// Indexes not consecutive, or terms that fall or exceed the sender's.
    EntriesOutOfOrder,
    /// An acknowledgement of entries that were never sent.
    AckBeyondLog,
    /// A snapshot whose term or members cannot be.
    BadSnapshot,
}

impl StepError {
    /// True when going on could answer wrongly: the member must stop and say so.
    pub fn is_fatal(&self) -> bool {
        match self {
            StepError::CommitBeyondLog { .. } => true,
            StepError::ProposalDropped
            | StepError::PeerNotFound { .. }
            | StepError::Malformed { .. }
            | StepError::ConfChange(_) => false,
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::IdIsZero => f.write_str("raft id is 0"),
            ConfigError::HeartbeatTicksAreZero => f.write_str("heartbeat ticks must be greater than 0"),
            ConfigError::ElectionNotLongerThanHeartbeat { election_ticks, heartbeat_ticks } => write!(
                f,
                "election ticks ({election_ticks}) must be greater than heartbeat ticks ({heartbeat_ticks})"
            ),
            ConfigError::NoInflightMessages => f.write_str("max inflight messages must be greater than 0"),
            ConfigError::InflightBytesBelowMessageSize { max_inflight_bytes, max_size_per_msg } => write!(
                f,
                "max inflight bytes ({max_inflight_bytes}) must not be below the message size ({max_size_per_msg})"
            ),
            ConfigError::LeaseWithoutCheckQuorum => f.write_str("lease based reads need check quorum"),
            ConfigError::PromptElectionsWithoutPreVoteAndCheckQuorum => {
                f.write_str("prompt elections need pre-vote and check quorum")
            }
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StartError::Config(error) => write!(f, "raft configuration: {error}"),
            StartError::CommitOutOfRange { commit, committed, last } => {
                write!(f, "hard state's commit {commit} is out of range [{committed}, {last}]")
            }
            StartError::AppliedOutOfRange { applied, compacted, committed } => {
                write!(f, "applied index {applied} is out of range [{compacted}, {committed}]")
            }
            StartError::ConfState(error) => write!(f, "restore the membership: {error}"),
        }
    }
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfChangeError::AlreadyJoint => f.write_str("the configuration is already joint"),
            ConfChangeError::NotJoint => f.write_str("the configuration is not joint"),
            ConfChangeError::NoVoters => f.write_str("a configuration without voters cannot become joint"),
            ConfChangeError::RemovesAllVoters => f.write_str("the change removes all voters"),
            ConfChangeError::ChangesSeveralVotersAtOnce { count } => {
                write!(f, "the change touches {count} voters without a joint configuration")
            }
            ConfChangeError::Inconsistent { node_id } => {
                write!(f, "member {node_id:x} stands in contradicting parts of the configuration")
            }
        }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            StepError::ProposalDropped => f.write_str("raft proposal dropped"),
            StepError::PeerNotFound { from } => {
                write!(f, "response from {from:x}, which is not a member")
            }
            StepError::Malformed { kind, from, problem } => {
                write!(f, "malformed {kind:?} from {from:x}: {problem}")
            }
            StepError::ConfChange(error) => write!(f, "proposed configuration change: {error}"),
            StepError::CommitBeyondLog { from, commit, last } => write!(
                f,
                "commit index {commit} from {from:x} is out of range (last index {last}): was the raft log corrupted, truncated or lost?"
            ),
        }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Malformed::NoTerm => f.write_str("no term"),
            Malformed::BadSender => f.write_str("impossible sender"),
            Malformed::NoEntries => f.write_str("no entries"),
            Malformed::EntriesOutOfOrder => f.write_str("entries out of order"),
            Malformed::AckBeyondLog => f.write_str("acknowledges entries that were never sent"),
            Malformed::BadSnapshot => f.write_str("impossible snapshot"),
        }
    }
}

impl std::error::Error for ConfigError {}
impl std::error::Error for StartError {}
impl std::error::Error for ConfChangeError {}
impl std::error::Error for StepError {}
