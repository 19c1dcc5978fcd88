//! One watch that survives its connections.

use std::time::Duration;

use http::uri::PathAndQuery;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::*;
use tokio::sync::mpsc;
use tonic::metadata::MetadataValue;
use tonic::{Code, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::call::clean;
use crate::{Client, Error};

/// Pause before a broken watch is opened again. Source: client/v3/watch.go.
const RESUME_PAUSE: Duration = Duration::from_millis(100);

/// A watch on one range. After a lost connection it goes on behind the last revision it delivered, so
/// that the caller sees each event once and in order.
pub struct Watcher {
    client: Client,
    create: WatchCreateRequest,
    require_leader: bool,
    stream: Option<Open>,
    state: State,
}

struct Open {
    requests: mpsc::Sender<WatchRequest>,
    responses: Streaming<WatchResponse>,
    /// Events of a revision that came in pieces, until the last has come.
    fragments: Vec<proto::mvccpb::Event>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Going,
    /// The member ended the watch.
    Ended,
}

impl Client {
    /// Watches; nothing is sent before the first [`Watcher::next`]. With `require_leader`, a member
    /// that lost its leader ends the watch rather than stay silent.
    pub fn watch(&self, create: WatchCreateRequest, require_leader: bool) -> Watcher {
        Watcher { client: self.clone(), create, require_leader, stream: None, state: State::Going }
    }

    /// A bare watch stream, for callers that multiplex watches and resume by themselves.
    pub async fn watch_stream(
        &self,
        requests: mpsc::Receiver<WatchRequest>,
        require_leader: bool,
    ) -> Result<Streaming<WatchResponse>, Error> {
        self.log_in().await?;
        let mut request = self.request(ReceiverStream(requests));
        if require_leader {
            request.metadata_mut().insert("hasleader", MetadataValue::from_static("true"));
        }
        let codec = ProstCodec::<WatchRequest, WatchResponse>::default();
        let path = PathAndQuery::from_static("/etcdserverpb.Watch/Watch");
        let response = self.grpc().streaming(request, path, codec).await.map_err(clean)?;
        Ok(response.into_inner())
    }
}

impl Watcher {
    /// The next response with events, a progress notice (no events) or a cancellation, after which
    /// only `None` comes. Errors are final too: connections that break are opened again here.
    pub async fn next(&mut self) -> Result<Option<WatchResponse>, Error> {
        while self.state == State::Going {
            match self.receive().await {
                Ok(Some(response)) => return Ok(Some(response)),
                Ok(None) => {}
                Err(Error::Rpc(status)) if may_resume(&status) => {
                    self.stream = None;
                    tokio::time::sleep(RESUME_PAUSE).await;
                }
                Err(error) => {
                    self.state = State::Ended;
                    return Err(error);
                }
            }
        }
        Ok(None)
    }

    /// A handle that asks for progress while another task waits in [`Watcher::next`].
    pub fn progress_requester(&self) -> Option<mpsc::Sender<WatchRequest>> {
        self.stream.as_ref().map(|open| open.requests.clone())
    }

    /// Asks the member up to which revision everything was delivered; the answer comes as a response
    /// without events.
    pub async fn request_progress(&mut self) -> Result<(), Error> {
        let open = self.open().await?;
        let union = RequestUnion::ProgressRequest(WatchProgressRequest {});
        // A stream that just broke is resumed by `next`; the question is then lost, as with etcd.
        let _unsent = open.requests.send(WatchRequest { request_union: Some(union) }).await;
        Ok(())
    }

    /// One response, if it is for the caller.
    async fn receive(&mut self) -> Result<Option<WatchResponse>, Error> {
        let open = self.open().await?;
        let Some(mut response) = open.responses.message().await.map_err(clean)? else {
            return Err(Status::unavailable("watch stream ended").into());
        };
        if response.fragment {
            open.fragments.append(&mut response.events);
            return Ok(None);
        }
        if !open.fragments.is_empty() {
            let rest = std::mem::take(&mut response.events);
            response.events = std::mem::take(&mut open.fragments);
            response.events.extend(rest);
        }
        let revision = response.header.as_ref().map_or(0, |header| header.revision);
        if response.canceled {
            self.state = State::Ended;
            return Ok(Some(response));
        }
        if response.created {
            // A watch from "now" begins here, also when it must be resumed before its first event.
            if self.create.start_revision == 0 {
                self.create.start_revision = revision + 1;
            }
            return Ok(None);
        }
        let delivered = response.events.last().and_then(|event| event.kv.as_ref());
        let delivered = delivered.map_or(revision, |kv| kv.mod_revision);
        // An answer to a progress request is 0 or behind while the member still catches up.
        self.create.start_revision = self.create.start_revision.max(delivered + 1);
        Ok(Some(response))
    }

    async fn open(&mut self) -> Result<&mut Open, Error> {
        if self.stream.is_none() {
            let (requests, receiver) = mpsc::channel(16);
            let union = RequestUnion::CreateRequest(self.create.clone());
            let create = WatchRequest { request_union: Some(union) };
            requests.try_send(create).map_err(|_| Status::internal("new watch stream is full"))?;
            let responses = self.client.watch_stream(receiver, self.require_leader).await?;
            self.stream = Some(Open { requests, responses, fragments: Vec::new() });
        }
        Ok(self.stream.as_mut().expect("opened just above"))
    }
}

/// Whether a stream that ended so is worth opening again. Compat: `isHaltErr` in client/v3/client.go.
fn may_resume(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Internal) && status.message() != "etcdserver: no leader"
}

/// A channel as the stream that tonic asks for.
pub(crate) struct ReceiverStream<T>(pub mpsc::Receiver<T>);

impl<T> futures_core::Stream for ReceiverStream<T> {
    type Item = T;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<T>> {
        self.0.poll_recv(cx)
    }
}
