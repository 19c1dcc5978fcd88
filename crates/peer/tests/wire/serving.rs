//! What callers are answered, members or not.

use membership::{ClusterId, MemberId};
use raft::{Message, MessageType, Snapshot, Term};
use server::{JoinAs, Network};

use crate::fake::{FakePeer, Introduction, Line, ask, framed, request};
use crate::member::{PATIENCE, TestMember, eventually, runtime, until};

fn heartbeat(term: u64) -> Message {
    Message { term: Term(term), ..Message::new(MessageType::Heartbeat, 0) }
}

#[test]
fn strangers_are_refused_with_etcds_words() {
    runtime().block_on(async {
        let member = TestMember::alone().await;
        let good = Introduction::of(7, &member);
        let wrong = [
            ("cluster ID mismatch\n", Introduction { cluster_id: ClusterId(1), ..good.clone() }),
            ("incompatible version\n", Introduction { version: "2.3.8".to_owned(), ..good.clone() }),
            ("incompatible version\n", Introduction { version: "nonsense".to_owned(), ..good.clone() }),
            ("incompatible version\n", Introduction { min_version: "3.8.0".to_owned(), ..good.clone() }),
        ];
        for (text, caller) in wrong {
            for (method, path) in
                [("POST", "/raft"), ("POST", "/raft/snapshot"), ("GET", "/raft/stream/message/7")]
            {
                let answer = caller.ask(&member.address, method, path, b"").await;
                assert_eq!((answer.status(), answer.text().as_str()), (412, text), "{path}");
                let own = member.server().cluster_id().to_string();
                assert_eq!(answer.header("X-Etcd-Cluster-ID"), Some(own.as_str()), "{path}");
            }
        }
        let table = [
            ("GET", "/raft/stream/message/7", 404, "error sender not found\n"),
            ("GET", "/raft/stream/message/+7", 404, "invalid from\n"),
            ("GET", "/raft/stream/message/zz", 404, "invalid from\n"),
            ("GET", "/raft/stream/other/7", 404, "invalid path\n"),
            ("POST", "/raft/stream/message/7", 405, "Method Not Allowed\n"),
            ("GET", "/raft", 405, "Method Not Allowed\n"),
            ("GET", "/nothing", 404, "404 page not found\n"),
            ("POST", "/raft", 400, "error unmarshalling raft message\n"),
            ("POST", "/members", 405, "Method Not Allowed\n"),
            ("POST", "/members/promote/abc", 404, "member abc not found in cluster\n"),
            ("POST", "/members/promote/5", 404, "membership: ID not found\n"),
        ];
        for (method, path, status, text) in table {
            let answer = good.ask(&member.address, method, path, b"\xff\xff").await;
            assert_eq!((answer.status(), answer.text().as_str()), (status, text), "{method} {path}");
        }
        let probe = ask(&member.address, "GET", "/raft/probing", &[], b"").await;
        assert!(probe.text().starts_with("{\"OK\":true,\"Now\":\""), "{}", probe.text());
    });
}

#[test]
fn messages_that_are_not_for_this_member_or_lie_about_their_sender_are_not_taken() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let other = member.other_id().await;
        let caller = Introduction::of(other.0, &member);
        let term = || member.server().raft().term();
        let elsewhere = Introduction { to: MemberId(99), ..caller.clone() };
        let stranger = Introduction { from: MemberId(77), ..caller.clone() };
        for message in [elsewhere.message(heartbeat(50)), stranger.message(heartbeat(50))] {
            let answer = caller.ask(&member.address, "POST", "/raft", &message).await;
            assert_eq!((answer.status(), answer.text().as_str()), (500, "error processing raft message\n"));
        }
        assert!(term() < 50, "neither of them reached raft");
        let answer = caller.ask(&member.address, "POST", "/raft", &caller.message(heartbeat(50))).await;
        assert_eq!(answer.status(), 204);
        until("the message is taken", || term() == 50).await;
    });
}

#[test]
fn an_unknown_sender_is_answered_at_the_urls_that_it_names() {
    runtime().block_on(async {
        let member = TestMember::alone().await;
        let fake = FakePeer::listen().await;
        let stranger = Introduction { urls: fake.url.clone(), ..Introduction::of(7, &member) };
        // Of a term that is over: its sender is told so.
        let late = stranger.message(heartbeat(1));
        let answer = stranger.ask(&member.address, "POST", "/raft", &late).await;
        assert_eq!(answer.status(), 204);
        let told = fake.posted().await;
        assert_eq!((told.kind, told.to, told.from), (MessageType::AppResp, 7, member.id().0));
    });
}

#[test]
fn who_was_removed_is_told_so_on_streams_and_refused_elsewhere() {
    runtime().block_on(async {
        let member = TestMember::alone().await;
        let urls = ["http://127.0.0.1:1".to_owned()];
        let (added, _) = member.server().member_add(&urls, JoinAs::Learner).await.expect("added");
        let removed = Introduction::of(added.id.0, &member);
        let mut stream = removed.open(&member.address, "message").await;
        assert_eq!(stream.hear().await.expect("an answer").status(), 200);
        member.server().member_remove(added.id).await.expect("removed");
        while stream.read_chunk().await.is_some() {}
        // Never 403: etcd takes that for a word about itself.
        let path = format!("/raft/stream/message/{}", added.id);
        let gone = eventually("the removal reaches the peer side", || async {
            let answer = removed.ask(&member.address, "GET", &path, b"").await;
            Some(answer).filter(|answer| answer.status() == 410)
        });
        assert_eq!(gone.await.text(), "removed member\n");
        let message = removed.message(heartbeat(50));
        let answer = removed.ask(&member.address, "POST", "/raft", &message).await;
        assert_eq!((answer.status(), answer.text().as_str()), (500, "error processing raft message\n"));
        let image = [framed(&removed.message(snapshot_message(9))), b"a database".to_vec()].concat();
        let answer = removed.ask(&member.address, "POST", "/raft/snapshot", &image).await;
        assert_eq!(answer.status(), 500);
        assert!(answer.text().contains("cannot process message from removed member"), "{}", answer.text());
    });
}

fn snapshot_message(index: u64) -> Message {
    let mut snapshot = Snapshot::default();
    snapshot.metadata.index = raft::Index(index);
    snapshot.metadata.term = Term(1);
    Message { snapshot: Some(snapshot), term: Term(1), ..Message::new(MessageType::Snap, 0) }
}

#[test]
fn snapshots_that_are_cut_short_or_none_leave_nothing() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let other = member.other_id().await;
        let caller = Introduction::of(other.0, &member);
        let post = async |body: &[u8]| {
            let answer = caller.ask(&member.address, "POST", "/raft/snapshot", body).await;
            (answer.status(), answer.text())
        };
        let (status, text) = post(&u64::MAX.to_be_bytes()).await;
        assert!(status == 400 && text.starts_with("failed to decode raft message ("), "{status} {text}");
        let (status, text) = post(b"\0\0\0").await;
        assert!(status == 400 && text.contains("unexpected EOF"), "{status} {text}");
        let no_snapshot = framed(&caller.message(heartbeat(1)));
        assert_eq!(post(&no_snapshot).await, (400, "wrong raft message type\n".to_owned()));

        // Half of what was announced, and then the connection ends.
        let body = [framed(&caller.message(snapshot_message(1_000))), vec![1; 1000]].concat();
        let (from, cluster) = (caller.from.to_string(), caller.cluster_id.to_string());
        let head = request(
            "POST",
            "/raft/snapshot",
            &[
                ("X-Server-From", &from),
                ("X-Server-Version", "3.7.3"),
                ("X-Min-Cluster-Version", "3.0.0"),
                ("X-Etcd-Cluster-ID", &cluster),
                ("Content-Length", "1000000"),
            ],
            &body,
        );
        let mut line = Line::to(&member.address).await;
        line.write(&head).await;
        until("the snapshot begins to come in", || {
            member.metric("etcd_network_snapshot_receive_inflights_total") > 0.0
        })
        .await;
        drop(line);
        until("it is given up", || {
            member.metric("etcd_network_snapshot_receive_inflights_total") == 0.0
                && member.metric("etcd_network_snapshot_receive_failures") >= 1.0
        })
        .await;
    });
}

#[test]
fn callers_that_stall_or_flood_hold_up_nobody_else() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let other = member.other_id().await;
        let caller = Introduction::of(other.0, &member);
        let mut stalled = Vec::new();
        for _ in 0..100 {
            let mut line = Line::to(&member.address).await;
            line.write(b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n").await;
            stalled.push(line);
        }
        // A stream that is opened and never read.
        let mut deaf = caller.open(&member.address, "msgapp").await;
        assert_eq!(deaf.hear().await.expect("an answer").status(), 200);
        let context = bytes::Bytes::from(vec![0; 64 << 10]);
        let large = || Message {
            from: member.id().0,
            term: Term(1),
            context: context.clone(),
            ..Message::new(MessageType::App, other.0)
        };
        until("the queue is full", || {
            member.network.send((0..64).map(|_| large()).collect());
            member.metric("etcd_network_peer_sent_failures_total") > 0.0
        })
        .await;
        // The other stream of the same member is not concerned, nor is anybody else.
        let mut stream = caller.open(&member.address, "message").await;
        assert_eq!(stream.hear().await.expect("an answer").status(), 200);
        assert!(stream.read_chunk().await.is_some());
        assert_eq!(ask(&member.address, "GET", "/version", &[], b"").await.status(), 200);
        drop(stalled);
    });
}

#[test]
fn a_newer_stream_ends_the_older_one() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let other = member.other_id().await;
        let caller = Introduction::of(other.0, &member);
        let mut older = caller.open(&member.address, "message").await;
        let answer = older.hear().await.expect("an answer");
        assert_eq!((answer.status(), answer.header("X-Server-Version")), (200, Some("3.7.3")));
        let mut newer = caller.open(&member.address, "message").await;
        assert_eq!(newer.hear().await.expect("an answer").status(), 200);
        while older.read_chunk().await.is_some() {}
        assert!(newer.read_chunk().await.is_some());
    });
}

/// The next message of a stream. `bytes` is what was read and not returned yet: chunks are no frames.
async fn read_message(line: &mut Line, bytes: &mut Vec<u8>) -> Message {
    loop {
        if let Some((head, rest)) = bytes.split_first_chunk() {
            let len = usize::try_from(u64::from_be_bytes(*head)).expect("a length");
            if rest.len() >= len {
                let frame: Vec<u8> = bytes.drain(..8 + len).skip(8).collect();
                return raft::codec::decode_message(frame.into()).expect("a message");
            }
        }
        bytes.extend(line.read_chunk().await.expect("a chunk"));
    }
}

/// Streams may come as the first request on a connection or behind others.
#[test]
fn a_stream_opens_on_any_connection() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let other = member.other_id().await;
        let caller = Introduction::of(other.0, &member);
        let cluster = caller.cluster_id.to_string();
        for requests_before in 0..2 {
            let mut line = Line::to(&member.address).await;
            for _ in 0..requests_before {
                line.write(&request("GET", "/raft/stream/other/7", &[], b"")).await;
                assert_eq!(line.hear().await.expect("an answer").status(), 412);
            }
            caller.ask_for_stream(&mut line, "message").await;
            let answer = line.hear().await.expect("an answer");
            assert_eq!(answer.line, "HTTP/1.1 200 OK");
            assert_eq!(answer.header("X-Etcd-Cluster-ID"), Some(cluster.as_str()));
            assert_eq!(answer.header("Transfer-Encoding"), Some("chunked"));
            assert!(answer.header("Date").is_some_and(|date| date.ends_with(" GMT")), "{answer:?}");
            let mut own = answer.headers.iter().map(|(name, _)| name.as_str());
            assert!(own.any(|name| name == "X-Server-Version"), "{answer:?}");

            let wanted = Message {
                from: member.id().0,
                term: Term(1),
                commit: raft::Index(77),
                ..Message::new(MessageType::Heartbeat, other.0)
            };
            member.network.send(vec![wanted]);
            // Among heartbeats of the stream itself and pre-votes of the member.
            let mut bytes = Vec::new();
            let coming = async {
                loop {
                    let message = read_message(&mut line, &mut bytes).await;
                    if (message.kind, message.commit) == (MessageType::Heartbeat, raft::Index(77)) {
                        break;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, coming).await.expect("the message comes in time");
        }
        // Nobody has anything to say behind such a request.
        let mut line = caller.open(&member.address, "message").await;
        assert_eq!(line.hear().await.expect("an answer").status(), 200);
        line.write(b"GET / HTTP/1.1\r\n\r\n").await;
        line.ended().await;
    });
}
