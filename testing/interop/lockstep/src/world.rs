//! One random life of a cluster: which command comes next is drawn from the seed and from our side's state.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Config,
    Entry, Index, MemoryStorage, Message, MessageType, NodeId, ReadOnlyOption, Role, SnapshotStatus, Storage,
};

use crate::command::{Append, Command};
use crate::member::Member;
use crate::rng::Rng;
use crate::trace::Trace;

/// Everybody who may be a member at some time.
const IDS: std::ops::RangeInclusive<NodeId> = 1..=7;
/// Messages on their way. Full: the oldest is lost.
const IN_FLIGHT_MAX: usize = 400;

/// What happened in all lives so far, to see that they are worth comparing.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    pub messages: u64,
    pub elections_won: u64,
    pub restarts: u64,
    pub conf_changes: u64,
    pub conf_changes_refused: u64,
    pub joint: u64,
    pub reads: u64,
    pub snapshots: u64,
    pub commits: u64,
}

/// How rough a life is.
struct Weather {
    drop_percent: u64,
    duplicate_percent: u64,
    /// Of 10,000 commands.
    restarts: u64,
    partitions: u64,
    conf_changes: u64,
    /// Per cent of messages that overtake older ones.
    reorder_percent: u64,
    compactions: u64,
    /// Limits on sizes are so narrow that each byte counts.
    has_narrow_limits: bool,
}

pub struct World {
    rng: Rng,
    weather: Weather,
    members: BTreeMap<NodeId, Member>,
    boots: VecDeque<(NodeId, Command)>,
    /// Commands that follow from earlier ones.
    next: VecDeque<(NodeId, Command)>,
    in_flight: VecDeque<Message>,
    /// Members on one side of the partition, as bits; none or all: no partition.
    cut: u64,
    read_count: u64,
    /// Leaders that may hold reads until they commit in their term; see `forget_early_reads`.
    early_readers: BTreeSet<NodeId>,
    pub counts: Counts,
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed ^ 0x5eed_0f10_c457_e900);
        rng.next();
        let is_calm = rng.chance(1, 4);
        let has_narrow_limits = rng.chance(1, 3);
        let weather = Weather {
            drop_percent: if is_calm { 0 } else { rng.pick(&[0, 1, 5, 20]) },
            duplicate_percent: rng.pick(&[0, 2, 10]),
            restarts: if is_calm { 0 } else { rng.pick(&[0, 10, 50]) },
            partitions: if is_calm { 0 } else { rng.pick(&[0, 10, 40]) },
            conf_changes: rng.pick(&[0, 30, 100]),
            reorder_percent: rng.pick(&[0, 10, 60]),
            compactions: rng.pick(&[0, 40, 200]),
            has_narrow_limits,
        };
        let boots = boots(&mut rng, has_narrow_limits);
        World {
            rng,
            weather,
            members: BTreeMap::new(),
            boots,
            next: VecDeque::new(),
            in_flight: VecDeque::new(),
            cut: 0,
            read_count: 0,
            early_readers: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// Chooses a command, carries it out on our side, and hands it out with the timeouts that it drew and
    /// with its trace.
    pub fn step(&mut self) -> (NodeId, Command, Vec<u8>, Trace) {
        let (id, command) = self.choose();
        let mut trace = Trace::default();
        if let Command::Boot { config, first, conf_state, append } = &command {
            let member = Member::boot(config.clone(), *first, conf_state.clone(), *append);
            self.members.insert(id, member);
        }
        let Some(member) = self.members.get_mut(&id) else { panic!("member {id} was not started") };
        let before = member.node.basic_status();
        let outcome = member.run(&command, &mut trace);
        let draws = member.take_draws();
        member.status(&mut trace);

        let after = member.node.basic_status();
        let counts = &mut self.counts;
        let (was, is) = (before.soft_state.role, after.soft_state.role);
        counts.elections_won += u64::from(was != Role::Leader && is == Role::Leader);
        counts.joint += u64::from(outcome.conf_changes > 0 && member.node.configuration().voters.is_joint());
        counts.restarts += u64::from(matches!(command, Command::Restart { .. }));
        counts.messages += u64::from(matches!(command, Command::Step(_)));
        counts.conf_changes += outcome.conf_changes;
        counts.conf_changes_refused += outcome.refused_conf_changes;
        counts.reads += outcome.reads;
        counts.snapshots += outcome.snapshots;
        counts.commits += u64::from(after.hard_state.commit > before.hard_state.commit);
        self.in_flight.extend(outcome.sent);
        while self.in_flight.len() > IN_FLIGHT_MAX {
            self.in_flight.pop_front();
        }
        self.forget_early_reads(id, &command);
        (id, command, draws, trace)
    }

    /// Deliberate difference: reads that wait for the first commit of a term are answered by ours then if there
    /// is one voter left; Go's begins a round of heartbeats that needs the answer of a learner. A restart drops
    /// them before it comes to that.
    fn forget_early_reads(&mut self, id: NodeId, command: &Command) {
        let node = &self.members[&id].node;
        let is_read = match command {
            Command::ReadIndex(_) => true,
            Command::Step(message) => message.kind == MessageType::ReadIndex,
            _ => false,
        };
        let status = node.basic_status();
        let voters = &node.configuration().voters;
        let leads = status.soft_state.role == Role::Leader;
        let has_committed = node.entry_term(status.hard_state.commit) == Some(status.hard_state.term);
        if matches!(command, Command::Restart { .. }) || (leads && has_committed) {
            self.early_readers.remove(&id);
        } else if is_read && leads {
            self.early_readers.insert(id);
        }
        if self.early_readers.contains(&id) && voters.incoming.0.len() == 1 && !voters.is_joint() {
            self.next.push_front((id, Command::Restart { writes: 0 }));
        }
    }

    fn choose(&mut self) -> (NodeId, Command) {
        if let Some(boot) = self.boots.pop_front() {
            return boot;
        }
        if let Some(next) = self.next.pop_front() {
            return next;
        }
        loop {
            if self.rng.chance(self.weather.partitions, 10_000) {
                self.cut = if self.rng.chance(1, 2) { 0 } else { self.rng.below(1 << 8) };
            }
            if self.rng.chance(self.weather.restarts, 10_000) {
                let id = self.any_id();
                let writes = self.rng.below(self.members[&id].write_count() as u64 + 1) as usize;
                return (id, Command::Restart { writes });
            }
            if self.rng.chance(self.weather.conf_changes, 10_000)
                && let Some(change) = self.conf_change()
            {
                return change;
            }
            if self.rng.chance(self.weather.compactions, 10_000)
                && let Some(compaction) = self.compact()
            {
                return compaction;
            }
            let chosen = match self.rng.below(1000) {
                0..380 => self.deliver(),
                380..600 => self.some_member(|member| member.node.has_ready(), Command::Ready),
                600..780 => self.some_member(|member| member.write_count() > 0, Command::Persisted),
                780..900 => self.some_member(|member| member.has_batch(), Command::Applied),
                900..950 => Some((self.any_id(), Command::Tick)),
                950..980 => Some(self.propose()),
                980..988 => self.read_index(),
                _ => Some(self.rare()),
            };
            if let Some(chosen) = chosen {
                return chosen;
            }
        }
    }

    fn any_id(&mut self) -> NodeId {
        self.rng.below(*IDS.end()) + 1
    }

    fn some_member(
        &mut self,
        wants: impl Fn(&Member) -> bool,
        command: Command,
    ) -> Option<(NodeId, Command)> {
        let ids: Vec<NodeId> = self.members.values().filter(|it| wants(it)).map(Member::id).collect();
        (!ids.is_empty()).then(|| (self.rng.pick(&ids), command))
    }

    /// A leader most of the time.
    fn leader_or_any(&mut self) -> NodeId {
        let leads = |member: &Member| member.node.basic_status().soft_state.role == Role::Leader;
        let leader = self.some_member(leads, Command::Tick);
        match leader {
            Some((id, _)) if self.rng.chance(3, 4) => id,
            _ => self.any_id(),
        }
    }

    fn deliver(&mut self) -> Option<(NodeId, Command)> {
        let position = if self.rng.chance(self.weather.reorder_percent, 100) {
            self.rng.below(self.in_flight.len().max(1) as u64) as usize
        } else {
            0
        };
        let message = self.in_flight.get(position)?;
        let (from, to) = (message.from, message.to);
        let is_snapshot = message.kind == MessageType::Snap;
        let is_cut = (self.cut >> from) & 1 != (self.cut >> to) & 1;
        let member = self.members.get(&to)?;
        if is_snapshot && member.has_conf_change_to_apply() {
            // Whoever installs a snapshot has applied what came before; see the ready loop of etcd.
            return Some((to, Command::Applied));
        }
        if message.kind == MessageType::ReadIndex && reads_differ(member) {
            self.in_flight.remove(position);
            return None;
        }
        let is_lost = is_cut || self.rng.chance(self.weather.drop_percent, 100);
        let is_doubled = !is_lost && self.rng.chance(self.weather.duplicate_percent, 100);
        let message = if is_doubled { message.clone() } else { self.in_flight.remove(position)? };
        if is_snapshot && self.rng.chance(3, 4) {
            let status = if is_lost { SnapshotStatus::Failed } else { SnapshotStatus::Finished };
            self.next.push_back((from, Command::ReportSnapshot(to, status)));
        }
        if is_lost {
            return self.rng.chance(1, 4).then_some((from, Command::ReportUnreachable(to)));
        }
        Some((to, Command::Step(message)))
    }

    fn propose(&mut self) -> (NodeId, Command) {
        let id = self.leader_or_any();
        let len = match self.rng.below(20) {
            0 => 0,
            1 => 200,
            _ => self.rng.below(30),
        };
        let data = self.rng.bytes(len).into();
        if self.rng.chance(1, 10) {
            return (id, self.propose_several(id, data));
        }
        (id, Command::Propose(data))
    }

    /// A proposal of several entries, as it comes forwarded; a change of membership may be among them.
    fn propose_several(&mut self, id: NodeId, data: Bytes) -> Command {
        let count = 1 + self.rng.below(4);
        let mut entries: Vec<Entry> =
            (0..count).map(|_| Entry { data: data.clone(), ..Entry::default() }).collect();
        if self.weather.conf_changes > 0 && !self.weather.has_narrow_limits {
            for entry in &mut entries {
                if self.rng.chance(1, 6) {
                    *entry = ConfChange { node_id: self.any_id(), ..ConfChange::default() }.to_entry();
                }
            }
        }
        Command::Step(Message { from: id, entries, ..Message::new(MessageType::Prop, 0) })
    }

    fn conf_change(&mut self) -> Option<(NodeId, Command)> {
        let id = self.leader_or_any();
        let node = &self.members[&id].node;
        let is_joint = node.configuration().voters.is_joint();
        let status = node.basic_status();
        let leaves = is_joint && (self.weather.has_narrow_limits || self.rng.chance(4, 5));
        // An entry that takes the place of a refused change is counted as two bytes more by Go's than the
        // same one off the wire: with narrow limits, only changes that are let in.
        let is_let_in = status.soft_state.role == Role::Leader && status.applied == node.last_index();
        if self.weather.has_narrow_limits && !is_let_in {
            return None;
        }
        // The same goes for data that is present and empty.
        let contexts: [&'static [u8]; 2] =
            if self.weather.has_narrow_limits { [b"x", b"context"] } else { [b"", b"c"] };
        let context = Bytes::from_static(self.rng.pick(&contexts));
        if leaves {
            let leave = ConfChangeV2 { context, ..ConfChangeV2::default() };
            return Some((id, Command::ProposeConfChangeV2(leave)));
        }
        if self.rng.chance(1, 2) {
            let ConfChangeSingle { change, node_id } = self.single_change();
            let change = ConfChange { id: self.rng.below(3), change, node_id, context };
            return Some((id, Command::ProposeConfChange(change)));
        }
        let count = self.rng.below(4).max(u64::from(self.weather.has_narrow_limits));
        let changes = (0..count).map(|_| self.single_change()).collect();
        let transition = self.rng.pick(&[
            ConfChangeTransition::Auto,
            ConfChangeTransition::Auto,
            ConfChangeTransition::JointImplicit,
            ConfChangeTransition::JointExplicit,
        ]);
        Some((id, Command::ProposeConfChangeV2(ConfChangeV2 { transition, changes, context })))
    }

    fn single_change(&mut self) -> ConfChangeSingle {
        let change = self.rng.pick(&[
            ConfChangeType::AddNode,
            ConfChangeType::AddNode,
            ConfChangeType::AddNode,
            ConfChangeType::RemoveNode,
            ConfChangeType::RemoveNode,
            ConfChangeType::AddLearnerNode,
            ConfChangeType::AddLearnerNode,
            ConfChangeType::UpdateNode,
        ]);
        let node_id = if self.rng.chance(1, 30) { 0 } else { self.any_id() };
        ConfChangeSingle { change, node_id }
    }

    fn read_index(&mut self) -> Option<(NodeId, Command)> {
        let id = self.leader_or_any();
        if reads_differ(&self.members[&id]) {
            return None;
        }
        self.read_count += 1;
        Some((id, Command::ReadIndex(Bytes::copy_from_slice(&self.read_count.to_le_bytes()))))
    }

    /// At what is applied, if a restart could begin there: the log knows by then that it is committed.
    fn compact(&mut self) -> Option<(NodeId, Command)> {
        let id = self.any_id();
        let member = &self.members[&id];
        let index = member.applied;
        let is_possible = |storage: &MemoryStorage| {
            let snapshot = storage.snapshot().expect("this storage always has one");
            index > snapshot.index()
                && index <= storage.hard_state().commit
                && index <= storage.last_index()
                && index.next() >= storage.first_index()
        };
        if !is_possible(member.node.storage()) || !is_possible(member.durable()) {
            return None;
        }
        let kept = self.rng.below(6);
        let end = Index(index.0.saturating_sub(kept));
        let len = self.rng.below(5);
        let data = self.rng.bytes(len).into();
        Some((id, Command::Compact { index, end, conf_state: member.conf_state.clone(), data }))
    }

    fn rare(&mut self) -> (NodeId, Command) {
        let (id, other) = (self.leader_or_any(), self.any_id());
        let command = match self.rng.below(12) {
            0..4 => Command::Campaign,
            4..7 => Command::TransferLeader(other),
            7..9 => Command::ReportUnreachable(other),
            9 => Command::ReportSnapshot(other, SnapshotStatus::Finished),
            10 => Command::ReportSnapshot(other, SnapshotStatus::Failed),
            _ => Command::ForgetLeader,
        };
        let id =
            if matches!(command, Command::Campaign | Command::ForgetLeader) { self.any_id() } else { id };
        (id, command)
    }
}

/// Deliberate difference: where one voter is left, Go's leader answers reads at once, even if it is not that
/// voter, and before it has committed an entry of its term.
fn reads_differ(member: &Member) -> bool {
    let status = member.node.basic_status();
    let voters = &member.node.configuration().voters;
    let is_alone = voters.incoming.0.len() == 1 && !voters.is_joint();
    let has_committed = member.node.entry_term(status.hard_state.commit) == Some(status.hard_state.term);
    status.soft_state.role == Role::Leader
        && is_alone
        && !(voters.incoming.0.contains(&member.id()) && has_committed)
}

fn boots(rng: &mut Rng, has_narrow_limits: bool) -> VecDeque<(NodeId, Command)> {
    let check_quorum = rng.chance(1, 2);
    let election_ticks = rng.pick(&[2, 3, 5, 10]);
    let max_size_per_msg = if has_narrow_limits { rng.pick(&[0, 60, 300]) } else { 1 << 20 };
    let base = Config {
        election_ticks,
        heartbeat_ticks: rng.pick(&[1, 1, 2]).min(election_ticks - 1),
        pre_vote: rng.chance(1, 2),
        check_quorum,
        max_size_per_msg,
        max_inflight_msgs: if has_narrow_limits { rng.pick(&[1, 2, 5]) } else { 256 },
        max_inflight_bytes: if has_narrow_limits { rng.pick(&[0, 300, 1000]) } else { 0 },
        max_uncommitted_bytes: if has_narrow_limits { rng.pick(&[0, 100, 500]) } else { 0 },
        // Never 0 together with the size of messages: Go's would then apply nothing at all.
        max_committed_bytes_per_ready: if has_narrow_limits { rng.pick(&[1, 50, 500]) } else { 0 },
        read_only: if check_quorum && rng.chance(1, 3) {
            ReadOnlyOption::LeaseBased
        } else {
            ReadOnlyOption::Safe
        },
        disable_proposal_forwarding: rng.chance(1, 8),
        disable_conf_change_validation: rng.chance(1, 8),
        step_down_on_removal: rng.chance(1, 2),
        ..Config::new(1)
    };
    let voter_count = rng.pick(&[1, 2, 3, 3, 3, 5, 5, 7]);
    let learner_count = rng.below(3).min(7 - voter_count);
    let conf_state = ConfState {
        voters: (1..=voter_count).collect(),
        learners: (voter_count + 1..=voter_count + learner_count).collect(),
        ..ConfState::default()
    };
    let first = Index(1 + rng.below(5));
    let is_mixed = rng.chance(1, 4);
    let boot = |id| {
        let mut config = Config { id, seed: rng.next(), ..base.clone() };
        if is_mixed {
            config.pre_vote = rng.chance(1, 2);
            config.check_quorum |= rng.chance(1, 2);
            config.election_ticks += rng.below(3) as u32;
            config.step_down_on_removal = rng.chance(1, 2);
        }
        let append = if rng.chance(1, 2) { Append::AtOnce } else { Append::WhenDurable };
        let is_first = conf_state.contains(id);
        let conf_state = if is_first { conf_state.clone() } else { ConfState::default() };
        (id, Command::Boot { config, first, conf_state, append })
    };
    IDS.map(boot).collect()
}
