//! Linearizable reads: who waits for a read index, and for the state to reach it.
//!
//! A read may be answered from the published view once this member knows an index that was committed
//! when the read arrived, and has applied it. One round of raft serves all reads that wait when it
//! starts.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::error::Error;

/// The caller's end of one read.
pub type ReadWaiter = oneshot::Sender<Result<(), Error>>;

/// Reads that no round has taken up yet.
#[derive(Default)]
pub struct ReadQueue {
    waiting: Mutex<Vec<ReadWaiter>>,
}

impl ReadQueue {
    /// Adds a read. `true` when it is the first: raft must then be told that reads wait.
    pub fn push(&self, waiter: ReadWaiter) -> bool {
        let mut waiting = self.waiting.lock();
        waiting.push(waiter);
        waiting.len() == 1
    }

    pub fn take(&self) -> Vec<ReadWaiter> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// Forgets reads whose callers have given up.
    pub fn drop_abandoned(&self) {
        self.waiting.lock().retain(|waiter| !waiter.is_closed());
    }
}

/// Reads whose index is known but not yet applied.
#[derive(Default)]
pub struct ApplyWaiters {
    /// By read index. Several rounds may end at one index.
    by_index: Mutex<BTreeMap<u64, Vec<ReadWaiter>>>,
}

impl ApplyWaiters {
    /// Answers at once when `applied` has reached the index, else keeps the reads for [`Self::reached`].
    /// `applied` is read under the lock, after the caller's entry could no longer be missed.
    pub fn wait(&self, index: u64, reads: Vec<ReadWaiter>, applied: impl FnOnce() -> u64) {
        let mut by_index = self.by_index.lock();
        if applied() >= index {
            drop(by_index);
            answer(reads, &Ok(()));
        } else {
            by_index.entry(index).or_default().extend(reads);
        }
    }

    /// The published view now holds everything up to `applied`.
    pub fn reached(&self, applied: u64) {
        let mut by_index = self.by_index.lock();
        if by_index.first_key_value().is_none_or(|(index, _)| *index > applied) {
            return;
        }
        let later = by_index.split_off(&(applied + 1));
        let due = std::mem::replace(&mut *by_index, later);
        drop(by_index);
        for reads in due.into_values() {
            answer(reads, &Ok(()));
        }
    }

    /// Drops all reads; their callers learn that the server stopped.
    pub fn clear(&self) {
        self.by_index.lock().clear();
    }
}

/// Answers every read; callers that gave up are passed over.
pub fn answer(reads: Vec<ReadWaiter>, result: &Result<(), Error>) {
    for read in reads {
        read.send(result.clone()).ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_are_answered_once_their_index_is_applied() {
        let waiters = ApplyWaiters::default();
        let (first, mut first_answer) = oneshot::channel();
        let (second, mut second_answer) = oneshot::channel();
        waiters.wait(5, vec![first], || 4);
        waiters.wait(6, vec![second], || 4);
        waiters.reached(4);
        assert!(first_answer.try_recv().is_err());
        waiters.reached(5);
        assert_eq!(first_answer.try_recv(), Ok(Ok(())));
        assert!(second_answer.try_recv().is_err());
        let (late, mut late_answer) = oneshot::channel();
        waiters.wait(3, vec![late], || 5);
        assert_eq!(late_answer.try_recv(), Ok(Ok(())));
    }

    #[test]
    fn only_the_first_read_of_a_round_wakes_raft() {
        let queue = ReadQueue::default();
        assert!(queue.push(oneshot::channel().0));
        assert!(!queue.push(oneshot::channel().0));
        assert_eq!(queue.take().len(), 2);
        assert!(queue.push(oneshot::channel().0));
        let (patient, _answer) = oneshot::channel();
        queue.push(patient);
        queue.drop_abandoned();
        assert_eq!(queue.take().len(), 1);
        queue.push(oneshot::channel().0);
        queue.drop_abandoned();
        assert!(queue.push(oneshot::channel().0), "the next one must wake raft");
    }
}
