//! Scenarios: small clusters on a perfect network, and members taken apart one `Ready` at a time.
//! What faults do to clusters is the simulator's subject.

use std::collections::BTreeMap;

use bytes::Bytes;
use proptest::prelude::*;

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

#[test]
fn a_single_member_commits_with_its_own_disk() {
    let mut node = node(1, [1]);
    node.campaign();
    // The pre-vote and the vote need a turn of the disk each, then the term's first entry one more.
    for role in [Role::Candidate, Role::Leader, Role::Leader] {
        let ready = node.ready();
        assert!(ready.committed.is_empty() && ready.send_now.is_empty());
        assert!(write(&mut node, ready.persist.unwrap()).is_empty());
        assert_eq!(node.basic_status().soft_state.role, role);
    }
    let first = node.ready();
    assert_eq!(first.committed.len(), 1);
    let _ = write(&mut node, first.persist.unwrap());
    node.applied(Index(1));
    node.propose(Bytes::from_static(b"x")).unwrap();
    let ready = node.ready();
    let persist = ready.persist.unwrap();
    assert!(persist.must_sync);
    assert_eq!(persist.entries.len(), 1);
    assert_eq!(node.basic_status().hard_state.commit, Index(1), "not before it is durable");
    assert!(write(&mut node, persist).is_empty());
    let ready = node.ready();
    assert_eq!(ready.committed.len(), 1);
    let persist = ready.persist.unwrap();
    assert!(!persist.must_sync, "a commit index alone needs no sync");
}

#[test]
fn a_vote_leaves_only_with_its_persist() {
    let mut voter = node(1, [1, 2, 3]);
    voter.step(message(MessageType::Vote, 2, 1, 5)).unwrap();
    let ready = voter.ready();
    assert!(ready.send_now.is_empty());
    let persist = ready.persist.unwrap();
    let state = HardState { term: Term(5), vote: Some(2), commit: Index::ZERO };
    assert_eq!((persist.hard_state, persist.must_sync), (Some(state), true));
    let messages = write(&mut voter, persist);
    assert_eq!(kinds(&messages), [MessageType::VoteResp]);
    assert!(!messages[0].reject);

    // One vote per term, however often it is asked for.
    voter.step(message(MessageType::Vote, 3, 1, 5)).unwrap();
    let ready = voter.ready();
    assert!(write(&mut voter, ready.persist.unwrap())[0].reject);
    voter.step(message(MessageType::Vote, 2, 1, 5)).unwrap();
    let ready = voter.ready();
    assert!(!write(&mut voter, ready.persist.unwrap())[0].reject);
}

#[test]
fn votes_table() {
    struct Case {
        name: &'static str,
        kind: MessageType,
        vote: Option<NodeId>,
        leader: Option<NodeId>,
        log: (u64, u64),
        term: u64,
        granted: bool,
    }
    use MessageType::{PreVote, Vote};
    // The voter is in term 3 with a log that ends with entry 2 of term 2; candidate 2 asks.
    let table = [
        Case {
            name: "free, equal log",
            kind: Vote,
            vote: None,
            leader: None,
            log: (2, 2),
            term: 3,
            granted: true,
        },
        Case {
            name: "free, longer log",
            kind: Vote,
            vote: None,
            leader: None,
            log: (2, 3),
            term: 3,
            granted: true,
        },
        Case {
            name: "free, later log",
            kind: Vote,
            vote: None,
            leader: None,
            log: (3, 1),
            term: 3,
            granted: true,
        },
        Case {
            name: "free, shorter log",
            kind: Vote,
            vote: None,
            leader: None,
            log: (2, 1),
            term: 3,
            granted: false,
        },
        Case {
            name: "free, older log",
            kind: Vote,
            vote: None,
            leader: None,
            log: (1, 9),
            term: 3,
            granted: false,
        },
        Case {
            name: "voted for it",
            kind: Vote,
            vote: Some(2),
            leader: None,
            log: (2, 2),
            term: 3,
            granted: true,
        },
        Case {
            name: "voted for another",
            kind: Vote,
            vote: Some(3),
            leader: None,
            log: (2, 2),
            term: 3,
            granted: false,
        },
        Case {
            name: "knows a leader",
            kind: Vote,
            vote: None,
            leader: Some(3),
            log: (2, 2),
            term: 3,
            granted: false,
        },
        Case {
            name: "voted, later term",
            kind: Vote,
            vote: Some(3),
            leader: None,
            log: (2, 2),
            term: 4,
            granted: true,
        },
        Case {
            name: "forecast, later term",
            kind: PreVote,
            vote: Some(3),
            leader: Some(3),
            log: (2, 2),
            term: 4,
            granted: true,
        },
        Case {
            name: "forecast, shorter log",
            kind: PreVote,
            vote: None,
            leader: None,
            log: (2, 1),
            term: 4,
            granted: false,
        },
        Case {
            name: "forecast, own term, voted for another",
            kind: PreVote,
            vote: Some(3),
            leader: None,
            log: (2, 2),
            term: 3,
            granted: false,
        },
    ];
    for case in table {
        let mut storage = MemoryStorage::with_conf_state(ConfState::of_voters([1, 2, 3]));
        let entry = |term, index| Entry { term: Term(term), index: Index(index), ..Entry::default() };
        storage.append(&[entry(1, 1), entry(2, 2)]);
        storage.set_hard_state(HardState { term: Term(3), vote: case.vote, commit: Index::ZERO });
        let mut voter = RawNode::new(Config { check_quorum: false, ..Config::new(1) }, storage).unwrap();
        if let Some(leader) = case.leader {
            voter.step(message(MessageType::Heartbeat, leader, 1, 3)).unwrap();
        }
        voter
            .step(Message {
                log_term: Term(case.log.0),
                index: Index(case.log.1),
                ..message(case.kind, 2, 1, case.term)
            })
            .unwrap();
        let ready = voter.ready();
        let answers = write(&mut voter, ready.persist.unwrap());
        assert_eq!(answers.len(), 1, "{}", case.name);
        assert_eq!(!answers[0].reject, case.granted, "{}", case.name);
        let forecast_keeps_vote = case.kind == Vote || voter.basic_status().hard_state.vote == case.vote;
        assert!(forecast_keeps_vote, "{}", case.name);
    }
}

#[test]
fn appends_leave_before_the_leader_s_own_write_and_acknowledgements_after() {
    let mut cluster = Cluster::led(3);
    cluster.node(1).propose(Bytes::from_static(b"x")).unwrap();
    let leader = cluster.node(1).ready();
    assert_eq!(kinds(&leader.send_now), [MessageType::App, MessageType::App]);
    let append = leader.send_now[0].clone();

    cluster.node(2).step(append).unwrap();
    let follower = cluster.node(2).ready();
    assert!(follower.send_now.is_empty());
    let acks = write(cluster.node(2), follower.persist.unwrap());
    assert_eq!(kinds(&acks), [MessageType::AppResp]);

    // Two of three are needed, and the leader's own disk is still busy.
    cluster.node(1).step(acks[0].clone()).unwrap();
    assert_eq!(cluster.commit(1), 1);
    write(cluster.node(1), leader.persist.unwrap());
    assert_eq!(cluster.commit(1), 2);
}

#[test]
fn writes_in_flight_are_acknowledged_in_order() {
    let mut cluster = Cluster::led(1);
    let mut writes = Vec::new();
    for data in ["a", "b", "c"] {
        cluster.node(1).propose(Bytes::from(data)).unwrap();
        writes.push(cluster.node(1).ready().persist.unwrap());
    }
    for (count, persist) in writes.into_iter().enumerate() {
        assert_eq!(cluster.commit(1), 1 + count as u64);
        write(cluster.node(1), persist);
    }
    cluster.settle();
    assert_eq!(cluster.payloads(1), ["a", "b", "c"]);
}

#[test]
#[should_panic(expected = "write 2 was acknowledged instead of 1")]
fn a_lost_acknowledgement_stops_the_member() {
    let mut node = node(1, [1, 2]);
    for term in [1, 2, 3] {
        node.step(message(MessageType::Vote, 2, 1, term)).unwrap();
        let persist = node.ready().persist.unwrap();
        if term != 2 {
            let _ = write(&mut node, persist);
        }
    }
}

#[test]
fn a_member_that_was_cut_off_disturbs_nobody() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![3];
    cluster.tick(3, 100);
    assert_eq!((cluster.role(3), cluster.term(3)), (Role::PreCandidate, 1));
    cluster.cut.clear();
    cluster.propose(1, "x");
    cluster.tick(1, 2);
    assert_eq!((cluster.role(1), cluster.term(1)), (Role::Leader, 1));
    assert_eq!(cluster.role(3), Role::Follower);
    assert_eq!(cluster.payloads(3), ["x"]);
}

#[test]
fn without_pre_vote_an_overtaken_leader_learns_the_higher_term() {
    let mut cluster = Cluster::with(3, |config| config.pre_vote = false);
    cluster.elect(1);
    cluster.cut = vec![3];
    cluster.tick(3, 25);
    assert!(cluster.term(3) > 1);
    cluster.cut.clear();
    cluster.tick(1, 1);
    assert_eq!(cluster.role(1), Role::Follower);
    assert_eq!(cluster.term(1), cluster.term(3));
}

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![2, 3];
    cluster.tick(1, 21);
    assert_eq!(cluster.role(1), Role::Follower);
}

#[test]
fn a_leader_s_followers_ignore_votes_until_the_lease_ends() {
    let mut cluster = Cluster::led(3);
    cluster.tick(1, 1);
    cluster.node(2).step(message(MessageType::Vote, 3, 2, 9)).unwrap();
    assert_eq!(cluster.term(2), 1);
    // A transfer is the leader's own wish.
    let context = Bytes::from_static(codec::CAMPAIGN_TRANSFER);
    cluster.node(2).step(Message { context, ..message(MessageType::Vote, 3, 2, 9) }).unwrap();
    assert_eq!(cluster.term(2), 9);
}

#[test]
fn forgetting_the_leader_ends_the_lease() {
    let mut cluster = Cluster::led(3);
    cluster.node(2).forget_leader();
    cluster.node(2).step(message(MessageType::Vote, 3, 2, 9)).unwrap();
    assert_eq!(cluster.term(2), 9);
}

#[test]
fn leadership_moves_on_request() {
    let mut cluster = Cluster::led(3);
    cluster.propose(1, "x");
    // A follower asks its leader.
    cluster.node(3).transfer_leader(2);
    cluster.settle();
    assert_eq!((cluster.role(1), cluster.role(2)), (Role::Follower, Role::Leader));
    cluster.propose(3, "forwarded");
    assert_eq!(cluster.payloads(1), ["x", "forwarded"]);
}

#[test]
fn a_transfer_that_fails_is_given_up() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![3];
    cluster.propose(1, "x");
    cluster.node(1).transfer_leader(3);
    assert_eq!(cluster.node(1).propose(Bytes::from_static(b"y")), Err(StepError::ProposalDropped));
    cluster.tick(1, 10);
    assert_eq!(cluster.node(1).basic_status().lead_transferee, None);
    cluster.propose(1, "y");
    assert_eq!(cluster.payloads(1), ["x", "y"]);
}

#[test]
fn a_read_takes_a_round_of_heartbeats() {
    let mut cluster = Cluster::led(3);
    cluster.propose(1, "x");
    cluster.node(1).read_index(Bytes::from_static(b"r"));
    let ready = cluster.node(1).ready();
    assert!(ready.read_states.is_empty());
    assert_eq!(kinds(&ready.send_now), [MessageType::Heartbeat, MessageType::Heartbeat]);
    assert_eq!(&ready.send_now[0].context[..], 1u64.to_le_bytes());
    cluster.deliver(ready.send_now[0].clone());
    cluster.settle();
    let expected = ReadState { index: Index(2), request_context: Bytes::from_static(b"r") };
    assert_eq!(cluster.reads[&1], std::slice::from_ref(&expected));

    // A follower's read goes by way of the leader.
    cluster.node(3).read_index(Bytes::from_static(b"r"));
    cluster.settle();
    assert_eq!(cluster.reads[&3], [expected]);
}

#[test]
fn a_cut_off_leader_answers_no_read() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![1];
    cluster.node(1).read_index(Bytes::from_static(b"r"));
    cluster.tick(1, 5);
    assert!(cluster.reads[&1].is_empty());
}

#[test]
fn a_new_leader_s_reads_wait_for_its_first_commit() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![2, 3];
    // Nothing of the new term can be committed: the answers to its first append are kept back.
    cluster.cut.clear();
    cluster.node(2).step(message(MessageType::TimeoutNow, 1, 2, 1)).unwrap();
    let requests = cluster.work(2);
    requests.into_iter().for_each(|request| cluster.deliver(request));
    let votes: Vec<Message> = [1, 3].into_iter().flat_map(|id| cluster.work(id)).collect();
    votes.into_iter().for_each(|vote| cluster.deliver(vote));
    assert_eq!(cluster.role(2), Role::Leader);
    cluster.node(2).read_index(Bytes::from_static(b"r"));
    let first = cluster.work(2);
    assert!(first.iter().all(|it| it.kind == MessageType::App), "{first:?}");
    first.into_iter().for_each(|append| cluster.deliver(append));
    cluster.settle();
    assert_eq!(cluster.reads[&2].len(), 1);
    assert_eq!(cluster.reads[&2][0].index, Index(2));
}

/// Found by the simulator: the one voter that was left had been elected, and the old leader read the past.
#[test]
fn a_leader_that_removed_itself_asks_the_voter_that_is_left() {
    let mut cluster = Cluster::led(2);
    cluster.node(1).propose_conf_change(&ConfChange::remove_node(1)).unwrap();
    cluster.settle();
    assert_eq!(cluster.role(1), Role::Leader);
    cluster.cut = vec![1];
    cluster.node(1).read_index(Bytes::from_static(b"r"));
    cluster.settle();
    assert!(cluster.reads[&1].is_empty());
    cluster.cut.clear();
    cluster.tick(1, 1);
    assert_eq!(cluster.reads[&1].len(), 1);
}

#[test]
fn an_only_voter_s_reads_wait_for_its_first_commit() {
    let mut node = node(1, [1]);
    node.campaign();
    for _ in 0..2 {
        let persist = node.ready().persist.unwrap();
        let _ = write(&mut node, persist);
    }
    assert_eq!(node.basic_status().soft_state.role, Role::Leader);
    node.read_index(Bytes::from_static(b"r"));
    let ready = node.ready();
    assert!(ready.read_states.is_empty());
    let _ = write(&mut node, ready.persist.unwrap());
    assert_eq!(node.ready().read_states[0].index, Index(1));
    node.read_index(Bytes::from_static(b"r"));
    assert_eq!(node.ready().read_states.len(), 1);
}

#[test]
fn a_follower_behind_the_compaction_gets_a_snapshot() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![3];
    for data in ["a", "b", "c"] {
        cluster.propose(1, data);
    }
    let conf_state = cluster.conf_state(1);
    let storage = cluster.node(1).storage_mut();
    storage.create_snapshot(Index(3), conf_state, Bytes::from_static(b"state")).unwrap();
    storage.compact(Index(3)).unwrap();
    cluster.cut.clear();
    cluster.tick(1, 3);
    let snapshots = cluster.sent.iter().filter(|it| it.kind == MessageType::Snap).count();
    assert_eq!(snapshots, 1);
    assert_eq!(cluster.commit(3), 4);
    assert_eq!(cluster.payloads(3), ["c"], "the rest was in the snapshot");
    assert!(cluster.nodes[&1].status().progress[&3].is_replicating());
}

#[test]
fn only_a_leader_knows_the_progress_of_others() {
    let mut cluster = Cluster::led(3);
    cluster.node(1).propose_conf_change(&ConfChange::add_learner(9)).unwrap();
    cluster.settle();
    let known = |cluster: &Cluster, at: NodeId, id| {
        let progress = cluster.nodes[&at].progress(id)?;
        Some((progress.matched.0, progress.is_learner, progress.recent_active))
    };
    assert_eq!(known(&cluster, 1, 1), Some((2, false, true)));
    assert_eq!(known(&cluster, 1, 3), Some((2, false, true)));
    assert_eq!(known(&cluster, 1, 9), Some((0, true, true)), "counts as active until the next check");
    assert_eq!(known(&cluster, 1, 7), None);
    assert_eq!(known(&cluster, 3, 1), None);
    cluster.cut = vec![3];
    cluster.propose(1, "x");
    cluster.tick(1, 20);
    assert_eq!(known(&cluster, 1, 3), Some((2, false, false)));
    assert_eq!(known(&cluster, 1, 2), Some((3, false, true)));
}

#[test]
fn a_failed_snapshot_is_sent_again() {
    let mut cluster = Cluster::led(2);
    cluster.propose(1, "a");
    let conf_state = cluster.conf_state(1);
    let storage = cluster.node(1).storage_mut();
    storage.create_snapshot(Index(2), conf_state, Bytes::new()).unwrap();
    storage.compact(Index(2)).unwrap();
    cluster.node(1).propose_conf_change(&ConfChange::add_learner(9)).unwrap();
    cluster.settle();
    cluster
        .node(1)
        .step(Message { index: Index(2), reject: true, ..message(MessageType::AppResp, 9, 1, 1) })
        .unwrap();
    assert!(cluster.nodes[&1].status().progress[&9].pending_snapshot().is_some());
    cluster.node(1).report_snapshot(9, SnapshotStatus::Failed);
    assert_eq!(cluster.nodes[&1].status().progress[&9].next, Index(1));
    cluster.node(1).step(message(MessageType::HeartbeatResp, 9, 1, 1)).unwrap();
    let resent = cluster.node(1).ready().send_now;
    assert!(kinds(&resent).contains(&MessageType::Snap));
}

#[test]
fn a_learner_catches_up_and_is_promoted() {
    let mut cluster = Cluster::led(1);
    cluster.propose(1, "x");
    cluster.node(1).propose_conf_change(&ConfChange::add_learner(2)).unwrap();
    cluster.settle();
    assert_eq!(cluster.conf_state(1).learners, [2]);
    // The founding configuration is not in the log, so who joins needs a snapshot.
    let conf_state = cluster.conf_state(1);
    let storage = cluster.node(1).storage_mut();
    storage.create_snapshot(Index(3), conf_state, Bytes::new()).unwrap();
    storage.compact(Index(3)).unwrap();
    cluster.nodes.insert(2, RawNode::new(Config::new(2), MemoryStorage::new()).unwrap());
    cluster.tick(1, 2);
    cluster.propose(1, "y");
    assert_eq!(cluster.payloads(2), ["y"]);
    cluster.node(2).campaign();
    assert_eq!(cluster.role(2), Role::Follower, "a learner does not campaign");
    cluster.node(1).propose_conf_change(&ConfChange::add_node(2)).unwrap();
    cluster.settle();
    assert_eq!(cluster.conf_state(2), ConfState::of_voters([1, 2]));
    cluster.node(1).transfer_leader(2);
    cluster.settle();
    assert_eq!(cluster.role(2), Role::Leader);
}

#[test]
fn a_joint_configuration_is_left_without_being_asked() {
    let mut cluster = Cluster::led(3);
    let single = |change, node_id| ConfChangeSingle { change, node_id };
    let change = ConfChangeV2 {
        changes: vec![single(ConfChangeType::AddLearnerNode, 3), single(ConfChangeType::RemoveNode, 2)],
        ..ConfChangeV2::default()
    };
    cluster.node(1).propose_conf_change_v2(&change).unwrap();
    cluster.settle();
    let expected = ConfState { voters: vec![1], learners: vec![3], ..ConfState::default() };
    assert_eq!(cluster.conf_state(1), expected);
    cluster.tick(1, 1);
    assert_eq!(cluster.conf_state(3), expected);
    let changes = cluster.applied[&1].iter().filter(|it| it.kind == EntryKind::ConfChangeV2);
    assert_eq!(changes.count(), 2);
}

#[test]
fn one_configuration_change_at_a_time() {
    let mut cluster = Cluster::led(3);
    cluster.node(1).propose_conf_change(&ConfChange::remove_node(3)).unwrap();
    cluster.node(1).propose_conf_change(&ConfChange::remove_node(2)).unwrap();
    cluster.settle();
    assert_eq!(cluster.conf_state(1), ConfState::of_voters([1, 2]));
    let refused = cluster.applied[&1].last().unwrap();
    assert!(refused.kind == EntryKind::Normal && refused.data.is_empty());
}

#[test]
fn a_removed_leader_steps_down_if_told_so() {
    for (step_down_on_removal, role) in [(false, Role::Leader), (true, Role::Follower)] {
        let mut cluster = Cluster::with(3, |config| config.step_down_on_removal = step_down_on_removal);
        cluster.elect(1);
        cluster.node(1).propose_conf_change(&ConfChange::remove_node(1)).unwrap();
        cluster.settle();
        assert_eq!(cluster.role(1), role);
        let dropped = cluster.node(1).propose(Bytes::from_static(b"x"));
        assert_eq!(dropped, Err(StepError::ProposalDropped));
    }
}

#[test]
fn too_much_uncommitted_is_refused_and_nothing_else() {
    let mut cluster = Cluster::with(3, |config| config.max_uncommitted_bytes = 10);
    cluster.elect(1);
    cluster.cut = vec![2, 3];
    let node = cluster.node(1);
    // Larger than the limit, but the first.
    node.propose(Bytes::from(vec![0; 20])).unwrap();
    assert_eq!(node.propose(Bytes::from_static(b"x")), Err(StepError::ProposalDropped));
    node.propose(Bytes::new()).unwrap();
    cluster.cut.clear();
    cluster.settle();
    cluster.tick(1, 1);
    cluster.node(1).propose(Bytes::from_static(b"x")).unwrap();
}

#[test]
fn divergent_logs_meet_in_few_probes() {
    // Index       1 2 3 4 5 6 7 8 9
    let leader = [1, 3, 3, 3, 3, 3, 3, 3, 7];
    let follower = [1, 3, 3, 4, 4, 5, 5, 5, 6];
    let storage = |terms: &[u64]| {
        let mut storage = MemoryStorage::with_conf_state(ConfState::of_voters([1, 2]));
        let at = |(offset, &term): (usize, &u64)| Entry {
            term: Term(term),
            index: Index(offset as u64 + 1),
            ..Entry::default()
        };
        storage.append(&terms.iter().enumerate().map(at).collect::<Vec<_>>());
        storage.set_hard_state(HardState { term: Term(7), vote: None, commit: Index(1) });
        storage
    };
    let config = |id| Config { applied: Index(1), ..Config::new(id) };
    let mut cluster = Cluster::new(0);
    cluster.nodes.insert(1, RawNode::new(config(1), storage(&leader)).unwrap());
    cluster.nodes.insert(2, RawNode::new(config(2), storage(&follower)).unwrap());
    cluster.elect(1);
    let rejections = cluster.sent.iter().filter(|it| it.kind == MessageType::AppResp && it.reject);
    assert_eq!(rejections.count(), 2);
    assert_eq!((cluster.commit(1), cluster.commit(2)), (10, 10));
}

#[test]
fn what_only_a_broken_peer_sends_is_refused() {
    let mut cluster = Cluster::led(3);
    cluster.propose(1, "x");
    let follower = cluster.node(2);
    let beyond = Message { commit: Index(99), ..message(MessageType::Heartbeat, 1, 2, 1) };
    assert!(follower.step(beyond).unwrap_err().is_fatal());
    let entry = Entry { term: Term(2), index: Index(3), ..Entry::default() };
    let gap = Message {
        index: Index(1),
        log_term: Term(1),
        entries: vec![entry],
        ..message(MessageType::App, 1, 2, 2)
    };
    assert!(matches!(follower.step(gap), Err(StepError::Malformed { .. })));
    let unknown = message(MessageType::AppResp, 9, 1, 1);
    assert_eq!(cluster.node(1).step(unknown), Err(StepError::PeerNotFound { from: 9 }));
    let ack = Message { index: Index(99), ..message(MessageType::AppResp, 2, 1, 1) };
    assert!(matches!(cluster.node(1).step(ack), Err(StepError::Malformed { .. })));
}

#[test]
fn a_restart_refuses_a_state_that_cannot_be() {
    let mut storage = MemoryStorage::with_conf_state(ConfState::of_voters([1]));
    storage.set_hard_state(HardState { term: Term(1), vote: None, commit: Index(5) });
    let error = RawNode::new(Config::new(1), storage).err().unwrap();
    let expected = StartError::CommitOutOfRange { commit: Index(5), committed: Index(0), last: Index(0) };
    assert_eq!(error, expected);
    let applied = Config { applied: Index(3), ..Config::new(1) };
    let error = RawNode::new(applied, MemoryStorage::new()).err().unwrap();
    assert!(matches!(error, StartError::AppliedOutOfRange { .. }));
    assert!(RawNode::new(Config::new(0), MemoryStorage::new()).is_err());
}

fn any_kind() -> impl Strategy<Value = MessageType> {
    use MessageType::*;
    prop::sample::select(vec![
        Prop,
        App,
        AppResp,
        Vote,
        VoteResp,
        Snap,
        Heartbeat,
        HeartbeatResp,
        TransferLeader,
        TimeoutNow,
        ReadIndex,
        ReadIndexResp,
        PreVote,
        PreVoteResp,
        ForgetLeader,
    ])
}

/// Small numbers, so that some of it is plausible, and the largest.
fn any_number() -> impl Strategy<Value = u64> {
    prop_oneof![8 => 0..6u64, 1 => Just(u64::MAX)]
}

prop_compose! {
    fn any_message()(
        kind in any_kind(),
        from in 0..5u64,
        numbers in prop::array::uniform6(any_number()),
        reject in any::<bool>(),
        count in 0..3u64,
        context in prop_oneof![
            Just(Bytes::new()),
            Just(Bytes::from_static(b"CampaignTransfer")),
            Just(Bytes::from_static(&[1, 0, 0, 0, 0, 0, 0, 0])),
            Just(Bytes::from_static(b"odd")),
        ],
        kinds in prop::sample::select(vec![EntryKind::Normal, EntryKind::ConfChange, EntryKind::ConfChangeV2]),
        voters in prop::collection::vec(0..4u64, 0..4),
    ) -> Message {
        let [term, log_term, index, commit, hint, entry_term] = numbers;
        let entry = |offset: u64| Entry {
            term: Term(entry_term),
            index: Index(index.wrapping_add(1 + offset)),
            kind: kinds,
            data: Bytes::from_static(&[0x10, 0, 0x18, 9]),
        };
        Message {
            kind,
            to: 1,
            from,
            term: Term(term),
            log_term: Term(log_term),
            index: Index(index),
            entries: (0..count).map(entry).collect(),
            commit: Index(commit),
            snapshot: (kind == MessageType::Snap).then(|| Snapshot {
                data: Bytes::new(),
                metadata: SnapshotMetadata {
                    conf_state: ConfState { voters, ..ConfState::default() },
                    index: Index(commit.min(1000)),
                    term: Term(log_term),
                },
            }),
            reject,
            reject_hint: Index(hint),
            context,
        }
    }
}

proptest! {
    /// Whatever arrives, from however broken a peer, is taken or refused; nothing panics.
    #[test]
    fn no_message_makes_a_member_panic(
        messages in prop::collection::vec(any_message(), 1..60),
        ticks in prop::collection::vec(0..30u32, 60),
    ) {
        let mut cluster = Cluster::new(0);
        cluster.nodes.insert(1, node(1, [1, 2, 3]));
        for (message, ticks) in messages.into_iter().zip(ticks) {
            if cluster.node(1).step(message).is_err_and(|error| error.is_fatal()) {
                break;
            }
            (0..ticks).for_each(|_| cluster.node(1).tick());
            let node = cluster.node(1);
            while node.has_ready() {
                let ready = node.ready();
                if let Some(persist) = ready.persist {
                    let _ = write(node, persist);
                }
                for entry in ready.committed {
                    if let Ok(Some(change)) = ConfChangeV2::from_entry(&entry) {
                        let _ = node.apply_conf_change(change);
                    }
                    node.applied(entry.index);
                }
            }
        }
    }
}
