//! What a member makes of the streams that it opens.

use std::time::Duration;

use peer::PeerConfig;
use raft::{Message, MessageType, Term};
use server::{Network, StopReason};

use crate::fake::{FakePeer, Introduction, framed};
use crate::member::{PATIENCE, TestMember, runtime, until};

fn heartbeat(term: u64) -> Message {
    Message { term: Term(term), ..Message::new(MessageType::Heartbeat, 0) }
}

#[test]
fn messages_of_a_stream_reach_raft_and_are_answered() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let sender = Introduction::of(member.other_id().await.0, &member);
        let (mut stream, request) = fake.give_stream("message").await;
        let own = member.id().to_string();
        assert!(request.line.ends_with(&format!("/raft/stream/message/{own} HTTP/1.1")), "{}", request.line);
        let (cluster, other) = (sender.cluster_id.to_string(), sender.from.to_string());
        for (name, value) in [
            ("X-Server-From", own.as_str()),
            ("X-Server-Version", "3.7.3"),
            ("X-Min-Cluster-Version", "3.0.0"),
            ("X-Etcd-Cluster-ID", &cluster),
            ("X-Raft-To", &other),
            ("X-PeerURLs", &member.url),
        ] {
            assert_eq!(request.header(name), Some(value), "{name}");
        }
        until("it counts as active", || member.network.active_for(sender.from).is_some()).await;
        // A link heartbeat, and a frame in two pieces.
        stream.write_chunk(b"\0\0\0\0\0\0\0\x02\x08\x08").await;
        let frame = framed(&sender.message(heartbeat(50)));
        stream.write_chunk(&frame[..5]).await;
        stream.write_chunk(&frame[5..]).await;
        until("raft knows the term", || member.server().raft().term() == 50).await;
        loop {
            let answer = fake.posted().await;
            if answer.kind == MessageType::HeartbeatResp {
                assert_eq!((answer.term, answer.to), (Term(50), sender.from.0));
                break;
            }
        }
        drop(stream);
        until("it counts as gone", || member.network.active_for(sender.from).is_none()).await;
        fake.give_stream("message").await;
    });
}

#[test]
fn streams_of_nonsense_are_ended_and_opened_again() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let sender = Introduction::of(member.other_id().await.0, &member);
        let too_long = (1_u64 << 40).to_be_bytes();
        let of_another = Introduction { from: membership::MemberId(77), ..sender.clone() };
        for nonsense in [&too_long[..], b"\0\0\0\0\0\0\0\x03\xff\xff\xff", b"HTTP/1.1 200 OK\r\n\r\n"] {
            let (mut stream, _) = fake.give_stream("message").await;
            stream.write_chunk(nonsense).await;
            stream.ended().await;
        }
        for nonsense in
            [&b"\x07"[..], b"\x01\xff\xff\xff\xff\xff\xff\xff\xff\x7f\xff\xff\xff\xff\xff\xff\xff"]
        {
            let (mut stream, _) = fake.give_stream("msgapp").await;
            stream.write_chunk(nonsense).await;
            stream.ended().await;
        }
        // A message of somebody else is passed over; the stream goes on.
        let (mut stream, _) = fake.give_stream("message").await;
        stream.write_chunk(&framed(&of_another.message(heartbeat(60)))).await;
        stream.write_chunk(&framed(&sender.message(heartbeat(50)))).await;
        until("raft knows the term", || member.server().raft().term() >= 50).await;
        assert_eq!(member.server().raft().term(), 50);
        assert!(member.metric("etcd_network_peer_received_failures_total") >= 1.0);
    });
}

#[test]
fn a_silent_stream_is_given_up() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let config = PeerConfig { read_timeout: Duration::from_millis(300), ..PeerConfig::default() };
        let _member = TestMember::beside_with(&fake.url, config).await;
        let (mut silent, _) = fake.give_stream("message").await;
        silent.ended().await;
        fake.give_stream("message").await;
    });
}

#[test]
fn a_member_that_is_told_of_its_removal_stops() {
    runtime().block_on(async {
        let fake = FakePeer::listen().await;
        let member = TestMember::beside(&fake.url).await;
        let mut stopping = member.server().stopping();
        let (mut line, _) = fake.called("/raft/stream/").await;
        line.write(b"HTTP/1.1 410 Gone\r\nContent-Length: 15\r\n\r\nremoved member\n").await;
        let stopped = tokio::time::timeout(PATIENCE, stopping.wait_for(Option::is_some)).await;
        assert_eq!(stopped.expect("in time").expect("told").clone(), Some(StopReason::Removed));
    });
}
