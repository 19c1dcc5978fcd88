//! One member: what its disk holds, what runs in memory, and the driver between them.

use std::collections::VecDeque;

use bytes::Bytes;
use raft::{
    ConfChangeV2, ConfState, Entry, EntryId, EntryKind, HardState, Index, MemoryStorage, Message, NodeId,
    Persist, RawNode, ReadState, Snapshot, Storage, Synced, Term,
};

use crate::plan::{Founding, Plan, StorageAppend};
use crate::rng::{Rng, fold_hash};

/// The replicated state: all applied entries, folded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    pub applied: Index,
    pub hash: u64,
    pub conf_state: ConfState,
}

/// What survives a crash.
#[derive(Clone, Debug)]
struct Disk {
    log: MemoryStorage,
    hard_state: HardState,
}

/// A write that the disk has not finished.
struct Write {
    hard_state: Option<HardState>,
    entries: Vec<Entry>,
    snapshot: Option<Snapshot>,
    synced: Synced,
}

enum ToApply {
    Entry(Entry),
    /// Not to be installed before it is durable.
    Snapshot {
        snapshot: Snapshot,
        is_durable: bool,
    },
}

pub struct Running {
    pub node: RawNode<MemoryStorage>,
    pub machine: Machine,
    writes: VecDeque<Write>,
    to_apply: VecDeque<ToApply>,
}

pub struct Member {
    pub id: NodeId,
    disk: Disk,
    pub running: Option<Running>,
    /// How often it was started.
    pub incarnation: u64,
    pub has_slow_disk: bool,
    storage_append: StorageAppend,
    refuses_changes: bool,
}

/// What a turn of the driver brought out.
#[derive(Default)]
pub struct Output {
    pub messages: Vec<Message>,
    pub reads: Vec<ReadState>,
    /// Entries that entered the log, for the checker, with the term of the entry before them.
    pub appended: Vec<(Term, Vec<Entry>)>,
    pub snapshots_received: u64,
    /// Entries that were handed out to be applied.
    pub committed: Vec<EntryId>,
}

impl Member {
    pub fn new(id: NodeId, plan: &Plan) -> Member {
        let mut disk = Disk { log: MemoryStorage::new(), hard_state: HardState::default() };
        if id <= plan.founders {
            match plan.founding {
                Founding::Snapshot => found_by_snapshot(&mut disk, plan),
                Founding::Entries => found_by_entries(&mut disk, plan),
            }
        }
        Member {
            id,
            disk,
            running: None,
            incarnation: 0,
            has_slow_disk: false,
            storage_append: plan.storage_append,
            refuses_changes: plan.refuses_changes,
        }
    }

    /// Starts from what the disk holds.
    pub fn start(&mut self, plan: &Plan, seed: u64) -> Result<(), raft::StartError> {
        let mut storage = self.disk.log.clone();
        storage.set_hard_state(self.disk.hard_state);
        let machine = self.disk_machine();
        let config = raft::Config { applied: machine.applied, ..plan.config(self.id, seed) };
        let node = RawNode::new(config, storage)?;
        self.incarnation += 1;
        self.running = Some(Running { node, machine, writes: VecDeque::new(), to_apply: VecDeque::new() });
        Ok(())
    }

    fn disk_machine(&self) -> Machine {
        match self.disk.log.snapshot() {
            Ok(snapshot) => decode_machine(&snapshot),
            Err(_) => Machine::default(),
        }
    }

    /// Loses power. Of the writes under way, some may have reached the disk, in order, and of the next one
    /// a part. Returns how many were lost.
    pub fn crash(&mut self, rng: &mut Rng) -> u64 {
        let Some(mut running) = self.running.take() else { return 0 };
        let survivors = rng.index(running.writes.len() + 1);
        for write in running.writes.drain(..survivors) {
            self.disk.write(&write);
        }
        if let Some(torn) = running.writes.front()
            && torn.snapshot.is_none()
            && !torn.entries.is_empty()
        {
            let count = rng.index(torn.entries.len());
            self.disk.log.append(&torn.entries[..count]);
        }
        running.writes.len() as u64
    }

    pub fn has_write(&self) -> bool {
        self.running.as_ref().is_some_and(|running| !running.writes.is_empty())
    }

    pub fn writes_waiting(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.writes.len())
    }

    /// An entry, or a snapshot that is durable.
    pub fn has_entry_to_apply(&self) -> bool {
        match self.running.as_ref().and_then(|running| running.to_apply.front()) {
            Some(ToApply::Snapshot { is_durable, .. }) => *is_durable,
            Some(ToApply::Entry(_)) => true,
            None => false,
        }
    }

    pub fn has_snapshot_to_install(&self) -> bool {
        let front = self.running.as_ref().and_then(|running| running.to_apply.front());
        matches!(front, Some(ToApply::Snapshot { .. }))
    }

    /// The end of the log of a member that runs.
    pub fn last_entry(&self) -> Option<EntryId> {
        let node = &self.running.as_ref()?.node;
        let index = node.last_index();
        Some(EntryId { term: node.entry_term(index)?, index })
    }

    /// Finishes the oldest `count` writes with one sync, and releases what depends on them.
    pub fn finish_writes(&mut self, count: usize) -> Vec<Message> {
        let Some(running) = &mut self.running else { return Vec::new() };
        let count = count.min(running.writes.len());
        let finished: Vec<Write> = running.writes.drain(..count).collect();
        for write in &finished {
            self.disk.write(write);
        }
        let mut messages = Vec::new();
        for write in finished {
            if self.storage_append == StorageAppend::WhenDurable {
                put_into_storage(running.node.storage_mut(), &write.entries, write.snapshot.as_ref());
            }
            if let Some(durable) = &write.snapshot {
                running.note_durable(durable.index());
            }
            messages.extend(write.synced.messages);
            running.node.persisted(write.synced.ack);
        }
        messages
    }

    /// Applies the next entry or snapshot.
    pub fn apply_next(&mut self) -> Option<(Entry, Index)> {
        let refuses_changes = self.refuses_changes;
        let running = self.running.as_mut()?;
        match running.to_apply.pop_front()? {
            ToApply::Snapshot { snapshot, is_durable } => {
                assert!(is_durable, "snapshot {} is installed before it is durable", snapshot.index());
                running.machine = decode_machine(&snapshot);
                None
            }
            ToApply::Entry(entry) => {
                let index = entry.index;
                assert!(
                    index == running.machine.applied.next(),
                    "member {} applies {index} after {}",
                    self.id,
                    running.machine.applied
                );
                let mut is_conf_change = false;
                if let Ok(Some(mut change)) = ConfChangeV2::from_entry(&entry) {
                    is_conf_change = true;
                    if refuses_changes && is_refused(&entry) {
                        // As etcd does: the change is applied, to nobody.
                        change.changes.iter_mut().for_each(|single| single.node_id = 0);
                    }
                    // A change that cannot be made is refused by everybody alike.
                    if let Ok(conf_state) = running.node.apply_conf_change(change) {
                        running.machine.conf_state = conf_state;
                    }
                }
                running.machine.apply(&entry);
                running.node.applied(index);
                if is_conf_change {
                    // So that those who join find themselves in the snapshot that they are sent.
                    self.take_snapshot(0);
                }
                Some((entry, index))
            }
        }
    }

    /// Makes a snapshot of what is applied and drops the log up to `keep` entries before it. Only when the
    /// disk knows that these entries are committed.
    pub fn take_snapshot(&mut self, drop_log: u64) -> bool {
        let Some(running) = &mut self.running else { return false };
        let machine = &running.machine;
        let index = machine.applied;
        if index == Index::ZERO || self.disk.hard_state.commit < index {
            return false;
        }
        let (conf_state, data) = (machine.conf_state.clone(), encode_machine(machine));
        let storage = running.node.storage_mut();
        if storage.last_index() < index
            || storage.create_snapshot(index, conf_state.clone(), data.clone()).is_err()
        {
            return false;
        }
        let made = self.disk.log.create_snapshot(index, conf_state, data);
        assert!(made.is_ok(), "the disk of {} is ahead of its memory: {made:?}", self.id);
        if drop_log > 0 {
            let up_to = Index(index.0.saturating_sub(drop_log - 1));
            let _ = running.node.storage_mut().compact(up_to);
            let _ = self.disk.log.compact(up_to);
        }
        true
    }

    /// A snapshot of what is applied now, for a message that is about to leave.
    pub fn fresh_snapshot(&self) -> Option<Snapshot> {
        let running = self.running.as_ref()?;
        let machine = &running.machine;
        let term = running.node.entry_term(machine.applied)?;
        let mut snapshot = Snapshot { data: encode_machine(machine), ..Snapshot::default() };
        snapshot.metadata.index = machine.applied;
        snapshot.metadata.term = term;
        snapshot.metadata.conf_state = machine.conf_state.clone();
        Some(snapshot)
    }

    /// Takes everything out of the core and starts it on its way.
    pub fn pump(&mut self) -> Output {
        let mut output = Output::default();
        let Some(running) = &mut self.running else { return output };
        while running.node.has_ready() {
            let ready = running.node.ready();
            output.messages.extend(ready.send_now);
            output.reads.extend(ready.read_states);
            if let Some(persist) = ready.persist {
                running.start_write(persist, self.storage_append, &mut output);
            }
            output.committed.extend(ready.committed.iter().map(Entry::id));
            running.to_apply.extend(ready.committed.into_iter().map(ToApply::Entry));
        }
        output
    }

    /// True when the disk holds this entry, or a snapshot of it.
    pub fn holds_durably(&self, index: Index, term: Term) -> bool {
        index < self.disk.log.first_index() || self.disk.log.term(index) == Ok(term)
    }
}

impl Running {
    fn note_durable(&mut self, index: Index) {
        for waiting in &mut self.to_apply {
            if let ToApply::Snapshot { snapshot, is_durable } = waiting {
                *is_durable |= snapshot.index() <= index;
            }
        }
    }

    fn start_write(&mut self, persist: Persist, append: StorageAppend, output: &mut Output) {
        if let Some(first) = persist.entries.first() {
            let before = self.node.entry_term(first.index.prev()).unwrap_or(Term::ZERO);
            output.appended.push((before, persist.entries.clone()));
        }
        if append == StorageAppend::WhenHandedOut {
            put_into_storage(self.node.storage_mut(), &persist.entries, persist.snapshot.as_ref());
        }
        if let Some(snapshot) = &persist.snapshot {
            output.snapshots_received += 1;
            self.to_apply.push_back(ToApply::Snapshot { snapshot: snapshot.clone(), is_durable: false });
        }
        self.writes.push_back(Write {
            hard_state: persist.hard_state,
            entries: persist.entries.clone(),
            snapshot: persist.snapshot.clone(),
            synced: persist.synced(),
        });
    }
}

impl Disk {
    fn write(&mut self, write: &Write) {
        put_into_storage(&mut self.log, &write.entries, write.snapshot.as_ref());
        if let Some(hard_state) = write.hard_state {
            self.hard_state = hard_state;
        }
    }
}

impl Machine {
    fn apply(&mut self, entry: &Entry) {
        self.applied = entry.index;
        self.hash = fold_hash(self.hash, &raft::codec::encode_entry(entry));
    }
}

fn put_into_storage(storage: &mut MemoryStorage, entries: &[Entry], snapshot: Option<&Snapshot>) {
    if let Some(snapshot) = snapshot {
        let applied = storage.apply_snapshot(snapshot.clone());
        assert!(applied.is_ok(), "snapshot {} is not newer: {applied:?}", snapshot.index());
    }
    storage.append(entries);
}

fn found_by_snapshot(disk: &mut Disk, plan: &Plan) {
    let machine = Machine { applied: Index(1), hash: 0, conf_state: ConfState::of_voters(1..=plan.founders) };
    let mut snapshot = Snapshot { data: encode_machine(&machine), ..Snapshot::default() };
    snapshot.metadata.index = Index(1);
    snapshot.metadata.term = Term(1);
    snapshot.metadata.conf_state = machine.conf_state;
    put_into_storage(&mut disk.log, &[], Some(&snapshot));
    disk.hard_state = HardState { term: Term(1), vote: None, commit: Index(1) };
}

fn found_by_entries(disk: &mut Disk, plan: &Plan) {
    let entries: Vec<Entry> = (1..=plan.founders)
        .map(|id| Entry { term: Term(1), index: Index(id), ..raft::ConfChange::add_node(id).to_entry() })
        .collect();
    disk.log.append(&entries);
    disk.hard_state = HardState { term: Term(1), vote: None, commit: Index(plan.founders) };
}

fn encode_machine(machine: &Machine) -> Bytes {
    Bytes::copy_from_slice(&machine.hash.to_le_bytes())
}

fn decode_machine(snapshot: &Snapshot) -> Machine {
    let hash = <[u8; 8]>::try_from(&snapshot.data[..]).map(u64::from_le_bytes).unwrap_or(0);
    Machine { applied: snapshot.index(), hash, conf_state: snapshot.metadata.conf_state.clone() }
}

/// What an application refuses depends on its state, which is the same on all members at this entry.
fn is_refused(entry: &Entry) -> bool {
    fold_hash(entry.index.0, &entry.data).is_multiple_of(3)
}

/// True for entries that a client proposed.
pub fn is_payload(entry: &Entry) -> bool {
    entry.kind == EntryKind::Normal && !entry.data.is_empty()
}
