//! Snapshots between members: a raft message, and behind it the database file, in one request.
//!
//! Source: etcd `server/etcdserver/api/rafthttp/snapshot_sender.go` and `http.go`. The body is the message's
//! length (8 bytes, big-endian), the message, and then the file to the end of the body.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use membership::MemberId;
use prometheus::Gauge;
use raft::{Message, MessageType, SnapshotStatus, codec};
use server::{SnapshotReader, SnapshotWriter, background};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use crate::body::{Body, Piece};
use crate::dialer::Opened;
use crate::network::{Shared, authority};
use crate::peer::Peer;
use crate::reader::refusal;

/// Snapshots on their way at once, in each direction. Full: further ones fail, and raft asks again.
/// Source: etcd `server/etcdserver/server.go`, `maxInFlightMsgSnap`.
const IN_FLIGHT_MAX: usize = 16;

/// A member that takes nothing for so long is given up: the image keeps the file from reusing its space.
const STALL: Duration = Duration::from_secs(30);

/// How often a member that has everything may be silent for [`STALL`] before it answers: it syncs the file.
const STALLS_AT_END_MAX: u32 = 10;

/// Bytes of the file that are read at once, and how many such pieces may wait for the network.
const PIECE_BYTES: usize = 64 << 10;
const PIECES: usize = 4;

/// The longest message in front of a file. A v2 store of thousands of members fits.
const ENVELOPE_BYTES_MAX: u64 = 64 << 20;

const LEN_BYTES: usize = 8;

/// Counts what is on its way.
#[derive(Default)]
pub struct InFlight(AtomicUsize);

struct Slot<'a>(&'a AtomicUsize);

impl InFlight {
    fn begin(&self) -> Option<Slot<'_>> {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let slot = Slot(&self.0);
        (count < IN_FLIGHT_MAX).then_some(slot)
    }
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counted in a gauge while it lives, however it ends.
struct Counted(Gauge);

impl Counted {
    fn new(gauge: Gauge) -> Counted {
        gauge.inc();
        Counted(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// A snapshot that is being sent. Its end is reported to raft however it comes, also when the peer is stopped.
struct Outgoing {
    shared: Arc<Shared>,
    to: MemberId,
    status: SnapshotStatus,
    _in_flight: Counted,
}

impl Drop for Outgoing {
    fn drop(&mut self) {
        self.shared.server().report_snapshot(self.to, self.status);
    }
}

/// Sends one, and reports to raft how that ended.
pub fn send(shared: &Arc<Shared>, peer: &Arc<Peer>, message: Message, image: SnapshotReader) {
    let in_flight = shared.metrics.snapshot_send_inflights.with_label_values(&[&peer.id.to_string()]);
    let outgoing = Outgoing {
        shared: shared.clone(),
        to: peer.id,
        status: SnapshotStatus::Failed,
        _in_flight: Counted::new(in_flight),
    };
    peer.spawn(shared, send_and_tell(outgoing, peer.clone(), message, image));
}

async fn send_and_tell(mut outgoing: Outgoing, peer: Arc<Peer>, message: Message, image: SnapshotReader) {
    let shared = outgoing.shared.clone();
    let metrics = &shared.metrics;
    let to = peer.id.to_string();
    let started = Instant::now();
    let outcome = match shared.sending.begin() {
        Some(_slot) => send_whole(&shared, &peer, &message, image).await,
        None => Err(format!("{IN_FLIGHT_MAX} snapshots are on their way already")),
    };
    match outcome {
        Ok(bytes) => {
            outgoing.status = SnapshotStatus::Finished;
            metrics.snapshot_send_success.with_label_values(&[&to]).inc();
            metrics.snapshot_send_duration.with_label_values(&[&to]).observe(started.elapsed().as_secs_f64());
            metrics.sent_bytes.with_label_values(&[&to]).inc_by(bytes as f64);
            tracing::info!(remote_peer_id = to, bytes, took = ?started.elapsed(), "sent database snapshot");
        }
        Err(error) => {
            metrics.snapshot_send_failures.with_label_values(&[&to]).inc();
            metrics.sent_failures.with_label_values(&[&to]).inc();
            tracing::warn!(remote_peer_id = to, error, "failed to send database snapshot");
            shared.report_unreachable(peer.id);
        }
    }
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
    let progress = Arc::new(Progress::default());
    let begun = progress.clone();
    // The file is read as far ahead as the queue lets it, by a thread that may block and gives way to others.
    let reading =
        tokio::spawn(background::run("snapshot-out", move || read_image(envelope, image, &out, &begun)));
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/raft/snapshot")
        .header(HOST, authority(&url))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"))
        .body(Body::Pieces(pieces))
        .map_err(|error| error.to_string())?;
    shared.identity().introduce(request.headers_mut());
    // No limit for the whole, which is as long as the file.
    let sent = tokio::select! {
        sent = shared.dialer.open(&url, request) => sent.map_err(|error| error.to_string()),
        () = progress.stalled(STALL) => Err("i/o timeout".to_owned()),
    };
    // Dropped at the end, it takes the connection along, and with it what is still on its way.
    let Opened { response, connection: _connection } = sent.inspect_err(|_| peer.give_up_url(&url))?;
    match response.status() {
        // One that says so before it has everything may still take the rest.
        StatusCode::NO_CONTENT => tokio::select! {
            read = reading => match read {
                Ok(Ok(read)) => read.map(|()| total),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            },
            () = progress.stalled(STALL) => Err("i/o timeout".to_owned()),
        },
        status => Err(refusal(shared, status, response.into_body()).await),
    }
}

/// How far the sending of an image is.
#[derive(Default)]
struct Progress {
    pieces: AtomicU64,
    is_whole: AtomicBool,
}

impl Progress {
    /// Resolves when nothing has moved for too long.
    async fn stalled(&self, pause: Duration) {
        let mut seen = None;
        let mut silences_at_end = 0;
        loop {
            let now = self.pieces.load(Ordering::Relaxed);
            if self.is_whole.load(Ordering::Relaxed) {
                silences_at_end += 1;
                if silences_at_end > STALLS_AT_END_MAX {
                    return;
                }
            } else if seen.replace(now) == Some(now) {
                return;
            }
            sleep(pause).await;
        }
    }
}

fn read_image(
    envelope: Bytes,
    mut image: SnapshotReader,
    out: &mpsc::Sender<Piece>,
    progress: &Progress,
) -> Result<(), String> {
    let hand_over = |piece| {
        out.blocking_send(piece).map_err(|_| "the connection broke".to_owned())?;
        progress.pieces.fetch_add(1, Ordering::Relaxed);
        Ok::<(), String>(())
    };
    let mut head = BytesMut::with_capacity(LEN_BYTES + envelope.len());
    head.extend_from_slice(&(envelope.len() as u64).to_be_bytes());
    head.extend_from_slice(&envelope);
    hand_over(Piece::Bytes(head.freeze()))?;
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
                hand_over(Piece::Bytes(piece.into()))?;
            }
            Err(error) => {
                // Whoever receives it must not take it for whole.
                hand_over(Piece::Broken)?;
                return Err(error);
            }
        }
    }
    progress.is_whole.store(true, Ordering::Relaxed);
    Ok(())
}

/// Why a received snapshot was not taken: status and text.
pub struct NotTaken(pub StatusCode, pub String);

/// Takes a snapshot from a request: the file first, durable, and then the message into raft.
pub async fn receive(shared: &Arc<Shared>, from: MemberId, body: Incoming) -> Result<(), NotTaken> {
    let label = shared.label_of(from);
    let metrics = &shared.metrics;
    let started = Instant::now();
    let in_flight = Counted::new(metrics.snapshot_receive_inflights.with_label_values(&[&label]));
    let outcome = match shared.receiving.begin() {
        Some(_slot) => receive_whole(shared, from, body).await,
        None => Err(NotTaken(
            StatusCode::INTERNAL_SERVER_ERROR,
            format!("failed to save KV snapshot ({IN_FLIGHT_MAX} snapshots are on their way already)"),
        )),
    };
    drop(in_flight);
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
            tracing::warn!(remote_peer_id = %from, %status, error, "failed to receive database snapshot");
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
    shared.metrics.received_bytes.with_label_values(&[&shared.label_of(from)]).inc_by(bytes as f64);
    tracing::info!(remote_snapshot_sender_id = %from, incoming_snapshot_index = index, bytes, "received and saved database snapshot");
    let taken = shared.server().receive(message);
    shared.server().step_received();
    taken.map_err(|error| unprocessed(error.to_string()))
}

/// A body in the sizes that are wanted.
struct Inflow {
    body: Incoming,
    bytes: BytesMut,
    /// A sender that is silent for so long has gone.
    silence: Duration,
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
                None if self.bytes.is_empty() => return Err("EOF".to_owned()),
                None => return Err("unexpected EOF".to_owned()),
            }
        }
        Ok(self.bytes.split_to(len).freeze())
    }

    /// Writes the rest of the body to the file of the snapshot; how many bytes these were.
    async fn save(mut self, shared: &Arc<Shared>, index: u64) -> Result<u64, String> {
        let server = shared.server().clone();
        let (pieces, inbox) = mpsc::channel(PIECES);
        // The disk may take its time; the streams share the thread of this task.
        let writing = tokio::spawn(background::run("snapshot-in", move || {
            let writer = server.receive_snapshot(index).map_err(|error| error.to_string())?;
            write_image(writer, inbox)
        }));
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
        let written = writing.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
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
