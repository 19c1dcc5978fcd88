//! When a failed call is sent again.
//!
//! A read may be repeated whenever a member was merely unavailable. A write may be repeated only if it
//! surely never reached a member: a second put would be a second revision. Compat: client/v3/retry.go
//! (3.7.3) knows the second case by two texts.

use std::time::Duration;

use tonic::{Code, Status};

/// Attempts of one call at most. Source: client/v3/options.go.
pub const ATTEMPTS_MAX: u32 = 100;
/// Pause after each quorum of attempts, give or take a tenth.
pub const PAUSE: Duration = Duration::from_millis(25);

/// What our own transport says when a member refused a stream unread.
pub(crate) const NOT_SENT: &str = "there is no connection available";

/// Whether a call may be carried out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Reads, and writes that change nothing the second time.
    Harmless,
    /// Only when it was surely not sent.
    OnlyUnsent,
}

impl Repeat {
    /// Whether a call that ended so may be sent again.
    pub fn allows(self, status: &Status) -> bool {
        if status.code() != Code::Unavailable {
            return false;
        }
        match self {
            Repeat::Harmless => true,
            Repeat::OnlyUnsent => [NOT_SENT, "there is no address available"].contains(&status.message()),
        }
    }
}

/// How long to wait before attempt number `attempt` (the first is 0) among `endpoints` members: after
/// each quorum of attempts once, otherwise the next member is asked at once.
pub(crate) fn pause_before(attempt: u32, endpoints: usize, jitter: f64) -> Duration {
    let quorum = u32::try_from(endpoints / 2 + 1).unwrap_or(u32::MAX);
    if attempt == 0 || !attempt.is_multiple_of(quorum) {
        return Duration::ZERO;
    }
    PAUSE.mul_f64(0.9 + 0.2 * jitter)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_repeated_only_when_unsent() {
        let gone = Status::unavailable("error reading from server: EOF");
        assert!(Repeat::Harmless.allows(&gone));
        assert!(!Repeat::OnlyUnsent.allows(&gone));
        assert!(Repeat::OnlyUnsent.allows(&Status::unavailable(NOT_SENT)));
        let compacted = Status::out_of_range("etcdserver: mvcc: required revision has been compacted");
        assert!(!Repeat::Harmless.allows(&compacted));
    }

    #[test]
    fn pauses_follow_each_quorum() {
        let pauses = (0..6).map(|attempt| !pause_before(attempt, 3, 0.5).is_zero()).collect::<Vec<_>>();
        assert_eq!(pauses, [false, false, true, false, true, false]);
        assert_eq!(pause_before(1, 1, 0.5), PAUSE);
        assert!(pause_before(1, 1, 0.0) >= PAUSE.mul_f64(0.89));
    }
}
