//! What a follower does with its leader's messages.

use super::{Raft, malformed};
use crate::changer::Changer;
use crate::config::ReadOnlyOption;
use crate::error::{Malformed, StepError};
use crate::hard_state::Role;
use crate::message::{Message, MessageType};
use crate::position::{EntryId, Index, Term};
use crate::snapshot::Snapshot;
use crate::storage::Storage;
use crate::tracker::Tracker;

impl<S: Storage> Raft<S> {
    /// Acknowledges the leader of this term. False for the leader itself: nobody else speaks as one.
    fn follow_sender(&mut self, message: &Message) -> bool {
        match self.role {
            Role::Leader => return false,
            Role::PreCandidate | Role::Candidate => {
                self.become_follower(message.term, Some(message.from));
            }
            Role::Follower => {
                self.election_elapsed = 0;
                self.leader = Some(message.from);
                self.end_succession();
            }
        }
        true
    }

    pub(super) fn step_append(&mut self, message: Message) -> Result<(), StepError> {
        if !self.follow_sender(&message) {
            return Ok(());
        }
        let previous = EntryId { term: message.log_term, index: message.index };
        let committed = self.log.committed();
        if previous.index < committed {
            // Late: what we have committed is the leader's log as well.
            self.acknowledge(&message, committed);
            return Ok(());
        }
        match self.log.maybe_append(previous, &message.entries, message.commit) {
            Some(last_new) => self.acknowledge(&message, last_new),
            None => self.reject(&message, previous),
        }
        Ok(())
    }

    fn acknowledge(&mut self, message: &Message, index: Index) {
        self.send(Message { index, ..Message::new(MessageType::AppResp, message.from) });
    }

    /// Tells the leader where our log may meet its own: terms in it before `previous` are not above that
    /// entry's, so our entries of later terms need not be tried.
    fn reject(&mut self, message: &Message, previous: EntryId) {
        let from = EntryId { term: previous.term, index: previous.index.min(self.log.last_index()) };
        let (reject_hint, log_term) = self.log.find_conflict_by_term(from);
        self.send(Message {
            index: previous.index,
            reject: true,
            reject_hint,
            log_term,
            ..Message::new(MessageType::AppResp, message.from)
        });
    }

    pub(super) fn step_heartbeat(&mut self, message: Message) -> Result<(), StepError> {
        if !self.follow_sender(&message) {
            return Ok(());
        }
        let last = self.log.last_index();
        if message.commit > last {
            // The leader has our acknowledgement of entries that we do not have. To go on would mean to
            // vote and to acknowledge with a log that forgot.
            return Err(StepError::CommitBeyondLog { from: message.from, commit: message.commit, last });
        }
        self.log.commit_to(message.commit);
        self.send(Message {
            context: message.context,
            ..Message::new(MessageType::HeartbeatResp, message.from)
        });
        Ok(())
    }

    pub(super) fn step_snapshot(&mut self, mut message: Message) -> Result<(), StepError> {
        if !self.follow_sender(&message) {
            return Ok(());
        }
        let snapshot = message.snapshot.take().unwrap_or_default();
        let index =
            if self.restore(snapshot, &message)? { self.log.last_index() } else { self.log.committed() };
        self.acknowledge(&message, index);
        Ok(())
    }

    /// Replaces log and membership by the snapshot's. False when it is no news.
    fn restore(&mut self, snapshot: Snapshot, message: &Message) -> Result<bool, StepError> {
        if snapshot.index() <= self.log.committed() {
            return Ok(false);
        }
        assert!(self.role == Role::Follower, "{:?} installs a snapshot", self.role);
        if snapshot.term() == Term::ZERO || snapshot.term() > message.term {
            return Err(malformed(message, Malformed::BadSnapshot));
        }
        let conf_state = snapshot.metadata.conf_state.clone();
        if !conf_state.contains(self.id) {
            // A member that was removed; its log would not know itself.
            return Ok(false);
        }
        if self.log.matches(snapshot.entry_id()) {
            // We have all of it already, and now know that it is committed.
            self.log.commit_to(snapshot.index());
            return Ok(false);
        }
        let limits = self.tracker.limits;
        let (config, progress) = Changer::restore(limits, snapshot.index(), &conf_state)
            .map_err(|_| malformed(message, Malformed::BadSnapshot))?;
        self.log.restore(snapshot);
        self.tracker = Tracker::new(limits);
        self.switch_to(config, progress);
        Ok(true)
    }

    /// Lets others campaign although the lease is not over; for drivers that know that the leader is gone.
    /// Not with lease based reads, which such an election would break.
    pub fn forget_leader(&mut self) {
        match self.role {
            Role::Follower if self.config.read_only == ReadOnlyOption::Safe => self.leader = None,
            Role::Follower | Role::PreCandidate | Role::Candidate | Role::Leader => {}
        }
    }
}
