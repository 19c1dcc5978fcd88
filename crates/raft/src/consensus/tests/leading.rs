//! A leader's own affairs: its quorum, its limits, whom it hands over to.

use bytes::Bytes;

use super::*;

#[test]
fn a_leader_without_a_quorum_steps_down() {
    let mut cluster = Cluster::led(3);
    cluster.cut = vec![2, 3];
    cluster.tick(1, 21);
    assert_eq!(cluster.role(1), Role::Follower);
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
