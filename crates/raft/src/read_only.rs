//! Reads that wait for the proof that their leader still leads.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use crate::message::Message;
use crate::position::{Index, NodeId};
use crate::quorum::JointConfig;

/// Reads waiting for a quorum. Full: further ones are dropped, and their callers retry. etcd retries each
/// unanswered read every 500 ms and gives up its leadership within seconds, so this is never reached there.
const UNCONFIRMED_READS_MAX: usize = 65_536;

/// A confirmed read: once `index` is applied, reading the state is linearizable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadState {
    pub index: Index,
    /// What the reader passed to [`crate::RawNode::read_index`].
    pub request_context: Bytes,
}

pub(crate) struct PendingRead {
    /// The request, whose sender gets the answer.
    pub request: Message,
    /// The commit index when the request arrived.
    pub index: Index,
}

/// Counts reads since this leadership began. A heartbeat carries the count of reads that had arrived when
/// it left; its answer proves leadership for exactly these.
///
/// Compat: raft 3.7. Until 3.6 the heartbeat carried the reader's own context, and a *retried* read (same
/// context, later arrival) could be confirmed by an answer to the first attempt's heartbeat. With a number
/// that is never used twice a late answer confirms only what preceded it.
#[derive(Default)]
pub(crate) struct ReadOnly {
    unconfirmed: VecDeque<PendingRead>,
    /// How many reads were confirmed and left `unconfirmed`.
    confirmed_count: u64,
    acked_counts: BTreeMap<NodeId, u64>,
}

impl ReadOnly {
    /// False when too many wait already.
    pub fn add(&mut self, request: Message, commit: Index) -> bool {
        if self.unconfirmed.len() >= UNCONFIRMED_READS_MAX {
            return false;
        }
        self.unconfirmed.push_back(PendingRead { request, index: commit });
        true
    }

    /// What the next heartbeat has to carry: nothing when no read waits.
    pub fn heartbeat_context(&self) -> Bytes {
        if self.unconfirmed.is_empty() {
            return Bytes::new();
        }
        Bytes::copy_from_slice(&self.issued_count().to_le_bytes())
    }

    /// Notes that `from` answered the heartbeat with this context. Anything that no heartbeat of ours
    /// carried is ignored.
    pub fn acknowledge(&mut self, from: NodeId, context: &[u8]) {
        let Ok(bytes) = <[u8; 8]>::try_from(context) else { return };
        let count = u64::from_le_bytes(bytes);
        if count > self.issued_count() {
            return;
        }
        let acked = self.acked_counts.entry(from).or_default();
        *acked = count.max(*acked);
    }

    /// Takes out the reads that a quorum has confirmed by now, in the order of their arrival.
    pub fn take_confirmed(&mut self, voters: &JointConfig) -> Vec<PendingRead> {
        let confirmed = voters
            .committed_index(|id| self.acked_counts.get(&id).copied().map(Index))
            .0
            .min(self.issued_count());
        if confirmed <= self.confirmed_count {
            return Vec::new();
        }
        let count = (confirmed - self.confirmed_count) as usize;
        self.confirmed_count = confirmed;
        self.unconfirmed.drain(..count).collect()
    }

    fn issued_count(&self) -> u64 {
        self.confirmed_count + self.unconfirmed.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::MessageType;

    fn read() -> Message {
        Message::new(MessageType::ReadIndex, 0)
    }

    #[test]
    fn an_answer_confirms_what_preceded_its_heartbeat_and_no_more() {
        let voters = JointConfig::of_voters([1, 2, 3]);
        let mut reads = ReadOnly::default();
        assert!(reads.heartbeat_context().is_empty());
        assert!(reads.add(read(), Index(5)));
        let first = reads.heartbeat_context();
        reads.acknowledge(1, &first);
        assert!(reads.add(read(), Index(6)));
        let second = reads.heartbeat_context();
        reads.acknowledge(1, &second);
        assert_ne!(first, second);

        reads.acknowledge(2, &first);
        let confirmed: Vec<Index> = reads.take_confirmed(&voters).iter().map(|read| read.index).collect();
        assert_eq!(confirmed, [Index(5)]);
        assert!(reads.take_confirmed(&voters).is_empty());
        reads.acknowledge(3, &second);
        assert_eq!(reads.take_confirmed(&voters).len(), 1);
        assert!(reads.heartbeat_context().is_empty());
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let voters = JointConfig::of_voters([1, 2, 3]);
        let mut reads = ReadOnly::default();
        assert!(reads.add(read(), Index(5)));
        for nonsense in [&b""[..], b"x", &[0xff; 8], &[1; 9]] {
            reads.acknowledge(2, nonsense);
            reads.acknowledge(3, nonsense);
        }
        assert!(reads.take_confirmed(&voters).is_empty());
    }
}
