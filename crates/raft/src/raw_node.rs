//! The core behind one door, with its effects gathered into [`Ready`]s.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::conf_change::{ConfChange, ConfChangeV2};
use crate::conf_state::ConfState;
use crate::config::Config;
use crate::consensus::Raft;
use crate::entry::{Entry, encoded_bytes_of, payload_bytes_of};
use crate::error::{ConfChangeError, Malformed, StartError, StepError};
use crate::hard_state::{HardState, Role, SoftState};
use crate::message::{Message, MessageType};
use crate::position::{Index, NodeId, Term};
use crate::progress::Progress;
use crate::ready::{Persist, PersistAck, Ready, StableAt, Synced};
use crate::snapshot::SnapshotStatus;
use crate::status::{BasicStatus, Status};
use crate::storage::Storage;
use crate::timeouts::{ElectionTimeouts, SeededTimeouts};
use crate::tracker::Configuration;

/// One member. Not shared: whoever owns it feeds it and takes its [`Ready`]s.
pub struct RawNode<S> {
    raft: Raft<S>,
    /// What the last `Ready` told, so that the next tells only changes.
    told_soft_state: SoftState,
    told_hard_state: HardState,
    persist_sequence_next: u64,
    persist_ack_next: u64,
    /// Batches of committed entries that were handed out and are not yet applied, oldest first.
    applying: VecDeque<Applying>,
}

struct Applying {
    last: Index,
    bytes: u64,
    payload_bytes: u64,
}

impl<S: Storage> RawNode<S> {
    /// A member that continues from what `storage` holds; with timeouts from `config.seed`.
    pub fn new(config: Config, storage: S) -> Result<RawNode<S>, StartError> {
        let timeouts = Box::new(SeededTimeouts::new(config.seed));
        RawNode::with_timeouts(config, storage, timeouts)
    }

    pub fn with_timeouts(
        config: Config,
        storage: S,
        timeouts: Box<dyn ElectionTimeouts>,
    ) -> Result<RawNode<S>, StartError> {
        let raft = Raft::new(config, storage, timeouts)?;
        Ok(RawNode {
            told_soft_state: raft.soft_state(),
            told_hard_state: raft.hard_state(),
            raft,
            persist_sequence_next: 0,
            persist_ack_next: 0,
            applying: VecDeque::new(),
        })
    }

    pub fn id(&self) -> NodeId {
        self.raft.id
    }

    pub fn storage(&self) -> &S {
        &self.raft.log.storage
    }

    /// For appending what a `Persist` carries, and for compaction of applied entries.
    pub fn storage_mut(&mut self) -> &mut S {
        &mut self.raft.log.storage
    }

    /// Lets one unit of time pass.
    pub fn tick(&mut self) {
        self.raft.tick();
    }

    /// Starts an election now, if this member may lead and does not already.
    pub fn campaign(&mut self) {
        self.raft.campaign();
    }

    /// Proposes an entry: appended when this member leads, else sent to the leader. `Ok` does not mean that
    /// it will be committed.
    pub fn propose(&mut self, data: Bytes) -> Result<(), StepError> {
        self.propose_all(vec![data])
    }

    /// Proposes several entries in one go, all or none.
    pub fn propose_all(&mut self, data: Vec<Bytes>) -> Result<(), StepError> {
        self.propose_entries(data.into_iter().map(|data| Entry { data, ..Entry::default() }).collect())
    }

    /// Proposes a change of one member. The leader replaces it by an empty entry when another change is
    /// under way.
    pub fn propose_conf_change(&mut self, change: &ConfChange) -> Result<(), StepError> {
        self.propose_entries(vec![change.to_entry()])
    }

    pub fn propose_conf_change_v2(&mut self, change: &ConfChangeV2) -> Result<(), StepError> {
        self.propose_entries(vec![change.to_entry()])
    }

    fn propose_entries(&mut self, entries: Vec<Entry>) -> Result<(), StepError> {
        self.raft.step(Message { from: self.raft.id, entries, ..Message::new(MessageType::Prop, 0) })
    }

    /// Puts a committed configuration change into force; called when its entry is applied. A change that
    /// the application refuses is applied with `node_id` 0, or not at all.
    pub fn apply_conf_change(
        &mut self,
        change: impl Into<ConfChangeV2>,
    ) -> Result<ConfState, ConfChangeError> {
        self.raft.apply_conf_change(&change.into())
    }

    /// Takes a message from another member. Errors leave the member as it was, except for fatal ones
    /// ([`StepError::is_fatal`]), after which it must stop.
    pub fn step(&mut self, message: Message) -> Result<(), StepError> {
        self.check_message(&message)?;
        self.raft.step(message)
    }

    /// What no correct member sends never reaches the core.
    fn check_message(&self, message: &Message) -> Result<(), StepError> {
        let malformed =
            |problem| Err(StepError::Malformed { kind: message.kind, from: message.from, problem });
        // A forwarded request comes back to its sender when that has become leader meanwhile.
        let may_return = message.kind.is_termless() || message.kind == MessageType::TransferLeader;
        if message.from == 0 || (message.from == self.raft.id && !may_return) {
            return malformed(Malformed::BadSender);
        }
        if message.term == Term::ZERO && !message.kind.is_termless() {
            return malformed(Malformed::NoTerm);
        }
        if message.kind == MessageType::App && !has_ordered_entries(message) {
            return malformed(Malformed::EntriesOutOfOrder);
        }
        if message.kind.is_response() && !self.raft.tracker.progress.contains_key(&message.from) {
            return Err(StepError::PeerNotFound { from: message.from });
        }
        Ok(())
    }

    /// Asks for a read index. The answer comes as a `ReadState` with this context, or never: after a change
    /// of leader, or when nobody leads, the caller asks again.
    pub fn read_index(&mut self, context: Bytes) {
        let request = Entry { data: context, ..Entry::default() };
        let message = Message { entries: vec![request], ..Message::new(MessageType::ReadIndex, 0) };
        // It has its entry, and nothing else can be wrong with it.
        let _ = self.raft.step(message);
    }

    /// Hands leadership to `transferee`; a follower asks its leader to.
    pub fn transfer_leader(&mut self, transferee: NodeId) {
        self.raft.transfer_leader(transferee);
    }

    /// A message to `id` could not be sent.
    pub fn report_unreachable(&mut self, id: NodeId) {
        self.raft.report_unreachable(id);
    }

    /// A snapshot to `id` was sent or was not. Without this report nothing more is sent to it until it
    /// acknowledges entries.
    pub fn report_snapshot(&mut self, id: NodeId, status: SnapshotStatus) {
        self.raft.report_snapshot(id, status);
    }

    /// For a driver with evidence that the process of this leader has ended: its connections were closed, and
    /// attempts to connect again are refused. If we follow it, we name no leader any more, may vote for
    /// others, and soon ask for a pre-vote ourselves, as [`crate::Config::prompt_elections`] tells; otherwise
    /// nothing happens, and the answer is false. May be repeated: a message of that leader that was still on
    /// its way brings it back.
    ///
    /// Safe whatever the evidence is worth. Nobody is deposed while a majority hears its leader.
    pub fn leader_process_ended(&mut self, leader: NodeId) -> bool {
        self.raft.leader_process_ended(leader)
    }

    /// To whom a leader had better hand over when its own disk does not keep up: of the voters that answered
    /// its last heartbeats, the one with the most of its log on disk. `None` when it does not lead, when it is
    /// handing over already, or when nobody has more on disk than it has itself: then all disks are slow, or
    /// nothing is waiting, and the leader goes on.
    pub fn successor(&self) -> Option<NodeId> {
        self.raft.successor()
    }

    /// Makes a follower vote for others although it heard its leader a moment ago.
    pub fn forget_leader(&mut self) {
        self.raft.forget_leader();
    }

    pub fn has_ready(&self) -> bool {
        let raft = &self.raft;
        let hard_state = raft.hard_state();
        raft.soft_state() != self.told_soft_state
            || (!hard_state.is_empty() && hard_state != self.told_hard_state)
            || raft.log.unstable.next_snapshot().is_some()
            || !raft.messages.is_empty()
            || !raft.after_persist.is_empty()
            || !raft.log.unstable.next_entries().is_empty()
            || raft.log.has_next_committed()
            || !raft.read_states.is_empty()
    }

    /// Takes out everything that is to be done.
    pub fn ready(&mut self) -> Ready {
        let soft_state = self.raft.soft_state();
        let committed = self.take_committed();
        let ready = Ready {
            soft_state: (soft_state != self.told_soft_state).then_some(soft_state),
            read_states: std::mem::take(&mut self.raft.read_states),
            send_now: std::mem::take(&mut self.raft.messages),
            persist: self.take_persist(),
            committed,
        };
        self.told_soft_state = soft_state;
        ready
    }

    fn take_committed(&mut self) -> Vec<Entry> {
        let committed = self.raft.log.next_committed();
        if let Some(last) = committed.last() {
            let batch = Applying {
                last: last.index,
                bytes: encoded_bytes_of(&committed),
                payload_bytes: payload_bytes_of(&committed),
            };
            self.raft.log.accept_applying(batch.last, batch.bytes);
            self.applying.push_back(batch);
        }
        committed
    }

    fn take_persist(&mut self) -> Option<Persist> {
        let told = self.told_hard_state;
        let hard_state = self.raft.hard_state();
        let is_told = hard_state.is_empty() || hard_state == told;
        let unstable = &mut self.raft.log.unstable;
        let entries = unstable.next_entries().to_vec();
        let snapshot = unstable.next_snapshot().cloned();
        let promises = std::mem::take(&mut self.raft.after_persist);
        if is_told && entries.is_empty() && snapshot.is_none() && promises.is_empty() {
            return None;
        }
        let must_sync = !entries.is_empty()
            || snapshot.is_some()
            || hard_state.term != told.term
            || hard_state.vote != told.vote;
        let (to_self, messages) = promises.into_iter().partition(|it| it.to == self.raft.id);
        // Also when this write carries no entries: an earlier acknowledgement may have been ignored because
        // the term had changed, and this one takes its place.
        let stable =
            unstable.has_entries().then(|| StableAt { term: hard_state.term, last: self.raft.log.last_id() });
        let ack = PersistAck {
            sequence: self.persist_sequence_next,
            to_self,
            stable,
            snapshot: snapshot.as_ref().map(|snapshot| snapshot.index()),
        };
        self.raft.log.unstable.accept_in_progress();
        self.persist_sequence_next += 1;
        self.told_hard_state = hard_state;
        Some(Persist {
            hard_state: (!is_told).then_some(hard_state),
            entries,
            snapshot,
            must_sync,
            synced: Synced { messages, ack },
        })
    }

    /// Notes that a `Persist` is durable and that the storage holds its entries and snapshot. In the order
    /// in which they were handed out; panics otherwise, as then a vote or an entry was lost.
    pub fn persisted(&mut self, ack: PersistAck) {
        assert!(
            ack.sequence == self.persist_ack_next,
            "write {} was acknowledged instead of {}",
            ack.sequence,
            self.persist_ack_next
        );
        self.persist_ack_next += 1;
        for message in ack.to_self {
            // Our own vote or acknowledgement; ignored when it is no longer of use.
            let _ = self.raft.step(message);
        }
        if let Some(StableAt { term, last }) = ack.stable
            && term == self.raft.hard_state().term
        {
            self.raft.log.stable_to(last);
        }
        if let Some(index) = ack.snapshot {
            self.raft.installed_snapshot(index);
        }
    }

    /// Notes that all handed out entries up to `index` are applied (configuration changes among them by
    /// [`RawNode::apply_conf_change`]). Their state need not be durable. May skip batches.
    pub fn applied(&mut self, index: Index) {
        assert!(
            index <= self.raft.log.applying(),
            "applied {index}, handed out only up to {}",
            self.raft.log.applying()
        );
        while let Some(batch) = self.applying.front()
            && batch.last <= index
        {
            let Applying { last, bytes, payload_bytes } = *batch;
            self.applying.pop_front();
            self.raft.applied_entries(last, bytes, payload_bytes);
        }
        if index > self.raft.log.applied() {
            self.raft.applied_entries(index, 0, 0);
        }
    }

    /// Whether committed entries may be held back until [`RawNode::applied`] tells of more: too much that was handed
    /// out is not applied, or the next entry was too large to go with it.
    pub fn waits_for_applied(&self) -> bool {
        self.raft.log.is_applying_paused()
    }

    pub fn basic_status(&self) -> BasicStatus {
        BasicStatus {
            id: self.raft.id,
            hard_state: self.raft.hard_state(),
            soft_state: self.raft.soft_state(),
            applied: self.raft.log.applied(),
            lead_transferee: self.raft.lead_transferee(),
        }
    }

    pub fn status(&self) -> Status {
        let basic = self.basic_status();
        let progress = match basic.soft_state.role {
            Role::Leader => self.raft.tracker.progress.clone(),
            Role::Follower | Role::PreCandidate | Role::Candidate => Default::default(),
        };
        Status { basic, config: self.raft.tracker.config.clone(), progress }
    }

    /// What this member, while it leads, knows about member `id`, itself included. `None` when it does not
    /// lead, or when nobody has that id. Costs one look-up, where [`RawNode::status`] copies everybody's.
    pub fn progress(&self, id: NodeId) -> Option<&Progress> {
        match self.raft.soft_state().role {
            Role::Leader => self.raft.tracker.progress.get(&id),
            Role::Follower | Role::PreCandidate | Role::Candidate => None,
        }
    }

    /// While true, a leader replaces a configuration change that is proposed by an empty entry: an earlier one
    /// is in its log and not yet applied. Drivers that would rather wait can look first.
    pub fn has_pending_conf_change(&self) -> bool {
        self.raft.has_pending_conf_change()
    }

    /// The membership in force here.
    pub fn configuration(&self) -> &Configuration {
        &self.raft.tracker.config
    }

    /// Term of an entry of the log, durable or not; `None` when it is compacted or not there.
    pub fn entry_term(&self, index: Index) -> Option<Term> {
        self.raft.log.term(index).ok()
    }

    /// The last index of the log, durable or not.
    pub fn last_index(&self) -> Index {
        self.raft.log.last_index()
    }
}

/// Consecutive after `message.index`, with terms that never fall and never exceed the sender's.
fn has_ordered_entries(message: &Message) -> bool {
    let mut term = message.log_term;
    let mut index = message.index;
    message.entries.iter().all(|entry| {
        let follows = index < Index::MAX && entry.index == index.next();
        let rises = entry.term >= term && entry.term > Term::ZERO && entry.term <= message.term;
        (index, term) = (entry.index, entry.term);
        follows && rises
    })
}
