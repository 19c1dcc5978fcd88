//! Watch: one stream, many watchers; what is to be said comes from [`mvcc::watch`].

use std::time::{Duration, Instant};

use mvcc::watch::{
    CancelReason, CreateError, EventBatch, Filters, Output, Stream, WatchId, WatchSpec, WatchStart, fragments,
};
use mvcc::{KeyRange, Revision};
use proto::etcdserverpb::watch_create_request::FilterType;
use proto::etcdserverpb::watch_request::RequestUnion;
use proto::etcdserverpb::{WatchCreateRequest, WatchRequest, WatchResponse};

use super::{LeaderWish, OnLearner, Services, wire};
use crate::grpc::{Call, Code, Inbound, Message, Outbound, Router, Status};

/// On the wire: not about one watcher.
const NO_WATCHER: i64 = -1;

pub(super) fn register(services: &Services, router: &mut Router) {
    let services = services.clone();
    router.bidi_stream("etcdserverpb.Watch", "Watch", move |call, inbound, out| {
        let services = services.clone();
        async move {
            let wish = services.admit_stream(&call, OnLearner::Refused)?;
            services.watch(call, wish, inbound, out).await
        }
    });
}

impl Services {
    async fn watch(
        &self,
        call: Call,
        wish: LeaderWish,
        inbound: Inbound,
        out: Outbound,
    ) -> Result<(), Status> {
        tokio::select! {
            outcome = self.watch_until_gone(&call, inbound, &out) => outcome,
            status = self.must_end(wish) => Err(status),
        }
    }

    async fn watch_until_gone(
        &self,
        call: &Call,
        mut inbound: Inbound,
        out: &Outbound,
    ) -> Result<(), Status> {
        let mut stream = self.server.watch_hub().open_stream();
        let mut progress = self.progress_timer();
        // Compat: a client that has sent its last request still gets events.
        let mut requests_end = false;
        loop {
            tokio::select! {
                // What is to be told goes first: requests are few, and `accepts_requests` bounds them.
                biased;
                output = std::future::poll_fn(|cx| stream.poll_next(cx)) => self.tell(output, out).await?,
                request = inbound.next::<WatchRequest>(), if !requests_end && stream.accepts_requests() => {
                    match request.inspect_err(|status| self.count_failure(status))? {
                        Some(request) => self.obey(call, request, &mut stream, out).await?,
                        None => requests_end = true,
                    }
                }
                _ = progress.tick() => stream.tick_progress(),
            }
        }
    }

    fn count_failure(&self, status: &Status) {
        if status.code != Code::Canceled {
            self.metrics.stream_failures.with_label_values(&["receive", "watch"]).inc();
        }
    }

    /// Ticks each interval plus up to a tenth of it, so that not all streams speak at once.
    fn progress_timer(&self) -> tokio::time::Interval {
        // At least 100 ms, as the flag demands; the timer must not be zero.
        let interval = self.progress_interval.max(Duration::from_millis(100));
        let tenth = (interval / 10).as_nanos().max(1);
        // The nanoseconds of now differ from stream to stream, which is all that is asked of them.
        let now = Instant::now();
        let chance =
            u128::from(std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), now)) % tenth;
        let period = interval + Duration::from_nanos(chance as u64);
        let mut timer = tokio::time::interval_at(tokio::time::Instant::from_std(now) + period, period);
        timer.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        timer
    }

    async fn obey(
        &self,
        call: &Call,
        request: WatchRequest,
        stream: &mut Stream,
        out: &Outbound,
    ) -> Result<(), Status> {
        match request.request_union {
            Some(RequestUnion::CreateRequest(request)) => {
                let refusal = match self.may_watch(call, &request) {
                    Err(status) => status.to_string(),
                    Ok(()) => match create(request, stream, self.server.view().revision()) {
                        // The stream says "created" itself, before any event of the watcher.
                        Ok(()) => return Ok(()),
                        Err(error) => error.to_string(),
                    },
                };
                let response = WatchResponse {
                    header: Some(self.header_now().to_proto()),
                    watch_id: NO_WATCHER,
                    created: true,
                    canceled: true,
                    cancel_reason: refusal,
                    ..Default::default()
                };
                out.send(Message::encode(&response)).await?;
            }
            Some(RequestUnion::CancelRequest(request)) => stream.cancel(WatchId(request.watch_id)),
            Some(RequestUnion::ProgressRequest(_)) => stream.request_progress(),
            None => {}
        }
        Ok(())
    }

    /// Whether the caller may read that range. Everyone may, until there are users; the status then goes
    /// into the cancel reason as Go prints it.
    fn may_watch(&self, _call: &Call, _request: &WatchCreateRequest) -> Result<(), Status> {
        Ok(())
    }

    async fn tell(&self, output: Output, out: &Outbound) -> Result<(), Status> {
        let begun_at = Instant::now();
        let timings = &self.metrics.send_loop;
        let timing = match &output {
            Output::Events(_) => &timings.events,
            Output::Progress { .. } => &timings.progress,
            Output::Created(_) | Output::Canceled { .. } => &timings.control,
        };
        let response = match output {
            Output::Events(batch) => {
                let events = batch.events.len();
                self.tell_events(batch, out).await?;
                let seconds = begun_at.elapsed().as_secs_f64();
                timing.observe(seconds);
                timings.per_event.observe(seconds / events as f64);
                return Ok(());
            }
            Output::Created(created) => WatchResponse {
                header: Some(self.header(created.revision).to_proto()),
                watch_id: created.watch_id.0,
                created: true,
                ..Default::default()
            },
            Output::Progress { watch_id, revision } => WatchResponse {
                header: Some(self.header(revision).to_proto()),
                watch_id: watch_id.map_or(NO_WATCHER, |id| id.0),
                ..Default::default()
            },
            Output::Canceled { watch_id, reason: CancelReason::Requested { revision } } => WatchResponse {
                header: Some(self.header(revision).to_proto()),
                watch_id: watch_id.0,
                canceled: true,
                ..Default::default()
            },
            // Compat: no reason and no revision; clients go by `compact_revision`.
            Output::Canceled { watch_id, reason: CancelReason::Compacted { compact_revision } } => {
                WatchResponse {
                    header: Some(self.header(Revision::ZERO).to_proto()),
                    watch_id: watch_id.0,
                    canceled: true,
                    compact_revision: compact_revision.to_wire(),
                    ..Default::default()
                }
            }
        };
        out.send(Message::encode(&response)).await?;
        timing.observe(begun_at.elapsed().as_secs_f64());
        Ok(())
    }

    async fn tell_events(&self, batch: EventBatch, out: &Outbound) -> Result<(), Status> {
        let header = self.header(batch.revision);
        let watch_id = batch.watch_id.0;
        if !batch.fragment {
            out.send(wire::watch_events(&header, watch_id, false, &batch.events)).await?;
            return Ok(());
        }
        let overhead = wire::watch_events_overhead(&header, watch_id, true);
        let pieces = fragments(&batch.events, overhead, self.fragment_limit_bytes);
        let last = pieces.len() - 1;
        for (nth, events) in pieces.into_iter().enumerate() {
            out.send(wire::watch_events(&header, watch_id, nth < last, events)).await?;
        }
        Ok(())
    }
}

fn create(
    request: WatchCreateRequest,
    stream: &mut Stream,
    view_revision: Revision,
) -> Result<(), CreateError> {
    // Compat: an empty key is the smallest.
    let key = if request.key.is_empty() { b"\0"[..].into() } else { request.key };
    let wants = |filter: FilterType| request.filters.contains(&(filter as i32));
    let spec = WatchSpec {
        range: KeyRange::from_wire(key, request.range_end),
        start: WatchStart::from_wire(request.start_revision)?,
        prev_kv: request.prev_kv,
        filters: Filters { no_put: wants(FilterType::Noput), no_delete: wants(FilterType::Nodelete) },
        progress_notify: request.progress_notify,
        fragment: request.fragment,
        id: (request.watch_id != 0).then_some(WatchId(request.watch_id)),
    };
    stream.create(spec, view_revision).map(drop)
}
