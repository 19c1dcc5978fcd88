//! Proposals that cannot be made now: there is no leader, or leadership is being handed over.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::ConfChange;

/// Bytes of proposals that may wait. Full: "too many requests".
const PARKED_BYTES_MAX: usize = 64 << 20;

/// What a proposer wants in the log.
#[derive(Debug)]
pub enum Proposal {
    Request(Bytes),
    ConfChange(ConfChange),
}

impl Proposal {
    fn len(&self) -> usize {
        match self {
            Proposal::Request(data) => data.len(),
            Proposal::ConfChange(change) => change.context.len(),
        }
    }
}

/// Proposals in the order in which they came, each with the id that its proposer waits for.
#[derive(Default)]
pub struct Parked {
    proposals: VecDeque<(u64, Proposal)>,
    bytes: usize,
}

impl Parked {
    /// False when there is no room; the proposal is then dropped.
    #[must_use]
    pub fn park(&mut self, id: u64, proposal: Proposal) -> bool {
        if self.bytes + proposal.len() > PARKED_BYTES_MAX {
            return false;
        }
        self.bytes += proposal.len();
        self.proposals.push_back((id, proposal));
        true
    }

    pub fn is_empty(&self) -> bool {
        self.proposals.is_empty()
    }

    pub fn take(&mut self) -> VecDeque<(u64, Proposal)> {
        self.bytes = 0;
        std::mem::take(&mut self.proposals)
    }
}
