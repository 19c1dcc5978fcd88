//! Rounds of linearizable reads: each asks raft once for an index, for all reads that waited when it began.

use std::collections::VecDeque;
use std::time::Duration;

use crate::reads::ReadWaiter;

/// After this long without an answer a read index is asked for again.
/// Source: etcd `server/etcdserver/v3_server.go`.
const RETRY: Duration = Duration::from_millis(500);

/// After this long without an answer a round may have been lost, and holds up the next no longer.
const LATE: Duration = Duration::from_millis(50);

/// Rounds in flight, oldest first. A new leader is asked for them anew, so they outlive the one they began
/// under: callers wait for a fail-over as they wait for an answer.
#[derive(Default)]
pub struct ReadRounds {
    rounds: VecDeque<Round>,
}

struct Round {
    /// Unique for ever, so that a late answer to another round proves nothing about this one.
    context: u64,
    asked: Duration,
    waiters: Vec<ReadWaiter>,
}

impl ReadRounds {
    /// Whether the last round began a moment ago and is not answered.
    pub fn is_under_way(&self, now: Duration) -> bool {
        self.rounds.back().is_some_and(|round| now.saturating_sub(round.asked) < LATE)
    }

    pub fn begin(&mut self, context: u64, now: Duration, waiters: Vec<ReadWaiter>) {
        self.rounds.push_back(Round { context, asked: now, waiters });
    }

    /// The reads that an answer serves: those of its round and of all rounds before, which asked earlier.
    /// None when the round was answered before, by an earlier try.
    pub fn answered(&mut self, context: u64) -> Vec<ReadWaiter> {
        match self.rounds.iter().position(|round| round.context == context) {
            None => Vec::new(),
            Some(at) => self.rounds.drain(..=at).flat_map(|round| round.waiters).collect(),
        }
    }

    /// Contexts to be asked for again, because their answer is late. Forgets what nobody waits for any more.
    pub fn due(&mut self, now: Duration) -> Vec<u64> {
        self.ask_again(now, |round| now.saturating_sub(round.asked) >= RETRY)
    }

    /// Every context: there is a new leader, and the one that was asked may be gone.
    pub fn all(&mut self, now: Duration) -> Vec<u64> {
        self.ask_again(now, |_| true)
    }

    fn ask_again(&mut self, now: Duration, is_due: impl Fn(&Round) -> bool) -> Vec<u64> {
        // A leader that cannot reach the others answers none, and callers ask anew and anew.
        self.rounds.retain(|round| !round.waiters.iter().all(ReadWaiter::is_closed));
        let mut contexts = Vec::new();
        for round in self.rounds.iter_mut().filter(|round| is_due(round)) {
            round.asked = now;
            contexts.push(round.context);
        }
        contexts
    }

    /// Takes every read out, and says how many rounds there were.
    pub fn take(&mut self) -> (usize, Vec<ReadWaiter>) {
        let rounds = std::mem::take(&mut self.rounds);
        (rounds.len(), rounds.into_iter().flat_map(|round| round.waiters).collect())
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn an_answer_serves_all_that_asked_before_and_a_late_one_nobody() {
        let mut rounds = ReadRounds::default();
        let receivers: Vec<_> = (1..=3)
            .map(|context| {
                let (waiter, receiver) = oneshot::channel();
                rounds.begin(context, Duration::ZERO, vec![waiter]);
                receiver
            })
            .collect();
        assert_eq!(rounds.answered(2).len(), 2);
        assert!(rounds.answered(1).is_empty());
        assert_eq!(rounds.due(RETRY), [3]);
        assert!(rounds.due(RETRY).is_empty(), "asked a moment ago");
        assert_eq!(rounds.all(RETRY), [3]);
        drop(receivers);
        assert!(rounds.all(RETRY).is_empty(), "nobody waits");
    }
}
