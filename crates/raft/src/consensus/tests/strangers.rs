//! What no correct peer sends.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;

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
