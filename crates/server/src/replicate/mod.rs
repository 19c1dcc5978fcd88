//! The raft stage: drives the raft core, and never waits for a disk or a socket.
//!
//! A turn takes all that waits in its queue, steps the core once for each, and then carries out what the core
//! wants: messages that promise nothing go to the network at once, writes to the log writer, committed
//! entries to the apply thread, confirmed reads to their callers. An idle member's thread wakes once per tick.

mod parked;
mod read_rounds;
mod reads;
mod role;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use membership::MemberId;
use raft::{
    Acknowledgement, ConfChange, ConfChangeV2, ConfState, EntryKind, HardState, Index, MemoryStorage,
    Message, MessageType, Persist, PersistAck, RawNode, Ready, Role, Snapshot, SnapshotStatus, SoftState,
    Storage, Synced,
};

use parked::Parked;
pub use parked::Proposal;
use read_rounds::ReadRounds;

use tokio::sync::oneshot;

use crate::apply_loop::{ApplyInput, ApplyLoop};
use crate::backend::BackendInput;
use crate::error::Error;
use crate::inlet::{Inlet, TakesTurns};
use crate::log_writer::{LogInput, LogWriter};
use crate::members::Matched;
use crate::network::ConnectionLoss;
use crate::shared::{Flow, Shared};

/// Inputs taken before the core's effects are carried out: bounds how long the first of them waits.
const INPUTS_PER_ROUND: usize = 1024;

/// Applied entries between two compactions of the in-memory log.
const MEMORY_COMPACTION_STEP: u64 = 100;

/// How long the in-memory log is kept whole after a snapshot was sent, so that its receiver finds there what
/// follows. Source: etcd `server/etcdserver/server.go`, `releaseDelayAfterSnapshot`.
const SNAPSHOT_HOLD: Duration = Duration::from_secs(30);

/// Membership changes that may wait for an earlier one. Full: "too many requests".
const HELD_CHANGES_MAX: usize = 64;

/// What the raft stage is told.
pub enum RaftInput {
    /// Something for the log; `id` is what its proposer waits for.
    Propose {
        id: u64,
        proposal: Proposal,
    },
    /// A message from another member.
    Step(Box<Message>),
    /// A message to this member could not be sent.
    Unreachable(MemberId),
    SnapshotSent {
        id: MemberId,
        status: SnapshotStatus,
    },
    ConnectionLost {
        id: MemberId,
        loss: ConnectionLoss,
    },
    /// Reads wait in [`Shared::reads`].
    ReadsWait,
    /// Writes that are durable, in the order in which they were handed out.
    Persisted(Vec<PersistAck>),
    /// Entries up to here are applied.
    Applied {
        index: u64,
        conf_state: ConfState,
    },
    /// A committed configuration change takes effect, and must lead to this configuration.
    ConfChange {
        change: ConfChangeV2,
        expected: ConfState,
    },
    /// How far a follower's log goes; `None` when this member does not lead, or does not know it.
    AskMatched {
        id: MemberId,
        reply: oneshot::Sender<Option<Matched>>,
    },
    /// Leadership is to go to this member.
    TransferLeader(MemberId),
    /// So many ticks pass at once: see `--initial-election-tick-advance`.
    AdvanceTicks(u32),
    Stop,
}

/// A membership change that waits until the one before it is applied.
enum HeldChange {
    Own(u64, ConfChange),
    Forwarded(Box<Message>),
}

/// A write that the log writer has.
struct Unsynced {
    since: Duration,
    acknowledgement: Option<Acknowledgement>,
}

/// Owner of the raft core.
pub struct Replicator {
    node: RawNode<MemoryStorage>,
    shared: Arc<Shared>,
    inputs: Receiver<RaftInput>,
    to_log: Inlet<LogWriter>,
    to_apply: Inlet<ApplyLoop>,
    next_tick: Duration,
    parked: Parked,
    held_changes: VecDeque<HeldChange>,
    reads: ReadRounds,
    /// The in-memory log begins behind this index.
    compacted: u64,
    /// Snapshots on their way to others, and until when the log is kept whole for those that arrived.
    snapshots_sending: usize,
    hold_until: Duration,
    /// Writes that the log writer has and that are not yet durable, oldest first.
    unsynced: VecDeque<Unsynced>,
    /// What was last acknowledged to the leader, and when.
    acknowledged: Option<(Acknowledgement, Duration)>,
    /// A commit index that goes into the log with the next write.
    late_commit: Option<HardState>,
    role: Option<SoftState>,
}

impl TakesTurns for Replicator {
    type Input = RaftInput;

    /// Also lets a tick pass when it is due, and carries out what the core wants of it all.
    fn turn(&mut self) -> Flow {
        for _ in 0..INPUTS_PER_ROUND {
            match self.inputs.try_recv() {
                Ok(RaftInput::Stop) => return Flow::Stop,
                Ok(input) => self.handle(input),
                Err(_) => break,
            }
        }
        self.tick_when_due();
        self.carry_out_all();
        Flow::Continue
    }

    fn idle_for(&self) -> Option<Duration> {
        Some(self.next_tick.saturating_sub(self.shared.clock.elapsed()))
    }

    fn end(mut self) {
        if let Some(late) = self.late_commit.take() {
            self.send_to_log(LogInput::Commit(late));
        }
        self.fail_reads(&Error::Stopped);
    }
}

impl Replicator {
    pub fn new(
        node: RawNode<MemoryStorage>,
        shared: Arc<Shared>,
        inputs: Receiver<RaftInput>,
        to_log: Inlet<LogWriter>,
        to_apply: Inlet<ApplyLoop>,
    ) -> Replicator {
        let next_tick = shared.clock.elapsed() + shared.config.heartbeat_interval;
        let compacted = node.storage().first_index().0.saturating_sub(1);
        Replicator {
            node,
            shared,
            inputs,
            to_log,
            to_apply,
            next_tick,
            parked: Parked::default(),
            held_changes: VecDeque::new(),
            reads: ReadRounds::default(),
            compacted,
            snapshots_sending: 0,
            hold_until: Duration::ZERO,
            unsynced: VecDeque::new(),
            acknowledged: None,
            late_commit: None,
            role: None,
        }
    }

    /// What must happen before the first turn.
    pub fn begin(&mut self) {
        self.campaign_when_alone();
        self.carry_out_all();
    }

    /// A member that is alone needs nobody's vote and waits for no election timeout.
    fn campaign_when_alone(&mut self) {
        let voters = &self.node.configuration().voters;
        let alone = !voters.is_joint() && voters.incoming.0.iter().eq([&self.shared.member_id.0]);
        if !alone {
            return;
        }
        tracing::info!(
            local_member_id = %self.shared.member_id,
            "started as single-node; fast-forwarding election ticks"
        );
        self.node.campaign();
    }

    fn handle(&mut self, input: RaftInput) {
        match input {
            RaftInput::Propose { id, proposal } => self.propose(id, proposal),
            RaftInput::Step(message) => self.step(*message),
            RaftInput::Unreachable(id) => self.node.report_unreachable(id.0),
            RaftInput::SnapshotSent { id, status } => self.note_snapshot_sent(id, status),
            RaftInput::ConnectionLost { id, loss } => self.note_connection_lost(id, loss),
            RaftInput::ReadsWait => self.start_read_round(),
            RaftInput::Persisted(acks) => {
                acks.into_iter().for_each(|ack| self.note_persisted(ack));
            }
            RaftInput::Applied { index, conf_state } => self.note_applied(index, conf_state),
            RaftInput::ConfChange { change, expected } => self.change_configuration(change, &expected),
            RaftInput::AskMatched { id, reply } => {
                reply.send(self.matched(id)).ok();
            }
            RaftInput::TransferLeader(to) => self.node.transfer_leader(to.0),
            RaftInput::AdvanceTicks(ticks) => (0..ticks).for_each(|_| self.node.tick()),
            RaftInput::Stop => unreachable!("the loop takes it out"),
        }
    }

    fn step(&mut self, message: Message) {
        if self.is_untimely(&message) {
            return self.hold(HeldChange::Forwarded(Box::new(message)));
        }
        let (kind, from) = (message.kind, MemberId(message.from));
        match self.node.step(message) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => {
                self.shared.fail(format!("raft message {kind:?} of member {from}: {error}"));
            }
            Err(error) => tracing::debug!(%error, ?kind, %from, "ignored a raft message"),
        }
    }

    fn note_connection_lost(&mut self, id: MemberId, loss: ConnectionLoss) {
        tracing::debug!(peer_id = %id, ?loss, "lost a connection");
        // Others judge for themselves: if they still hear this leader, it stays.
        if loss == ConnectionLoss::Refused && self.node.leader_process_ended(id.0) {
            tracing::warn!(
                leader = %id,
                term = self.node.basic_status().hard_state.term.0,
                "the leader's process has ended; asking for an election"
            );
        }
    }

    fn note_snapshot_sent(&mut self, id: MemberId, status: SnapshotStatus) {
        self.snapshots_sending = self.snapshots_sending.saturating_sub(1);
        // A receiver that failed needs another snapshot, and may fail for hours.
        if status == SnapshotStatus::Finished {
            self.hold_until = self.shared.clock.elapsed() + SNAPSHOT_HOLD;
        }
        self.node.report_snapshot(id.0, status);
    }

    fn matched(&self, id: MemberId) -> Option<Matched> {
        let leader = self.node.progress(self.shared.member_id.0)?.matched.0;
        self.node.progress(id.0).map(|progress| Matched { follower: progress.matched.0, leader })
    }

    // --- proposals ---

    fn propose(&mut self, id: u64, proposal: Proposal) {
        let status = self.node.basic_status();
        let leader = match self.shared.raft.leader() {
            Some(leader) if status.lead_transferee.is_none() => leader,
            _ => return self.park(id, proposal),
        };
        if leader != self.shared.member_id && !self.shared.network.has_room(leader, proposal.len() as u64) {
            return self.refuse(id, Error::TooManyRequests);
        }
        if let Proposal::ConfChange(change) = &proposal
            && self.must_wait_for_conf_change()
        {
            return self.hold(HeldChange::Own(id, change.clone()));
        }
        self.shared.waiters.note_proposed(id, status.hard_state.term.0);
        let proposed = match proposal {
            Proposal::Request(data) => self.node.propose(data),
            Proposal::ConfChange(change) => self.node.propose_conf_change(&change),
        };
        if let Err(error) = proposed {
            tracing::debug!(%error, id, "a proposal was dropped");
            // A leader drops what its disk cannot keep up with; another member, what came as it lost its leader.
            let reason = if self.shared.is_leader() { Error::TooManyRequests } else { Error::LeaderChanged };
            self.refuse(id, reason);
        }
    }

    fn park(&mut self, id: u64, proposal: Proposal) {
        if !self.parked.park(id, proposal) {
            self.refuse(id, Error::TooManyRequests);
        }
    }

    fn refuse(&self, id: u64, reason: Error) {
        self.shared.metrics.server.proposals_failed.inc();
        self.shared.waiters.answer(id, Err(reason));
    }

    /// There is a leader again: what waited for one goes on, but for those that gave up.
    fn propose_parked(&mut self) {
        for (id, proposal) in self.parked.take() {
            if self.shared.waiters.is_awaited(id) {
                self.propose(id, proposal);
            }
        }
    }

    // --- one configuration change at a time ---

    /// Raft would put an empty entry in the place of a second change, and its proposer would wait in vain.
    fn must_wait_for_conf_change(&self) -> bool {
        self.shared.is_leader() && self.node.has_pending_conf_change()
    }

    fn is_untimely(&self, message: &Message) -> bool {
        message.kind == MessageType::Prop
            && message.entries.iter().any(|entry| entry.kind != EntryKind::Normal)
            && self.must_wait_for_conf_change()
    }

    fn hold(&mut self, change: HeldChange) {
        if self.held_changes.len() < HELD_CHANGES_MAX {
            return self.held_changes.push_back(change);
        }
        match change {
            HeldChange::Own(id, _) => self.refuse(id, Error::TooManyRequests),
            HeldChange::Forwarded(message) => {
                tracing::warn!(from = %MemberId(message.from), "dropped a membership change: too many wait");
            }
        }
    }

    /// An earlier change is applied: the next has its turn.
    fn release_changes(&mut self) {
        while !self.held_changes.is_empty() && !self.must_wait_for_conf_change() {
            match self.held_changes.pop_front().expect("looked at") {
                HeldChange::Own(id, change) if self.shared.waiters.is_awaited(id) => {
                    self.propose(id, Proposal::ConfChange(change));
                }
                HeldChange::Own(..) => {}
                HeldChange::Forwarded(message) => self.step(*message),
            }
        }
    }

    // --- time ---

    fn tick_when_due(&mut self) {
        let interval = self.shared.config.heartbeat_interval;
        let now = self.shared.clock.elapsed();
        if now < self.next_tick {
            return;
        }
        let late = now - self.next_tick;
        self.node.tick();
        self.next_tick += interval;
        // A thread that was held up ticks once, not once for each tick it missed: the others need time to
        // be heard before this member calls an election.
        if late > interval {
            self.next_tick = now + interval;
            if self.shared.is_leader() {
                self.shared.metrics.server.heartbeat_send_failures.inc();
            }
        }
        self.retry_reads();
        self.hand_over_when_disk_stalls(now);
        // A hand-over that came to nothing ends with an election timeout, and nobody says so.
        if self.shared.raft.leader().is_some() {
            self.propose_parked();
        } else {
            self.parked.drop_abandoned(|id| self.shared.waiters.is_awaited(id));
        }
    }

    /// A leader whose log does not get to its disk acknowledges nothing that needs its own word, and serves
    /// no client: another member does better.
    fn hand_over_when_disk_stalls(&mut self, now: Duration) {
        let status = self.node.basic_status();
        if status.soft_state.role != Role::Leader || status.lead_transferee.is_some() {
            return;
        }
        let waiting = self.unsynced.front().map_or(Duration::ZERO, |write| now.saturating_sub(write.since));
        if waiting < self.shared.config.election_timeout {
            return;
        }
        let Some(to) = self.node.successor() else { return };
        tracing::warn!(
            took = ?waiting,
            transferee_member_id = %MemberId(to),
            "the disk of the log is stalled; handing leadership over"
        );
        self.node.transfer_leader(to);
    }

    // --- effects ---

    fn carry_out_all(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            self.carry_out(ready);
        }
        self.shared.raft.set_log_is_busy(!self.unsynced.is_empty());
        self.note_waits_for_applied();
        self.note_committed(self.node.basic_status().hard_state.commit.0);
    }

    fn note_waits_for_applied(&self) {
        self.shared.raft.set_waits_for_applied(self.node.waits_for_applied());
    }

    /// The member's own threads first: they work while this one is busy with the network, and on a machine that it
    /// shares with its peers, those may run in its place as soon as they have something to read.
    fn carry_out(&mut self, ready: Ready) {
        let Ready { soft_state, read_states, send_now, persist, committed } = ready;
        if let Some(persist) = persist {
            if let Some(hard_state) = persist.hard_state {
                self.shared.raft.set_term(hard_state.term.0);
            }
            if let Some(snapshot) = &persist.snapshot {
                self.take_snapshot(snapshot);
            }
            self.persist(persist);
        }
        if let Some(soft_state) = soft_state {
            self.change_role(soft_state);
        }
        for state in &read_states {
            self.finish_read(state);
        }
        if let Some(last) = committed.last() {
            // No reader may see an entry applied that is not committed yet.
            self.note_committed(last.index.0);
            // Before the entries: whoever has applied them knows whether to tell.
            self.note_waits_for_applied();
            self.send_to_apply(ApplyInput::Entries(committed));
        }
        if !send_now.is_empty() {
            self.send(send_now);
        }
    }

    /// A write to the log. What needs no sync counts as durable once all before it is, and wakes nobody.
    fn persist(&mut self, mut persist: Persist) {
        if !persist.must_sync && self.unsynced.is_empty() {
            self.late_commit = persist.hard_state.or(self.late_commit);
            let Synced { mut messages, ack } = persist.synced();
            messages.retain(|message| !self.repeats_acknowledgement(message));
            if !messages.is_empty() {
                self.send(messages);
            }
            return self.node.persisted(ack);
        }
        if let Some(late) = self.late_commit.take() {
            persist.hard_state.get_or_insert(late);
        }
        self.node.storage_mut().append(&persist.entries);
        self.unsynced.push_back(Unsynced {
            since: self.shared.clock.elapsed(),
            acknowledgement: persist.acknowledgement(),
        });
        self.send_to_log(LogInput::Persist(persist));
    }

    fn note_persisted(&mut self, ack: PersistAck) {
        let durable = self.unsynced.pop_front().expect("what is durable was written");
        if let Some(acknowledgement) = durable.acknowledgement {
            self.acknowledged = Some((acknowledgement, self.shared.clock.elapsed()));
        }
        self.node.persisted(ack);
    }

    /// A leader tells its followers of every commit, and needs no answer to that but the last one. Now and then
    /// it gets one all the same: the last may have been lost.
    fn repeats_acknowledgement(&mut self, message: &Message) -> bool {
        let Some(acknowledgement) = Acknowledgement::of(message) else { return false };
        let now = self.shared.clock.elapsed();
        let again = self.shared.config.heartbeat_interval / 4;
        if self.acknowledged.is_some_and(|(last, at)| last == acknowledgement && now < at + again) {
            return true;
        }
        self.acknowledged = Some((acknowledgement, now));
        false
    }

    /// A snapshot needs the file beside the message: the backend thread adds it.
    fn send(&mut self, messages: Vec<Message>) {
        if messages.iter().all(|message| message.kind != MessageType::Snap) {
            return self.shared.network.send(messages);
        }
        let (snapshots, others): (Vec<_>, Vec<_>) =
            messages.into_iter().partition(|message| message.kind == MessageType::Snap);
        if !others.is_empty() {
            self.shared.network.send(others);
        }
        for message in snapshots {
            self.snapshots_sending += 1;
            self.shared.to_backend.send(BackendInput::SendSnapshot(Box::new(message))).ok();
        }
    }

    /// The log begins anew behind the snapshot. The log writer makes it durable and hands it to the apply
    /// thread, in front of whatever is committed behind it.
    fn take_snapshot(&mut self, snapshot: &Snapshot) {
        // Out of date only when a later one is there already.
        if self.node.storage_mut().apply_snapshot(snapshot.clone()).is_ok() {
            self.compacted = snapshot.index().0;
        }
        self.note_committed(snapshot.index().0);
    }

    fn send_to_log(&mut self, input: LogInput) {
        if self.to_log.send(input).is_err() {
            tracing::debug!("the log writer has stopped");
        }
    }

    fn send_to_apply(&mut self, input: ApplyInput) {
        if self.to_apply.send(input).is_err() {
            tracing::debug!("the apply thread has stopped");
        }
    }

    fn note_committed(&mut self, index: u64) {
        self.shared.raft.set_committed(index);
        self.shared.metrics.server.proposals_committed.set(index as i64);
    }

    /// Tells the core, and drops what the in-memory log holds beyond the catch-up distance.
    fn note_applied(&mut self, index: u64, conf_state: ConfState) {
        self.node.applied(Index(index));
        self.release_changes();
        // Applying the entry that makes a lone member a voter lets it lead; before, it may not ask to.
        if self.node.basic_status().soft_state == (SoftState { leader: None, role: Role::Follower }) {
            self.campaign_when_alone();
        }
        let is_held = self.snapshots_sending > 0 || self.shared.clock.elapsed() < self.hold_until;
        let keep = self.shared.config.snapshot_catchup_entries;
        let target = index.saturating_sub(keep);
        if is_held || target < self.compacted + MEMORY_COMPACTION_STEP {
            return;
        }
        let storage = self.node.storage_mut();
        let made = storage.create_snapshot(Index(index), conf_state, Bytes::new());
        if made.is_ok() && storage.compact(Index(target)).is_ok() {
            self.compacted = target;
        }
    }

    fn change_configuration(&mut self, change: ConfChangeV2, expected: &ConfState) {
        match self.node.apply_conf_change(change) {
            // A member of etcd lists the voters of its snapshots in any order.
            Ok(made) if made.is_equivalent(expected) => {}
            Ok(made) => self.shared.fail(format!(
                "a configuration change led raft to {made:?}, and the members to {expected:?}"
            )),
            Err(error) => self.shared.fail(format!("apply a configuration change: {error}")),
        }
    }
}
