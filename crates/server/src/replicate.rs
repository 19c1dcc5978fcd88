//! The raft thread: drives the raft core, and never touches a disk or a socket.
//!
//! It takes all that waits in its queue, steps the core once for each, and then carries out what the core
//! wants: writes go to the log writer, committed entries to the apply thread, confirmed reads to their
//! callers. Time comes from the queue's own timeout, so an idle member wakes once per tick.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use membership::MemberId;
use raft::{
    ConfChangeError, ConfChangeV2, ConfState, Entry, Index, MemoryStorage, Message, PersistAck, RawNode,
    ReadState, Ready, Role, SnapshotStatus, SoftState, Storage,
};

use crate::apply_loop::ApplyInput;
use crate::error::Error;
use crate::log_writer::LogInput;
use crate::network::ConnectionLoss;
use crate::reads::{self, ReadWaiter};
use crate::shared::Shared;

/// Inputs taken before the core's effects are carried out: bounds how long the first of them waits.
const INPUTS_PER_ROUND: usize = 1024;

/// After this long without an answer a read index is asked for again.
/// Source: etcd `server/etcdserver/v3_server.go`.
const READ_INDEX_RETRY: Duration = Duration::from_millis(500);

/// Bytes of proposals that may wait for a leader. Full: "too many requests".
const PARKED_BYTES_MAX: usize = 64 << 20;

/// Applied entries between two compactions of the in-memory log.
const MEMORY_COMPACTION_STEP: u64 = 100;

/// What the raft thread is told.
pub enum RaftInput {
    /// A request for the log; `id` is what its proposer waits for.
    Propose {
        id: u64,
        data: Bytes,
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
    /// A committed configuration change takes effect; the new configuration goes back.
    ConfChange {
        change: ConfChangeV2,
        reply: Sender<Result<ConfState, ConfChangeError>>,
    },
    Stop,
}

/// Owner of the raft core.
pub struct Replicator {
    node: RawNode<MemoryStorage>,
    shared: Arc<Shared>,
    inputs: Receiver<RaftInput>,
    to_log: Sender<LogInput>,
    to_apply: Sender<ApplyInput>,
    next_tick: Instant,
    /// Proposals that came while there was no leader.
    parked: VecDeque<(u64, Bytes)>,
    parked_bytes: usize,
    /// Rounds of reads in flight, oldest first.
    reads: VecDeque<ReadRound>,
    compacted: u64,
    role: Option<SoftState>,
}

struct ReadRound {
    context: u64,
    asked: Instant,
    waiters: Vec<ReadWaiter>,
}

impl Replicator {
    pub fn new(
        node: RawNode<MemoryStorage>,
        shared: Arc<Shared>,
        inputs: Receiver<RaftInput>,
        to_log: Sender<LogInput>,
        to_apply: Sender<ApplyInput>,
    ) -> Replicator {
        let next_tick = Instant::now() + shared.config.heartbeat_interval;
        let compacted = node.storage().first_index().0.saturating_sub(1);
        Replicator {
            node,
            shared,
            inputs,
            to_log,
            to_apply,
            next_tick,
            parked: VecDeque::new(),
            parked_bytes: 0,
            reads: VecDeque::new(),
            compacted,
            role: None,
        }
    }

    /// Runs until told to stop, or until the other threads are gone.
    pub fn run(mut self) {
        self.fast_forward();
        self.carry_out_all();
        loop {
            let wait = self.next_tick.saturating_duration_since(Instant::now());
            match self.inputs.recv_timeout(wait) {
                Ok(RaftInput::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
            }
            for _ in 1..INPUTS_PER_ROUND {
                match self.inputs.try_recv() {
                    Ok(RaftInput::Stop) => return self.stop(),
                    Ok(input) => self.handle(input),
                    Err(_) => break,
                }
            }
            self.tick_when_due();
            self.carry_out_all();
        }
        self.stop();
    }

    fn stop(mut self) {
        for round in self.reads.drain(..) {
            reads::answer(round.waiters, &Err(Error::Stopped));
        }
    }

    /// A member that is alone needs nobody's vote and waits for no election timeout.
    fn fast_forward(&mut self) {
        let voters = &self.node.status().config.voters;
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
            RaftInput::Propose { id, data } => self.propose(id, data),
            RaftInput::Step(message) => self.step(*message),
            RaftInput::Unreachable(id) => self.node.report_unreachable(id.0),
            RaftInput::SnapshotSent { id, status } => self.node.report_snapshot(id.0, status),
            RaftInput::ConnectionLost { id, loss } => {
                tracing::debug!(peer_id = %id, ?loss, "lost a connection");
            }
            RaftInput::ReadsWait => self.start_read_round(),
            RaftInput::Persisted(acks) => {
                for ack in acks {
                    self.node.persisted(ack);
                }
            }
            RaftInput::Applied { index, conf_state } => self.note_applied(index, conf_state),
            RaftInput::ConfChange { change, reply } => {
                let conf_state = self.node.apply_conf_change(change);
                // The apply thread is gone only when the member stops.
                reply.send(conf_state).ok();
            }
            RaftInput::Stop => unreachable!("the loop takes it out"),
        }
    }

    fn step(&mut self, message: Message) {
        let (kind, from) = (message.kind, MemberId(message.from));
        match self.node.step(message) {
            Ok(()) => {}
            Err(error) if error.is_fatal() => {
                self.shared.fail(format!("raft message {kind:?} of member {from}: {error}"));
            }
            Err(error) => tracing::debug!(%error, ?kind, %from, "ignored a raft message"),
        }
    }

    fn propose(&mut self, id: u64, data: Bytes) {
        if self.shared.raft.leader().is_none() {
            return self.park(id, data);
        }
        if let Err(error) = self.node.propose(data) {
            tracing::debug!(%error, id, "a proposal was dropped");
            // A leader drops what its disk cannot keep up with; another member, what came as it lost its leader.
            let reason = if self.shared.is_leader() { Error::TooManyRequests } else { Error::Stopped };
            self.refuse(id, reason);
        }
    }

    fn park(&mut self, id: u64, data: Bytes) {
        if self.parked_bytes + data.len() > PARKED_BYTES_MAX {
            return self.refuse(id, Error::TooManyRequests);
        }
        self.parked_bytes += data.len();
        self.parked.push_back((id, data));
    }

    fn refuse(&self, id: u64, reason: Error) {
        self.shared.metrics.server.proposals_failed.inc();
        self.shared.waiters.answer(id, Err(reason));
    }

    /// A leader is known: what waited for one goes on, but for those that gave up.
    fn propose_parked(&mut self) {
        self.parked_bytes = 0;
        for (id, data) in std::mem::take(&mut self.parked) {
            if self.shared.waiters.is_awaited(id) {
                self.propose(id, data);
            }
        }
    }

    // --- reads ---

    /// Without a leader there is nobody to ask: reads stay in the queue until there is one, or they give up.
    fn start_read_round(&mut self) {
        if self.shared.raft.leader().is_none() {
            return;
        }
        let waiters = self.shared.reads.take();
        if waiters.is_empty() {
            return;
        }
        // Never used twice, not even by an earlier run: a late answer to that one's read proves nothing now.
        let context = self.shared.request_ids.next();
        self.reads.push_back(ReadRound { context, asked: Instant::now(), waiters });
        self.ask_read_index(context);
    }

    fn ask_read_index(&mut self, context: u64) {
        self.node.read_index(Bytes::copy_from_slice(&context.to_be_bytes()));
    }

    fn finish_read(&mut self, state: &ReadState) {
        let Ok(context) = <[u8; 8]>::try_from(&state.request_context[..]) else { return };
        let context = u64::from_be_bytes(context);
        let Some(at) = self.reads.iter().position(|round| round.context == context) else {
            return; // answered before, by an earlier try of the same round
        };
        // Rounds before this one asked earlier, so its index serves them too.
        for round in self.reads.drain(..=at) {
            self.shared.apply_waiters.wait(state.index.0, round.waiters, || self.shared.raft.applied());
        }
    }

    fn retry_reads(&mut self) {
        if self.shared.raft.leader().is_none() {
            self.shared.reads.drop_abandoned();
        }
        let now = Instant::now();
        let mut again = Vec::new();
        // A leader that cannot reach the others answers none, and callers ask anew and anew.
        self.reads.retain(|round| !round.waiters.iter().all(ReadWaiter::is_closed));
        for round in &mut self.reads {
            if now.duration_since(round.asked) >= READ_INDEX_RETRY {
                round.asked = now;
                again.push(round.context);
            }
        }
        for context in again {
            self.shared.metrics.server.slow_read_indexes.inc();
            self.ask_read_index(context);
        }
    }

    fn fail_reads(&mut self, error: &Error) {
        for round in self.reads.drain(..) {
            self.shared.metrics.server.read_indexes_failed.inc();
            reads::answer(round.waiters, &Err(error.clone()));
        }
    }

    // --- time ---

    fn tick_when_due(&mut self) {
        let interval = self.shared.config.heartbeat_interval;
        let now = Instant::now();
        if now < self.next_tick {
            return;
        }
        let late = now.duration_since(self.next_tick);
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
    }

    // --- effects ---

    fn carry_out_all(&mut self) {
        while self.node.has_ready() {
            let ready = self.node.ready();
            self.carry_out(ready);
        }
    }

    fn carry_out(&mut self, ready: Ready) {
        let Ready { soft_state, read_states, send_now, persist, committed } = ready;
        if !send_now.is_empty() {
            self.shared.network.send(send_now);
        }
        if let Some(persist) = persist {
            if let Some(hard_state) = persist.hard_state {
                self.shared.raft.set_term(hard_state.term.0);
            }
            self.node.storage_mut().append(&persist.entries);
            self.send_to_log(LogInput::Persist(persist));
        }
        if let Some(soft_state) = soft_state {
            self.change_role(soft_state);
        }
        for state in &read_states {
            self.finish_read(state);
        }
        if let Some(last) = committed.last() {
            self.note_committed(last.index.0);
            self.send_to_apply(committed);
        }
    }

    fn send_to_log(&mut self, input: LogInput) {
        if self.to_log.send(input).is_err() {
            tracing::debug!("the log writer has stopped");
        }
    }

    fn send_to_apply(&mut self, entries: Vec<Entry>) {
        if self.to_apply.send(ApplyInput::Entries(entries)).is_err() {
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
        // Applying the entry that makes a lone member a voter lets it lead; before, it may not ask to.
        if self.node.basic_status().soft_state == (SoftState { leader: None, role: Role::Follower }) {
            self.fast_forward();
        }
        let keep = self.shared.config.snapshot_catchup_entries;
        let target = index.saturating_sub(keep);
        if target < self.compacted + MEMORY_COMPACTION_STEP {
            return;
        }
        let storage = self.node.storage_mut();
        let made = storage.create_snapshot(Index(index), conf_state, Bytes::new());
        if made.is_ok() && storage.compact(Index(target)).is_ok() {
            self.compacted = target;
        }
    }

    fn change_role(&mut self, state: SoftState) {
        let before = self.role.replace(state);
        let me = self.shared.member_id;
        let term = self.shared.raft.term();
        let metrics = &self.shared.metrics.server;
        let leads = state.role == Role::Leader;
        metrics.is_leader.set(i64::from(leads));
        metrics.has_leader.set(i64::from(state.leader.is_some()));
        if leads && before.is_none_or(|before| before.role != Role::Leader) {
            tracing::info!(logger = "raft", "{me} became leader at term {term}");
        }
        let leader = state.leader.map(MemberId);
        // Before the lessor: the apply thread looks whether this member leads, and then promotes it.
        self.shared.raft.set_leader(leader);
        if !leads && before.is_some_and(|before| before.role == Role::Leader) {
            self.shared.lessor.lock().demote();
            tracing::info!(logger = "raft", "{me} became {:?} at term {term}", state.role);
        }
        if before.and_then(|before| before.leader).map(MemberId) == leader && before.is_some() {
            return;
        }
        match (before.and_then(|before| before.leader), leader) {
            (_, Some(leader)) => {
                metrics.leader_changes_seen.inc();
                tracing::info!(logger = "raft", "raft.node: {me} elected leader {leader} at term {term}");
            }
            (Some(lost), None) => {
                tracing::info!(logger = "raft", "raft.node: {me} lost leader {lost:x} at term {term}");
            }
            (None, None) => {}
        }
        self.shared.leader.send_replace(leader);
        match leader {
            Some(_) => {
                self.propose_parked();
                self.start_read_round();
            }
            None => self.fail_reads(&Error::LeaderChanged),
        }
    }
}
