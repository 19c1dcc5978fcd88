//! Our side of one member: the core, its log, and the work that it handed out and that is not acknowledged.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use raft::{
    ConfChangeV2, ConfState, Config, ElectionTimeouts, Entry, HardState, Index, MemoryStorage, Message,
    NodeId, ProgressState, RawNode, Ready, Snapshot, SnapshotMetadata, Status, StepError, Storage, Synced,
    Term,
};

use crate::command::{Append, Command};
use crate::rng::Rng;
use crate::trace::{CONTEXT, Label, Trace, role_number};

/// Draws election timeouts and notes each, so that the other side can be given the same.
struct NotedTimeouts {
    rng: Rng,
    noted: Arc<Mutex<Vec<u8>>>,
}

impl ElectionTimeouts for NotedTimeouts {
    fn draw(&mut self, election_ticks: u32) -> u32 {
        let extra = self.rng.below(u64::from(election_ticks)) as u8;
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).push(extra);
        election_ticks + u32::from(extra)
    }
}

/// A write that is under way.
struct Write {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    snapshot: Option<Snapshot>,
    synced: Synced,
}

pub struct Member {
    pub node: RawNode<MemoryStorage>,
    config: Config,
    draws: Arc<Mutex<Vec<u8>>>,
    /// What a restart finds, where the core's storage is ahead of it.
    disk: Option<MemoryStorage>,
    writes: VecDeque<Write>,
    batches: VecDeque<Vec<Entry>>,
    /// What the application has applied, and the membership there.
    pub applied: Index,
    pub conf_state: ConfState,
}

/// What a command did beyond its trace.
#[derive(Default)]
pub struct Outcome {
    pub sent: Vec<Message>,
    pub conf_changes: u64,
    pub refused_conf_changes: u64,
    pub reads: u64,
    pub snapshots: u64,
}

impl Member {
    pub fn boot(mut config: Config, first: Index, conf_state: ConfState, append: Append) -> Member {
        let mut storage = MemoryStorage::new();
        if !conf_state.is_empty() {
            let metadata = SnapshotMetadata { conf_state: conf_state.clone(), index: first, term: Term(1) };
            let snapshot = Snapshot { metadata, ..Snapshot::default() };
            storage.apply_snapshot(snapshot).expect("the storage is empty");
            storage.set_hard_state(HardState { term: Term(1), vote: None, commit: first });
            config.applied = first;
        }
        let draws = Arc::default();
        let disk = (append == Append::AtOnce).then(|| storage.clone());
        let node = start(&config, storage, &draws);
        Member {
            node,
            applied: config.applied,
            config,
            draws,
            disk,
            writes: VecDeque::new(),
            batches: VecDeque::new(),
            conf_state,
        }
    }

    pub fn id(&self) -> NodeId {
        self.config.id
    }

    /// The timeouts drawn since the last call.
    pub fn take_draws(&self) -> Vec<u8> {
        std::mem::take(&mut *self.draws.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn write_count(&self) -> usize {
        self.writes.len()
    }

    pub fn has_batch(&self) -> bool {
        !self.batches.is_empty()
    }

    /// What a restart would find.
    pub fn durable(&self) -> &MemoryStorage {
        self.disk.as_ref().unwrap_or(self.node.storage())
    }

    /// True when a configuration change was handed out and is not applied yet.
    pub fn has_conf_change_to_apply(&self) -> bool {
        self.batches.iter().flatten().any(|entry| entry.kind != raft::EntryKind::Normal)
    }

    pub fn run(&mut self, command: &Command, out: &mut Trace) -> Outcome {
        let mut outcome = Outcome::default();
        let result = self.run_for_result(command, out, &mut outcome);
        if let Err(error) = result {
            out.error(&error);
        }
        outcome
    }

    fn run_for_result(
        &mut self,
        command: &Command,
        out: &mut Trace,
        outcome: &mut Outcome,
    ) -> Result<(), StepError> {
        let node = &mut self.node;
        match command {
            Command::Boot { .. } => {}
            Command::Tick => node.tick(),
            Command::Campaign => node.campaign(),
            Command::Propose(data) => node.propose(data.clone())?,
            Command::ProposeConfChange(change) => node.propose_conf_change(change)?,
            Command::ProposeConfChangeV2(change) => node.propose_conf_change_v2(change)?,
            Command::Step(message) => node.step(message.clone())?,
            Command::Ready => {
                let ready = node.ready();
                self.take(ready, out, outcome);
            }
            Command::Persisted => self.persisted(outcome),
            Command::Applied => self.apply(out, outcome),
            Command::ReadIndex(context) => node.read_index(context.clone()),
            Command::TransferLeader(to) => node.transfer_leader(*to),
            Command::ReportUnreachable(to) => node.report_unreachable(*to),
            Command::ReportSnapshot(to, status) => node.report_snapshot(*to, *status),
            Command::ForgetLeader => node.forget_leader(),
            Command::Compact { index, end, conf_state, data } => {
                for storage in self.disk.iter_mut().chain([node.storage_mut()]) {
                    let made = storage.create_snapshot(*index, conf_state.clone(), data.clone());
                    made.expect("the schedule snapshots forward");
                    if *end >= storage.first_index() {
                        storage.compact(*end).expect("the schedule compacts forward");
                    }
                }
            }
            Command::Restart { writes } => self.restart(*writes),
        }
        Ok(())
    }

    fn take(&mut self, ready: Ready, out: &mut Trace, outcome: &mut Outcome) {
        let Ready { soft_state, read_states, send_now, persist, committed } = ready;
        if let Some(state) = soft_state {
            out.mark(Label::SoftStateNew, role_number(state.role));
            out.number(Label::Lead, state.leader.unwrap_or(0));
        }
        for state in &read_states {
            out.mark(Label::ReadStateNew, state.index.0);
            out.bytes(CONTEXT, &state.request_context);
        }
        for message in &send_now {
            out.message(Label::MessageOut, message);
        }
        outcome.reads = read_states.len() as u64;
        outcome.sent = send_now;
        if let Some(mut persist) = persist {
            let hard_state = persist.hard_state;
            let entries = std::mem::take(&mut persist.entries);
            let snapshot = persist.snapshot.take();
            let must_sync = persist.must_sync;
            // A disk that does not lie would be asked first; this one is asked in `persisted`.
            let synced = persist.synced();
            out.mark(Label::Persist, 1);
            if let Some(state) = hard_state {
                out.hard_state(state);
            }
            out.entries(&entries);
            match &snapshot {
                Some(snapshot) => out.snapshot(snapshot),
                // Ours counts a snapshot as well.
                None => out.flag(Label::MustSync, must_sync),
            }
            // Go's asks for votes before its term is durable, so these stand in another list there.
            let is_vote = |message: &&Message| message.kind == raft::MessageType::Vote;
            let votes = synced.messages.iter().filter(is_vote);
            let others = synced.messages.iter().filter(|message| !is_vote(message));
            votes.chain(others).for_each(|message| out.message(Label::Promise, message));
            let write = Write { hard_state, entries, snapshot, synced };
            if self.disk.is_some() {
                write.store(self.node.storage_mut());
            }
            self.writes.push_back(write);
        }
        if !committed.is_empty() {
            out.mark(Label::Committed, committed.len() as u64);
            out.entries(&committed);
            self.batches.push_back(committed);
        }
    }

    fn persisted(&mut self, outcome: &mut Outcome) {
        let write = self.writes.pop_front().expect("the schedule looks first");
        if let Some(snapshot) = &write.snapshot {
            self.applied = snapshot.index();
            self.conf_state = snapshot.metadata.conf_state.clone();
            outcome.snapshots += 1;
        }
        write.store(self.disk.as_mut().unwrap_or(self.node.storage_mut()));
        outcome.sent = write.synced.messages;
        self.node.persisted(write.synced.ack);
    }

    fn apply(&mut self, out: &mut Trace, outcome: &mut Outcome) {
        let batch = self.batches.pop_front().expect("the schedule looks first");
        for entry in &batch {
            let change = ConfChangeV2::from_entry(entry).expect("we proposed well-formed changes");
            let Some(change) = change else { continue };
            // Go's panics where ours refuses; both leave everything as it was.
            match self.node.apply_conf_change(change) {
                Ok(conf_state) => {
                    out.mark(Label::ConfChangeAt, entry.index.0);
                    out.conf_state(&conf_state);
                    self.conf_state = conf_state;
                    outcome.conf_changes += 1;
                }
                Err(_) => {
                    out.mark(Label::Refused, entry.index.0);
                    outcome.refused_conf_changes += 1;
                }
            }
        }
        if let Some(last) = batch.last() {
            self.applied = self.applied.max(last.index);
            self.node.applied(last.index);
        }
    }

    fn restart(&mut self, writes: usize) {
        let mut storage = self.durable().clone();
        for write in self.writes.drain(..).take(writes) {
            write.store(&mut storage);
        }
        if let Some(disk) = &mut self.disk {
            disk.clone_from(&storage);
        }
        self.batches.clear();
        let snapshot = storage.snapshot().expect("this storage always has one");
        self.config.applied = snapshot.index();
        self.config.seed = self.config.seed.wrapping_add(1);
        self.applied = snapshot.index();
        self.conf_state = snapshot.metadata.conf_state;
        self.node = start(&self.config, storage, &self.draws);
    }

    /// What both sides show of themselves after each command.
    pub fn status(&self, out: &mut Trace) {
        let Status { basic, config, progress } = self.node.status();
        out.hard_state(basic.hard_state);
        out.number(Label::Lead, basic.soft_state.leader.unwrap_or(0));
        out.number(Label::RoleNow, role_number(basic.soft_state.role));
        out.number(Label::Applied, basic.applied.0);
        out.number(Label::Transferee, basic.lead_transferee.unwrap_or(0));
        out.flag(Label::HasReady, self.node.has_ready());
        out.mark(Label::Config, 0);
        out.ids(Label::Voter, &config.voters.incoming.0);
        out.ids(Label::Outgoing, &config.voters.outgoing.0);
        out.ids(Label::Learner, &config.learners);
        out.ids(Label::LearnerNext, &config.learners_next);
        for (&id, progress) in &progress {
            let (state, inflights) = match &progress.state {
                ProgressState::Probe => (0, 0),
                ProgressState::Replicate { inflights } => (1, inflights.count()),
                ProgressState::Snapshot { .. } => (2, 0),
            };
            out.mark(Label::Progress, id);
            out.number(Label::Match, progress.matched.0);
            out.number(Label::Next, progress.next.0);
            out.number(Label::State, state);
            out.number(Label::PendingSnapshot, progress.pending_snapshot().map_or(0, |index| index.0));
            out.flag(Label::RecentActive, progress.recent_active);
            out.flag(Label::Paused, progress.flow_paused);
            out.number(Label::Inflights, inflights as u64);
            out.flag(Label::IsLearner, progress.is_learner);
        }
    }
}

fn start(config: &Config, storage: MemoryStorage, draws: &Arc<Mutex<Vec<u8>>>) -> RawNode<MemoryStorage> {
    let timeouts = NotedTimeouts { rng: Rng::new(config.seed), noted: Arc::clone(draws) };
    match RawNode::with_timeouts(config.clone(), storage, Box::new(timeouts)) {
        Ok(node) => node,
        Err(error) => panic!("member {} does not start: {error}", config.id),
    }
}

impl Write {
    fn store(&self, storage: &mut MemoryStorage) {
        if let Some(snapshot) = &self.snapshot {
            storage.apply_snapshot(snapshot.clone()).expect("the core installs only newer ones");
        }
        storage.append(&self.entries);
        if let Some(state) = self.hard_state {
            storage.set_hard_state(state);
        }
    }
}
