//! Terms, campaigns and votes.

use bytes::Bytes;

use super::Raft;
use crate::codec::CAMPAIGN_TRANSFER;
use crate::hard_state::Role;
use crate::message::{Message, MessageType};
use crate::position::{EntryId, NodeId, Term};
use crate::quorum::VoteResult;
use crate::storage::Storage;

/// Why a member campaigns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Campaign {
    /// Asks first whether it could win, so that a member that was cut off disturbs nobody.
    Pre,
    Election,
    /// The leader asked for it: no pre-vote, and the voters' lease does not count.
    Transfer,
}

impl<S: Storage> Raft<S> {
    pub(super) fn tick_election(&mut self) {
        self.election_elapsed = self.election_elapsed.saturating_add(1);
        if self.config.prompt_elections {
            self.tick_succession();
        } else if self.is_promotable() && self.election_elapsed >= self.election_timeout {
            self.election_elapsed = 0;
            self.campaign();
        }
    }

    /// The election timeout fired, or the driver wants an election now.
    pub fn campaign(&mut self) {
        self.start(if self.config.pre_vote { Campaign::Pre } else { Campaign::Election });
    }

    /// The leader hands over to us. It has seen our log complete, so no pre-vote is needed.
    pub(super) fn step_timeout_now(&mut self) {
        match self.role {
            Role::Follower => self.start(Campaign::Transfer),
            Role::PreCandidate | Role::Candidate | Role::Leader => {}
        }
    }

    fn start(&mut self, campaign: Campaign) {
        let may_lead = self.role != Role::Leader && self.is_promotable() && self.term < Term::MAX;
        if may_lead && !self.log.has_unapplied_conf_change() {
            self.ask_for_votes(campaign);
        }
    }

    fn ask_for_votes(&mut self, campaign: Campaign) {
        let (kind, response, term) = match campaign {
            Campaign::Pre => {
                self.become_pre_candidate();
                (MessageType::PreVote, MessageType::PreVoteResp, self.term.next())
            }
            Campaign::Election | Campaign::Transfer => {
                self.become_candidate();
                (MessageType::Vote, MessageType::VoteResp, self.term)
            }
        };
        let last = self.log.last_id();
        for id in self.tracker.config.voters.ids() {
            if id == self.id {
                // Our own vote counts once it is durable, like everybody's.
                self.send(Message { term, ..Message::new(response, id) });
                continue;
            }
            let context = match campaign {
                Campaign::Transfer => Bytes::from_static(CAMPAIGN_TRANSFER),
                Campaign::Pre | Campaign::Election => Bytes::new(),
            };
            self.send(Message {
                term,
                index: last.index,
                log_term: last.term,
                context,
                ..Message::new(kind, id)
            });
        }
    }

    /// Touches neither term nor vote.
    fn become_pre_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        self.tracker.votes.clear();
        self.leader = None;
        self.role = Role::PreCandidate;
    }

    fn become_candidate(&mut self) {
        assert!(self.role != Role::Leader, "a leader does not campaign");
        self.reset(self.term.next());
        self.vote = Some(self.id);
        self.role = Role::Candidate;
        self.end_succession();
    }

    fn become_leader(&mut self) {
        assert!(self.role == Role::Candidate, "{:?} became leader", self.role);
        self.reset(self.term);
        self.leader = Some(self.id);
        self.role = Role::Leader;
        if let Some(own) = self.tracker.progress.get_mut(&self.id) {
            own.become_replicate();
            own.recent_active = true;
        }
        // There may be a configuration change in the tail; assuming one at its end is cheaper than looking,
        // and only delays the next.
        self.pending_conf_index = self.log.last_index();
        // Entries of older terms are committed together with this one. Empty, it fits under any limit.
        let accepted = self.append_entries(vec![crate::entry::Entry::default()]);
        assert!(accepted, "the entry that opens term {} was dropped", self.term);
    }

    pub(super) fn step_vote_response(&mut self, message: &Message) {
        // A late answer to our pre-vote must not count as a vote.
        let awaited = match self.role {
            Role::PreCandidate => MessageType::PreVoteResp,
            Role::Candidate => MessageType::VoteResp,
            Role::Follower | Role::Leader => return,
        };
        if message.kind != awaited {
            return;
        }
        match self.tracker.record_vote(message.from, !message.reject) {
            VoteResult::Pending => {}
            VoteResult::Lost => self.become_follower(self.term, None),
            VoteResult::Won if self.role == Role::PreCandidate => self.ask_for_votes(Campaign::Election),
            VoteResult::Won => {
                self.become_leader();
                self.broadcast_append();
            }
        }
    }

    /// Follows a higher term, where one is bound to. False when the message is to be ignored.
    pub(super) fn meet_higher_term(&mut self, message: &Message) -> bool {
        let asks_vote = matches!(message.kind, MessageType::Vote | MessageType::PreVote);
        let by_transfer = message.context == CAMPAIGN_TRANSFER;
        if asks_vote && !by_transfer && self.is_in_lease() {
            self.remember_early_pre_vote(message);
            return false;
        }
        match message.kind {
            // A pre-vote asks about a term that nobody has entered yet.
            MessageType::PreVote => {}
            // Ours came true: we enter that term when a quorum says so.
            MessageType::PreVoteResp if !message.reject => {}
            MessageType::App | MessageType::Heartbeat | MessageType::Snap => {
                self.become_follower(message.term, Some(message.from));
            }
            _ => self.become_follower(message.term, None),
        }
        true
    }

    /// True while the leader was heard less than an election timeout ago: its lease, during which nobody
    /// helps to depose it.
    pub(super) fn is_in_lease(&self) -> bool {
        self.config.check_quorum
            && self.leader.is_some()
            && self.election_elapsed < self.config.election_ticks
    }

    /// Messages of older terms are ignored, except for two that would otherwise leave somebody stuck.
    pub(super) fn answer_lower_term(&mut self, message: &Message) {
        match message.kind {
            // A leader that we have overtaken while we were cut off: with leases or pre-votes our own
            // campaign would be ignored, so only this tells it about our term.
            MessageType::App | MessageType::Heartbeat if self.config.check_quorum || self.config.pre_vote => {
                self.send(Message::new(MessageType::AppResp, message.from));
            }
            // A candidate that is behind in terms and may still have the longest log.
            MessageType::PreVote => self.send(Message {
                term: self.term,
                reject: true,
                ..Message::new(MessageType::PreVoteResp, message.from)
            }),
            _ => {}
        }
    }

    pub(super) fn answer_vote(&mut self, message: &Message) {
        let is_pre_vote = message.kind == MessageType::PreVote;
        let response = if is_pre_vote { MessageType::PreVoteResp } else { MessageType::VoteResp };
        let last = EntryId { term: message.log_term, index: message.index };
        // Learners vote as well: one that was promoted may not know it yet, and its vote may be needed.
        if self.may_vote_for(message.from, message.term, is_pre_vote) && self.log.is_up_to_date(last) {
            // With the asked term, not ours: the candidate ignores everything else.
            self.send(Message { term: message.term, ..Message::new(response, message.from) });
            if is_pre_vote {
                self.yield_to(message.from);
            } else {
                self.election_elapsed = 0;
                self.vote = Some(message.from);
                self.end_succession();
            }
        } else {
            self.send(Message { term: self.term, reject: true, ..Message::new(response, message.from) });
        }
    }

    /// Again for the same candidate, or for anybody while neither vote nor leader is known in this term, or
    /// as a forecast about a later one.
    fn may_vote_for(&self, candidate: NodeId, term: Term, is_pre_vote: bool) -> bool {
        self.vote == Some(candidate)
            || (self.vote.is_none() && self.leader.is_none())
            || (is_pre_vote && term > self.term)
    }
}
