//! Read indexes.

use bytes::Bytes;

use super::*;

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
