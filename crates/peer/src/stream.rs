//! The answers that never end: messages for a member that has asked for them.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use raft::Message;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::body::{Body, Piece};
use crate::codec::Encode;
use crate::codec::message::MessageEncoder;
use crate::codec::msgapp::AppendEncoder;
use crate::network::Shared;
use crate::peer::Peer;

/// Messages that one write takes.
const BATCH: usize = 128;

/// Bytes of messages that one write takes, give or take the last message.
const BATCH_BYTES: usize = 256 << 10;

/// Writes that may wait for the connection.
const PIECES: usize = 4;

/// The two kinds of streams, which numbers are positions in a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// Everything, but appends only while there is no stream for them.
    Message = 0,
    Append = 1,
}

impl StreamKind {
    pub const BOTH: [StreamKind; 2] = [StreamKind::Message, StreamKind::Append];

    pub fn path(self) -> &'static str {
        match self {
            StreamKind::Message => "/raft/stream/message",
            StreamKind::Append => "/raft/stream/msgapp",
        }
    }

    /// What etcd calls it in logs.
    pub fn name(self) -> &'static str {
        match self {
            StreamKind::Message => "stream Message",
            StreamKind::Append => "stream MsgApp v2",
        }
    }

    fn encoder(self) -> Box<dyn Encode> {
        match self {
            StreamKind::Message => Box::new(MessageEncoder),
            StreamKind::Append => Box::new(AppendEncoder::default()),
        }
    }
}

/// Gives the member a stream, and returns the answer's body.
pub fn begin(shared: &Arc<Shared>, peer: &Arc<Peer>, kind: StreamKind) -> Body {
    let (number, inbox) = peer.attach(kind);
    let (out, pieces) = mpsc::channel(PIECES);
    let writing = write(shared.clone(), peer.clone(), kind, inbox, out);
    let (shared, peer) = (shared.clone(), peer.clone());
    tracing::info!(
        remote_peer_id = %peer.id,
        stream_writer_type = kind.name(),
        "established TCP streaming connection with remote peer"
    );
    tokio::spawn(async move {
        writing.await;
        peer.detach(kind, number);
        tracing::warn!(
            remote_peer_id = %peer.id,
            stream_writer_type = kind.name(),
            "lost TCP streaming connection with remote peer"
        );
        // What was still in the queue is lost.
        shared.report_unreachable(peer.id);
    });
    Body::Pieces(pieces)
}

/// Writes until the member leaves, does not read for too long, or has a newer stream.
async fn write(
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    kind: StreamKind,
    mut inbox: mpsc::Receiver<Message>,
    out: mpsc::Sender<Piece>,
) {
    let sent_bytes = shared.metrics.sent_bytes.with_label_values(&[&peer.id.to_string()]);
    let mut encoder = kind.encoder();
    let mut heartbeats = interval(heartbeat_interval(shared.config.read_timeout));
    heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut batch = Vec::with_capacity(BATCH);
    let mut bytes = BytesMut::new();
    loop {
        tokio::select! {
            // First, so that heartbeats only fill the gaps.
            biased;
            taken = inbox.recv_many(&mut batch, BATCH) => {
                if taken == 0 {
                    return;
                }
            }
            _ = heartbeats.tick() => encoder.heartbeat(&mut bytes),
            () = out.closed() => return,
        }
        let mut messages = batch.drain(..);
        loop {
            let message = messages.next();
            if let Some(message) = &message {
                encoder.message(message, &mut bytes);
            }
            let is_last = messages.len() == 0;
            if is_last || bytes.len() >= BATCH_BYTES {
                let piece = bytes.split().freeze();
                sent_bytes.inc_by(piece.len() as f64);
                let written = timeout(shared.config.write_timeout, out.send(Piece::Bytes(piece))).await;
                if !matches!(written, Ok(Ok(()))) {
                    return;
                }
            }
            if is_last {
                break;
            }
        }
    }
}

/// The other side gives a silent stream up after its read timeout: it hears something three times before.
/// Source: etcd `server/etcdserver/api/rafthttp/stream.go`.
fn heartbeat_interval(read_timeout: Duration) -> Duration {
    read_timeout / 3
}
