//! Which pings are too many. Source: grpc-go `internal/transport/http2_server.go` handlePing, v1.82.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bad pings forgiven before the connection ends.
const STRIKES_MAX: u32 = 2;
/// With no call under way even a rare ping is a strike: etcd permits none without a stream.
const IDLE_MIN_TIME: Duration = Duration::from_secs(2 * 60 * 60);

/// What the calls of one connection tell about it. Shared with every call.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    /// Calls under way.
    calls: AtomicUsize,
    /// Headers or data were sent since the last ping: pings before that are forgiven.
    sent: AtomicBool,
}

impl Activity {
    pub(crate) fn begin_call(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn end_call(&self) {
        self.calls.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn mark_sent(&self) {
        self.sent.store(true, Ordering::Relaxed);
    }
}

/// The pings of one connection.
#[derive(Debug)]
pub(super) struct PingPolicy {
    min_time: Duration,
    last: Option<Instant>,
    strikes: u32,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fine,
    TooMany,
}

impl PingPolicy {
    pub(super) fn new(min_time: Duration) -> PingPolicy {
        PingPolicy { min_time, last: None, strikes: 0 }
    }

    pub(super) fn ping(&mut self, now: Instant, activity: &Activity) -> Verdict {
        let last = self.last.replace(now);
        if activity.sent.swap(false, Ordering::Relaxed) {
            self.strikes = 0;
            return Verdict::Fine;
        }
        let idle = activity.calls.load(Ordering::Relaxed) == 0;
        let min_time = if idle { IDLE_MIN_TIME } else { self.min_time };
        if last.is_some_and(|last| now.duration_since(last) < min_time) {
            self.strikes += 1;
        }
        if self.strikes > STRIKES_MAX { Verdict::TooMany } else { Verdict::Fine }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_third_strike_ends_it() {
        let activity = Activity::default();
        activity.begin_call();
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        for secs in [0, 5, 10, 11, 12] {
            assert_eq!(policy.ping(at(secs), &activity), Verdict::Fine);
        }
        assert_eq!(policy.ping(at(13), &activity), Verdict::TooMany);
    }

    #[test]
    fn answers_in_between_forgive() {
        let activity = Activity::default();
        let mut policy = PingPolicy::new(Duration::from_secs(5));
        let now = Instant::now();
        for _ in 0..10 {
            activity.mark_sent();
            assert_eq!(policy.ping(now, &activity), Verdict::Fine);
        }
        // Idle: any ping within two hours of the last is a strike.
        assert_eq!(policy.ping(now + Duration::from_secs(30), &activity), Verdict::Fine);
        assert_eq!(policy.ping(now + Duration::from_secs(60), &activity), Verdict::Fine);
        assert_eq!(policy.ping(now + Duration::from_secs(90), &activity), Verdict::TooMany);
    }
}
