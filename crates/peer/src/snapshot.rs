//! Snapshots between members: a raft message, and behind it the database file, in one request.
//!
//! Source: etcd `server/etcdserver/api/rafthttp/snapshot_sender.go` and `http.go`. The body is the message's
//! length (8 bytes, big-endian), the message, and then the file to the end of the body.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use membership::MemberId;
use raft::{Message, MessageType, SnapshotStatus, codec};
use server::{SnapshotReader, SnapshotWriter};
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::body::{Body, Piece};
use crate::network::{Shared, authority};
use crate::peer::Peer;
use crate::reader::error_text;

/// Snapshots on their way at once. Full: further ones fail, and raft asks again.
/// Source: etcd `server/etcdserver/server.go`, `maxInFlightMsgSnap`.
pub const SENDING_MAX: usize = 16;

/// Bytes of the file that are read at once, and how many such pieces may wait for the network.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;

/// The longest message in front of a file. A v2 store of thousands of members fits.
const ENVELOPE_BYTES_MAX: u64 = 64 << 20;

const LEN_BYTES: usize = 8;

/// Counts what is on its way.
#[derive(Default)]
pub struct Sending(AtomicUsize);

struct Slot<'a>(&'a AtomicUsize);

impl Sending {
    fn begin(&self) -> Option<Slot<'_>> {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(&self.0);
        (count < SENDING_MAX).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Sends one, and reports to raft how that ended.
pub async fn send(shared: Arc<Shared>, peer: Arc<Peer>, message: Message, image: SnapshotReader) {
    let to = peer.id.to_string();
    let metrics = &shared.metrics;
    let started = Instant::now();
    metrics.snapshot_send_inflights.with_label_values(&[&to]).inc();
    let outcome = match shared.sending.begin() {
        Some(_slot) => send_whole(&shared, &peer, &message, image).await,
        None => Err(format!("{SENDING_MAX} snapshots are on their way already")),
    };
    metrics.snapshot_send_inflights.with_label_values(&[&to]).dec();
    let status = match outcome {
        Ok(bytes) => {
            metrics.snapshot_send_success.with_label_values(&[&to]).inc();
            metrics.snapshot_send_duration.with_label_values(&[&to]).observe(started.elapsed().as_secs_f64());
            metrics.sent_bytes.with_label_values(&[&to]).inc_by(bytes as f64);
            tracing::info!(remote_peer_id = to, bytes, took = ?started.elapsed(), "sent database snapshot");
            SnapshotStatus::Finished
        }
        Err(error) => {
            metrics.snapshot_send_failures.with_label_values(&[&to]).inc();
            metrics.sent_failures.with_label_values(&[&to]).inc();
            tracing::warn!(remote_peer_id = to, error, "failed to send database snapshot");
            shared.report_unreachable(peer.id);
            SnapshotStatus::Failed
        }
    };
    shared.server().report_snapshot(peer.id, status);
}

async fn send_whole(
    shared: &Arc<Shared>,
    peer: &Peer,
    message: &Message,
    image: SnapshotReader,
) -> Result<u64, String> {
    let url = peer.url().ok_or("the member has no peer URL")?;
    let envelope = codec::encode_message(message);
    let total = LEN_BYTES as u64 + envelope.len() as u64 + image.size();
    let (out, pieces) = mpsc::channel(PIECES);
    // The file is read where blocking is allowed, as far ahead as the queue lets it.
    let reading = tokio::task::spawn_blocking(move || read_image(envelope, image, &out));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/raft/snapshot")
        .header(HOST, authority(&url))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        .body(Body::Pieces(pieces))
        .map_err(|error| error.to_string())?;
    shared.identity().introduce(request.headers_mut());
    // No limit for the whole, which is as long as the file: the member's own silence ends the connection.
    let sent = shared.dialer.open(&url, request).await;
    let response = match sent {
        Ok(response) => response,
        Err(error) => {
            peer.give_up_url(&url);
            return Err(error.to_string());
        }
    };
    match response.status() {
        StatusCode::NO_CONTENT => match reading.await {
            Ok(Ok(())) => Ok(total),
            Ok(Err(error)) => Err(error),
            Err(error) => Err(error.to_string()),
        },
        status => Err(format!("{status}: {}", error_text(response.into_body()).await)),
    }
}

fn read_image(envelope: Bytes, mut image: SnapshotReader, out: &mpsc::Sender<Piece>) -> Result<(), String> {
    let gone = |_| "the connection broke".to_owned();
    let mut head = BytesMut::with_capacity(LEN_BYTES + envelope.len());
    head.extend_from_slice(&(envelope.len() as u64).to_be_bytes());
    head.extend_from_slice(&envelope);
    out.blocking_send(Piece::Bytes(head.freeze())).map_err(gone)?;
    let mut left = image.size();
    while left > 0 {
        let mut piece = vec![0; PIECE_BYTES.min(usize::try_from(left).unwrap_or(PIECE_BYTES))];
        let read = match image.read(&mut piece) {
            Ok(0) => Err("the file ended too early".to_owned()),
            Ok(len) => Ok(len),
            Err(error) => Err(error.to_string()),
        };
        match read {
            Ok(len) => {
                piece.truncate(len);
                left -= len as u64;
                out.blocking_send(Piece::Bytes(piece.into())).map_err(gone)?;
            }
            Err(error) => {
                // Whoever receives it must not take it for whole.
                out.blocking_send(Piece::Broken).map_err(gone)?;
                return Err(error);
            }
        }
    }
    Ok(())
}

/// Why a received snapshot was not taken: status and text.
pub struct NotTaken(pub StatusCode, pub String);

/// Takes a snapshot from a request: the file first, durable, and then the message into raft.
pub async fn receive(shared: &Arc<Shared>, from: MemberId, body: Incoming) -> Result<(), NotTaken> {
    let label = from.to_string();
    let metrics = &shared.metrics;
    let started = Instant::now();
    metrics.snapshot_receive_inflights.with_label_values(&[&label]).inc();
    let outcome = receive_whole(shared, from, body).await;
    metrics.snapshot_receive_inflights.with_label_values(&[&label]).dec();
    match &outcome {
        Ok(()) => {
            metrics.snapshot_receive_success.with_label_values(&[&label]).inc();
            metrics
                .snapshot_receive_duration
                .with_label_values(&[&label])
                .observe(started.elapsed().as_secs_f64());
        }
        Err(NotTaken(status, error)) => {
            metrics.snapshot_receive_failures.with_label_values(&[&label]).inc();
            tracing::warn!(remote_peer_id = label, %status, error, "failed to receive database snapshot");
        }
    }
    outcome
}

async fn receive_whole(shared: &Arc<Shared>, from: MemberId, body: Incoming) -> Result<(), NotTaken> {
    let mut inflow = Inflow { body, bytes: BytesMut::new(), silence: shared.config.read_timeout };
    let undecodable =
        |error: String| NotTaken(StatusCode::BAD_REQUEST, format!("failed to decode raft message ({error})"));
    let announced = inflow.fill(LEN_BYTES).await.map_err(undecodable)?;
    let announced = u64::from_be_bytes(announced[..].try_into().expect("eight bytes"));
    if announced > ENVELOPE_BYTES_MAX {
        return Err(undecodable(format!("{announced} bytes are too many")));
    }
    let envelope = inflow.fill(announced as usize).await.map_err(undecodable)?;
    let message = codec::decode_message(envelope).map_err(|error| undecodable(error.to_string()))?;
    if message.kind != MessageType::Snap {
        return Err(NotTaken(StatusCode::BAD_REQUEST, "wrong raft message type".to_owned()));
    }
    let unprocessed = |error: String| {
        NotTaken(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to process raft message ({error})"))
    };
    if message.from != from.0 {
        return Err(unprocessed("it is not its sender's".to_owned()));
    }
    // Before the file: what raft would not take need not be sent, nor written.
    shared.server().admits(&message).map_err(|error| unprocessed(error.to_string()))?;
    let index = message.snapshot.as_ref().map_or(0, |snapshot| snapshot.index().0);
    tracing::info!(remote_snapshot_sender_id = %from, incoming_snapshot_index = index, "receiving database snapshot");
    let bytes = inflow.save(shared, index).await.map_err(|error| {
        NotTaken(StatusCode::INTERNAL_SERVER_ERROR, format!("failed to save KV snapshot ({error})"))
    })?;
    shared.metrics.received_bytes.with_label_values(&[&from.to_string()]).inc_by(bytes as f64);
    tracing::info!(remote_snapshot_sender_id = %from, incoming_snapshot_index = index, bytes, "received and saved database snapshot");
    shared.server().receive(message).map_err(|error| unprocessed(error.to_string()))
}

/// A body in the sizes that are wanted.
struct Inflow {
    body: Incoming,
    bytes: BytesMut,
    /// A sender that is silent for so long has gone.
    silence: std::time::Duration,
}

impl Inflow {
    /// `None` at the end of the body.
    async fn next(&mut self) -> Result<Option<Bytes>, String> {
        match timeout(self.silence, self.body.frame()).await {
            Ok(Some(Ok(frame))) => Ok(Some(frame.into_data().unwrap_or_default())),
            Ok(Some(Err(error))) => Err(error.to_string()),
            Ok(None) => Ok(None),
            Err(_) => Err("i/o timeout".to_owned()),
        }
    }

    async fn fill(&mut self, len: usize) -> Result<Bytes, String> {
        while self.bytes.len() < len {
            match self.next().await? {
                Some(bytes) => self.bytes.extend_from_slice(&bytes),
                None => return Err("unexpected EOF".to_owned()),
            }
        }
        Ok(self.bytes.split_to(len).freeze())
    }

    /// Writes the rest of the body to the file of the snapshot; how many bytes these were.
    async fn save(mut self, shared: &Arc<Shared>, index: u64) -> Result<u64, String> {
        let writer = shared.server().receive_snapshot(index).map_err(|error| error.to_string())?;
        let (pieces, inbox) = mpsc::channel(PIECES);
        // The disk may take its time; the streams share the thread of this task.
        let writing = tokio::task::spawn_blocking(move || write_image(writer, inbox));
        let first = std::mem::take(&mut self.bytes).freeze();
        let mut next = Some(first);
        let mut outcome = Ok(());
        while let Some(bytes) = next.take() {
            if !bytes.is_empty() && pieces.send(Some(bytes)).await.is_err() {
                break; // the writer tells why
            }
            match self.next().await {
                Ok(more) => next = more,
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if outcome.is_ok() {
            // Only a body that came to its end is whole.
            pieces.send(None).await.ok();
        }
        drop(pieces);
        let written = writing.await.map_err(|error| error.to_string())?;
        outcome.and(written)
    }
}

/// Writes pieces until `None` says that they are all; a queue that ends before leaves no file.
fn write_image(mut writer: SnapshotWriter, mut inbox: mpsc::Receiver<Option<Bytes>>) -> Result<u64, String> {
    loop {
        match inbox.blocking_recv() {
            Some(Some(bytes)) => writer.write(&bytes).map_err(|error| error.to_string())?,
            Some(None) => {
                let written = writer.written();
                return writer.finish().map(|()| written).map_err(|error| error.to_string());
            }
            None => return Err("unexpected EOF".to_owned()),
        }
    }
}
