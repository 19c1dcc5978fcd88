//! A watcher: notes everything that it is told, and goes on behind it when its stream breaks.

use std::sync::Arc;
use std::time::Duration;

use client::Client;
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use sim::rng::Rng;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tonic::Streaming;

use crate::cluster::Cluster;
use crate::failure::Outcome;
use crate::history::{Notice, Record, WatchRecord};
use crate::liar::Liar;
use crate::operation::{Event, Revision, Span};
use crate::wire;

/// How long a member may take to open a stream.
const OPEN_LIMIT: Duration = Duration::from_secs(3);
const REOPEN_PAUSE: Duration = Duration::from_millis(200);

/// What a watcher watches, and how.
#[derive(Clone, Debug)]
pub struct Wish {
    pub span: Span,
    /// 0: from now on.
    pub start_revision: Revision,
    pub prev_kv: bool,
    pub deletes: bool,
    /// Whether it asks for progress, beside what it is told unasked.
    pub asks: bool,
}

pub struct Watcher {
    id: u32,
    member: usize,
    wish: Wish,
    /// The lowest revision that it was not told of.
    next: Revision,
    cluster: Arc<Cluster>,
    liar: Arc<Liar>,
    rng: Rng,
    /// The last revision of the run, once it is known.
    goal: watch::Receiver<Option<Revision>>,
}

enum Told {
    Response(Option<WatchResponse>),
    Broken(String),
    TimeToAsk,
    TimeToLeave,
    /// The goal is known now.
    Goal,
}

impl Watcher {
    pub fn new(
        id: u32,
        member: usize,
        wish: Wish,
        seed: u64,
        cluster: &Arc<Cluster>,
        liar: &Arc<Liar>,
        goal: watch::Receiver<Option<Revision>>,
    ) -> Watcher {
        let (cluster, liar) = (Arc::clone(cluster), Arc::clone(liar));
        let rng = Rng::new(seed ^ (u64::from(id) << 40));
        Watcher { id, member, next: wish.start_revision, wish, cluster, liar, rng, goal }
    }

    /// Watches until everything up to the goal was told, or until `limit` after the goal was known.
    pub async fn run(mut self, limit: Duration) -> Outcome {
        let mut goal = self.goal.clone();
        let late = async {
            // The run ends without a goal if it fails: then nobody waits for this either.
            if goal.wait_for(Option::is_some).await.is_err() {
                return;
            }
            tokio::time::sleep(limit).await;
        };
        tokio::select! {
            outcome = self.watch() => outcome?,
            () = late => {}
        }
        let revision = self.goal.borrow().unwrap_or(0);
        self.note(Notice::Finished { revision });
        Ok(())
    }

    async fn watch(&mut self) -> Outcome {
        while !self.is_done() {
            let client = self.cluster.client(self.member)?;
            let why = match tokio::time::timeout(OPEN_LIMIT, self.open(&client)).await {
                Ok(Ok((requests, responses))) => self.listen(requests, responses).await,
                Ok(Err(error)) => error.to_string(),
                Err(_) => "not opened in time".to_owned(),
            };
            if self.is_done() {
                break;
            }
            self.note(Notice::Broken { why });
            tokio::time::sleep(REOPEN_PAUSE).await;
            let members = self.cluster.members();
            if !members.contains(&self.member) || self.rng.chance(500) {
                self.member = self.rng.pick(&members);
            }
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.goal.borrow().is_some_and(|goal| self.next > goal)
    }

    async fn open(
        &mut self,
        client: &Client,
    ) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchResponse>), client::Error> {
        let (requests, receiver) = mpsc::channel(16);
        let (key, range_end) = wire::span(&self.wish.span);
        let filters = if self.wish.deletes { vec![] } else { vec![FilterType::Nodelete.into()] };
        let create = WatchCreateRequest {
            key,
            range_end,
            start_revision: self.next,
            progress_notify: true,
            filters,
            prev_kv: self.wish.prev_kv,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        if requests.try_send(create).is_err() {
            return Err(tonic::Status::internal("a new stream takes no request").into());
        }
        let opened = Notice::Opened {
            span: self.wish.span.clone(),
            start_revision: self.next,
            prev_kv: self.wish.prev_kv,
            deletes: self.wish.deletes,
        };
        self.note(opened);
        let responses = client.watch_stream(receiver, false).await?;
        Ok((requests, responses))
    }

    /// Why it stopped listening.
    async fn listen(
        &mut self,
        requests: mpsc::Sender<WatchRequest>,
        mut responses: Streaming<WatchResponse>,
    ) -> String {
        let stay = Duration::from_millis(4_000 + self.rng.below(12_000));
        let leave = tokio::time::sleep(stay);
        tokio::pin!(leave);
        let mut ask_at = Instant::now() + self.until_asking();
        let mut goal = self.goal.clone();
        while !self.is_done() {
            let is_ending = goal.borrow().is_some();
            let told = tokio::select! {
                response = responses.message() => match response {
                    Ok(response) => Told::Response(response),
                    Err(status) => Told::Broken(format!("{:?}: {}", status.code(), status.message())),
                },
                () = tokio::time::sleep_until(ask_at), if self.wish.asks || is_ending => Told::TimeToAsk,
                // Towards the end each stays where it is: what it is told there must be enough.
                () = &mut leave, if !is_ending => Told::TimeToLeave,
                _ = goal.changed(), if !is_ending => Told::Goal,
            };
            match told {
                Told::Response(Some(response)) => {
                    if let Some(why) = self.take(response) {
                        return why;
                    }
                }
                Told::Response(None) => return "the stream ended".to_owned(),
                Told::Broken(why) => return why,
                Told::TimeToLeave => return "left".to_owned(),
                Told::Goal => {}
                Told::TimeToAsk => {
                    ask_at = Instant::now() + self.until_asking();
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // Full: the member takes no requests just now, and will be asked again.
                    let _full = requests.try_send(WatchRequest { request_union: Some(ask) });
                }
            }
        }
        "done".to_owned()
    }

    fn until_asking(&mut self) -> Duration {
        Duration::from_millis(300 + self.rng.below(1_200))
    }

    /// Notes a response; the reason to stop listening, if it is one.
    fn take(&mut self, response: WatchResponse) -> Option<String> {
        let revision = wire::revision(response.header.as_ref());
        if response.canceled {
            if response.compact_revision > 0 {
                let compact_revision = response.compact_revision;
                self.note(Notice::Compacted { compact_revision });
                self.next = self.next.max(compact_revision);
                return Some("compacted".to_owned());
            }
            let reason = response.cancel_reason;
            self.note(Notice::Canceled { reason: reason.clone() });
            return Some(format!("canceled: {reason}"));
        }
        if response.created {
            self.note(Notice::Created { revision });
            if self.next == 0 {
                self.next = revision + 1;
            }
            return None;
        }
        if response.events.is_empty() {
            self.note(Notice::Progress { revision });
            self.next = self.next.max(revision + 1);
            return None;
        }
        let mut events: Vec<Event> = response.events.into_iter().map(wire::event).collect();
        let last = events.last().map_or(0, |event| event.kv.mod_revision);
        self.liar.changes_events(&mut events);
        self.note(Notice::Events { revision, events });
        self.next = self.next.max(last + 1);
        None
    }

    fn note(&self, notice: Notice) {
        let at = self.cluster.recorder.now();
        let record = WatchRecord { watcher: self.id, member: self.member, at, notice };
        self.cluster.recorder.note(Record::Watch(record));
    }
}
