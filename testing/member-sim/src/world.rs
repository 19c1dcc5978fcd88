//! A run: members take their turns, messages arrive, time passes, clients ask, and things break, all in an order
//! that the seed decides. At every step members must agree on what they have applied; in the end, healed, they
//! must come to one state, and every client must have been told the truth.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use disk::mem::{Fault, FaultPoint};
use membership::MemberId;
use mvcc::ReadAt;
use parking_lot::Mutex;
use server::{Clock, ClusterState, Server, Stage, StopReason};
use tokio::runtime::Handle;
use tokio::task::{JoinSet, yield_now};

use crate::admin::{self, Orders};
use crate::check;
use crate::client::{self, Notes, nanos};
use crate::history::{Call, History, Outcome};
use crate::member::{Slot, url};
use crate::network::Wires;
use crate::rng::Rng;

/// Calls of clients under way at once.
const CALLS_MAX: usize = 40;

/// How long a healed cluster may take to come to one state: some elections, and snapshots for those far behind.
const CALM_LIMIT: Duration = Duration::from_secs(120);

const KEYS: usize = 6;

/// A request may be a little larger, and raft hands out no more to be applied at once.
const LARGE_VALUE_MAX: usize = 1_500_000;

/// Until a member that found no cluster to join tries again.
const JOIN_RETRY: Duration = Duration::from_millis(200);

/// Turns that members take in one step.
const TURNS: usize = 6;

/// Members a run may come to have had.
const MEMBERS_EVER: usize = 9;

/// What kinds of trouble a run has.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub seed: u64,
    pub steps: usize,
}

/// What a run came to, for the line that reports it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub members: usize,
    pub revisions: usize,
    pub calls: usize,
    pub acknowledged: usize,
    pub messages: u64,
    pub crashes: usize,
    pub cuts: usize,
    pub changes: usize,
    pub simulated_secs: u64,
}

pub struct World {
    rng: Rng,
    clock: Clock,
    wires: Wires,
    slots: Vec<Slot>,
    history: History,
    notes: Notes,
    calls: JoinSet<()>,
    orders: Arc<Mutex<Orders>>,
    values: u64,
    /// So many values in a thousand are large.
    large_values: u64,
    leases: Vec<i64>,
    /// Revision of the store at each applied index, as the first member that got there had it.
    applied: BTreeMap<u64, i64>,
    compacted: i64,
    /// No new member is started before then.
    next_join: Duration,
    report: Report,
}

impl Drop for World {
    /// Servers hold the network, and the network holds servers.
    fn drop(&mut self) {
        self.wires.take_down();
    }
}

impl World {
    pub fn new(seed: u64) -> World {
        let mut rng = Rng::new(seed);
        let clock = Clock::simulated();
        let wires = Wires::new(rng.fork(), clock.clone());
        let size = *rng.pick(&[1, 3, 3, 3, 5]).expect("there are sizes");
        let all: Vec<usize> = (0..size).collect();
        let slots = all.iter().map(|&n| Slot::new(n, &all, ClusterState::New)).collect();
        {
            let mut state = wires.state.lock();
            state.loss = *rng.pick(&[0, 0, 5, 30]).expect("there are rates");
            state.doubles = *rng.pick(&[0, 5, 20]).expect("there are rates");
        }
        let large_values = *rng.pick(&[0, 0, 100]).expect("there are rates");
        World {
            rng,
            notes: Notes { records: Arc::default(), clock: clock.clone() },
            clock,
            wires,
            slots,
            history: History::default(),
            calls: JoinSet::new(),
            orders: Arc::default(),
            values: 0,
            large_values,
            leases: Vec::new(),
            applied: BTreeMap::new(),
            compacted: 0,
            next_join: Duration::ZERO,
            report: Report { members: size, ..Report::default() },
        }
    }

    /// # Errors
    /// What is wrong, in words for whoever looks for the reason.
    pub async fn run(&mut self, plan: Plan) -> Result<Report, String> {
        for at in 0..self.slots.len() {
            self.start(at)?;
        }
        for step in 0..plan.steps {
            // The first steps let the cluster form.
            let is_troubled = step > plan.steps / 10;
            self.step(is_troubled).await?;
        }
        self.calm_down().await?;
        let records = std::mem::take(&mut *self.notes.records.lock());
        check::check(&self.history, &records)?;
        let told = |outcome: &Outcome| !matches!(outcome, Outcome::Failed | Outcome::Unknown);
        self.report.revisions = self.history.revisions.len();
        self.report.calls = records.len();
        self.report.acknowledged = records.iter().filter(|record| told(&record.outcome)).count();
        self.report.messages = self.wires.state.lock().delivered;
        self.report.simulated_secs = self.clock.elapsed().as_secs();
        Ok(std::mem::take(&mut self.report))
    }

    async fn step(&mut self, is_troubled: bool) -> Result<(), String> {
        match self.rng.below(100) {
            0..55 => {
                for _ in 0..TURNS {
                    self.take_turn()?;
                }
            }
            55..80 => {
                self.wires.deliver_one();
            }
            80..92 => {
                let micros = 200 + self.rng.below(4_000) as u64;
                self.pass(Duration::from_micros(micros)).await;
            }
            92..97 => self.ask(),
            _ if is_troubled && self.rng.chance(40) => self.trouble()?,
            _ => {}
        }
        self.let_tasks_run().await;
        self.look_after_members()
    }

    /// Tasks go on as far as they can without time passing.
    async fn let_tasks_run(&mut self) {
        for _ in 0..3 {
            yield_now().await;
        }
        while self.calls.try_join_next().is_some() {}
    }

    async fn pass(&mut self, time: Duration) {
        self.clock.advance(time);
        tokio::time::advance(time).await;
    }

    // --- members ---

    fn start(&mut self, at: usize) -> Result<(), String> {
        let runtime = Handle::current();
        let started = self.slots[at].start(&self.wires, &self.clock, &runtime);
        started.map_err(|error| format!("member {at} does not start: {error}"))
    }

    fn running(&self) -> Vec<usize> {
        (0..self.slots.len()).filter(|&at| self.slots[at].process.is_some()).collect()
    }

    fn server(&self, at: usize) -> Option<&Server> {
        self.slots[at].process.as_ref().map(|process| &process.server)
    }

    fn take_turn(&mut self) -> Result<(), String> {
        let now = self.clock.elapsed();
        let running = self.running();
        let Some(&at) = self.rng.pick(&running) else { return Ok(()) };
        let stage = Stage::ALL[self.rng.below(Stage::ALL.len())];
        let slot = &mut self.slots[at];
        if now < slot.paused_until || (stage == Stage::Log && now < slot.stalled_until) {
            return Ok(());
        }
        let Some(process) = &mut slot.process else { return Ok(()) };
        process.turn(stage);
        match stage {
            Stage::Apply => self.compare_applied(at),
            Stage::CatchUp => self.observe(at),
            Stage::Replicate | Stage::Log | Stage::Backend => Ok(()),
        }
    }

    /// Equal index, equal state: what each member shows, and where its store stands.
    fn compare_applied(&mut self, at: usize) -> Result<(), String> {
        self.observe(at)?;
        let Some(server) = self.server(at) else { return Ok(()) };
        let (index, revision) = (server.raft().applied(), server.view().revision().to_wire());
        let known = *self.applied.entry(index).or_insert(revision);
        if known == revision {
            return Ok(());
        }
        Err(format!("at index {index} member {at} is at revision {revision}, another was at {known}"))
    }

    fn observe(&mut self, at: usize) -> Result<(), String> {
        let now = nanos(&self.clock);
        let Some(process) = &mut self.slots[at].process else { return Ok(()) };
        for events in process.observed() {
            self.history.observe(&events, now).map_err(|error| format!("member {at}: {error}"))?;
        }
        Ok(())
    }

    /// Members that stopped by themselves had a reason; those that were ordered are started.
    fn look_after_members(&mut self) -> Result<(), String> {
        for at in self.running() {
            let Some(server) = self.server(at) else { continue };
            let reason = server.stopping().borrow().clone();
            match reason {
                None | Some(StopReason::Asked) => {}
                Some(StopReason::Removed) => {
                    self.slots[at].is_retired = true;
                    self.slots[at].end(&self.wires);
                }
                Some(StopReason::Failed(_)) if self.slots[at].disk_fails => {
                    self.slots[at].crash(&self.wires, &mut self.rng);
                }
                Some(StopReason::Failed(why)) => return Err(format!("member {at} stopped: {why}")),
            }
        }
        self.start_ordered();
        Ok(())
    }

    /// Starts the member that was added, as soon as those it asks know of it.
    fn start_ordered(&mut self) {
        let number = self.slots.len();
        let Some(&known) = self.running().first() else { return };
        let now = self.clock.elapsed();
        if self.orders.lock().start != Some(number) || now < self.next_join {
            return;
        }
        self.next_join = now + JOIN_RETRY;
        let Some(cluster) = self.server(known).map(Server::cluster) else { return };
        let is_named = |n: &usize| cluster.members().any(|member| member.peer_urls.contains(&url(*n)));
        let named: Vec<usize> = (0..number).filter(is_named).chain([number]).collect();
        self.slots.push(Slot::new(number, &named, ClusterState::Existing));
        match self.start(number) {
            Ok(()) => self.orders.lock().start = None,
            // Tried again: those it asks may be gone, or may not have applied yet that it was added.
            Err(_) => drop(self.slots.pop()),
        }
    }

    // --- clients ---

    fn ask(&mut self) {
        if self.calls.len() >= CALLS_MAX {
            return;
        }
        let running = self.running();
        let Some(&at) = self.rng.pick(&running) else { return };
        let Some(server) = self.server(at).cloned() else { return };
        let call = self.draw_call(&server);
        self.calls.spawn(client::call(server, call, self.notes.clone()));
    }

    fn draw_call(&mut self, server: &Server) -> Call {
        let key = Bytes::from(format!("k{}", self.rng.below(KEYS)));
        // Keys under leases are nobody's to delete.
        let leased = Bytes::from(format!("l{}", self.rng.below(KEYS)));
        let value = self.draw_value();
        let revision = server.view().revision().to_wire();
        match self.rng.below(100) {
            0..30 => Call::Put { key, value, lease: 0 },
            30..38 => Call::Delete { key },
            38..56 => {
                let back = self.rng.below(8) as i64;
                Call::Cas { key, expected: (revision - back).max(0), value }
            }
            56..78 => Call::Get { key, linearizable: true },
            78..84 => Call::Get { key, linearizable: false },
            84..88 => Call::Grant { ttl_secs: 2 + self.rng.below(4) as i64 },
            88..94 => {
                self.note_leases();
                match self.rng.pick(&self.leases) {
                    Some(&lease) => Call::Put { key: leased, value, lease },
                    None => Call::Put { key, value, lease: 0 },
                }
            }
            94..98 => {
                self.note_leases();
                match self.rng.pick(&self.leases) {
                    Some(&lease) => Call::KeepAlive { lease },
                    None => Call::Get { key, linearizable: true },
                }
            }
            _ => {
                // History that observers may still have to read stays.
                let target = (revision - 200).max(self.compacted);
                self.compacted = target;
                Call::Compact { revision: target }
            }
        }
    }

    /// Another one each time.
    fn draw_value(&mut self) -> Bytes {
        self.values += 1;
        let mut value = format!("v{}", self.values).into_bytes();
        if self.rng.chance(self.large_values) {
            let len = self.rng.below(LARGE_VALUE_MAX);
            value.resize(len.max(value.len()), b'.');
        }
        value.into()
    }

    fn note_leases(&mut self) {
        let records = self.notes.records.lock();
        let granted = records.iter().rev().take(200).filter_map(|record| match record.outcome {
            Outcome::Granted { lease } => Some(lease),
            _ => None,
        });
        self.leases = granted.take(8).collect();
    }

    // --- trouble ---

    fn trouble(&mut self) -> Result<(), String> {
        let running = self.running();
        let down: Vec<usize> = (0..self.slots.len())
            .filter(|&at| self.slots[at].process.is_none() && !self.slots[at].is_retired)
            .collect();
        match self.rng.below(14) {
            0 | 1 => {
                if let Some(&at) = self.rng.pick(&running) {
                    self.slots[at].crash(&self.wires, &mut self.rng);
                    self.report.crashes += 1;
                }
            }
            2 => {
                if let Some(&at) = self.rng.pick(&running) {
                    self.slots[at].end(&self.wires);
                }
            }
            3..6 => {
                if let Some(&at) = self.rng.pick(&down) {
                    self.start(at)?;
                }
            }
            6 => self.cut_off_one(),
            7 => self.cut_one_way(),
            8 | 9 => self.wires.heal(),
            10 => {
                let until = self.clock.elapsed() + Duration::from_millis(200 + self.rng.below(4_000) as u64);
                if let Some(&at) = self.rng.pick(&running) {
                    match self.rng.below(2) {
                        0 => self.slots[at].paused_until = until,
                        _ => self.slots[at].stalled_until = until,
                    }
                }
            }
            11 => {
                if let Some(&at) = self.rng.pick(&running) {
                    let points = [FaultPoint::Sync, FaultPoint::Write, FaultPoint::SyncDir];
                    let point = *self.rng.pick(&points).expect("there are points");
                    self.slots[at].disk.inject(Fault::eio(point));
                    self.slots[at].disk_fails = true;
                }
            }
            12 => self.hint(),
            _ => self.change_members(),
        }
        Ok(())
    }

    fn ids(&self) -> Vec<MemberId> {
        self.slots.iter().filter_map(Slot::id).collect()
    }

    fn cut_off_one(&mut self) {
        let ids = self.ids();
        let Some(&one) = self.rng.pick(&ids) else { return };
        for &other in ids.iter().filter(|other| **other != one) {
            self.wires.cut(one, other);
            self.wires.cut(other, one);
        }
        self.report.cuts += 1;
    }

    fn cut_one_way(&mut self) {
        let ids = self.ids();
        if let (Some(&from), Some(&to)) = (self.rng.pick(&ids), self.rng.pick(&ids)) {
            self.wires.cut(from, to);
            self.report.cuts += 1;
        }
    }

    /// Somebody is told that another's process has ended, true or not.
    fn hint(&mut self) {
        let ids = self.ids();
        if let (Some(&about), Some(&to)) = (self.rng.pick(&ids), self.rng.pick(&ids)) {
            self.wires.hint(about, to);
        }
    }

    fn change_members(&mut self) {
        if self.slots.len() >= MEMBERS_EVER || std::mem::replace(&mut self.orders.lock().is_busy, true) {
            return;
        }
        let number = self.slots.len();
        let leaving = if self.rng.chance(700) { self.rng.pick(&self.ids()).copied() } else { None };
        let orders = self.orders.clone();
        self.report.changes += 1;
        tokio::spawn(admin::replace(self.wires.clone(), number, url(number), leaving, orders));
    }

    // --- the end ---

    /// Everything is healed and started, and the cluster has to come to one state.
    async fn calm_down(&mut self) -> Result<(), String> {
        self.wires.heal();
        {
            let mut state = self.wires.state.lock();
            (state.loss, state.doubles) = (0, 0);
        }
        for slot in &mut self.slots {
            (slot.paused_until, slot.stalled_until) = (Duration::ZERO, Duration::ZERO);
        }
        let deadline = self.clock.elapsed() + CALM_LIMIT;
        loop {
            for at in 0..self.slots.len() {
                if self.slots[at].process.is_none() && !self.slots[at].is_retired {
                    self.start(at)?;
                }
            }
            for _ in 0..200 {
                self.take_turn()?;
                self.wires.deliver_one();
                self.wires.deliver_one();
                if self.rng.chance(150) {
                    self.pass(Duration::from_millis(2)).await;
                }
                self.let_tasks_run().await;
                self.look_after_members()?;
            }
            if self.calls.is_empty() && !self.orders.lock().is_busy && self.has_settled()? {
                return Ok(());
            }
            if self.clock.elapsed() > deadline {
                return Err(format!(
                    "not settled {CALM_LIMIT:?} after everything was healed: {}",
                    self.standing()
                ));
            }
        }
    }

    /// All members of the cluster have applied the same, under one leader, and their keys are equal.
    fn has_settled(&mut self) -> Result<bool, String> {
        let members: Vec<usize> = self.running().into_iter().filter(|&at| self.belongs(at)).collect();
        let servers: Vec<Server> = members.iter().filter_map(|&at| self.server(at).cloned()).collect();
        let Some(first) = servers.first() else { return Ok(false) };
        let standing = |server: &Server| {
            (server.raft().leader(), server.raft().applied(), server.raft().committed(), server.raft().term())
        };
        let (leader, applied, committed, _) = standing(first);
        let agree = servers.iter().all(|server| standing(server) == standing(first));
        if leader.is_none() || applied != committed || !agree {
            return Ok(false);
        }
        let mut hashes = Vec::new();
        for server in &servers {
            let hash = mvcc::hash_kv(&server.view(), ReadAt::Latest).map_err(|error| error.to_string())?;
            hashes.push((hash.hash, hash.revision, hash.compact_revision));
        }
        if hashes.windows(2).any(|pair| pair[0] != pair[1]) {
            return Err(format!("members at index {applied} hold different keys: {hashes:?}"));
        }
        Ok(true)
    }

    /// One that was removed may not have heard of it; nobody waits for it.
    fn belongs(&self, at: usize) -> bool {
        let Some(id) = self.slots[at].id() else { return false };
        let newest = self
            .running()
            .into_iter()
            .filter_map(|at| self.server(at))
            .max_by_key(|server| server.raft().applied());
        newest.is_some_and(|server| server.cluster().member(id).is_some())
    }

    fn standing(&self) -> String {
        let of = |(at, slot): (usize, &Slot)| match &slot.process {
            None => format!("{at}: down"),
            Some(process) => {
                let raft = process.server.raft();
                let members: Vec<String> =
                    process.server.cluster().members().map(|member| member.id.to_string()).collect();
                format!(
                    "{at}: {} of {members:?} leader {:?} term {} committed {} applied {}",
                    process.server.member_id(),
                    raft.leader(),
                    raft.term(),
                    raft.committed(),
                    raft.applied()
                )
            }
        };
        let all: Vec<String> = self.slots.iter().enumerate().map(of).collect();
        let orders = self.orders.lock();
        format!("{}; {} calls open, {orders:?}", all.join("; "), self.calls.len())
    }
}
