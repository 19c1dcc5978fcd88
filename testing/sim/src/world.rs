//! The cluster and its fate: one event after the other, and in the end everything heals.

use std::fmt;

use bytes::Bytes;
use raft::{
    ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2, ConfState, Index,
    Message, MessageType, NodeId, Role, SnapshotStatus, VoteResult,
};

use crate::check::{Checker, Violation};
use crate::member::Member;
use crate::network::{Envelope, Network};
use crate::plan::Plan;
use crate::rng::Rng;

/// Rounds of a healthy cluster within which it must recover: many election timeouts.
const RECOVERY_ROUNDS: u64 = 2_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Tick,
    Deliver,
    Disk,
    Apply,
    Propose,
    Read,
    ConfChange,
    Transfer,
    Campaign,
    ForgetLeader,
    Evidence,
    Compact,
    Crash,
    Restart,
    Partition,
    Heal,
    SlowDisk,
}

/// What a run did, so that one can see that it did something.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub elections: u64,
    pub committed: u64,
    pub reads: u64,
    pub conf_changes: u64,
    pub snapshots: u64,
    /// Pieces of evidence about a leader that were believed.
    pub evidence: u64,
    pub crashes: u64,
    pub writes_lost: u64,
    pub delivered: u64,
    /// Runs that ended stranded, see [`World::is_stranded`].
    pub stranded: u64,
}

/// A violated property, and how to see it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    pub seed: u64,
    pub steps: u64,
    pub step: u64,
    pub violation: Violation,
    /// The cluster at that moment.
    pub cluster: String,
}

impl Report {
    pub fn add(&mut self, other: &Report) {
        self.elections += other.elections;
        self.committed += other.committed;
        self.reads += other.reads;
        self.conf_changes += other.conf_changes;
        self.snapshots += other.snapshots;
        self.evidence += other.evidence;
        self.crashes += other.crashes;
        self.writes_lost += other.writes_lost;
        self.delivered += other.delivered;
        self.stranded += other.stranded;
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Failure { seed, steps, step, violation, cluster } = self;
        write!(
            f,
            "{violation}\n{cluster}\n  at step {step} of seed {seed}; {}",
            repeat_command(*seed, *steps)
        )
    }
}

/// How to run a seed again.
pub fn repeat_command(seed: u64, steps: u64) -> String {
    format!("repeat with: cargo run -p sim -- --seeds 1 --steps {steps} --seed {seed}")
}

/// Runs one seed: `steps` events under faults, then recovery.
pub fn run(seed: u64, steps: u64) -> Result<Report, Failure> {
    let mut world = World::new(seed);
    for step in 0..steps {
        if let Err(violation) = world.step() {
            return Err(Failure { seed, steps, step, violation, cluster: world.describe() });
        }
    }
    match world.recover() {
        Ok(()) => Ok(world.report()),
        Err(violation) => Err(Failure { seed, steps, step: steps, violation, cluster: world.describe() }),
    }
}

pub struct World {
    plan: Plan,
    rng: Rng,
    members: Vec<Member>,
    network: Network,
    checker: Checker,
    weights: Vec<(u64, Event)>,
    next_payload: u64,
    next_read: u64,
    report: Report,
    /// The last membership that anybody applied, and at which index.
    newest_membership: (Index, ConfState),
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let plan = Plan::draw(&mut rng);
        let mut members: Vec<Member> = (1..=plan.members).map(|id| Member::new(id, &plan)).collect();
        for _ in 0..plan.slow_disks {
            let at = rng.index(members.len());
            members[at].has_slow_disk = true;
        }
        for member in &mut members {
            let started = member.start(&plan, rng.draw());
            assert!(started.is_ok(), "member {} does not start: {started:?}", member.id);
        }
        let traffic = 40 * plan.members;
        let weights = &plan.weights;
        let weights = vec![
            (6 * traffic, Event::Deliver),
            (5 * traffic, Event::Tick),
            (plan.disk_pace * traffic, Event::Disk),
            (4 * traffic, Event::Apply),
            (weights.propose, Event::Propose),
            (weights.read, Event::Read),
            (weights.conf_change, Event::ConfChange),
            (weights.transfer, Event::Transfer),
            (weights.campaign, Event::Campaign),
            (weights.forget_leader, Event::ForgetLeader),
            (weights.evidence, Event::Evidence),
            (weights.compact, Event::Compact),
            (weights.crash, Event::Crash),
            (weights.restart, Event::Restart),
            (weights.partition, Event::Partition),
            (weights.heal, Event::Heal),
            (weights.slow_disk, Event::SlowDisk),
        ];
        let founders = ConfState::of_voters(1..=plan.founders);
        World {
            newest_membership: (Index::ZERO, founders),
            plan,
            rng,
            members,
            network: Network::default(),
            checker: Checker::default(),
            weights,
            next_payload: 1,
            next_read: 1,
            report: Report::default(),
        }
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    pub fn report(&self) -> Report {
        Report {
            elections: self.checker.elections,
            committed: self.checker.committed_count(),
            reads: self.checker.reads_answered,
            ..self.report.clone()
        }
    }

    /// One event, and a look at whom it touched.
    pub fn step(&mut self) -> Result<(), Violation> {
        let event = self.rng.weighted(&self.weights);
        let at = self.rng.index(self.members.len());
        match event {
            Event::Deliver => {
                // Several, or the network would be the bottleneck of every run.
                for _ in 0..1 + self.rng.below(3) {
                    self.deliver_one()?;
                }
                return Ok(());
            }
            Event::Tick => self.with_node(at, |node, _| node.tick()),
            Event::Disk => self.disk_turn(at),
            Event::Apply => return self.apply_turn(at),
            Event::Propose => self.propose(at),
            Event::Read => self.read(at),
            Event::ConfChange => self.change_membership(at),
            Event::Transfer => {
                let to = 1 + self.rng.below(self.plan.members);
                self.with_node(at, |node, _| node.transfer_leader(to));
            }
            Event::Campaign => {
                self.with_node(at, |node, _| node.campaign());
                if self.plan.is_storm && self.rng.chance(500) {
                    self.look_at(at)?;
                    self.pump(at)?;
                    let rival = self.rng.index(self.members.len());
                    self.with_node(rival, |node, _| node.campaign());
                    self.look_at(rival)?;
                    self.pump(rival)?;
                }
            }
            Event::ForgetLeader => self.with_node(at, |node, _| node.forget_leader()),
            Event::Evidence => return self.tell_evidence(at),
            Event::Compact => {
                let drop_log = 1 + self.rng.below(4);
                self.members[at].take_snapshot(drop_log);
            }
            Event::Crash => return self.crash_turn(at),
            Event::Restart => self.restart(at),
            Event::Partition => self.network.partition(self.plan.members, &mut self.rng),
            Event::Heal => self.network.heal(),
            Event::SlowDisk => self.members[at].has_slow_disk ^= true,
        }
        self.look_at(at)?;
        // A busy driver lets work pile up.
        if self.rng.chance(800) { self.pump(at) } else { Ok(()) }
    }

    /// About the leader that a member follows, or about anybody; to that member, or to all.
    fn tell_evidence(&mut self, at: usize) -> Result<(), Violation> {
        let followed = self.members[at]
            .running
            .as_ref()
            .and_then(|running| running.node.basic_status().soft_state.leader);
        let about = match followed {
            Some(leader) if self.rng.chance(800) => leader,
            Some(_) | None => 1 + self.rng.below(self.plan.members),
        };
        let told = if self.rng.chance(500) { at..at + 1 } else { 0..self.members.len() };
        self.tell(told, about)
    }

    fn tell(&mut self, told: std::ops::Range<usize>, about: NodeId) -> Result<(), Violation> {
        for at in told {
            let mut is_believed = false;
            self.with_node(at, |node, _| is_believed = node.leader_process_ended(about));
            self.report.evidence += u64::from(is_believed);
            self.look_at(at)?;
            if self.rng.chance(800) {
                self.pump(at)?;
            }
        }
        Ok(())
    }

    fn crash_turn(&mut self, at: usize) -> Result<(), Violation> {
        let at = if self.plan.is_storm && self.rng.chance(500) { self.busiest().unwrap_or(at) } else { at };
        self.crash(at);
        if self.plan.weights.evidence > 0 && self.rng.chance(500) {
            self.tell(0..self.members.len(), self.members[at].id)?;
        }
        if self.plan.is_storm && self.rng.chance(500) {
            self.restart(at);
            // It may have forgotten a term, and enter it once more.
            if self.rng.chance(300) {
                self.with_node(at, |node, _| node.campaign());
                self.look_at(at)?;
                self.pump(at)?;
            }
        }
        Ok(())
    }

    /// Who leads or campaigns while its disk has work: it has most to lose.
    fn busiest(&self) -> Option<usize> {
        self.members.iter().position(|member| {
            let role = member.running.as_ref().map(|running| running.node.basic_status().soft_state.role);
            matches!(role, Some(Role::Leader | Role::Candidate)) && member.has_write()
        })
    }

    fn with_node(&mut self, at: usize, act: impl FnOnce(&mut raft::RawNode<raft::MemoryStorage>, &mut Rng)) {
        if let Some(running) = &mut self.members[at].running {
            act(&mut running.node, &mut self.rng);
        }
    }

    fn look_at(&mut self, at: usize) -> Result<(), Violation> {
        self.checker.look_at(&self.members[at], &self.members)
    }

    /// Takes the effects out of a member and sets them going.
    fn pump(&mut self, at: usize) -> Result<(), Violation> {
        let output = self.members[at].pump();
        let id = self.members[at].id;
        self.report.snapshots += output.snapshots_received;
        for (term_before, entries) in &output.appended {
            self.checker.appended(id, *term_before, entries)?;
        }
        self.checker.handed_out(&self.members[at], &output.committed)?;
        for read in &output.reads {
            self.checker.read_answered(id, read)?;
        }
        self.send_all(at, output.messages);
        self.look_at(at)
    }

    fn send_all(&mut self, at: usize, messages: Vec<Message>) {
        let sender = self.members[at].id;
        for mut message in messages {
            let is_rejection = message.kind == MessageType::AppResp && message.reject;
            if is_rejection && self.rng.chance(self.plan.low_hints) {
                message.reject_hint = Index(self.rng.below(message.reject_hint.0.saturating_add(1).max(1)));
            }
            // etcd sends the state of the moment, which may be later than what raft asked for.
            if message.kind == MessageType::Snap
                && self.rng.chance(500)
                && let Some(fresh) = self.members[at].fresh_snapshot()
            {
                message.snapshot = Some(fresh);
            }
            if let Some(lost) = self.network.send(sender, message, &mut self.rng) {
                self.lose(&lost);
            }
        }
    }

    fn deliver_one(&mut self) -> Result<(), Violation> {
        let Some(envelope) = self.network.take(&mut self.rng, self.plan.reordering) else { return Ok(()) };
        let is_cut = self.network.is_cut(envelope.sender, envelope.message.to);
        if is_cut || self.rng.chance(self.plan.loss) {
            self.lose(&envelope);
            return Ok(());
        }
        if self.rng.chance(self.plan.duplication) {
            self.network.put_back(envelope.clone());
        }
        self.deliver(envelope)
    }

    /// The sender's transport notices, mostly.
    fn lose(&mut self, lost: &Envelope) {
        let is_snapshot = lost.message.kind == MessageType::Snap;
        let to = lost.message.to;
        let notices = self.rng.chance(300);
        self.with_node(lost.sender as usize - 1, |node, _| {
            if is_snapshot {
                node.report_snapshot(to, SnapshotStatus::Failed);
            } else if notices {
                node.report_unreachable(to);
            }
        });
    }

    fn deliver(&mut self, Envelope { sender, message }: Envelope) -> Result<(), Violation> {
        let at = message.to as usize - 1;
        let is_snapshot = message.kind == MessageType::Snap;
        let Some(running) = &mut self.members[at].running else {
            let lost = Envelope { sender, message };
            self.lose(&lost);
            return Ok(());
        };
        self.report.delivered += 1;
        let message = if self.rng.chance(100) { through_the_codec(message) } else { message };
        let to = message.to;
        if let Err(error) = running.node.step(message)
            && error.is_fatal()
        {
            return Err(Violation { property: "no lost log", what: format!("member {to}: {error}") });
        }
        if is_snapshot {
            self.with_node(sender as usize - 1, |node, _| node.report_snapshot(to, SnapshotStatus::Finished));
        }
        self.look_at(at)?;
        if self.rng.chance(800) { self.pump(at) } else { Ok(()) }
    }

    fn disk_turn(&mut self, at: usize) {
        let member = &mut self.members[at];
        let is_stuck = member.has_slow_disk && !self.rng.chance(self.plan.slow_disk_speed);
        if is_stuck || !member.has_write() {
            return;
        }
        let count = 1 + self.rng.index(3);
        let messages = member.finish_writes(count);
        self.send_all(at, messages);
    }

    fn apply_turn(&mut self, at: usize) -> Result<(), Violation> {
        if self.members[at].has_snapshot_to_install() && !self.rng.chance(self.plan.install_speed) {
            return Ok(());
        }
        for _ in 0..1 + self.rng.below(4) {
            if !self.members[at].has_entry_to_apply() {
                break;
            }
            self.apply_one(at)?;
        }
        self.pump(at)
    }

    fn apply_one(&mut self, at: usize) -> Result<(), Violation> {
        let member = &mut self.members[at];
        let applied = member.apply_next();
        if let Some((entry, _)) = &applied
            && entry.kind != raft::EntryKind::Normal
        {
            self.report.conf_changes += 1;
            if let Some(running) = &self.members[at].running
                && entry.index > self.newest_membership.0
            {
                self.newest_membership = (entry.index, running.machine.conf_state.clone());
            }
        }
        if let Some(running) = &self.members[at].running {
            let machine = &running.machine;
            self.checker.applied(self.members[at].id, machine.applied, machine.hash)?;
        }
        self.look_at(at)
    }

    fn propose(&mut self, at: usize) {
        let number = self.next_payload;
        self.next_payload += 1;
        let count = 1 + self.rng.below(3);
        let payloads = (0..count)
            .map(|part| {
                let mut data = vec![part as u8; 1 + self.rng.index(30)];
                data.extend_from_slice(&number.to_be_bytes());
                Bytes::from(data)
            })
            .collect();
        // Dropped proposals are part of life.
        self.with_node(at, |node, _| drop(node.propose_all(payloads)));
    }

    fn read(&mut self, at: usize) {
        if self.members[at].running.is_none() {
            return;
        }
        // Sometimes the caller did not get an answer and asks again.
        let context = if self.next_read > 1 && self.rng.chance(200) {
            1 + self.rng.below(self.next_read - 1)
        } else {
            self.checker.read_asked(self.next_read);
            self.next_read += 1;
            self.next_read - 1
        };
        let context = Bytes::copy_from_slice(&context.to_be_bytes());
        self.with_node(at, |node, _| node.read_index(context));
    }

    fn change_membership(&mut self, at: usize) {
        let members = self.plan.members;
        let single = |rng: &mut Rng| ConfChangeSingle {
            change: rng.weighted(&[
                (4, ConfChangeType::AddNode),
                (3, ConfChangeType::AddLearnerNode),
                (3, ConfChangeType::RemoveNode),
                (1, ConfChangeType::UpdateNode),
            ]),
            node_id: 1 + rng.below(members),
        };
        self.with_node(at, |node, rng| {
            if node.configuration().voters.is_joint() && rng.chance(700) {
                drop(node.propose_conf_change_v2(&ConfChangeV2::leave_joint()));
            } else if rng.chance(500) {
                let ConfChangeSingle { change, node_id } = single(rng);
                drop(node.propose_conf_change(&ConfChange { change, node_id, ..ConfChange::default() }));
            } else {
                let transition = rng.pick(&[
                    ConfChangeTransition::Auto,
                    ConfChangeTransition::JointImplicit,
                    ConfChangeTransition::JointExplicit,
                ]);
                let changes = (0..1 + rng.below(3)).map(|_| single(rng)).collect();
                let change = ConfChangeV2 { transition, changes, context: Bytes::new() };
                drop(node.propose_conf_change_v2(&change));
            }
        });
    }

    fn crash(&mut self, at: usize) {
        if self.members[at].running.is_some() {
            self.report.crashes += 1;
            self.report.writes_lost += self.members[at].crash(&mut self.rng);
        }
    }

    fn restart(&mut self, at: usize) {
        if self.members[at].running.is_none() {
            let seed = self.rng.draw();
            let started = self.members[at].start(&self.plan, seed);
            assert!(started.is_ok(), "member {} does not start: {started:?}", self.members[at].id);
        }
    }

    // ---- recovery -------------------------------------------------------------------------------------

    /// Everything works from now on: the cluster must, too.
    fn recover(&mut self) -> Result<(), Violation> {
        self.network.heal();
        self.plan.loss = 0;
        self.plan.duplication = 0;
        self.plan.reordering = 0;
        self.plan.low_hints = 0;
        if !self.plan.raft.pre_vote {
            // Raft alone can race for ever: a member with an old configuration keeps its term above that of
            // the only one who could win, and a learner that once met a later term stays deaf to its leader.
            // etcd's defaults end both; let the operator turn them on.
            self.plan.raft.pre_vote = true;
            self.plan.raft.check_quorum = true;
            (0..self.members.len()).for_each(|at| self.crash(at));
        }
        let mut goal = Goal::default();
        for round in 0..RECOVERY_ROUNDS {
            if round % 20 == 0 {
                self.run_exactly_the_members();
            }
            self.healthy_round()?;
            if self.pursue(&mut goal, round)? {
                return Ok(());
            }
        }
        if self.is_stranded() {
            self.report.stranded += 1;
            return Ok(());
        }
        Err(Violation {
            property: "liveness",
            what: format!("no recovery within {RECOVERY_ROUNDS} healthy rounds"),
        })
    }

    /// An operator starts who belongs to the cluster and stops who was removed, but not before those who stay
    /// know that they are on their own.
    fn run_exactly_the_members(&mut self) {
        for at in 0..self.members.len() {
            self.members[at].has_slow_disk = false;
            self.restart(at);
        }
        if !self.newest_voters().all(|member| self.knows_newest_membership(member)) {
            return;
        }
        for at in 0..self.members.len() {
            if !self.newest_membership.1.contains(self.members[at].id) {
                self.crash(at);
            }
        }
    }

    fn healthy_round(&mut self) -> Result<(), Violation> {
        for at in 0..self.members.len() {
            self.with_node(at, |node, _| node.tick());
            self.pump(at)?;
        }
        // Enough turns for requests, writes and answers of one tick.
        for _ in 0..8 {
            for _ in 0..self.network.len() {
                self.deliver_one()?;
            }
            for at in 0..self.members.len() {
                self.pump(at)?;
                let messages = self.members[at].finish_writes(usize::MAX);
                self.send_all(at, messages);
                self.pump(at)?;
                while self.members[at].has_entry_to_apply() {
                    self.apply_one(at)?;
                    self.pump(at)?;
                }
            }
        }
        Ok(())
    }

    /// Brings the recovery a step on. True when everything that a healthy cluster owes is there.
    fn pursue(&mut self, goal: &mut Goal, round: u64) -> Result<bool, Violation> {
        let Some(leader) = self.leader() else { return Ok(false) };
        let at = leader as usize - 1;
        let Some(running) = &self.members[at].running else { return Ok(false) };
        let configuration = running.node.configuration().clone();
        if configuration.voters.is_joint() {
            if !configuration.auto_leave {
                self.with_node(at, |node, _| drop(node.propose_conf_change_v2(&ConfChangeV2::leave_joint())));
            } else if round.is_multiple_of(10) {
                // Compat: a leader that could not leave, as it was handing over, tries again when it applies
                // something.
                self.propose(at);
            }
            return Ok(false);
        }
        let last = running.node.last_index();
        let conf_state = configuration.to_conf_state();
        goal.rounds_with_leader += 1;
        if goal.read_from == 0 && goal.rounds_with_leader % 10 == 5 {
            self.propose(at);
        }
        let is_level = |member: &Member| {
            let level = member.running.as_ref().is_some_and(|it| it.machine.applied == last);
            level || !conf_state.contains(member.id)
        };
        if goal.rounds_with_leader < 10 || !self.members.iter().all(is_level) {
            return Ok(false);
        }
        // A read by a voter, asked again as etcd does.
        let reads_before = self.checker.reads_answered;
        let voter = conf_state.voters[goal.rounds_with_leader as usize % conf_state.voters.len()];
        goal.read_from = voter;
        self.read(voter as usize - 1);
        self.pump(voter as usize - 1)?;
        self.healthy_round()?;
        Ok(self.checker.reads_answered > reads_before)
    }

    /// A limit of the algorithm as etcd-raft has it, not a fault: a leader removed or demoted itself and was
    /// gone before all voters that it left behind heard that this is committed. In the configuration of some
    /// they need its vote, which it refuses as its log is longer, or cannot give as it was stopped; and those
    /// who do not need it have shorter logs than these.
    fn is_stranded(&self) -> bool {
        self.leader().is_none() && !self.members.iter().any(|member| self.can_win(member))
    }

    /// True when those who run, and whose logs are no longer than its own, could elect it.
    fn can_win(&self, candidate: &Member) -> bool {
        let Some(last) = candidate.last_entry() else { return false };
        let Some(running) = &candidate.running else { return false };
        let voters = &running.node.configuration().voters;
        let votes = voters.vote_result(|id| {
            let their_last = self.members.iter().find(|member| member.id == id)?.last_entry()?;
            Some((their_last.term, their_last.index) <= (last.term, last.index))
        });
        voters.contains(candidate.id) && votes == VoteResult::Won
    }

    fn newest_voters(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| self.newest_membership.1.voters.contains(&member.id))
    }

    fn knows_newest_membership(&self, member: &Member) -> bool {
        member.running.as_ref().is_some_and(|running| running.machine.applied >= self.newest_membership.0)
    }

    fn leader(&self) -> Option<NodeId> {
        let leaders = self.members.iter().filter_map(|member| {
            let status = member.running.as_ref()?.node.basic_status();
            (status.soft_state.role == Role::Leader).then_some((status.hard_state.term, member.id))
        });
        leaders.max().map(|(_, id)| id)
    }

    /// One line per member.
    pub fn describe(&self) -> String {
        let mut text = format!("{:?}", self.plan.raft);
        for member in &self.members {
            text.push_str(&match &member.running {
                None => format!("\n  {}: down", member.id),
                Some(running) => format!(
                    "\n  {}: {:?} last {} applied {} in {:?}",
                    member.id,
                    running.node.basic_status(),
                    running.node.last_index(),
                    running.machine.applied,
                    running.node.configuration(),
                ),
            });
        }
        text
    }
}

#[derive(Debug, Default)]
struct Goal {
    rounds_with_leader: u64,
    read_from: NodeId,
}

fn through_the_codec(message: Message) -> Message {
    let decoded = raft::codec::decode_message(raft::codec::encode_message(&message));
    assert!(decoded.as_ref() == Ok(&message), "the codec turned {message:?} into {decoded:?}");
    message
}
