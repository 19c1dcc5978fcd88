//! One call: who makes it, with which metadata, and what is counted when it ends.

use std::sync::Arc;
use std::time::Instant;

use http::HeaderMap;

use super::metrics::{ByteCounters, MethodMetrics};
use super::status::Code;
use crate::authority::ping::Activity;

/// What all calls of a connection share.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) remote: String,
    pub(crate) activity: Arc<Activity>,
}

/// What a handler knows besides its messages.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) metadata: HeaderMap,
    pub(crate) connection: Arc<Connection>,
}

impl Call {
    /// The first value of a metadata key, raw.
    pub(crate) fn metadata(&self, key: &str) -> Option<&[u8]> {
        self.metadata.get(key).map(http::HeaderValue::as_bytes)
    }
}

/// Counts the end of a call, also when the client goes away in the middle.
pub(super) struct CallGuard {
    activity: Arc<Activity>,
    bytes: ByteCounters,
    /// `None` until the call has begun in the sense of the metrics.
    method: Option<Arc<MethodMetrics>>,
    begun_at: Option<Instant>,
    outcome: Option<Code>,
}

impl CallGuard {
    pub(super) fn new(activity: &Arc<Activity>, bytes: ByteCounters) -> CallGuard {
        activity.begin_call();
        CallGuard { activity: Arc::clone(activity), bytes, method: None, begun_at: None, outcome: None }
    }

    pub(super) fn begin(&mut self, method: &Arc<MethodMetrics>) {
        method.started.inc();
        self.begun_at = method.handling_seconds.is_some().then(Instant::now);
        self.method = Some(Arc::clone(method));
    }

    pub(super) fn count_sent(&self, payload_len: usize) {
        self.bytes.sent.inc_by(payload_len as u64);
        if let Some(method) = &self.method {
            method.msg_sent.inc();
        }
    }

    pub(super) fn end(&mut self, code: Code) {
        self.outcome = Some(code);
    }
}

impl Drop for CallGuard {
    fn drop(&mut self) {
        self.activity.end_call();
        let Some(method) = &self.method else { return };
        method.handled(self.outcome.unwrap_or(Code::Canceled)).inc();
        if let (Some(histogram), Some(begun_at)) = (&method.handling_seconds, self.begun_at) {
            histogram.observe(begun_at.elapsed().as_secs_f64());
        }
    }
}
