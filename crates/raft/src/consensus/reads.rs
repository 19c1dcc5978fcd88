//! Linearizable reads: who leads proves it, and answers with its commit index.

use bytes::Bytes;

use super::{Raft, malformed};
use crate::config::ReadOnlyOption;
use crate::error::{Malformed, StepError};
use crate::hard_state::Role;
use crate::message::{Message, MessageType};
use crate::position::{Index, NodeId, Term};
use crate::read_only::ReadState;
use crate::storage::Storage;

/// Reads that wait for the first commit of a leader's term. Full: further ones are dropped, and their
/// callers retry.
const EARLY_READS_MAX: usize = 65_536;

impl<S: Storage> Raft<S> {
    /// A read of our own, or one that a follower sent on.
    pub(super) fn step_read_index(&mut self, mut message: Message) -> Result<(), StepError> {
        if message.entries.is_empty() {
            return Err(malformed(&message, Malformed::NoEntries));
        }
        match self.role {
            Role::Leader => self.read_index_as_leader(message),
            Role::Follower => {
                if let Some(leader) = self.leader {
                    message.to = leader;
                    self.send(message);
                }
            }
            Role::PreCandidate | Role::Candidate => {}
        }
        Ok(())
    }

    fn read_index_as_leader(&mut self, message: Message) {
        // What earlier leaders committed is not known to be committed until an entry of ours is. That goes
        // for an only voter as well, where etcd-raft answers at once: it may have been the follower of a
        // leader that removed itself, or have restarted with an older commit index.
        if self.has_committed_in_term() {
            self.start_read_round(message);
        } else if self.early_reads.len() < EARLY_READS_MAX {
            self.early_reads.push(message);
        }
    }

    fn start_read_round(&mut self, message: Message) {
        // Compat: etcd-raft answers at once whenever there is one voter, even if that is somebody else.
        if self.tracker.is_only_voter(self.id) {
            self.answer_read(message, self.log.committed());
            return;
        }
        match self.config.read_only {
            ReadOnlyOption::Safe => {
                if self.read_only.add(message, self.log.committed()) {
                    let context = self.read_only.heartbeat_context();
                    self.read_only.acknowledge(self.id, &context);
                    self.broadcast_heartbeat();
                }
            }
            ReadOnlyOption::LeaseBased => self.answer_read(message, self.log.committed()),
        }
    }

    pub(super) fn confirm_reads(&mut self, from: NodeId, context: &[u8]) {
        if self.config.read_only != ReadOnlyOption::Safe || context.is_empty() {
            return;
        }
        self.read_only.acknowledge(from, context);
        for read in self.read_only.take_confirmed(&self.tracker.config.voters) {
            self.answer_read(read.request, read.index);
        }
    }

    pub(super) fn release_early_reads(&mut self) {
        if self.early_reads.is_empty() || !self.has_committed_in_term() {
            return;
        }
        for message in std::mem::take(&mut self.early_reads) {
            self.start_read_round(message);
        }
    }

    fn has_committed_in_term(&self) -> bool {
        debug_assert!(self.term > Term::ZERO);
        self.log.term(self.log.committed()) == Ok(self.term)
    }

    fn answer_read(&mut self, mut request: Message, index: Index) {
        if request.from == 0 || request.from == self.id {
            let request_context = request.entries.swap_remove(0).data;
            self.read_states.push(ReadState { index, request_context });
        } else {
            self.send(Message {
                index,
                entries: request.entries,
                ..Message::new(MessageType::ReadIndexResp, request.from)
            });
        }
    }

    pub(super) fn step_read_index_response(&mut self, mut message: Message) -> Result<(), StepError> {
        if self.role != Role::Follower {
            return Ok(());
        }
        if message.entries.len() != 1 {
            return Err(malformed(&message, Malformed::NoEntries));
        }
        let request_context: Bytes = message.entries.swap_remove(0).data;
        self.read_states.push(ReadState { index: message.index, request_context });
        Ok(())
    }
}
