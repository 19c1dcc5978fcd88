//! Several members in one process, with their threads, over wires that can be cut.

mod network;

use std::future::Future;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use disk::mem::MemDisk;
use membership::MemberId;
use network::Wires;
use proto::etcdserverpb::{PutRequest, RangeRequest};
use server::{
    ClusterState, Config, Environment, Error, JoinAs, LeaseKeys, Member, ReadMode, Server, StopReason,
};
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// A machine under load may take its time; nothing waits this long when all is well.
const PATIENCE: Duration = Duration::from_secs(60);

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

fn url(n: usize) -> String {
    format!("http://127.0.0.1:{}", 10_000 + n)
}

fn config(n: usize, cluster: &[usize], state: ClusterState) -> Config {
    let mut config = Config::single(&format!("m{n}"), "/data".into());
    config.initial_advertise_peer_urls = vec![url(n)];
    config.initial_cluster = cluster.iter().map(|&n| (format!("m{n}"), url(n))).collect();
    config.initial_cluster_state = state;
    config.heartbeat_interval = Duration::from_millis(20);
    config.election_timeout = Duration::from_millis(200);
    config.snapshot_count = 50;
    config.snapshot_catchup_entries = 20;
    config
}

struct Cluster {
    wires: Wires,
    members: Vec<Option<Member>>,
    disks: Vec<MemDisk>,
}

impl Cluster {
    async fn of(size: usize) -> Cluster {
        Cluster::configured(size, |config| config).await
    }

    async fn configured(size: usize, with: impl Fn(Config) -> Config) -> Cluster {
        let mut cluster = Cluster { wires: Wires::default(), members: Vec::new(), disks: Vec::new() };
        let all: Vec<usize> = (0..size).collect();
        for n in 0..size {
            cluster.disks.push(MemDisk::new());
            cluster.members.push(None);
            cluster.start(with(config(n, &all, ClusterState::New)), n).await;
        }
        for member in cluster.members.iter().flatten() {
            timeout(PATIENCE, member.ready()).await.expect("ready in time");
        }
        cluster
    }

    async fn start(&mut self, config: Config, n: usize) {
        let environment = Environment {
            disk: Arc::new(self.disks[n].clone()),
            network: Arc::new(self.wires.end_of(&url(n))),
            ..Environment::default()
        };
        let runtime = Handle::current();
        let starting = tokio::task::spawn_blocking(move || Member::start(config, environment, &runtime));
        let member = starting.await.expect("no panic").expect("it starts");
        self.wires.join(&url(n), &member.server);
        self.members[n] = Some(member);
    }

    async fn stop(&mut self, n: usize) {
        let member = self.members[n].take().expect("it runs");
        self.wires.leave(member.server.member_id());
        tokio::task::spawn_blocking(move || member.stop()).await.expect("no panic");
    }

    fn server(&self, n: usize) -> &Server {
        &self.members[n].as_ref().expect("it runs").server
    }

    fn id(&self, n: usize) -> MemberId {
        self.server(n).member_id()
    }

    /// The member that all running members take for the leader.
    async fn leader(&self) -> usize {
        let agreed = async {
            loop {
                let running = self.members.iter().flatten();
                let mut leaders: Vec<_> = running.map(|member| member.server.raft().leader()).collect();
                leaders.dedup();
                if let [Some(leader)] = leaders[..]
                    && let Some(n) = self.position(leader)
                {
                    return n;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, agreed).await.expect("a leader in time")
    }

    /// Leadership goes to another member, who says so; the others refuse to give what they do not have.
    async fn move_leader(&self) {
        let moving = async {
            loop {
                let leader = self.leader().await;
                let next = (leader + 1) % self.members.len();
                let stayed = self.server(leader).move_leader(self.id(leader)).await;
                assert!(matches!(stayed, Ok(()) | Err(Error::NotLeader)), "{stayed:?}");
                match self.server(leader).move_leader(self.id(next)).await {
                    Ok(()) => {
                        assert_eq!(
                            self.server(leader).move_leader(MemberId(1)).await,
                            Err(Error::NotLeader),
                            "the old leader gave it away"
                        );
                        return;
                    }
                    // Deposed before it could hand over.
                    Err(Error::NotLeader | Error::TimeoutLeaderTransfer) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, moving).await.expect("moved in time");
    }

    fn position(&self, id: MemberId) -> Option<usize> {
        self.members.iter().position(|it| it.as_ref().is_some_and(|it| it.server.member_id() == id))
    }

    async fn agree(&self) {
        let equal = async {
            loop {
                let mut applied: Vec<_> = self
                    .members
                    .iter()
                    .flatten()
                    .map(|member| (member.server.raft().applied(), member.server.view().revision()))
                    .collect();
                applied.dedup();
                if applied.len() == 1 {
                    return;
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, equal).await.expect("all members apply the same in time");
        let mut hashes = Vec::new();
        for member in self.members.iter().flatten() {
            hashes.push(member.server.hash_kv(None).await.expect("hashed").hash);
        }
        assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
    }
}

async fn put(server: &Server, key: &str, value: &str) -> Result<(), Error> {
    let request =
        PutRequest { key: key.to_owned().into(), value: value.to_owned().into(), ..PutRequest::default() };
    server.put(request).await.map(|_| ())
}

/// Whether a machine that is too slow for the members' heartbeats explains an error: then the call is made again.
fn may_pass(error: &Error) -> bool {
    matches!(
        error,
        Error::NoLeader
            | Error::LeaderChanged
            | Error::Timeout
            | Error::TimeoutLeaderFailure
            | Error::TimeoutConnectionLost
            | Error::TimeoutWaitAppliedIndex
            | Error::NotPrimaryLessor
    )
}

/// The outcome of a call, which is repeated while its error may pass.
async fn settled<T, F: Future<Output = Result<T, Error>>>(mut call: impl FnMut() -> F) -> Result<T, Error> {
    let trying = async {
        loop {
            match call().await {
                Err(error) if may_pass(&error) => {}
                outcome => return outcome,
            }
        }
    };
    timeout(PATIENCE, trying).await.expect("an outcome in time")
}

/// Until it is acknowledged; what is unknown is tried again.
async fn put_surely(server: &Server, key: &str, value: &str) {
    settled(|| put(server, key, value)).await.expect("a put");
}

async fn count(server: &Server) -> u64 {
    let view = settled(|| server.linearizable_view()).await.expect("a read index");
    let all = RangeRequest { key: vec![0].into(), range_end: vec![0].into(), ..RangeRequest::default() };
    server.read_range(&view, all).expect("readable").count
}

#[test]
fn three_members_agree_and_every_one_serves_reads_and_writes() {
    runtime().block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.leader().await;
        for n in 0..3 {
            put_surely(cluster.server(n), &format!("k{n}"), "v").await;
            assert_eq!(count(cluster.server((n + 1) % 3)).await, n as u64 + 1, "read by another member");
        }
        let follower = cluster.server((leader + 1) % 3);
        let granted = settled(|| follower.lease_grant(None, 30)).await;
        let (id, ttl_secs) = granted.expect("granted");
        assert_eq!(ttl_secs, 30);
        assert_eq!(settled(|| follower.lease_renew(id)).await, Ok(Some(30)));
        let times = settled(|| follower.lease_times(id, LeaseKeys::Omitted)).await.expect("known");
        assert!(times.is_some_and(|times| (1..=30).contains(&times.remaining_secs)));
        assert_eq!(settled(|| follower.lease_renew(lease::LeaseId(77))).await, Ok(None));
        cluster.move_leader().await;
        cluster.agree().await;
    });
}

/// With checkpoints, a new leader goes on where the old one was, and a renewal counts from the full time again.
#[test]
fn what_a_lease_has_left_survives_its_leader() {
    runtime().block_on(async {
        let interval = Some(Duration::from_secs(1));
        let with = |config| Config { lease_checkpoint_interval: interval, ..config };
        let cluster = Cluster::configured(3, with).await;
        let server = cluster.server(cluster.leader().await);
        let (id, _) = settled(|| server.lease_grant(None, 1000)).await.expect("granted");
        // A leader that knows of no checkpoint counts from the full time.
        let cluster = &cluster;
        let new_leader_counts_from = |range: RangeInclusive<i64>| async move {
            loop {
                cluster.move_leader().await;
                let leader = cluster.server(cluster.leader().await);
                let times = settled(|| leader.lease_times(id, LeaseKeys::Omitted)).await.expect("known");
                if range.contains(&times.expect("it is there").remaining_secs) {
                    return;
                }
                // Until there is a checkpoint.
                let index = leader.raft().applied();
                while leader.raft().applied() == index {
                    sleep(Duration::from_millis(5)).await;
                }
            }
        };
        timeout(PATIENCE, new_leader_counts_from(1..=997)).await.expect("a checkpoint in time");
        assert_eq!(settled(|| server.lease_renew(id)).await, Ok(Some(1000)));
        timeout(PATIENCE, new_leader_counts_from(999..=1000)).await.expect("the full time again");
    });
}

/// Larger than what may be on its way to a follower, or be applied, at once.
#[test]
fn values_larger_than_every_window_reach_all_members() {
    runtime().block_on(async {
        let with = |config| Config { max_request_bytes: 16 << 20, ..config };
        let cluster = Cluster::configured(3, with).await;
        for round in 0..3 {
            let mut puts = JoinSet::new();
            for client in 0..9 {
                let server = cluster.server(client % 3).clone();
                let value = round.to_string().repeat(if client % 2 == 1 { 5 << 20 } else { 1 });
                puts.spawn(async move { put_surely(&server, &format!("k{client}"), &value).await });
            }
            timeout(PATIENCE, puts.join_all()).await.expect("written in time");
        }
        cluster.agree().await;
    });
}

/// The quota is each member's own: one that no client writes through says so, too.
#[test]
fn a_member_over_its_quota_raises_an_alarm_whoever_writes() {
    runtime().block_on(async {
        let smaller = |config: Config| {
            let quota_backend_bytes = if config.name == "m2" { 2 << 20 } else { 0 };
            Config { quota_backend_bytes, backend_batch_interval: Duration::from_millis(1), ..config }
        };
        let cluster = Cluster::configured(3, smaller).await;
        let server = cluster.server(0);
        let filling = async {
            for n in 0.. {
                match put(server, &format!("k{n}"), &"x".repeat(100_000)).await {
                    Ok(()) => {}
                    Err(error) if may_pass(&error) => {}
                    Err(error) => return error,
                }
            }
            unreachable!("there is no end to it");
        };
        assert_eq!(timeout(PATIENCE, filling).await.expect("refused in time"), Error::NoSpace);
        let alarms = server.alarms();
        assert_eq!(alarms.iter().map(|alarm| alarm.member).collect::<Vec<_>>(), [cluster.id(2)]);
    });
}

/// Were it lost on the way, its client would wait for the time-out.
#[test]
fn a_proposal_that_finds_no_room_on_its_way_is_refused() {
    runtime().block_on(async {
        let cluster = Cluster::of(3).await;
        let leader = cluster.leader().await;
        put_surely(cluster.server((leader + 1) % 3), "k", "v").await;
        cluster.wires.fill();
        let refused = put(cluster.server((leader + 1) % 3), "k", "v").await;
        assert_eq!(refused, Err(Error::TooManyRequests));
        assert_eq!(put(cluster.server(leader), "k", "v").await, Ok(()));
    });
}

#[test]
fn a_leader_that_dies_is_replaced_and_comes_back_as_a_follower() {
    runtime().block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader().await;
        let others = [(leader + 1) % 3, (leader + 2) % 3];
        for n in 0..30 {
            put_surely(cluster.server(others[0]), &format!("a{n}"), "v").await;
        }
        cluster.stop(leader).await;
        for n in 0..30 {
            put_surely(cluster.server(others[1]), &format!("b{n}"), "v").await;
        }
        cluster.start(config(leader, &[], ClusterState::New), leader).await;
        cluster.leader().await;
        assert_eq!(count(cluster.server(leader)).await, 60);
        cluster.agree().await;
    });
}

#[test]
fn a_member_that_was_cut_off_for_long_catches_up_by_snapshot() {
    runtime().block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader().await;
        let (near, far) = ((leader + 1) % 3, (leader + 2) % 3);
        cluster.wires.cut(cluster.id(far));
        let cut_off = cluster.server(far).clone();
        let lost = tokio::spawn(async move { put(&cut_off, "k0", "lost").await });
        // Raft is told of what is applied, and forgets it, by the 256 KiB.
        let value = "v".repeat(4096);
        for n in 0..400 {
            put_surely(cluster.server(near), &format!("k{n}"), &value).await;
        }
        cluster.wires.heal();
        cluster.leader().await;
        assert_eq!(count(cluster.server(far)).await, 400);
        assert!(cluster.wires.snapshots() > 0);
        // It might be in the snapshot: nothing tells any more, and its own time limit is far longer than this.
        let outcome = timeout(Duration::from_secs(2), lost).await.expect("answered with the snapshot");
        let outcome = outcome.expect("no panic");
        // On a machine so slow that the leader was given up before, it has waited for the next one.
        let is_told = matches!(outcome, Ok(()) | Err(Error::Timeout | Error::TimeoutLeaderFailure));
        assert!(is_told, "{outcome:?}");
        cluster.agree().await;
        // What it installed is what it starts from.
        cluster.stop(far).await;
        put_surely(cluster.server(near), "later", "v").await;
        cluster.start(config(far, &[], ClusterState::New), far).await;
        cluster.leader().await;
        assert_eq!(count(cluster.server(far)).await, 401);
        cluster.agree().await;
    });
}

#[test]
fn members_join_as_learners_are_promoted_and_leave() {
    runtime().block_on(async {
        let mut cluster = Cluster::of(3).await;
        let leader = cluster.leader().await;
        for n in 0..200 {
            put_surely(cluster.server(0), &format!("k{n}"), "v").await;
        }
        let add = async |n: usize, url: String, join_as| {
            settled(|| cluster.server(n).member_add(std::slice::from_ref(&url), join_as)).await
        };
        assert_eq!(add(0, "nonsense".to_owned(), JoinAs::Voter).await.map(drop), Err(Error::BadMemberUrls));
        assert_eq!(add(0, url(1), JoinAs::Learner).await.map(drop), Err(Error::PeerUrlExists));
        // A first try of which the outcome was not known may have added it.
        let outcome = add(0, url(3), JoinAs::Learner).await.map(drop);
        assert!(matches!(outcome, Ok(()) | Err(Error::PeerUrlExists)), "{outcome:?}");
        let members = settled(|| cluster.server(0).members(ReadMode::Linearizable)).await.expect("listed");
        assert_eq!(members.len(), 4);
        let added = members.into_iter().find(|member| member.is_learner).expect("the new one");
        assert_eq!(added.peer_urls, [url(3)]);
        assert_eq!(add(1, url(4), JoinAs::Learner).await.map(drop), Err(Error::TooManyLearners));
        // Nobody has seen it yet.
        let follower = (leader + 1) % 3;
        let promoted = settled(|| cluster.server(follower).member_promote(added.id)).await;
        assert_eq!(promoted, Err(Error::LearnerNotReady));
        // A new leader begins with guesses about everyone, and they are not in a learner's favour.
        cluster.move_leader().await;
        let leader = cluster.leader().await;
        let follower = (leader + 1) % 3;
        let promoted = settled(|| cluster.server(leader).member_promote(added.id)).await;
        assert_eq!(promoted, Err(Error::LearnerNotReady), "by a new leader");
        cluster.disks.push(MemDisk::new());
        cluster.members.push(None);
        cluster.start(config(3, &[0, 1, 2, 3], ClusterState::Existing), 3).await;
        let promoting = async {
            loop {
                match settled(|| cluster.server(follower).member_promote(added.id)).await {
                    Ok(_) | Err(Error::MemberNotLearner) => return,
                    Err(Error::LearnerNotReady) => sleep(Duration::from_millis(10)).await,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        timeout(PATIENCE, promoting).await.expect("promoted in time");
        let members = settled(|| cluster.server(0).members(ReadMode::Linearizable)).await.expect("listed");
        assert!(members.iter().all(|member| !member.is_learner));
        let joined = cluster.members[3].as_ref().expect("it runs");
        timeout(PATIENCE, joined.ready()).await.expect("ready in time");
        assert_eq!(count(cluster.server(3)).await, 200);
        assert_eq!(cluster.server(3).member_promote(added.id).await, Err(Error::MemberNotLearner));

        let leader = cluster.leader().await;
        let gone = cluster.id(leader);
        let mut stopping = cluster.server(leader).stopping();
        match settled(|| cluster.server(3).member_remove(gone)).await {
            // A first try of which the outcome was not known had removed it.
            Ok(_) | Err(Error::MemberNotFound) => {}
            Err(error) => panic!("{error}"),
        }
        let reason = timeout(PATIENCE, stopping.wait_for(Option::is_some)).await.expect("it ends by itself");
        assert_eq!(reason.expect("told").clone(), Some(StopReason::Removed));
        cluster.stop(leader).await;
        cluster.leader().await;
        put_surely(cluster.server(3), "after", "v").await;
        assert_eq!(settled(|| cluster.server(3).member_remove(gone)).await, Err(Error::MemberNotFound));
        cluster.agree().await;
    });
}

/// All members of a cluster that is shut down stop at about the same time.
#[test]
fn a_leader_without_a_quorum_stops_without_waiting_for_a_successor() {
    runtime().block_on(async {
        let mut cluster = Cluster::of(4).await;
        let leader = cluster.leader().await;
        let [other, stopping @ ..] = [1, 2, 3].map(|step| (leader + step) % 4);
        for n in stopping {
            cluster.stop(n).await;
        }
        let terms = || [leader, other].map(|n| cluster.server(n).raft().term());
        let before = terms();
        cluster.server(leader).hand_over().await;
        assert_eq!(terms(), before, "nobody was told to campaign");
    });
}

#[test]
fn a_leader_is_relieved_before_it_is_removed() {
    runtime().block_on(async {
        // Long enough that no machine is too slow to hand over in time.
        let election_timeout = Duration::from_secs(4);
        let patient = |config| Config { election_timeout, strict_reconfig_check: false, ..config };
        let mut cluster = Cluster::configured(3, patient).await;
        // By another member, and then by itself.
        for removed_by_itself in [false, true] {
            let leader = cluster.leader().await;
            let others: Vec<usize> =
                (0..3).filter(|&n| n != leader && cluster.members[n].is_some()).collect();
            let gone = cluster.id(leader);
            let asked = if removed_by_itself { leader } else { others[0] };
            let removed = cluster.server(asked).member_remove(gone).await;
            // The removed one may end before it can answer.
            assert!(removed.is_ok() || removed_by_itself, "{removed:?}");
            let now = cluster.server(others[0]).raft().leader();
            assert!(now.is_some_and(|now| now != gone), "{now:?} after {gone} was removed");
            cluster.stop(leader).await;
            put_surely(cluster.server(others[0]), "after", "v").await;
        }
    });
}

#[test]
fn one_survivor_makes_a_new_cluster() {
    runtime().block_on(async {
        let mut cluster = Cluster::of(3).await;
        for n in 0..60 {
            put_surely(cluster.server(0), &format!("k{n}"), "v").await;
        }
        let survivor = cluster.leader().await;
        let id = cluster.id(survivor);
        for n in 0..3 {
            cluster.stop(n).await;
        }
        let alone = Config { force_new_cluster: true, ..config(survivor, &[], ClusterState::New) };
        cluster.start(alone, survivor).await;
        assert_eq!(cluster.leader().await, survivor);
        assert_eq!(cluster.id(survivor), id);
        assert_eq!(count(cluster.server(survivor)).await, 60);
        assert_eq!(cluster.server(survivor).cluster().members().count(), 1);
        put_surely(cluster.server(survivor), "alone", "v").await;
    });
}
