use proptest::prelude::*;

use super::*;

fn at(secs: u64) -> Now {
    Now(Duration::from_secs(secs))
}

fn lessor() -> Lessor {
    Lessor::new(Config { ttl_secs_min: 2, checkpoint_policy: CheckpointPolicy::Every(CHECKPOINT_INTERVAL) })
}

fn key(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

const A: LeaseId = LeaseId(1);
const B: LeaseId = LeaseId(2);

#[test]
fn the_shortest_ttl_follows_the_election_timeout() {
    let min = |millis| {
        Config::for_election_timeout(Duration::from_millis(millis), CheckpointPolicy::Off).ttl_secs_min
    };
    assert_eq!(min(1000), 2);
    assert_eq!(min(2000), 3);
    assert_eq!(min(5000), 8);
    assert_eq!(min(10), 1);
}

#[test]
fn grant_limits() {
    let mut lessor = lessor();
    assert_eq!(lessor.grant(A, 0).unwrap().ttl_secs, 2, "raised to the shortest");
    assert_eq!(lessor.grant(B, i64::MIN).unwrap().ttl_secs, 2);
    assert_eq!(lessor.grant(LeaseId(-9), TTL_SECS_MAX).unwrap().ttl_secs, TTL_SECS_MAX);
    assert_eq!(lessor.grant(A, 60), Err(GrantError::Exists { id: A }));
    assert_eq!(
        lessor.grant(LeaseId(4), TTL_SECS_MAX + 1),
        Err(GrantError::TtlTooLarge { ttl_secs: TTL_SECS_MAX + 1 })
    );
    assert_eq!(lessor.grant(LeaseId(0), 60), Err(GrantError::NoId));
    assert_eq!(lessor.len(), 3);
}

#[test]
fn revoke_returns_the_keys_in_order_and_forgets_them() {
    let mut lessor = lessor();
    lessor.grant(A, 60).unwrap();
    for k in ["c", "a", "b"] {
        lessor.attach(A, key(k)).unwrap();
    }
    assert_eq!(lessor.revoke(A), Ok(vec![key("a"), key("b"), key("c")]));
    assert_eq!(lessor.lease_of(b"a"), None);
    assert_eq!(lessor.revoke(A), Err(LeaseNotFound { id: A }));
    assert_eq!(lessor.attach(A, key("a")), Err(LeaseNotFound { id: A }));
    lessor.check();
}

#[test]
fn a_put_with_another_lease_moves_the_key() {
    // Kubernetes' master leases: each refresh brings a new lease and the old one simply expires. If the
    // key stayed on the old one, the live key would be deleted with it.
    let mut lessor = lessor();
    lessor.grant(A, 15).unwrap();
    lessor.grant(B, 15).unwrap();
    lessor.attach(A, key("masterlease")).unwrap();
    lessor.attach(B, key("masterlease")).unwrap();
    assert_eq!(lessor.lease_of(b"masterlease"), Some(B));
    assert_eq!(lessor.revoke(A), Ok(vec![]));
    assert_eq!(lessor.detach(b"masterlease"), Some(B));
    assert_eq!(lessor.detach(b"masterlease"), None);
    assert_eq!(lessor.revoke(B), Ok(vec![]));
    lessor.check();
}

#[test]
fn a_failed_attach_leaves_the_key_where_it_was() {
    let mut lessor = lessor();
    lessor.grant(A, 15).unwrap();
    lessor.attach(A, key("k")).unwrap();
    assert_eq!(lessor.attach(B, key("k")), Err(LeaseNotFound { id: B }));
    assert_eq!(lessor.lease_of(b"k"), Some(A));
    lessor.check();
}

#[test]
fn only_the_primary_expires_renews_and_counts_down() {
    let mut lessor = lessor();
    lessor.grant(A, 10).unwrap();
    assert_eq!(lessor.expired(at(1000)), []);
    assert_eq!(lessor.renew(A, at(1000)), Err(RenewError::NotPrimary));
    let ttl = lessor.time_to_live(A, at(1000)).unwrap();
    assert_eq!((ttl.remaining_secs, ttl.granted_secs), (i64::MAX, 10));

    lessor.promote(at(1000), Duration::from_secs(1));
    assert_eq!(lessor.time_to_live(A, at(1000)).unwrap().remaining_secs, 11, "extended by the election");
    assert_eq!(lessor.renew(A, at(1005)), Ok(Renewed { ttl_secs: 10, clear_checkpoint: false }));
    assert_eq!(lessor.time_to_live(A, at(1005)).unwrap().remaining_secs, 10, "a renewal has no extension");
    assert_eq!(lessor.expired(at(1014)), []);
    assert_eq!(lessor.expired(at(1015)), [A]);
    assert_eq!(lessor.renew(A, at(1015)), Err(RenewError::Expired { id: A }));
    assert_eq!(lessor.time_to_live(A, at(1017)).unwrap().remaining_secs, -2);
    assert_eq!(lessor.expired(at(1017)), [], "its revoke is under way");
    assert_eq!(lessor.expired(at(1018)), [A], "and is tried again");

    lessor.demote();
    assert_eq!(lessor.expired(at(2000)), []);
    lessor.promote(at(2000), Duration::ZERO);
    assert_eq!(lessor.expired(at(2000)), [], "the next reign starts anew");
    lessor.revoke(A).unwrap();
    assert_eq!(lessor.renew(A, at(2001)), Err(RenewError::NotFound { id: A }));
    assert_eq!(lessor.time_to_live(A, at(2001)), None);
    lessor.check();
}

#[test]
fn a_grant_starts_at_the_first_clocked_call_after_it() {
    let mut lessor = lessor();
    lessor.promote(at(0), Duration::ZERO);
    lessor.grant(A, 10).unwrap();
    lessor.grant(B, 10).unwrap();
    lessor.revoke(B).unwrap();
    assert_eq!(lessor.expired(at(100)), [], "it was granted just before");
    assert_eq!(lessor.next_expiry(at(101)), Some(at(110)));
    assert_eq!(lessor.expired(at(110)), [A]);
    lessor.check();
}

#[test]
fn at_most_500_expire_in_one_call() {
    let mut lessor = lessor();
    lessor.promote(at(0), Duration::ZERO);
    for id in 1..=800 {
        lessor.grant(LeaseId(id), 5).unwrap();
    }
    assert_eq!(lessor.expired(at(0)).len(), 0);
    assert_eq!(lessor.expired(at(6)).len(), EXPIRED_LEN_MAX);
    assert_eq!(lessor.expired(at(6)).len(), 300);
    assert_eq!(lessor.expired(at(6)).len(), 0);
}

#[test]
fn a_new_leader_spreads_a_crowd() {
    let mut crowd = lessor();
    for id in 1..=3000 {
        crowd.grant(LeaseId(id), 60).unwrap();
    }
    crowd.promote(at(0), Duration::ZERO);
    let per_sec: Vec<usize> = (60..66)
        .map(|sec| {
            (0..2).map(|half| crowd.expired(Now(Duration::from_millis(sec * 1000 + half * 500))).len()).sum()
        })
        .collect();
    // Named once at their time; the retries after 3 s come on top, as nobody revokes here.
    assert_eq!(per_sec[..3], [750, 750, 750]);
    crowd.check();

    let mut few = lessor();
    for id in 1..=1000 {
        few.grant(LeaseId(id), 60).unwrap();
    }
    few.promote(at(0), Duration::ZERO);
    assert_eq!(few.expired(at(60)).len() + few.expired(at(60)).len(), 1000, "1000 are not a crowd");
}

#[test]
fn leases_are_listed_by_time_left() {
    let mut lessor = lessor();
    for (id, ttl) in [(1, 300), (2, 100), (3, 200)] {
        lessor.grant(LeaseId(id), ttl).unwrap();
    }
    assert_eq!(lessor.leases(at(0)), [LeaseId(1), LeaseId(2), LeaseId(3)]);
    lessor.promote(at(0), Duration::ZERO);
    assert_eq!(lessor.leases(at(0)), [LeaseId(2), LeaseId(3), LeaseId(1)]);
}

#[test]
fn checkpoints_carry_the_time_left_to_the_next_leader() {
    let mut leader = lessor();
    leader.grant(A, 3600).unwrap();
    leader.grant(B, 300).unwrap();
    leader.promote(at(0), Duration::ZERO);
    assert_eq!(leader.due_checkpoints(at(299)), []);
    let due = leader.due_checkpoints(at(300));
    assert_eq!(due, [Checkpoint { id: A, remaining_ttl_secs: 3300 }], "short leases have none");
    assert_eq!(leader.due_checkpoints(at(599)), []);
    let record = leader.checkpoint(due[0]).unwrap();
    assert_eq!(record, Record { id: A, ttl_secs: 3600, remaining_ttl_secs: 3300 });
    assert_eq!(leader.time_to_live(A, at(300)).unwrap().remaining_secs, 3300, "the deadline stays");

    let mut next = Lessor::restore(leader.config, [record]);
    next.promote(at(0), Duration::from_secs(1));
    assert_eq!(next.time_to_live(A, at(0)).unwrap(), TimeToLive { remaining_secs: 3301, granted_secs: 3600 });
    assert_eq!(next.renew(A, at(10)), Ok(Renewed { ttl_secs: 3600, clear_checkpoint: true }));
    let cleared = next.checkpoint(Checkpoint { id: A, remaining_ttl_secs: 0 }).unwrap();
    assert_eq!(cleared.remaining_ttl_secs, 0);
    assert_eq!(next.renew(A, at(20)), Ok(Renewed { ttl_secs: 3600, clear_checkpoint: false }));
    assert_eq!(next.checkpoint(Checkpoint { id: B, remaining_ttl_secs: 7 }), Err(LeaseNotFound { id: B }));
}

#[test]
fn checkpoint_batches_are_bounded_and_go_on_for_the_life_of_the_lease() {
    let mut lessor = lessor();
    for id in 1..=1500 {
        lessor.grant(LeaseId(id), 1000).unwrap();
    }
    lessor.promote(at(0), Duration::ZERO);
    for _ in 0..3 {
        lessor.renew(LeaseId(1), at(1)).unwrap();
    }
    assert_eq!(lessor.due_checkpoints(at(300)).len(), CHECKPOINT_LEN_MAX);
    assert_eq!(lessor.due_checkpoints(at(300)).len(), 500);
    assert_eq!(lessor.due_checkpoints(at(300)).len(), 0);
    assert_eq!(lessor.due_checkpoints(at(600)).len(), CHECKPOINT_LEN_MAX);
    lessor.check();
}

#[test]
fn broken_records_and_checkpoints_do_no_harm() {
    let records = [
        Record { id: A, ttl_secs: -5, remaining_ttl_secs: i64::MAX },
        Record { id: B, ttl_secs: i64::MAX, remaining_ttl_secs: i64::MIN },
    ];
    let mut lessor = Lessor::restore(lessor().config, records);
    lessor.checkpoint(Checkpoint { id: B, remaining_ttl_secs: i64::MIN }).unwrap();
    lessor.promote(Now(Duration::MAX), Duration::MAX);
    assert_eq!(lessor.time_to_live(A, Now(Duration::MAX)).unwrap().granted_secs, 2);
    assert_eq!(lessor.time_to_live(B, at(0)).unwrap().granted_secs, TTL_SECS_MAX);
    lessor.check();
}

#[test]
fn a_lease_with_100_000_keys() {
    let mut lessor = lessor();
    lessor.grant(A, 60).unwrap();
    for i in 0..100_000 {
        lessor.attach(A, key(&format!("/registry/events/{i:06}"))).unwrap();
    }
    let keys = lessor.revoke(A).unwrap();
    assert_eq!(keys.len(), 100_000);
    assert!(keys.is_sorted());
}

#[derive(Clone, Debug)]
enum Op {
    Grant(i64, i64),
    Revoke(i64),
    Attach(i64, u8),
    Detach(u8),
    Promote,
    Demote,
    Renew(i64),
    Advance(u64),
}

fn op() -> impl Strategy<Value = Op> {
    let id = 1..6i64;
    prop_oneof![
        (id.clone(), -1..20i64).prop_map(|(id, ttl)| Op::Grant(id, ttl)),
        id.clone().prop_map(Op::Revoke),
        (id.clone(), 0..8u8).prop_map(|(id, k)| Op::Attach(id, k)),
        (id.clone(), 0..8u8).prop_map(|(id, k)| Op::Attach(id, k)),
        (0..8u8).prop_map(Op::Detach),
        Just(Op::Promote),
        Just(Op::Demote),
        id.prop_map(Op::Renew),
        (0..5u64).prop_map(Op::Advance),
    ]
}

/// A lease in the obvious model: its time to live and, while primary, its deadline.
type Model = BTreeMap<i64, (i64, Option<u64>)>;

proptest! {
    /// The lessor against flat maps: every lease, every key's owner, every deadline.
    #[test]
    fn the_lessor_agrees_with_flat_maps(ops in prop::collection::vec(op(), 1..60)) {
        let mut lessor = lessor();
        let mut model = Model::new();
        let mut owners: BTreeMap<u8, i64> = BTreeMap::new();
        let (mut now, mut primary) = (0u64, false);
        for op in ops {
            match op {
                Op::Grant(id, ttl) => {
                    let granted = lessor.grant(LeaseId(id), ttl).is_ok();
                    prop_assert_eq!(granted, !model.contains_key(&id));
                    if granted {
                        let ttl = ttl.max(2);
                        model.insert(id, (ttl, primary.then_some(now + ttl as u64)));
                    }
                }
                Op::Revoke(id) => {
                    let keys = lessor.revoke(LeaseId(id)).ok();
                    prop_assert_eq!(keys.is_some(), model.remove(&id).is_some());
                    if let Some(keys) = keys {
                        let expect: Vec<u8> =
                            owners.iter().filter(|(_, owner)| **owner == id).map(|(k, _)| *k).collect();
                        prop_assert_eq!(keys.iter().map(|k| k[0]).collect::<Vec<_>>(), expect);
                        owners.retain(|_, owner| *owner != id);
                    }
                }
                Op::Attach(id, k) => {
                    let attached = lessor.attach(LeaseId(id), Bytes::copy_from_slice(&[k])).is_ok();
                    prop_assert_eq!(attached, model.contains_key(&id));
                    if attached {
                        owners.insert(k, id);
                    }
                }
                Op::Detach(k) => {
                    prop_assert_eq!(lessor.detach(&[k]).map(|id| id.0), owners.remove(&k));
                }
                Op::Promote => {
                    lessor.promote(at(now), Duration::from_secs(1));
                    primary = true;
                    for (ttl, deadline) in model.values_mut() {
                        *deadline = Some(now + *ttl as u64 + 1);
                    }
                }
                Op::Demote => {
                    lessor.demote();
                    primary = false;
                }
                Op::Renew(id) => {
                    let live = model.get_mut(&id).filter(|(_, deadline)| primary && deadline.unwrap() > now);
                    prop_assert_eq!(lessor.renew(LeaseId(id), at(now)).is_ok(), live.is_some());
                    if let Some((ttl, deadline)) = live {
                        *deadline = Some(now + *ttl as u64);
                    }
                }
                Op::Advance(secs) => now += secs,
            }
            for id in 1..6 {
                let left = lessor.time_to_live(LeaseId(id), at(now)).map(|ttl| ttl.remaining_secs);
                let expect = model.get(&id).map(|(_, deadline)| match deadline {
                    Some(deadline) if primary => *deadline as i64 - now as i64,
                    _ => i64::MAX,
                });
                prop_assert_eq!(left, expect);
            }
            for k in 0..8 {
                prop_assert_eq!(lessor.lease_of(&[k]).map(|id| id.0), owners.get(&k).copied());
            }
            lessor.check();
            for id in lessor.expired(at(now)) {
                prop_assert!(primary && model[&id.0].1.unwrap() <= now);
            }
        }
    }
}
