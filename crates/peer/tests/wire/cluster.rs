//! Members that are real, on both ends.

use std::time::Duration;

use bytes::Bytes;
use membership::{ClusterId, MemberId, Version};
use prost::Message as _;
use proto::etcdserverpb::{LeaseTimeToLiveRequest, LeaseTimeToLiveResponse};
use raft::{Message, MessageType};
use server::{AskError, ClusterState, Error, JoinAs, Network, StopReason};

use crate::fake::{FakePeer, Introduction};
use crate::member::{PATIENCE, Site, TestMember, eventually, put, runtime, until};

async fn three() -> Vec<TestMember> {
    let sites = [Site::plain(), Site::plain(), Site::plain()];
    let cluster: Vec<String> = sites.iter().map(|site| site.url.clone()).collect();
    let mut members = Vec::new();
    for site in sites {
        members.push(site.settle(&cluster, ClusterState::New).await);
    }
    for member in &members {
        member.ready().await;
    }
    members
}

async fn agree(members: &[&TestMember]) {
    until("all have the same", || {
        let mut revisions: Vec<_> = members.iter().map(|it| it.server().view().revision()).collect();
        revisions.dedup();
        revisions.len() == 1
    })
    .await;
    let mut hashes = Vec::new();
    for member in members {
        hashes.push(member.server().hash_kv(None).await.expect("hashed").hash);
    }
    assert!(hashes.windows(2).all(|pair| pair[0] == pair[1]), "{hashes:?}");
}

#[test]
fn three_members_take_writes_everywhere_and_have_the_same() {
    runtime().block_on(async {
        let members = three().await;
        // Some larger than any buffer on the way.
        for (n, member) in members.iter().cycle().take(30).enumerate() {
            put(member.server(), &format!("k{n}"), &vec![n as u8; 40_000 * (n % 3) + 1]).await;
        }
        agree(&members.iter().collect::<Vec<_>>()).await;
        for member in &members {
            assert!(member.metric("etcd_network_peer_sent_bytes_total") > 0.0);
        }
    });
}

#[test]
fn a_member_that_joins_gets_a_snapshot_is_promoted_and_leaves() {
    runtime().block_on(async {
        let site = Site::plain();
        let urls = [site.url.clone()];
        let first = site
            .settle_with(&urls, ClusterState::New, |config| {
                config.snapshot_count = 20;
                config.snapshot_catchup_entries = 5;
            })
            .await;
        first.ready().await;
        // More than the pieces that may wait on the way.
        let value: Vec<u8> = (0..40_000_u32).map(|n| (n * n) as u8).collect();
        for n in 0..100 {
            put(first.server(), &format!("k{n}"), &value).await;
        }
        let site = Site::plain();
        let both = [first.url.clone(), site.url.clone()];
        let (added, _) = first.server().member_add(&both[1..], JoinAs::Learner).await.expect("added");
        let second = site.settle(&both, ClusterState::Existing).await;
        assert_eq!(second.id(), added.id);
        until("it has caught up", || second.server().view().revision() == first.server().view().revision())
            .await;
        assert!(first.metric("etcd_network_snapshot_send_success") >= 1.0);
        assert!(second.metric("etcd_network_snapshot_receive_success") >= 1.0);
        agree(&[&first, &second]).await;

        let promoted = eventually("it may be promoted", || async {
            let asked = second.network.ask_promote(&first.url, second.id(), PATIENCE).await;
            match asked {
                Ok(members) => Some(members),
                Err(AskError::Refused { status: 412, text }) => {
                    assert_eq!(text, Error::LearnerNotReady.to_string());
                    None
                }
                Err(error) => panic!("{error}"),
            }
        })
        .await;
        assert!(promoted.len() == 2 && promoted.iter().all(|member| !member.is_learner), "{promoted:?}");

        let mut stopping = second.server().stopping();
        eventually("it may leave", || async {
            match first.server().member_remove(second.id()).await {
                Ok(_) | Err(Error::MemberNotFound) => Some(()),
                Err(_) => None,
            }
        })
        .await;
        let stopped = tokio::time::timeout(PATIENCE, stopping.wait_for(Option::is_some)).await;
        assert_eq!(stopped.expect("in time").expect("told").clone(), Some(StopReason::Removed));
        put(first.server(), "later", b"v").await;
    });
}

#[test]
fn questions_have_the_answers_that_the_asked_member_would_give_itself() {
    runtime().block_on(async {
        let member = TestMember::alone().await;
        let asking = Site::plain().network;
        let (server, url) = (member.server(), member.url.as_str());
        let limit = PATIENCE;
        let cluster = asking.ask_members(url, limit).await.expect("told");
        assert_eq!(cluster.cluster_id, server.cluster_id());
        assert_eq!(cluster.members, server.cluster().members().cloned().collect::<Vec<_>>());
        let version = asking.ask_version(url, limit).await.expect("told");
        assert_eq!(version.server.without_patch(), Version::new(3, 7));
        assert_eq!(asking.ask_downgrade_enabled(url, limit).await, Ok(false));
        let refused = |status, text: &str| AskError::Refused { status, text: text.to_owned() };
        assert_eq!(
            asking.ask_promote(url, MemberId(5), limit).await,
            Err(refused(404, "membership: ID not found"))
        );
        assert_eq!(
            asking.ask_promote(url, member.id(), limit).await,
            Err(refused(412, "membership: can only promote a learner member"))
        );
        let (lease, _) = server.lease_grant(None, 60).await.expect("granted");
        assert_eq!(asking.ask_renew(url, lease.0, limit).await, Ok(60));
        assert_eq!(asking.ask_renew(url, 5, limit).await, Err(refused(404, "lease not found")));
        let request = |id| Bytes::from(LeaseTimeToLiveRequest { id, keys: true }.encode_to_vec());
        let times = asking.ask_lease_times(url, request(lease.0), limit).await.expect("told");
        let times = LeaseTimeToLiveResponse::decode(times).expect("readable");
        assert_eq!((times.id, times.granted_ttl), (lease.0, 60));
        assert_eq!(
            asking.ask_lease_times(url, request(5), limit).await,
            Err(refused(404, "lease not found"))
        );
        put(server, "k", b"v").await;
        let hash = asking.ask_hash_kv(url, server.cluster_id(), 2, limit).await.expect("told");
        assert_eq!(hash, server.hash_kv(mvcc::Revision::from_wire(2)).await.expect("hashed"));
        assert_eq!(
            asking.ask_hash_kv(url, ClusterId(1), 2, limit).await,
            Err(refused(412, "cluster ID mismatch"))
        );
        assert_eq!(
            asking.ask_hash_kv(url, server.cluster_id(), 99, limit).await,
            Err(refused(400, "mvcc: required revision is a future revision"))
        );
        let nobody = asking.ask_version("http://127.0.0.1:1", limit).await;
        assert!(matches!(nobody, Err(AskError::Unreachable(_))), "{nobody:?}");
        // Listens, and never answers.
        let deaf = std::net::TcpListener::bind("127.0.0.1:0").expect("it binds");
        let deaf_url = format!("http://{}", deaf.local_addr().expect("bound"));
        let nobody = asking.ask_version(&deaf_url, Duration::from_millis(50)).await;
        assert!(matches!(nobody, Err(AskError::Unreachable(_))), "{nobody:?}");
        asking.stop();
    });
}

/// It says at once that it will not have the snapshot, keeps the connection, and reads nothing.
#[test]
fn a_receiver_that_answers_early_and_takes_nothing_is_left() {
    runtime().block_on(async {
        let site = Site::plain();
        let urls = [site.url.clone()];
        let leader = site
            .settle_with(&urls, ClusterState::New, |config| {
                config.snapshot_count = 20;
                config.snapshot_catchup_entries = 5;
            })
            .await;
        leader.ready().await;
        // More than the connection holds by itself, and so many that the log forgets the first.
        for n in 0..150 {
            put(leader.server(), &format!("k{n}"), &vec![n; 200_000]).await;
        }
        let fake = FakePeer::listen().await;
        let (added, _) = leader
            .server()
            .member_add(std::slice::from_ref(&fake.url), JoinAs::Learner)
            .await
            .expect("added");
        let learner = Introduction::of(added.id.0, &leader);
        // It has nothing, and says so to the first that asks.
        let behind = loop {
            let asked = fake.posted().await;
            if asked.kind == MessageType::App {
                let answer = Message::new(MessageType::AppResp, 0);
                break Message { term: asked.term, index: asked.index, reject: true, ..answer };
            }
        };
        let told = learner.ask(&leader.address, "POST", "/raft", &learner.message(behind)).await;
        assert_eq!(told.status(), 204);
        let (mut line, _) = fake.called("POST /raft/snapshot").await;
        line.write(b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\nnever").await;
        line.refused().await;
    });
}
