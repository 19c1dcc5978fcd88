//! The way for messages while there is no stream: one request each.

use std::sync::Arc;

use http::header::{CONTENT_TYPE, HOST, HeaderValue};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use raft::{Message, codec};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::body::Body;
use crate::network::{Shared, authority};
use crate::peer::Peer;
use crate::reader::refusal;

/// Messages that may wait. Full: dropped, and raft is told that the member is unreachable.
/// Source, as of the next: etcd `server/etcdserver/api/rafthttp/pipeline.go`.
pub const QUEUE: usize = 64;

/// Requests under way at once.
const WORKERS: usize = 4;

pub fn start(
    shared: &Arc<Shared>,
    peer: &Arc<Peer>,
    inbox: mpsc::Receiver<Message>,
    tasks: &mut JoinSet<()>,
) {
    let inbox = Arc::new(Mutex::new(inbox));
    for _ in 0..WORKERS {
        tasks.spawn_on(work(shared.clone(), peer.clone(), inbox.clone()), &shared.runtime);
    }
}

async fn work(shared: Arc<Shared>, peer: Arc<Peer>, inbox: Arc<Mutex<mpsc::Receiver<Message>>>) {
    loop {
        // Held only while waiting, so that one idle worker takes each message.
        let next = { inbox.lock().await.recv().await };
        let Some(message) = next else { return };
        let label = shared.label_of(peer.id);
        match post(&shared, &peer, &message).await {
            Ok(bytes) => shared.metrics.sent_bytes.with_label_values(&[&label]).inc_by(bytes as f64),
            Err(error) => {
                tracing::debug!(remote_peer_id = %peer.id, error, "failed to send a raft message");
                shared.metrics.sent_failures.with_label_values(&[&label]).inc();
                shared.report_unreachable(peer.id);
            }
        }
    }
}

/// The bytes that were sent.
async fn post(shared: &Shared, peer: &Peer, message: &Message) -> Result<usize, String> {
    let url = peer.url().ok_or("the member has no peer URL")?;
    let bytes = codec::encode_message(message);
    let len = bytes.len();
    let mut request = Request::builder()
        .method(Method::POST)
        .uri("/raft")
        .header(HOST, authority(&url))
        .header(CONTENT_TYPE, HeaderValue::from_static("application/protobuf"))
        .body(Body::from(bytes))
        .map_err(|error| error.to_string())?;
    shared.identity().introduce(request.headers_mut());
    let limit = shared.config.dial_timeout + shared.config.write_timeout;
    let sent = timeout(limit, shared.dialer.send(&url, request)).await;
    let (response, sender) = match sent {
        Ok(Ok(sent)) => sent,
        Ok(Err(error)) => {
            peer.give_up_url(&url);
            return Err(error.to_string());
        }
        Err(_) => {
            peer.give_up_url(&url);
            return Err("no answer in time".to_owned());
        }
    };
    match response.status() {
        StatusCode::NO_CONTENT => {
            let drained = timeout(limit, response.into_body().collect()).await;
            if matches!(drained, Ok(Ok(_))) {
                shared.dialer.give_back(&url, sender);
            }
            Ok(len)
        }
        status => Err(refusal(shared, status, response.into_body()).await),
    }
}
