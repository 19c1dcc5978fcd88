//! How followers get what they lack.

use bytes::Bytes;

use super::*;

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
