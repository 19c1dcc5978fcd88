//! The state machine itself. One file per conversation: [`election`] (terms and votes), [`succession`]
//! (when to campaign), [`leading`] and
//! [`replication`] (a leader and its followers), [`following`], [`reads`], [`membership`].
//!
//! Every input is a method here or a [`Message`]; every effect lands in `messages`, `after_persist` or
//! `read_states`, from which [`crate::RawNode`] makes a `Ready`.

mod election;
mod following;
mod leading;
mod membership;
mod reads;
mod replication;
mod succession;
#[cfg(test)]
mod tests;

use crate::changer::Changer;
use crate::config::Config;
use crate::error::{Malformed, StartError, StepError};
use crate::hard_state::{HardState, Role, SoftState};
use crate::log::Log;
use crate::message::{Message, MessageType};
use crate::position::{Index, NodeId, Term};
use crate::read_only::{ReadOnly, ReadState};
use crate::storage::Storage;
use crate::timeouts::ElectionTimeouts;
use crate::tracker::{InflightLimits, Tracker};
use succession::Succession;

pub(crate) struct Raft<S> {
    pub id: NodeId,
    term: Term,
    vote: Option<NodeId>,
    pub log: Log<S>,
    pub tracker: Tracker,
    role: Role,
    leader: Option<NodeId>,

    /// To be sent at once: they promise nothing that is not durable.
    pub messages: Vec<Message>,
    /// Votes, requests for them and acknowledgements, to others and to ourselves: to be sent once everything
    /// that is unstable now is durable. Rejections too: they may rest on a vote or an entry that is not durable yet.
    pub after_persist: Vec<Message>,
    pub read_states: Vec<ReadState>,

    /// To whom leadership is being handed over; no proposals are taken meanwhile.
    lead_transferee: Option<NodeId>,
    /// The last configuration change in the log is at or before this index; one at a time is let in.
    pending_conf_index: Index,
    /// Payload bytes in a leader's log beyond the commit index. Never an overestimate.
    uncommitted_bytes: u64,
    read_only: ReadOnly,
    /// Reads that arrived before the leader committed an entry of its own term.
    early_reads: Vec<Message>,

    /// Follower and candidate: ticks since a leader was heard or the last campaign. Leader: ticks since the
    /// last quorum check.
    election_elapsed: u32,
    heartbeat_elapsed: u32,
    /// Drawn anew with each change of role or term.
    election_timeout: u32,
    succession: Succession,
    config: Config,
    timeouts: Box<dyn ElectionTimeouts>,
}

impl<S: Storage> Raft<S> {
    pub fn new(
        config: Config,
        storage: S,
        timeouts: Box<dyn ElectionTimeouts>,
    ) -> Result<Raft<S>, StartError> {
        config.validate().map_err(StartError::Config)?;
        let state = storage.initial_state();
        let limits =
            InflightLimits { count_max: config.max_inflight_msgs, bytes_max: config.inflight_bytes_max() };
        let mut tracker = Tracker::new(limits);
        let log = Log::new(storage, config.applying_bytes_max());
        (tracker.config, tracker.progress) =
            Changer::restore(limits, log.last_index(), &state.conf_state).map_err(StartError::ConfState)?;
        let mut raft = Raft {
            id: config.id,
            term: Term::ZERO,
            vote: None,
            log,
            tracker,
            role: Role::Follower,
            leader: None,
            messages: Vec::new(),
            after_persist: Vec::new(),
            read_states: Vec::new(),
            lead_transferee: None,
            pending_conf_index: Index::ZERO,
            uncommitted_bytes: 0,
            read_only: ReadOnly::default(),
            early_reads: Vec::new(),
            election_elapsed: 0,
            heartbeat_elapsed: 0,
            election_timeout: config.election_ticks,
            succession: Succession::default(),
            config,
            timeouts,
        };
        raft.load(state.hard_state)?;
        raft.become_follower(raft.term, None);
        Ok(raft)
    }

    fn load(&mut self, state: HardState) -> Result<(), StartError> {
        if !state.is_empty() {
            let (committed, last) = (self.log.committed(), self.log.last_index());
            if state.commit < committed || state.commit > last {
                return Err(StartError::CommitOutOfRange { commit: state.commit, committed, last });
            }
            self.log.load_commit(state.commit);
            self.term = state.term;
            self.vote = state.vote;
        }
        let applied = self.config.applied;
        if applied > Index::ZERO {
            let (compacted, committed) = (self.log.applied(), self.log.committed());
            if applied < compacted || applied > committed {
                return Err(StartError::AppliedOutOfRange { applied, compacted, committed });
            }
            self.log.applied_to(applied, 0);
        }
        Ok(())
    }

    pub fn soft_state(&self) -> SoftState {
        SoftState { leader: self.leader, role: self.role }
    }

    pub fn hard_state(&self) -> HardState {
        HardState { term: self.term, vote: self.vote, commit: self.log.committed() }
    }

    pub fn lead_transferee(&self) -> Option<NodeId> {
        self.lead_transferee
    }

    pub fn tick(&mut self) {
        match self.role {
            Role::Follower | Role::PreCandidate | Role::Candidate => self.tick_election(),
            Role::Leader => self.tick_leader(),
        }
    }

    /// Takes a message from another member, or one of our own that waited for the disk.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        if message.term > self.term {
            if !self.meet_higher_term(&message) {
                return Ok(());
            }
        } else if message.term < self.term && message.term != Term::ZERO {
            self.answer_lower_term(&message);
            return Ok(());
        }
        match message.kind {
            MessageType::Vote | MessageType::PreVote => {
                self.answer_vote(&message);
                Ok(())
            }
            MessageType::Prop => self.step_proposal(message),
            MessageType::ReadIndex => self.step_read_index(message),
            MessageType::App => self.step_append(message),
            MessageType::Heartbeat => self.step_heartbeat(message),
            MessageType::Snap => self.step_snapshot(message),
            MessageType::AppResp => self.step_append_response(&message),
            MessageType::HeartbeatResp => {
                self.step_heartbeat_response(&message);
                Ok(())
            }
            MessageType::VoteResp | MessageType::PreVoteResp => {
                self.step_vote_response(&message);
                Ok(())
            }
            MessageType::ReadIndexResp => self.step_read_index_response(message),
            MessageType::TransferLeader => {
                self.transfer_leader(message.from);
                Ok(())
            }
            MessageType::TimeoutNow => {
                self.step_timeout_now();
                Ok(())
            }
            MessageType::ForgetLeader => {
                self.forget_leader();
                Ok(())
            }
        }
    }

    /// Proposals end with the leader: appended by it, sent on by its followers, dropped without one.
    fn step_proposal(&mut self, mut message: Message) -> Result<(), StepError> {
        match self.role {
            Role::Leader => self.propose_as_leader(message),
            Role::PreCandidate | Role::Candidate => Err(StepError::ProposalDropped),
            Role::Follower => {
                let leader = self.leader.ok_or(StepError::ProposalDropped)?;
                if self.config.disable_proposal_forwarding {
                    return Err(StepError::ProposalDropped);
                }
                message.to = leader;
                self.send(message);
                Ok(())
            }
        }
    }

    /// Queues a message, in the current term unless its type says otherwise.
    fn send(&mut self, mut message: Message) {
        if message.from == 0 {
            message.from = self.id;
        }
        match message.kind {
            MessageType::Vote | MessageType::VoteResp | MessageType::PreVote | MessageType::PreVoteResp => {
                assert!(message.term > Term::ZERO, "{:?} without a term", message.kind);
            }
            kind if kind.is_termless() => message.term = Term::ZERO,
            _ => message.term = self.term,
        }
        match message.kind {
            MessageType::AppResp | MessageType::VoteResp | MessageType::PreVoteResp => {
                self.after_persist.push(message);
            }
            // Asking for votes waits too: a candidate that forgets its term could win that term twice, with
            // other entries, or by answers that praised entries which it has lost. etcd's loop does the
            // same; etcd-raft's asynchronous mode does not.
            MessageType::Vote => self.after_persist.push(message),
            kind => {
                assert!(message.to != self.id, "{kind:?} to ourselves");
                self.messages.push(message);
            }
        }
    }

    /// Leaves whatever was going on in the old role or term.
    fn reset(&mut self, term: Term) {
        assert!(term >= self.term, "term {} moves back to {term}", self.term);
        if self.term != term {
            self.term = term;
            self.vote = None;
        }
        self.leader = None;
        self.election_elapsed = 0;
        self.heartbeat_elapsed = 0;
        self.election_timeout = self.timeouts.draw(self.config.election_ticks);
        self.lead_transferee = None;
        self.tracker.votes.clear();
        let last = self.log.last_index();
        for (&id, progress) in &mut self.tracker.progress {
            progress.reset(last.next());
            if id == self.id {
                progress.matched = last;
            }
        }
        self.pending_conf_index = Index::ZERO;
        self.uncommitted_bytes = 0;
        self.read_only = ReadOnly::default();
    }

    fn become_follower(&mut self, term: Term, leader: Option<NodeId>) {
        self.reset(term);
        self.leader = leader;
        self.role = Role::Follower;
        if leader.is_some() {
            self.end_succession();
        }
    }

    /// Whether our own log allows to lead: a voter here, with no snapshot half installed.
    fn is_promotable(&self) -> bool {
        self.tracker.progress.get(&self.id).is_some_and(|progress| !progress.is_learner)
            && !self.log.has_snapshot_to_install()
    }

    /// Notes that the application has applied entries up to `index`, which were `bytes` of the window and
    /// `payload_bytes` of the leader's uncommitted limit.
    pub fn applied_entries(&mut self, index: Index, bytes: u64, payload_bytes: u64) {
        self.applied_to(index, bytes);
        self.uncommitted_bytes = self.uncommitted_bytes.saturating_sub(payload_bytes);
    }

    /// Notes that a snapshot is durable, which counts as applied.
    pub fn installed_snapshot(&mut self, index: Index) {
        self.log.stable_snapshot_to(index);
        self.applied_to(index, 0);
    }

    fn applied_to(&mut self, index: Index, bytes: u64) {
        let applied = index.max(self.log.applied());
        self.log.applied_to(applied, bytes);
        let leaves_joint =
            self.tracker.config.auto_leave && applied >= self.pending_conf_index && self.role == Role::Leader;
        if leaves_joint {
            // Fails while leadership is being handed over; then the next applied entry, or the next leader,
            // tries again.
            let _ = self.propose_leaving_joint();
        }
    }
}

fn malformed(message: &Message, problem: Malformed) -> StepError {
    StepError::Malformed { kind: message.kind, from: message.from, problem }
}
