//! What a leader does with its log, its clock and its followers' answers.

use super::{Raft, malformed};
use crate::conf_change::ConfChangeV2;
use crate::entry::{Entry, payload_bytes_of};
use crate::error::{Malformed, StepError};
use crate::hard_state::Role;
use crate::message::{Message, MessageType};
use crate::position::{EntryId, Index, NodeId, Term};
use crate::progress::{Progress, ProgressState};
use crate::snapshot::SnapshotStatus;
use crate::storage::Storage;

impl<S: Storage> Raft<S> {
    pub(super) fn tick_leader(&mut self) {
        self.heartbeat_elapsed += 1;
        self.election_elapsed += 1;
        for (&id, progress) in &mut self.tracker.progress {
            if id != self.id {
                progress.silent_ticks = progress.silent_ticks.saturating_add(1);
            }
        }
        if self.election_elapsed >= self.config.election_ticks {
            self.election_elapsed = 0;
            if self.config.check_quorum {
                self.check_quorum();
            }
            // Whoever was to take over did not within an election timeout: carry on.
            if self.role == Role::Leader {
                self.lead_transferee = None;
            }
        }
        if self.role == Role::Leader && self.config.prompt_elections {
            self.check_quorum_now();
        }
        if self.role == Role::Leader && self.heartbeat_elapsed >= self.config.heartbeat_ticks {
            self.heartbeat_elapsed = 0;
            self.broadcast_heartbeat();
        }
    }

    /// Steps down when no quorum was heard from for as long as a follower's lease lasts: others may have
    /// elected somebody.
    fn check_quorum_now(&mut self) {
        if !self.tracker.is_quorum_heard_within(self.config.election_ticks) {
            self.become_follower(self.term, None);
        }
    }

    /// Steps down when no quorum was heard from since the last check: others may have elected somebody.
    fn check_quorum(&mut self) {
        if !self.tracker.is_quorum_active() {
            self.become_follower(self.term, None);
        }
        for (&id, progress) in &mut self.tracker.progress {
            if id != self.id {
                progress.recent_active = false;
            }
        }
    }

    pub(super) fn propose_as_leader(&mut self, mut message: Message) -> Result<(), StepError> {
        if message.entries.is_empty() {
            return Err(malformed(&message, Malformed::NoEntries));
        }
        // Removed while leading, or handing over.
        if !self.tracker.progress.contains_key(&self.id) || self.lead_transferee.is_some() {
            return Err(StepError::ProposalDropped);
        }
        let changes = message
            .entries
            .iter()
            .map(ConfChangeV2::from_entry)
            .collect::<Result<Vec<_>, _>>()
            .map_err(StepError::ConfChange)?;
        let pending_before = self.pending_conf_index;
        for (offset, change) in changes.iter().enumerate() {
            let Some(change) = change else { continue };
            if self.config.disable_conf_change_validation || self.admits(change) {
                self.pending_conf_index = self.log.last_index().plus(1 + offset as u64);
            } else {
                // Compat: an empty entry takes its place, so that the proposer sees an answer.
                message.entries[offset] = Entry::default();
            }
        }
        if !self.append_entries(message.entries) {
            // What is not in the log is not waited for.
            self.pending_conf_index = pending_before;
            return Err(StepError::ProposalDropped);
        }
        self.broadcast_append();
        Ok(())
    }

    pub fn has_pending_conf_change(&self) -> bool {
        self.pending_conf_index > self.log.applied()
    }

    /// One change at a time, and a joint configuration is left before it is changed. Best effort: what is
    /// in force here may be older than what is in the log.
    fn admits(&self, change: &ConfChangeV2) -> bool {
        let already_pending = self.has_pending_conf_change();
        let is_joint = self.tracker.config.voters.is_joint();
        let leaves_joint = change.changes.is_empty();
        !already_pending && is_joint == leaves_joint
    }

    pub(super) fn propose_leaving_joint(&mut self) -> Result<(), StepError> {
        let mut message = Message::new(MessageType::Prop, self.id);
        message.entries = vec![ConfChangeV2::leave_joint().to_entry()];
        self.propose_as_leader(message)
    }

    /// Gives entries their place in the log. False when too much is uncommitted already.
    pub(super) fn append_entries(&mut self, mut entries: Vec<Entry>) -> bool {
        let bytes = payload_bytes_of(&entries);
        // A single proposal larger than the limit passes when nothing else waits, and an empty one always.
        let is_over = self.uncommitted_bytes > 0
            && bytes > 0
            && self.uncommitted_bytes.saturating_add(bytes) > self.config.uncommitted_bytes_max();
        if is_over {
            return false;
        }
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_add(bytes);
        let mut index = self.log.last_index();
        for entry in &mut entries {
            index = index.next();
            entry.term = self.term;
            entry.index = index;
        }
        self.log.append(&entries);
        // Our own acknowledgement, once they are durable.
        self.send(Message { index, ..Message::new(MessageType::AppResp, self.id) });
        true
    }

    /// True when more became committed.
    pub(super) fn maybe_commit(&mut self) -> bool {
        let at = EntryId { term: self.term, index: self.tracker.committed_index() };
        self.log.maybe_commit(at)
    }

    fn progress_of(&mut self, id: NodeId) -> Option<&mut Progress> {
        match self.role {
            Role::Leader => self.tracker.progress.get_mut(&id),
            Role::Follower | Role::PreCandidate | Role::Candidate => None,
        }
    }

    pub(super) fn step_append_response(&mut self, message: &Message) -> Result<(), StepError> {
        let last = self.log.last_index();
        let Some(progress) = self.progress_of(message.from) else { return Ok(()) };
        progress.heard();
        if message.reject {
            self.take_rejection(message);
            return Ok(());
        }
        if message.index > last {
            return Err(malformed(message, Malformed::AckBeyondLog));
        }
        let is_found = progress.is_probing() && progress.matched == message.index;
        if progress.maybe_update(message.index) || is_found {
            self.take_acknowledgement(message.from, message.index);
        }
        Ok(())
    }

    /// The follower lacks what we assumed. Go back to where its log may meet ours, judging by the end of
    /// its log, and probe there.
    fn take_rejection(&mut self, message: &Message) {
        let hint = if message.log_term > Term::ZERO {
            let end = EntryId { term: message.log_term, index: message.reject_hint };
            self.log.find_conflict_by_term(end).0
        } else {
            message.reject_hint
        };
        let Some(progress) = self.progress_of(message.from) else { return };
        if progress.maybe_decrement(message.index, hint) {
            if progress.is_replicating() {
                progress.become_probe();
            }
            self.send_append(message.from);
        }
    }

    fn take_acknowledgement(&mut self, from: NodeId, index: Index) {
        let first = self.log.first_index();
        let Some(progress) = self.progress_of(from) else { return };
        match progress.state {
            ProgressState::Probe => progress.become_replicate(),
            // Whatever snapshot it has, our log can carry on from there.
            ProgressState::Snapshot { .. } if progress.matched.next() >= first => {
                progress.become_replicate();
            }
            ProgressState::Snapshot { .. } => {}
            ProgressState::Replicate { .. } => progress.free_inflights_through(index),
        }
        let is_other = from != self.id;
        if self.maybe_commit() {
            self.release_early_reads();
            self.broadcast_append();
        } else if is_other && self.may_bump_commit(from) {
            self.send_append(from);
        }
        if is_other {
            // The answer may have opened the window for several appends.
            while self.send_entries(from) {}
        }
        let is_complete =
            self.tracker.progress.get(&from).is_some_and(|it| it.matched == self.log.last_index());
        if self.lead_transferee == Some(from) && is_complete {
            self.send(Message::new(MessageType::TimeoutNow, from));
        }
    }

    fn may_bump_commit(&self, id: NodeId) -> bool {
        let commit = self.log.committed();
        self.tracker.progress.get(&id).is_some_and(|progress| progress.can_bump_commit(commit))
    }

    pub(super) fn step_heartbeat_response(&mut self, message: &Message) {
        let last = self.log.last_index();
        let Some(progress) = self.progress_of(message.from) else { return };
        progress.heard();
        progress.flow_paused = false;
        // Something may have been lost on the way; an empty append finds out.
        if progress.matched < last || progress.is_probing() {
            self.send_append(message.from);
        }
        self.confirm_reads(message.from, &message.context);
    }

    /// The driver could not send: appends that were on their way may be lost.
    pub fn report_unreachable(&mut self, id: NodeId) {
        if let Some(progress) = self.progress_of(id)
            && progress.is_replicating()
        {
            progress.become_probe();
        }
    }

    /// The driver knows how the sending of a snapshot ended. Appends resume with the follower's next
    /// acknowledgement, or after a heartbeat.
    pub fn report_snapshot(&mut self, id: NodeId, status: SnapshotStatus) {
        let Some(progress) = self.progress_of(id) else { return };
        if progress.pending_snapshot().is_none() {
            return;
        }
        match status {
            SnapshotStatus::Finished => progress.become_probe(),
            SnapshotStatus::Failed => progress.become_probe_after_failed_snapshot(),
        }
        progress.flow_paused = true;
    }

    /// Hands leadership over: the transferee is brought up to date and then told to campaign at once.
    pub fn transfer_leader(&mut self, transferee: NodeId) {
        match self.role {
            Role::PreCandidate | Role::Candidate => {}
            Role::Follower => {
                if let Some(leader) = self.leader {
                    let message = Message::new(MessageType::TransferLeader, leader);
                    self.send(Message { from: transferee, ..message });
                }
            }
            Role::Leader => self.transfer_leader_as_leader(transferee),
        }
    }

    /// See [`crate::RawNode::successor`].
    pub fn successor(&self) -> Option<NodeId> {
        if self.role != Role::Leader || self.lead_transferee.is_some() {
            return None;
        }
        let own = self.tracker.progress.get(&self.id).map_or(Index::ZERO, |progress| progress.matched);
        // The answer to the last round may still be on its way.
        let silent_ticks_max = 2 * self.config.heartbeat_ticks;
        let voters = self.tracker.config.voters.incoming.0.iter();
        let answering = voters.filter_map(|&id| {
            let progress = self.tracker.progress.get(&id)?;
            let is_ahead = progress.is_replicating() && progress.matched > own;
            (is_ahead && progress.silent_ticks <= silent_ticks_max).then_some((progress.matched, id))
        });
        answering.max().map(|(_, id)| id)
    }

    fn transfer_leader_as_leader(&mut self, transferee: NodeId) {
        let last = self.log.last_index();
        let Some(progress) = self.tracker.progress.get(&transferee) else { return };
        if progress.is_learner || self.lead_transferee == Some(transferee) {
            return;
        }
        let is_complete = progress.matched == last;
        self.lead_transferee = None;
        if transferee == self.id {
            return;
        }
        // It has one election timeout.
        self.election_elapsed = 0;
        self.lead_transferee = Some(transferee);
        if is_complete {
            self.send(Message::new(MessageType::TimeoutNow, transferee));
        } else {
            self.send_append(transferee);
        }
    }
}
