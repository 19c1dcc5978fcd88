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
    pub fn len(&self) -> usize {
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

    /// Those whose proposers have given up make room for others.
    pub fn drop_abandoned(&mut self, is_awaited: impl Fn(u64) -> bool) {
        self.proposals.retain(|(id, _)| is_awaited(*id));
        self.bytes = self.proposals.iter().map(|(_, proposal)| proposal.len()).sum();
    }

    pub fn take(&mut self) -> VecDeque<(u64, Proposal)> {
        self.bytes = 0;
        std::mem::take(&mut self.proposals)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_waits_for_makes_room() {
        let mut parked = Parked::default();
        let half = || Proposal::Request(vec![0; PARKED_BYTES_MAX / 2].into());
        assert!(parked.park(1, half()) && parked.park(2, half()));
        assert!(!parked.park(3, half()));
        parked.drop_abandoned(|id| id != 1);
        assert!(parked.park(3, half()));
        assert_eq!(parked.take().iter().map(|(id, _)| *id).collect::<Vec<_>>(), [2, 3]);
    }
}
