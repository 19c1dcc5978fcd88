//! Terms, votes and leases.

use bytes::Bytes;

use super::*;

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
