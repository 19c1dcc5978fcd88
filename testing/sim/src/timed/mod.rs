//! The same members under a clock: ticks, links and disks take time, which is simulated.
//!
//! [`crate::world`] looks for what must never happen, in whatever order; this looks at how long things take.
//! Every member ticks at a phase of its own. Messages of one link arrive in order. A disk syncs all writes
//! that wait with one sync. Each member has a client that proposes at intervals, and an *outage* is the
//! longest time without an acknowledged proposal anywhere. Safety is checked after every event as well.

mod scenario;

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use bytes::Bytes;
use raft::{Entry, Message, NodeId, Role, Term};

use crate::check::{Checker, Violation};
use crate::member::Member;
use crate::plan::Plan;
use crate::rng::Rng;

pub use scenario::{Cluster, Fault, Outcome, Scenario};

/// Simulated time, in microseconds since the start.
pub type Micros = u64;

pub const MILLISECOND: Micros = 1_000;
pub const SECOND: Micros = 1_000_000;
/// etcd's default heartbeat interval.
pub const TICK: Micros = 100 * MILLISECOND;
/// Between two proposals of all clients together, on average.
const PROPOSAL_INTERVAL: Micros = 8 * MILLISECOND;
/// Between two attempts to connect to a member that refuses; the driver reports each.
const REDIAL_INTERVAL: Micros = 100 * MILLISECOND;

/// How long things take, each drawn evenly from its range.
#[derive(Clone, Debug)]
pub struct Conditions {
    pub name: &'static str,
    /// A message from one member to another.
    pub link: RangeInclusive<Micros>,
    /// One sync of a disk.
    pub sync: RangeInclusive<Micros>,
    /// From the end of a process to another member's first refused attempt to connect to it.
    pub notice: RangeInclusive<Micros>,
}

#[derive(Clone, Debug)]
enum Event {
    Tick,
    Arrive {
        sender: NodeId,
        message: Box<Message>,
    },
    /// The disk has synced the oldest `count` writes.
    Synced {
        count: usize,
    },
    Propose,
    /// The driver is told that this member's process has ended.
    Refused {
        by: NodeId,
    },
}

/// What happens to whom; an event for an earlier life of the member is void.
#[derive(Clone, Debug)]
struct Happening {
    at: usize,
    incarnation: u64,
    event: Event,
}

/// A cluster and what is going to happen to it.
pub struct Timeline {
    pub now: Micros,
    pub rng: Rng,
    pub members: Vec<Member>,
    conditions: Conditions,
    plan: Plan,
    checker: Checker,
    /// By time, and in the order in which they were set for one time.
    agenda: BTreeMap<(Micros, u64), Happening>,
    next_number: u64,
    /// When the last message of a link arrives.
    links: BTreeMap<(NodeId, NodeId), Micros>,
    /// Links that lose everything.
    pub cut: Vec<(NodeId, NodeId)>,
    states: Vec<State>,
    last_acknowledged: Micros,
    /// The longest time without an acknowledgement since [`Timeline::watch_outages`].
    longest_outage: Micros,
}

/// What a member's machine is doing.
#[derive(Clone, Debug, Default)]
struct State {
    /// The process is stopped, and this is what waits for it.
    frozen: Option<Vec<Event>>,
    disk_is_busy: bool,
    disk_is_stalled: bool,
    /// When the oldest write that is not durable was handed to the disk.
    oldest_write: Option<Micros>,
}

impl Timeline {
    pub fn new(seed: u64, plan: Plan, conditions: Conditions) -> Timeline {
        let mut rng = Rng::new(seed);
        let members: Vec<Member> = (1..=plan.members).map(|id| Member::new(id, &plan)).collect();
        let mut timeline = Timeline {
            now: 0,
            states: vec![State::default(); members.len()],
            members,
            conditions,
            checker: Checker::default(),
            agenda: BTreeMap::new(),
            next_number: 0,
            links: BTreeMap::new(),
            cut: Vec::new(),
            last_acknowledged: 0,
            longest_outage: 0,
            plan,
            rng: rng.clone(),
        };
        for at in 0..timeline.members.len() {
            let seed = rng.draw();
            let started = timeline.members[at].start(&timeline.plan, seed);
            assert!(started.is_ok(), "member {} does not start: {started:?}", at + 1);
            let (phase, proposal) = (rng.below(TICK), rng.below(timeline.proposal_interval()));
            timeline.set(at, phase, Event::Tick);
            timeline.set(at, proposal, Event::Propose);
        }
        timeline.rng = rng;
        timeline
    }

    // ---- what a scenario does -------------------------------------------------------------------------

    /// Lets everything happen up to a time.
    pub fn run_until(&mut self, end: Micros) -> Result<(), Violation> {
        while let Some((&(time, number), _)) = self.agenda.first_key_value()
            && time <= end
        {
            let Some(happening) = self.agenda.remove(&(time, number)) else { break };
            self.now = time;
            if self.members[happening.at].incarnation == happening.incarnation {
                self.happen(happening.at, happening.event)?;
            }
        }
        self.now = end;
        Ok(())
    }

    pub fn campaign(&mut self, id: NodeId) -> Result<(), Violation> {
        let at = id as usize - 1;
        // It may have to apply what founds the cluster.
        self.pump(at)?;
        if let Some(running) = &mut self.members[at].running {
            running.node.campaign();
        }
        self.pump(at)
    }

    pub fn transfer_leader(&mut self, from: NodeId, to: NodeId) -> Result<(), Violation> {
        let at = from as usize - 1;
        if let Some(running) = &mut self.members[at].running {
            running.node.transfer_leader(to);
        }
        self.pump(at)
    }

    /// The process ends, and its machine refuses who calls: the others notice, each at its time.
    pub fn end_process(&mut self, id: NodeId) {
        let at = id as usize - 1;
        self.members[at].crash(&mut self.rng);
        self.states[at] = State::default();
        for other in 0..self.members.len() {
            if other != at {
                let wait = self.between(self.conditions.notice.clone());
                self.set(other, wait, Event::Refused { by: id });
            }
        }
    }

    /// A member is told that another's process has ended, true or not, at once and with every redial.
    pub fn tell_refused(&mut self, id: NodeId, by: NodeId) {
        self.set(id as usize - 1, 0, Event::Refused { by });
    }

    /// The process is stopped (SIGSTOP): its connections stay, and nothing comes from it.
    pub fn freeze(&mut self, id: NodeId) {
        self.states[id as usize - 1].frozen.get_or_insert_default();
    }

    /// Links work, stopped processes go on, and nobody is told anything any more. What has ended stays so.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.agenda.retain(|_, happening| !matches!(happening.event, Event::Refused { .. }));
        for at in 0..self.members.len() {
            for event in self.states[at].frozen.take().unwrap_or_default() {
                self.set(at, 0, event);
            }
        }
    }

    pub fn stall_disk(&mut self, id: NodeId) {
        self.states[id as usize - 1].disk_is_stalled = true;
    }

    /// Neither hears the other.
    pub fn cut_link(&mut self, one: NodeId, other: NodeId) {
        self.cut.extend([(one, other), (other, one)]);
    }

    /// Outages count from now on, the time since the last acknowledgement included.
    pub fn watch_outages(&mut self) {
        self.longest_outage = 0;
    }

    pub fn longest_outage(&self) -> Micros {
        self.longest_outage.max(self.now - self.last_acknowledged)
    }

    /// Who leads the latest term, among those that are not stopped.
    pub fn leader(&self) -> Option<(Term, NodeId)> {
        let leaders = self.members.iter().zip(&self.states).filter_map(|(member, state)| {
            let status = member.running.as_ref()?.node.basic_status();
            let leads = status.soft_state.role == Role::Leader && state.frozen.is_none();
            leads.then_some((status.hard_state.term, member.id))
        });
        leaders.max()
    }

    pub fn role(&self, id: NodeId) -> Option<Role> {
        let running = self.members[id as usize - 1].running.as_ref()?;
        Some(running.node.basic_status().soft_state.role)
    }

    // ---- what happens ---------------------------------------------------------------------------------

    fn set(&mut self, at: usize, wait: Micros, event: Event) {
        let incarnation = self.members[at].incarnation;
        self.agenda.insert((self.now + wait, self.next_number), Happening { at, incarnation, event });
        self.next_number += 1;
    }

    fn between(&mut self, range: RangeInclusive<Micros>) -> Micros {
        range.start() + self.rng.below(range.end() - range.start() + 1)
    }

    fn happen(&mut self, at: usize, event: Event) -> Result<(), Violation> {
        if self.members[at].running.is_none() {
            return Ok(());
        }
        if let Some(waiting) = &mut self.states[at].frozen {
            waiting.push(event);
            return Ok(());
        }
        match event {
            Event::Tick => self.tick(at),
            Event::Propose => self.propose(at),
            Event::Arrive { sender, message } => self.arrive(at, sender, *message)?,
            Event::Synced { count } => self.synced(at, count),
            Event::Refused { by } => self.refused(at, by),
        }
        self.checker.look_at(&self.members[at], &self.members)?;
        self.pump(at)
    }

    fn tick(&mut self, at: usize) {
        self.set(at, TICK, Event::Tick);
        let Some(running) = &mut self.members[at].running else { return };
        running.node.tick();
        self.hand_over_when_disk_stalls(at);
    }

    /// What a driver does that knows how long its oldest write has waited.
    fn hand_over_when_disk_stalls(&mut self, at: usize) {
        let limit = u64::from(self.plan.raft.election_ticks) * TICK / 2;
        let is_late = self.states[at].oldest_write.is_some_and(|since| self.now - since >= limit);
        let Some(running) = &mut self.members[at].running else { return };
        if is_late && let Some(successor) = running.node.successor() {
            running.node.transfer_leader(successor);
        }
    }

    fn propose(&mut self, at: usize) {
        self.set(at, self.proposal_interval(), Event::Propose);
        let Some(running) = &mut self.members[at].running else { return };
        let data = Bytes::copy_from_slice(&(at as u64 + 1).to_be_bytes());
        // Dropped proposals are part of an outage.
        drop(running.node.propose(data));
    }

    /// Of one client.
    fn proposal_interval(&self) -> Micros {
        PROPOSAL_INTERVAL * self.members.len() as u64
    }

    fn arrive(&mut self, at: usize, sender: NodeId, message: Message) -> Result<(), Violation> {
        if self.cut.contains(&(sender, at as u64 + 1)) {
            return Ok(());
        }
        let Some(running) = &mut self.members[at].running else { return Ok(()) };
        match running.node.step(message) {
            Err(error) if error.is_fatal() => {
                Err(Violation { property: "no lost log", what: format!("member {}: {error}", at + 1) })
            }
            Ok(()) | Err(_) => Ok(()),
        }
    }

    fn refused(&mut self, at: usize, by: NodeId) {
        self.set(at, REDIAL_INTERVAL, Event::Refused { by });
        if let Some(running) = &mut self.members[at].running {
            running.node.leader_process_ended(by);
        }
    }

    fn synced(&mut self, at: usize, count: usize) {
        self.states[at].disk_is_busy = false;
        if self.states[at].disk_is_stalled {
            return;
        }
        let messages = self.members[at].finish_writes(count);
        self.states[at].oldest_write = self.members[at].has_write().then_some(self.now);
        self.send(at, messages);
    }

    // ---- effects --------------------------------------------------------------------------------------

    fn pump(&mut self, at: usize) -> Result<(), Violation> {
        loop {
            let output = self.members[at].pump();
            for (term_before, entries) in &output.appended {
                self.checker.appended(at as u64 + 1, *term_before, entries)?;
            }
            self.checker.handed_out(&self.members[at], &output.committed)?;
            self.send(at, output.messages);
            self.start_sync(at);
            if !self.members[at].has_entry_to_apply() {
                break;
            }
            while self.members[at].has_entry_to_apply() {
                let applied = self.members[at].apply_next();
                self.note_applied(at, applied.map(|(entry, _)| entry))?;
            }
        }
        self.checker.look_at(&self.members[at], &self.members)
    }

    fn note_applied(&mut self, at: usize, entry: Option<Entry>) -> Result<(), Violation> {
        let id = at as u64 + 1;
        if let Some(running) = &self.members[at].running {
            self.checker.applied(id, running.machine.applied, running.machine.hash)?;
        }
        let is_own = entry.is_some_and(|entry| entry.data[..] == id.to_be_bytes());
        if is_own {
            self.longest_outage = self.longest_outage.max(self.now - self.last_acknowledged);
            self.last_acknowledged = self.now;
        }
        Ok(())
    }

    fn send(&mut self, at: usize, messages: Vec<Message>) {
        let sender = at as u64 + 1;
        for message in messages {
            let to = message.to as usize - 1;
            let wait = self.between(self.conditions.link.clone());
            let arrival = self.links.entry((sender, message.to)).or_default();
            *arrival = (*arrival).max(self.now + wait);
            let wait = *arrival - self.now;
            self.set(to, wait, Event::Arrive { sender, message: Box::new(message) });
        }
    }

    fn start_sync(&mut self, at: usize) {
        let count = self.members[at].writes_waiting();
        let state = &mut self.states[at];
        if count == 0 {
            return;
        }
        state.oldest_write.get_or_insert(self.now);
        if !state.disk_is_busy && !state.disk_is_stalled {
            state.disk_is_busy = true;
            let wait = self.between(self.conditions.sync.clone());
            self.set(at, wait, Event::Synced { count });
        }
    }
}
