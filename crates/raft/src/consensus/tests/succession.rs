//! From one leader to the next without etcd's waits.

use bytes::Bytes;

use super::*;

fn prompt(config: &mut Config) {
    config.prompt_elections = true;
}

/// Prompt members, with member 1 leading.
fn led_promptly(count: u64) -> Cluster {
    let mut cluster = Cluster::with(count, prompt);
    cluster.elect(1);
    cluster
}

fn leader_of(cluster: &Cluster, id: NodeId) -> Option<NodeId> {
    cluster.nodes[&id].basic_status().soft_state.leader
}

/// Ticks all of these once, in order, with all that follows.
fn tick_all(cluster: &mut Cluster, ids: &[NodeId]) {
    for &id in ids {
        cluster.tick(id, 1);
    }
}

#[test]
fn two_that_notice_elect_the_first_without_a_tick() {
    for order in [[2, 3], [3, 2]] {
        let mut cluster = led_promptly(3);
        cluster.cut = vec![1];
        for id in order {
            assert!(cluster.node(id).leader_process_ended(1));
            assert_eq!(leader_of(&cluster, id), None, "proposals are not sent to who is gone");
            cluster.settle();
        }
        assert_eq!((cluster.role(2), cluster.role(3)), (Role::Leader, Role::Follower), "{order:?}");
        assert_eq!(cluster.term(3), 2);
    }
}

#[test]
fn the_second_takes_a_tick_when_the_first_does_not_notice() {
    let mut cluster = led_promptly(5);
    cluster.cut = vec![1, 2];
    cluster.node(3).leader_process_ended(1);
    cluster.node(4).leader_process_ended(1);
    cluster.settle();
    assert_eq!(cluster.role(3), Role::Follower, "member 2 has the first turn");
    cluster.tick(3, 1);
    assert_eq!(cluster.role(3), Role::PreCandidate, "member 5 has not noticed");
    cluster.node(5).leader_process_ended(1);
    cluster.settle();
    assert_eq!((cluster.role(3), cluster.term(5)), (Role::Leader, 2));
}

/// Both are told at the same moment, and the second's tick comes before the first's request.
#[test]
fn of_two_rivals_the_lower_id_goes_on() {
    let mut cluster = led_promptly(3);
    cluster.node(2).leader_process_ended(1);
    cluster.node(3).leader_process_ended(1);
    cluster.node(3).tick();
    let mut under_way: Vec<Message> = [2, 3].into_iter().flat_map(|id| cluster.work(id)).collect();
    assert_eq!((cluster.role(2), cluster.role(3)), (Role::PreCandidate, Role::PreCandidate));
    cluster.cut = vec![1];
    while !under_way.is_empty() {
        under_way.drain(..).for_each(|message| cluster.deliver(message));
        under_way = [2, 3].into_iter().flat_map(|id| cluster.work(id)).collect();
        let candidates = [2, 3].into_iter().filter(|&id| cluster.role(id) == Role::Candidate);
        assert!(candidates.count() <= 1);
    }
    assert_eq!((cluster.role(2), cluster.term(2)), (Role::Leader, 2));
}

#[test]
fn a_shorter_log_holds_nobody_up() {
    let mut cluster = led_promptly(3);
    cluster.cut = vec![2];
    cluster.propose(1, "x");
    cluster.cut = vec![1];
    cluster.node(2).leader_process_ended(1);
    cluster.node(3).leader_process_ended(1);
    cluster.settle();
    assert_eq!(cluster.role(3), Role::Follower);
    cluster.tick(3, 1);
    assert_eq!((cluster.role(3), cluster.role(2)), (Role::Leader, Role::Follower));
    assert_eq!(cluster.payloads(2), ["x"]);
}

#[test]
fn a_leader_that_lives_stays_although_a_follower_is_told_otherwise() {
    for count in [3, 5, 7] {
        let mut cluster = led_promptly(count);
        for round in 0..50 {
            cluster.node(2).leader_process_ended(1);
            cluster.settle();
            assert_eq!(cluster.role(2), Role::PreCandidate);
            (3..=count).for_each(|id| cluster.tick(id, 1));
            if round % 2 == 0 {
                cluster.tick(2, 3);
            }
            cluster.tick(1, 1);
            assert_eq!(leader_of(&cluster, 2), Some(1), "a heartbeat brings the leader back");
            assert_eq!((cluster.role(1), cluster.term(1), cluster.term(2)), (Role::Leader, 1, 1));
        }
    }
}

#[test]
fn evidence_counts_only_about_the_leader_that_is_followed() {
    let mut cluster = led_promptly(3);
    assert!(!cluster.node(2).leader_process_ended(3), "of another member");
    assert!(!cluster.node(1).leader_process_ended(1), "of itself");
    assert_eq!(leader_of(&cluster, 2), Some(1));
    cluster.node(2).leader_process_ended(1);
    assert!(!cluster.node(2).leader_process_ended(1), "it is noted already");

    let mut as_etcd = Cluster::led(3);
    assert!(!as_etcd.node(2).leader_process_ended(1));
    let mut lease_based = Cluster::with(3, |config| {
        prompt(config);
        config.read_only = ReadOnlyOption::LeaseBased;
    });
    lease_based.elect(1);
    assert!(!lease_based.node(2).leader_process_ended(1), "its reads rely on the lease");
    assert_eq!(leader_of(&lease_based, 2), Some(1));
}

#[test]
fn a_learner_gives_up_the_lease_and_does_not_campaign() {
    let mut cluster = led_promptly(1);
    cluster.node(1).propose_conf_change(&ConfChange::add_learner(2)).unwrap();
    cluster.settle();
    let storage = MemoryStorage::with_conf_state(cluster.conf_state(1));
    let config = Config { prompt_elections: true, ..Config::new(2) };
    cluster.nodes.insert(2, RawNode::new(config, storage).unwrap());
    cluster.node(2).step(message(MessageType::Heartbeat, 1, 2, 1)).unwrap();
    assert!(cluster.node(2).leader_process_ended(1));
    (0..50).for_each(|_| cluster.node(2).tick());
    assert_eq!((cluster.role(2), leader_of(&cluster, 2)), (Role::Follower, None));
    cluster.node(2).step(message(MessageType::Vote, 3, 2, 9)).unwrap();
    assert_eq!(cluster.term(2), 9);
}

#[test]
fn a_silent_leader_is_followed_in_the_order_of_ids() {
    for (dead, first, ticks) in [(1, 2, 11), (2, 1, 11)] {
        let mut cluster = led_promptly(5);
        if dead != 1 {
            cluster.node(1).transfer_leader(dead);
            cluster.settle();
        }
        cluster.tick(dead, 1);
        cluster.cut = vec![dead];
        let others: Vec<NodeId> = (1..=5).filter(|&id| id != dead).collect();
        for _ in 0..ticks {
            assert!(others.iter().all(|&id| cluster.role(id) == Role::Follower));
            tick_all(&mut cluster, &others);
        }
        assert_eq!(cluster.role(first), Role::Leader);
    }
}

#[test]
fn a_request_within_the_lease_is_answered_when_the_lease_ends() {
    let mut cluster = led_promptly(3);
    cluster.tick(1, 1);
    cluster.cut = vec![1];
    cluster.node(2).leader_process_ended(1);
    cluster.settle();
    let asked = cluster.sent.iter().filter(|it| it.kind == MessageType::PreVote && it.from == 2).count();
    cluster.tick(3, 9);
    assert_eq!(cluster.role(2), Role::PreCandidate);
    cluster.tick(3, 1);
    assert_eq!(cluster.role(2), Role::Leader);
    let requests = cluster.sent.iter().filter(|it| it.kind == MessageType::PreVote && it.from == 2);
    assert_eq!(requests.count(), asked, "without being asked again");
}

#[test]
fn news_of_the_leader_make_early_requests_void() {
    let mut cluster = led_promptly(3);
    let request = Message { index: Index(9), log_term: Term(1), ..message(MessageType::PreVote, 3, 2, 2) };
    cluster.node(2).step(request).unwrap();
    cluster.tick(1, 1);
    cluster.sent.clear();
    cluster.node(2).leader_process_ended(1);
    cluster.settle();
    assert!(!kinds(&cluster.sent).contains(&MessageType::PreVoteResp));
}

/// A member as etcd has it keeps its lease, and then the next request finds it free.
#[test]
fn beside_members_as_etcd_has_them_the_lease_ends_by_time() {
    struct Late;
    impl ElectionTimeouts for Late {
        fn draw(&mut self, election_ticks: u32) -> u32 {
            2 * election_ticks - 1
        }
    }
    let mut cluster = Cluster::with(3, prompt);
    let storage = MemoryStorage::with_conf_state(ConfState::of_voters([1, 2, 3]));
    let as_etcd = RawNode::with_timeouts(Config::new(3), storage, Box::new(Late)).unwrap();
    cluster.nodes.insert(3, as_etcd);
    cluster.elect(1);
    cluster.tick(1, 1);
    cluster.cut = vec![1];
    cluster.node(2).leader_process_ended(1);
    for _ in 0..10 {
        assert_eq!((cluster.role(2), cluster.role(3)), (Role::PreCandidate, Role::Follower));
        tick_all(&mut cluster, &[2, 3]);
    }
    tick_all(&mut cluster, &[2, 3, 2, 3]);
    assert_eq!(cluster.role(2), Role::Leader);
}

/// It can ask and is not heard when it is answered.
#[test]
fn a_candidate_that_hears_nobody_holds_the_others_up_only_once() {
    let mut cluster = led_promptly(3);
    cluster.cut = vec![1];
    cluster.node(3).leader_process_ended(1);
    let request = || Message { index: Index(9), log_term: Term(1), ..message(MessageType::PreVote, 2, 3, 2) };
    let mut ticks = 0;
    while cluster.role(3) == Role::Follower {
        cluster.node(3).step(request()).unwrap();
        cluster.node(3).tick();
        let _ = cluster.work(3);
        ticks += 1;
    }
    assert_eq!(ticks, 3);
    cluster.node(3).step(request()).unwrap();
    assert_eq!(cluster.role(3), Role::PreCandidate);
}

#[test]
fn a_vote_given_is_a_timeout_s_time_for_its_candidate() {
    let mut cluster = led_promptly(3);
    cluster.cut = vec![1];
    cluster.node(3).leader_process_ended(1);
    let vote = Message { index: Index(9), log_term: Term(1), ..message(MessageType::Vote, 2, 3, 2) };
    cluster.node(3).step(vote).unwrap();
    cluster.tick(3, 9);
    assert_eq!(cluster.role(3), Role::Follower);
    cluster.tick(3, 5);
    assert_eq!((cluster.role(3), cluster.term(3)), (Role::Leader, 3));
}

#[test]
fn a_leader_that_hears_nobody_steps_down_as_soon_as_a_lease_is_over() {
    for ticks_before in 0..20 {
        let mut cluster = led_promptly(3);
        cluster.tick(1, ticks_before);
        cluster.cut = vec![2];
        cluster.tick(1, 50);
        assert_eq!(cluster.role(1), Role::Leader, "two of three are a quorum");
        cluster.cut = vec![2, 3];
        cluster.tick(1, 9);
        assert_eq!(cluster.role(1), Role::Leader);
        cluster.tick(1, 1);
        assert_eq!(cluster.role(1), Role::Follower);
    }
}

#[test]
fn prompt_elections_need_leases_and_pre_votes() {
    for (pre_vote, check_quorum) in [(true, false), (false, true)] {
        let config = Config { prompt_elections: true, pre_vote, check_quorum, ..Config::new(1) };
        let error = RawNode::new(config, MemoryStorage::new()).err();
        let expected = ConfigError::PromptElectionsWithoutPreVoteAndCheckQuorum;
        assert_eq!(error, Some(StartError::Config(expected)));
    }
}

#[test]
fn a_leader_with_a_slow_disk_has_a_successor_if_somebody_does_better() {
    let mut cluster = led_promptly(5);
    cluster.node(1).propose_conf_change(&ConfChange::add_learner(9)).unwrap();
    cluster.settle();
    cluster.tick(1, 1);
    assert_eq!(cluster.nodes[&1].successor(), None, "nothing waits for a disk");
    cluster.node(1).propose(Bytes::from_static(b"x")).unwrap();
    let stalled = cluster.node(1).ready();
    assert_eq!(cluster.nodes[&1].successor(), None, "nobody has it on disk");
    cluster.cut = vec![3];
    stalled.send_now.into_iter().for_each(|append| cluster.deliver(append));
    for id in [5, 4] {
        cluster.work(id).into_iter().for_each(|ack| cluster.deliver(ack));
    }
    assert_eq!(cluster.nodes[&1].successor(), Some(5));
    assert_eq!(cluster.nodes[&4].successor(), None, "a follower hands nothing over");
    // Who fell silent is not asked.
    (0..3).for_each(|_| cluster.node(1).tick());
    assert_eq!(cluster.nodes[&1].successor(), None);
    cluster.node(1).step(message(MessageType::HeartbeatResp, 4, 1, 1)).unwrap();
    assert_eq!(cluster.nodes[&1].successor(), Some(4));
    cluster.node(1).transfer_leader(4);
    assert_eq!(cluster.nodes[&1].successor(), None, "it is handing over");
}
