//! A look at a member from outside.

use std::collections::BTreeMap;

use crate::hard_state::{HardState, SoftState};
use crate::position::{Index, NodeId};
use crate::progress::Progress;
use crate::tracker::Configuration;

#[derive(Clone, Debug)]
pub struct BasicStatus {
    pub id: NodeId,
    pub hard_state: HardState,
    pub soft_state: SoftState,
    /// Highest index reported as applied.
    pub applied: Index,
    /// To whom leadership is being handed over.
    pub lead_transferee: Option<NodeId>,
}

#[derive(Clone, Debug)]
pub struct Status {
    pub basic: BasicStatus,
    pub config: Configuration,
    /// Empty unless this member leads.
    pub progress: BTreeMap<NodeId, Progress>,
}
