//! Members that come, go and change sides.

use bytes::Bytes;

use super::*;

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
