//! The streams that this member opens: it asks the other one for its messages, and asks again when they end.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use membership::MemberId;
use raft::{Message, MessageType};
use server::{ConnectionLoss, ReceiveError, Server};
use tokio::time::{Instant, sleep_until, timeout};
use transport::tls::words;

use crate::body::Body;
use crate::codec::message::MessageDecoder;
use crate::codec::msgapp::AppendDecoder;
use crate::codec::{Decode, Frame};
use crate::dialer::{DialError, Opened};
use crate::headers::{RAFT_TO, hex};
use crate::network::Shared;
use crate::peer::Peer;
use crate::stream::StreamKind;

/// Between the beginnings of two tries to open a stream: one that lasted longer is followed by the next at once.
/// Source: etcd `server/etcdserver/api/rafthttp/transport.go`, `DialRetryFrequency`.
const RETRY: Duration = Duration::from_millis(100);

/// Bytes of an error's text that are read and logged.
const ERROR_TEXT_MAX: usize = 1024;

/// How an attempt to read ended.
enum Ended {
    /// The stream was open and broke, or nobody could be reached.
    Lost(ConnectionLoss, String),
    /// The other member does not give us a stream now.
    Refused(String),
    /// The other member says that this one was removed from the cluster.
    Removed,
}

/// Reads one kind of messages of a member, for as long as it is a peer.
pub async fn read_always(shared: Arc<Shared>, peer: Arc<Peer>, kind: StreamKind) {
    let mut told = String::new();
    loop {
        let next = Instant::now() + RETRY;
        if let Some(url) = peer.url() {
            let ended = read_once(&shared, &peer, kind, &url).await;
            let was_open = peer.is_open(kind);
            if peer.note_closed(kind) {
                shared.note_inactive(&peer);
            }
            let why = match ended {
                Ended::Removed => {
                    shared.server().told_removed();
                    return;
                }
                Ended::Refused(why) => why,
                Ended::Lost(loss, why) => {
                    shared.server().connection_lost(peer.id, loss);
                    why
                }
            };
            if was_open {
                tracing::warn!(
                    remote_peer_id = %peer.id,
                    stream_reader_type = kind.name(),
                    error = why,
                    "lost TCP streaming connection with remote peer"
                );
                told.clear();
            } else {
                peer.give_up_url(&url);
                // The same failure ten times a second is told once.
                if why != told {
                    tracing::warn!(
                        remote_peer_id = %peer.id,
                        stream_reader_type = kind.name(),
                        url,
                        error = why,
                        "failed to open a stream of a peer"
                    );
                    told = why;
                }
            }
        }
        // At once after a stream that was open for a while: if the process has ended, its machine says so now.
        sleep_until(next).await;
    }
}

async fn read_once(shared: &Arc<Shared>, peer: &Arc<Peer>, kind: StreamKind, url: &str) -> Ended {
    let server = shared.server();
    let own_id = server.member_id();
    let mut request = match Request::builder()
        .method(Method::GET)
        .uri(format!("{}/{own_id}", kind.path()))
        .header(http::header::HOST, crate::network::authority(url))
        .body(Body::empty())
    {
        Ok(request) => request,
        Err(error) => return Ended::Refused(error.to_string()),
    };
    shared.identity().introduce(request.headers_mut());
    request.headers_mut().insert(RAFT_TO, hex(peer.id.0));
    let opening =
        timeout(shared.config.dial_timeout + shared.config.read_timeout, shared.dialer.open(url, request));
    let Opened { response, connection: _connection } = match opening.await {
        Ok(Ok(opened)) => opened,
        Ok(Err(DialError { loss, why })) => return Ended::Lost(loss, why),
        Err(_) => return Ended::Lost(ConnectionLoss::Silent, "no answer in time".to_owned()),
    };
    match response.status() {
        StatusCode::OK => {}
        StatusCode::GONE => return Ended::Removed,
        status => return Ended::Refused(refusal(shared, status, response.into_body()).await),
    }
    if peer.note_open(kind) {
        shared.note_active(peer);
    }
    tracing::info!(
        remote_peer_id = %peer.id,
        stream_reader_type = kind.name(),
        "established TCP streaming connection with remote peer"
    );
    let decoder: Box<dyn Decode> = match kind {
        StreamKind::Message => Box::new(MessageDecoder::default()),
        StreamKind::Append => Box::new(AppendDecoder::new(own_id, peer.id)),
    };
    read_frames(shared, peer, response.into_body(), decoder).await
}

async fn read_frames(
    shared: &Arc<Shared>,
    peer: &Peer,
    mut body: Incoming,
    mut decoder: Box<dyn Decode>,
) -> Ended {
    let received_bytes = shared.metrics.received_bytes.with_label_values(&[&peer.id.to_string()]);
    loop {
        let bytes = match timeout(shared.config.read_timeout, body.frame()).await {
            Ok(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
            Ok(Some(Err(error))) => return Ended::Lost(ConnectionLoss::Closed, words(&error)),
            Ok(None) => return Ended::Lost(ConnectionLoss::Closed, "EOF".to_owned()),
            Err(_) => return Ended::Lost(ConnectionLoss::Silent, "i/o timeout".to_owned()),
        };
        received_bytes.inc_by(bytes.len() as f64);
        if peer.note_alive() {
            shared.note_active(peer);
        }
        decoder.feed(bytes);
        let decoded = loop {
            match decoder.next() {
                Ok(None) => break Ok(()),
                Ok(Some(Frame::Heartbeat)) => {}
                Ok(Some(Frame::Message(message))) => deliver(shared, peer.id, *message),
                Err(error) => break Err(error),
            }
        };
        // All that came together, in one go.
        shared.server().step_received();
        if let Err(error) = decoded {
            shared.metrics.received_failures.with_label_values(&[&peer.id.to_string()]).inc();
            return Ended::Refused(error.to_string());
        }
    }
}

/// Hands a message to raft, if its sender may send it.
pub fn deliver(shared: &Shared, sender: MemberId, message: Message) {
    let kind = message.kind;
    if let Err(error) = take(shared.server(), sender, message) {
        if error != ReceiveError::Full {
            tracing::warn!(remote_peer_id = %sender, ?kind, %error, "dropped a raft message");
        }
        shared.metrics.received_failures.with_label_values(&[&sender.to_string()]).inc();
    }
}

/// As [`deliver`], with the outcome.
pub fn take(server: &Server, sender: MemberId, message: Message) -> Result<(), ReceiveError> {
    // What a follower sends on for others bears their name; everything else its sender's.
    let is_forwarded = match message.kind {
        MessageType::Prop | MessageType::ReadIndex | MessageType::TransferLeader => true,
        _ => message.from == sender.0,
    };
    // Snapshots come with their file, by a way of their own.
    if !is_forwarded || message.kind == MessageType::Snap {
        return Err(ReceiveError::Local);
    }
    server.receive(message)
}

/// What an answer says that is an error.
pub async fn refusal(shared: &Shared, status: StatusCode, body: Incoming) -> String {
    match timeout(shared.config.read_timeout, error_text(body)).await {
        Ok(text) => format!("{status}: {text}"),
        Err(_) => status.to_string(),
    }
}

async fn error_text(mut body: Incoming) -> String {
    let mut text = Vec::new();
    while let Some(Ok(frame)) = body.frame().await {
        text.extend_from_slice(frame.data_ref().map_or(&[][..], |data| data));
        if text.len() >= ERROR_TEXT_MAX {
            text.truncate(ERROR_TEXT_MAX);
            break;
        }
    }
    String::from_utf8_lossy(&text).trim_end().to_owned()
}
