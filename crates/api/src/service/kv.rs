//! KV: range, put, delete, txn, compaction.
//!
//! Where reading happens: the index is in memory, records may be in the file. A lookup of one key, or of few, runs
//! on the runtime's thread: at worst it faults in a page or two. A range over more keys than
//! [`INLINE_KEYS_MAX`] runs on the blocking pool, where walking and faulting hold up nobody; that hop
//! costs microseconds, such a range milliseconds. Its records are then written piece by piece as the
//! client takes them, from pages that the lookup has just touched.

use std::sync::Arc;
use std::time::Instant;

use mvcc::{KeyRange, RangeQuery, RangeResult, RangeStream, View, Want};
use proto::etcdserverpb::{
    CompactionRequest, CompactionResponse, DeleteRangeRequest, PutRequest, RangeRequest, TxnRequest,
};
use server::ReadMode;

use super::wire::{self, RangeParts};
use super::{OnLearner, Services, check, lost_task};
use crate::grpc::{Call, Message, Outbound, Router, Status};

const SERVICE: &str = "etcdserverpb.KV";
/// Keys that a read may look up on the runtime's thread.
const INLINE_KEYS_MAX: usize = 128;

pub(super) fn register(services: &Services, router: &mut Router) {
    macro_rules! unary {
        ($name:literal, $method:ident) => {
            let services = services.clone();
            router.unary(SERVICE, $name, move |call, request| {
                let services = services.clone();
                async move { services.$method(call, request).await }
            });
        };
    }
    unary!("Range", range);
    unary!("Put", put);
    unary!("DeleteRange", delete_range);
    unary!("Txn", txn);
    unary!("Compact", compact);
    let services = services.clone();
    router.server_stream(SERVICE, "RangeStream", move |call, request, out| {
        let services = services.clone();
        async move { services.range_stream(call, request, out).await }
    });
}

fn read_mode(serializable: bool) -> ReadMode {
    if serializable { ReadMode::Serializable } else { ReadMode::Linearizable }
}

impl Services {
    async fn range(&self, call: Call, request: RangeRequest) -> Result<Message, Status> {
        let on_learner = if request.serializable { OnLearner::Served } else { OnLearner::Refused };
        self.admit_unary(&call, on_learner)?;
        check::range(&request)?;
        let begun_at = Instant::now();
        let result = self.read(&request).await;
        let success = if result.is_ok() { "true" } else { "false" };
        let seconds = begun_at.elapsed().as_secs_f64();
        let metrics = &self.server.metrics().server;
        metrics.request_duration.with_label_values(&["Range", success]).observe(seconds);
        let result = result?;
        let parts = RangeParts {
            header: Some(self.header(result.revision)),
            more: result.more,
            count: result.count as u64,
        };
        Ok(wire::range_response(result, parts))
    }

    async fn read(&self, request: &RangeRequest) -> Result<RangeResult, Status> {
        let view = self.server.view_for(read_mode(request.serializable)).await?;
        let metrics = self.server.metrics();
        metrics.mvcc.range.inc();
        let begun_at = Instant::now();
        let result = self.read_view(view, apply::range_query(request)).await;
        let success = if result.is_ok() { "true" } else { "false" };
        let seconds = begun_at.elapsed().as_secs_f64();
        metrics.server.range_duration.with_label_values(&[success]).observe(seconds);
        result
    }

    async fn read_view(&self, view: Arc<View>, query: RangeQuery) -> Result<RangeResult, Status> {
        let result = if keys_to_read(&view, &query) <= INLINE_KEYS_MAX {
            view.range(&query)
        } else {
            tokio::task::spawn_blocking(move || view.range(&query)).await.map_err(lost_task)?
        };
        Ok(result.map_err(|error| self.server.read_error(error))?)
    }

    async fn range_stream(&self, call: Call, request: RangeRequest, out: Outbound) -> Result<(), Status> {
        self.admit_stream(&call, OnLearner::Refused)?;
        check::range_stream(&request)?;
        let mut view = self.server.view_for(read_mode(request.serializable)).await?;
        self.server.metrics().mvcc.range.inc();
        let mut stream = RangeStream::new(apply::range_query(&request), self.max_request_bytes);
        loop {
            // Chunks grow to megabytes, so all are read on the blocking pool.
            let reading = move || {
                let chunk = stream.next_chunk(&view);
                (stream, chunk)
            };
            let (back, chunk) = tokio::task::spawn_blocking(reading).await.map_err(lost_task)?;
            stream = back;
            let Some(chunk) = chunk.map_err(|error| self.server.read_error(error))? else { return Ok(()) };
            let parts = match chunk.last {
                None => RangeParts { header: None, more: false, count: 0 },
                Some(last) => RangeParts {
                    header: Some(self.header(last.revision)),
                    more: last.more,
                    count: last.count as u64,
                },
            };
            out.send(wire::range_stream_response(chunk.result, parts)).await?;
            // Each chunk is read from the newest view, so that a slow client pins no old one.
            view = self.server.view();
        }
    }

    async fn put(&self, call: Call, request: PutRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        check::put(&request)?;
        let outcome = self.server.put(request).await?;
        Ok(wire::put_response(&self.header(outcome.revision), &outcome))
    }

    async fn delete_range(&self, call: Call, request: DeleteRangeRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        check::delete_range(&request)?;
        let outcome = self.server.delete_range(request).await?;
        Ok(wire::delete_range_response(&self.header(outcome.revision), &outcome))
    }

    async fn txn(&self, call: Call, request: TxnRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        check::txn(&request, self.max_txn_ops)?;
        if check::is_read_only(&request) {
            return self.read_txn(request).await;
        }
        let (revision, outcome) = self.server.txn(request).await?;
        Ok(wire::txn_response(&self.header(revision), &outcome))
    }

    /// A txn of ranges only does not go through the log.
    async fn read_txn(&self, request: TxnRequest) -> Result<Message, Status> {
        let begun_at = Instant::now();
        let serializable = check::ranges(&request).all(|range| range.serializable);
        let view = self.server.view_for(read_mode(serializable)).await?;
        let revision = view.revision();
        let keys: usize =
            check::ranges(&request).map(|range| keys_to_read(&view, &apply::range_query(range))).sum();
        let outcome = if keys <= INLINE_KEYS_MAX {
            self.server.read_txn(&view, request)
        } else {
            let server = self.server.clone();
            tokio::task::spawn_blocking(move || server.read_txn(&view, request)).await.map_err(lost_task)?
        };
        let success = if outcome.is_ok() { "true" } else { "false" };
        let seconds = begun_at.elapsed().as_secs_f64();
        let metrics = self.server.metrics();
        metrics.server.request_duration.with_label_values(&["ReadonlyTxn", success]).observe(seconds);
        let outcome = outcome?;
        metrics.mvcc.range.inc_by(outcome.responses.len() as u64);
        // Compat: a txn of one operation counts as that operation only.
        if outcome.responses.len() > 1 {
            metrics.mvcc.txn.inc();
        }
        Ok(wire::txn_response(&self.header(revision), &outcome))
    }

    async fn compact(&self, call: Call, request: CompactionRequest) -> Result<Message, Status> {
        self.admit_unary(&call, OnLearner::Refused)?;
        self.server.compact(request).await?;
        Ok(Message::encode(&CompactionResponse { header: Some(self.header_now().to_proto()) }))
    }
}

/// Keys whose records, or at least whose index entries, the query visits; an upper bound near the truth.
fn keys_to_read(view: &View, query: &RangeQuery) -> usize {
    if matches!(query.keys, KeyRange::One(_)) || query.want == Want::Count {
        return 1;
    }
    let sorted = query.sort != mvcc::Sort::default() || query.filters != mvcc::RevisionFilters::default();
    match query.limit {
        Some(limit) if limit <= INLINE_KEYS_MAX && !sorted => limit,
        _ => view.count(&query.keys),
    }
}
