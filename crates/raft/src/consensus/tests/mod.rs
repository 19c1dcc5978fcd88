//! Scenarios, one file per conversation: small clusters on a perfect network, and members taken apart one
//! `Ready` at a time.
//! What faults do to clusters is the simulator's subject.

mod durability;
mod election;
mod leading;
mod membership;
mod reads;
mod replication;
mod strangers;
mod succession;

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::*;

/// Members, and for each what it applied. Messages arrive in order unless a link is cut.
struct Cluster {
    nodes: BTreeMap<NodeId, RawNode<MemoryStorage>>,
    applied: BTreeMap<NodeId, Vec<Entry>>,
    reads: BTreeMap<NodeId, Vec<ReadState>>,
    cut: Vec<NodeId>,
    /// Every message that was sent, for tests of what is said.
    sent: Vec<Message>,
}

fn node_with(config: Config, voters: impl IntoIterator<Item = NodeId>) -> RawNode<MemoryStorage> {
    RawNode::new(config, MemoryStorage::with_conf_state(ConfState::of_voters(voters))).unwrap()
}

fn node(id: NodeId, voters: impl IntoIterator<Item = NodeId>) -> RawNode<MemoryStorage> {
    node_with(Config::new(id), voters)
}

impl Cluster {
    fn new(count: u64) -> Cluster {
        Cluster::with(count, |_| {})
    }

    fn with(count: u64, adjust: impl Fn(&mut Config)) -> Cluster {
        let nodes = (1..=count).map(|id| {
            let mut config = Config::new(id);
            adjust(&mut config);
            (id, node_with(config, 1..=count))
        });
        Cluster {
            nodes: nodes.collect(),
            applied: BTreeMap::new(),
            reads: BTreeMap::new(),
            cut: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// With member 1 leading.
    fn led(count: u64) -> Cluster {
        let mut cluster = Cluster::new(count);
        cluster.elect(1);
        cluster
    }

    fn elect(&mut self, id: NodeId) {
        self.node(id).campaign();
        self.settle();
        assert_eq!(self.role(id), Role::Leader);
    }

    fn node(&mut self, id: NodeId) -> &mut RawNode<MemoryStorage> {
        self.nodes.get_mut(&id).unwrap()
    }

    fn role(&self, id: NodeId) -> Role {
        self.nodes[&id].basic_status().soft_state.role
    }

    fn term(&self, id: NodeId) -> u64 {
        self.nodes[&id].basic_status().hard_state.term.0
    }

    fn commit(&self, id: NodeId) -> u64 {
        self.nodes[&id].basic_status().hard_state.commit.0
    }

    /// Carries out every effect until there are none.
    fn settle(&mut self) {
        loop {
            let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
            let messages: Vec<Message> = ids.into_iter().flat_map(|id| self.work(id)).collect();
            if messages.is_empty() {
                return;
            }
            for message in messages {
                self.sent.push(message.clone());
                self.deliver(message);
            }
        }
    }

    fn deliver(&mut self, message: Message) {
        let is_cut = [message.from, message.to].iter().any(|id| self.cut.contains(id));
        // A forwarded request bears its first sender's name; it cannot be told apart here.
        if is_cut {
            return;
        }
        let message = codec::decode_message(codec::encode_message(&message)).unwrap();
        if let Some(node) = self.nodes.get_mut(&message.to) {
            match node.step(message) {
                Ok(()) | Err(StepError::ProposalDropped | StepError::PeerNotFound { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn work(&mut self, id: NodeId) -> Vec<Message> {
        let mut messages = Vec::new();
        let node = self.nodes.get_mut(&id).unwrap();
        while node.has_ready() {
            let ready = node.ready();
            messages.extend(ready.send_now);
            if let Some(persist) = ready.persist {
                messages.extend(write(node, persist));
            }
            self.reads.entry(id).or_default().extend(ready.read_states);
            for entry in ready.committed {
                if let Some(change) = ConfChangeV2::from_entry(&entry).unwrap() {
                    node.apply_conf_change(change).unwrap();
                }
                node.applied(entry.index);
                self.applied.entry(id).or_default().push(entry);
            }
        }
        messages
    }

    fn tick(&mut self, id: NodeId, count: u32) {
        for _ in 0..count {
            self.node(id).tick();
            self.settle();
        }
    }

    fn propose(&mut self, id: NodeId, data: &'static str) {
        self.node(id).propose(Bytes::from_static(data.as_bytes())).unwrap();
        self.settle();
    }

    fn payloads(&self, id: NodeId) -> Vec<String> {
        let entries = self.applied.get(&id).into_iter().flatten();
        entries
            .filter(|entry| entry.kind == EntryKind::Normal && !entry.data.is_empty())
            .map(|entry| String::from_utf8(entry.data.to_vec()).unwrap())
            .collect()
    }

    fn conf_state(&self, id: NodeId) -> ConfState {
        self.nodes[&id].status().config.to_conf_state()
    }
}

/// Makes a `Persist` durable and returns the messages that it releases.
fn write(node: &mut RawNode<MemoryStorage>, persist: Persist) -> Vec<Message> {
    let storage = node.storage_mut();
    if let Some(snapshot) = persist.snapshot.clone() {
        storage.apply_snapshot(snapshot).unwrap();
    }
    storage.append(&persist.entries);
    if let Some(state) = persist.hard_state {
        storage.set_hard_state(state);
    }
    let synced = persist.synced();
    node.persisted(synced.ack);
    synced.messages
}

fn kinds(messages: &[Message]) -> Vec<MessageType> {
    messages.iter().map(|message| message.kind).collect()
}

fn message(kind: MessageType, from: NodeId, to: NodeId, term: u64) -> Message {
    Message { from, term: Term(term), ..Message::new(kind, to) }
}
