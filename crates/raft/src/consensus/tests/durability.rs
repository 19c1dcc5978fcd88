//! What may leave a member only behind its own writes.

use bytes::Bytes;

use super::*;

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
