//! From one leader to the next, for members that are told to be prompt ([`crate::Config::prompt_elections`]).
//!
//! etcd's follower waits for a drawn timeout, and a pre-vote that came while others still held their lease
//! costs it another. Here the wait is as long as the lease has to be, and little longer:
//!
//! | rule | why |
//! |---|---|
//! | The timeout is the lease and one slot per rank among the voters that are left | two members do not campaign at once, and the first is not drawn late |
//! | A pre-vote is asked for again every [`Raft::retry_ticks`] until a leader is heard | it disturbs nobody, and whoever did not answer may do so by now |
//! | A pre-vote that comes within the lease is remembered, and answered when the lease ends | who noticed first need not ask again |
//! | Who grants one lets that candidate go first, once; of two that ask, the lower id goes on | two do not win their pre-votes and then split the votes |
//! | The driver may know that the leader's process has ended: that ends the lease | nobody waits for one who cannot come back as leader of this term |
//!
//! None of it changes what a message says or whom anybody may vote for: each member answers for itself, and a
//! majority that hears its leader keeps it. A real vote is never hurried, as it waits for disks: who asked
//! for one or gave one is back to a timeout.

use super::Raft;
use crate::config::ReadOnlyOption;
use crate::hard_state::Role;
use crate::message::{Message, MessageType};
use crate::position::NodeId;
use crate::storage::Storage;

/// Where a member stands between two leaders. Empty while it hears one.
#[derive(Debug, Default)]
pub(super) struct Succession {
    /// Ticks until the next pre-vote; `None`: the election timeout decides.
    attempt_in: Option<u32>,
    /// It has let somebody else go first. Once: a candidate that hears no answers must not hold up the rest.
    has_yielded: bool,
    /// Requests that came within the lease. At most one per voter; those of anybody else are forgotten.
    early_pre_votes: Vec<Message>,
}

impl<S: Storage> Raft<S> {
    /// The driver has evidence that the process of this leader has ended. Only if that is whom we follow, its
    /// lease ends here, and a pre-vote is asked for: by the first of the voters that are left at once, by the
    /// others a tick per rank later. False when it changed nothing.
    ///
    /// Wrong evidence costs what a lost heartbeat costs: the leader's next message brings the lease back, and
    /// the pre-vote finds no majority while other members hear that leader.
    pub fn leader_process_ended(&mut self, leader: NodeId) -> bool {
        let follows_it = self.role == Role::Follower && self.leader == Some(leader);
        // A leader that answers reads by its lease relies on ours.
        if !follows_it || !self.config.prompt_elections || self.config.read_only != ReadOnlyOption::Safe {
            return false;
        }
        let wait = self.rank_without(Some(leader)) * self.slot_ticks();
        self.leader = None;
        self.succession.attempt_in = Some(wait);
        self.answer_early_pre_votes();
        if self.succession.attempt_in == Some(0) {
            self.attempt();
        }
        true
    }

    pub(super) fn tick_succession(&mut self) {
        if !self.is_in_lease() {
            self.answer_early_pre_votes();
        }
        let is_due = match &mut self.succession.attempt_in {
            Some(ticks) => {
                *ticks = ticks.saturating_sub(1);
                *ticks == 0
            }
            None => self.election_elapsed >= self.prompt_timeout_ticks(),
        };
        if is_due {
            self.attempt();
        }
    }

    /// Asks for a pre-vote, and sets the time for the next. `election_elapsed` goes on, or an attempt that is
    /// refused (a configuration change is not applied yet) would renew the lease of a leader that is gone.
    fn attempt(&mut self) {
        self.succession.attempt_in = Some(self.retry_ticks());
        if self.is_promotable() {
            self.campaign();
        }
    }

    /// Remembers a request that the lease forbids to answer now.
    pub(super) fn remember_early_pre_vote(&mut self, message: &Message) {
        let is_voter = self.tracker.config.voters.contains(message.from);
        let remembers = self.config.prompt_elections
            && self.role == Role::Follower
            && message.kind == MessageType::PreVote
            && is_voter;
        if remembers {
            let early = &mut self.succession.early_pre_votes;
            early.retain(|earlier| earlier.from != message.from);
            early.push(message.clone());
        }
    }

    fn answer_early_pre_votes(&mut self) {
        for request in std::mem::take(&mut self.succession.early_pre_votes) {
            // Not about a term that has begun meanwhile.
            if request.term > self.term {
                self.answer_vote(&request);
            }
        }
    }

    /// We have granted a pre-vote: that candidate goes first.
    pub(super) fn yield_to(&mut self, candidate: NodeId) {
        let yields = match self.role {
            Role::Follower => true,
            // Both of two rivals decide alike, whoever's request arrives first.
            Role::PreCandidate => candidate < self.id,
            Role::Candidate | Role::Leader => false,
        };
        if !yields || !self.config.prompt_elections || self.succession.has_yielded {
            return;
        }
        if self.role == Role::PreCandidate {
            self.become_follower(self.term, None);
        }
        self.succession.has_yielded = true;
        self.succession.attempt_in = Some(self.retry_ticks());
    }

    /// A leader was heard, or a real vote was asked for or given.
    pub(super) fn end_succession(&mut self) {
        self.succession = Succession::default();
    }

    /// With a leader to lose: one tick more than its lease, as the others' leases end up to a tick after ours,
    /// and a slot per rank. Without one: half as widely spread as etcd's.
    fn prompt_timeout_ticks(&self) -> u32 {
        let election_ticks = self.config.election_ticks;
        let offset = match self.leader {
            Some(leader) => 1 + self.rank_without(Some(leader)) * self.slot_ticks(),
            None => self.election_timeout.saturating_sub(election_ticks) / 2,
        };
        election_ticks.saturating_add(offset)
    }

    /// How many voters come before us when `leader` is gone.
    fn rank_without(&self, leader: Option<NodeId>) -> u32 {
        let voters = self.tracker.config.voters.ids();
        voters.into_iter().filter(|&id| id < self.id && Some(id) != leader).count() as u32
    }

    /// Distance of two ranks.
    fn slot_ticks(&self) -> u32 {
        (self.config.election_ticks / 10).max(1)
    }

    /// Distance of two pre-votes of one member: room for the slots of all others.
    fn retry_ticks(&self) -> u32 {
        let others = self.tracker.config.voters.ids().len().saturating_sub(1) as u32;
        self.slot_ticks() * others.max(3)
    }
}
