//! Changes of membership, as proposed and as they stand in the log.

use bytes::Bytes;

use crate::codec::{self, CodecError};
use crate::entry::{Entry, EntryKind};
use crate::position::NodeId;

/// Numbers on the wire: 0, 1, 2, 3 in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeType {
    /// Adds a voter, or promotes a learner.
    #[default]
    AddNode,
    RemoveNode,
    /// Changes nothing in raft; etcd uses it to move peer URLs.
    UpdateNode,
    /// Adds a learner, or demotes a voter.
    AddLearnerNode,
}

/// One change of one member: the only form that etcd proposes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChange {
    /// Lets the proposer find its waiter; raft does not look at it.
    pub id: u64,
    pub change: ConfChangeType,
    /// 0 when the application refuses the change after it was committed: nothing changes then.
    pub node_id: NodeId,
    pub context: Bytes,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct ConfChangeSingle {
    pub change: ConfChangeType,
    pub node_id: NodeId,
}

/// How the new configuration is reached. Numbers on the wire: 0, 1, 2 in this order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ConfChangeTransition {
    /// Directly when only one change is made, else like `JointImplicit`.
    #[default]
    Auto,
    /// Through a joint configuration that the leader leaves by itself.
    JointImplicit,
    /// Through a joint configuration that stays until an empty change is proposed.
    JointExplicit,
}

/// Several changes at once. No changes with `Auto` leave a joint configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfChangeV2 {
    pub transition: ConfChangeTransition,
    pub changes: Vec<ConfChangeSingle>,
    pub context: Bytes,
}

/// What a change asks of the configuration in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ConfChangeStep {
    Simple,
    EnterJoint { auto_leave: bool },
    LeaveJoint,
}

impl ConfChange {
    pub fn add_node(node_id: NodeId) -> ConfChange {
        ConfChange { node_id, ..ConfChange::default() }
    }

    pub fn remove_node(node_id: NodeId) -> ConfChange {
        ConfChange { change: ConfChangeType::RemoveNode, node_id, ..ConfChange::default() }
    }

    pub fn add_learner(node_id: NodeId) -> ConfChange {
        ConfChange { change: ConfChangeType::AddLearnerNode, node_id, ..ConfChange::default() }
    }

    pub fn update_node(node_id: NodeId) -> ConfChange {
        ConfChange { change: ConfChangeType::UpdateNode, node_id, ..ConfChange::default() }
    }

    /// The entry that proposes it.
    pub fn to_entry(&self) -> Entry {
        Entry { kind: EntryKind::ConfChange, data: codec::encode_conf_change(self), ..Entry::default() }
    }
}

impl ConfChangeV2 {
    /// The change that leaves a joint configuration.
    pub fn leave_joint() -> ConfChangeV2 {
        ConfChangeV2::default()
    }

    pub fn to_entry(&self) -> Entry {
        Entry { kind: EntryKind::ConfChangeV2, data: codec::encode_conf_change_v2(self), ..Entry::default() }
    }

    /// Reads the change out of an entry of either kind; `None` for a normal entry.
    pub fn from_entry(entry: &Entry) -> Result<Option<ConfChangeV2>, CodecError> {
        match entry.kind {
            EntryKind::Normal => Ok(None),
            EntryKind::ConfChange => {
                codec::decode_conf_change(entry.data.clone()).map(|change| Some(change.into()))
            }
            EntryKind::ConfChangeV2 => codec::decode_conf_change_v2(entry.data.clone()).map(Some),
        }
    }

    pub(crate) fn step(&self) -> ConfChangeStep {
        match (self.transition, self.changes.len()) {
            (ConfChangeTransition::Auto, 0) => ConfChangeStep::LeaveJoint,
            (ConfChangeTransition::Auto, 1) => ConfChangeStep::Simple,
            (ConfChangeTransition::Auto | ConfChangeTransition::JointImplicit, _) => {
                ConfChangeStep::EnterJoint { auto_leave: true }
            }
            (ConfChangeTransition::JointExplicit, _) => ConfChangeStep::EnterJoint { auto_leave: false },
        }
    }
}

impl From<ConfChange> for ConfChangeV2 {
    fn from(change: ConfChange) -> ConfChangeV2 {
        ConfChangeV2 {
            transition: ConfChangeTransition::Auto,
            changes: vec![ConfChangeSingle { change: change.change, node_id: change.node_id }],
            context: change.context,
        }
    }
}
