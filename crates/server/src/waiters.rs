//! Who waits for which proposal.

use std::collections::HashMap;

use parking_lot::Mutex;
use tokio::sync::oneshot;

/// Callers that wait for a request id to be applied. The apply thread answers; a caller that gives up
/// takes itself out.
pub struct Waiters<T> {
    by_id: Mutex<HashMap<u64, Waiter<T>>>,
}

struct Waiter<T> {
    answer: oneshot::Sender<T>,
    /// The term in which raft took the proposal; 0 while it did not.
    term: u64,
}

impl<T> Default for Waiters<T> {
    fn default() -> Waiters<T> {
        Waiters { by_id: Mutex::new(HashMap::new()) }
    }
}

impl<T: Clone> Waiters<T> {
    pub fn register(&self, id: u64) -> oneshot::Receiver<T> {
        let (answer, receiver) = oneshot::channel();
        let earlier = self.by_id.lock().insert(id, Waiter { answer, term: 0 });
        assert!(earlier.is_none(), "request id {id:x} drawn twice");
        receiver
    }

    /// Raft has taken the proposal: it is in the log of this term's leader, or on its way there.
    pub fn note_proposed(&self, id: u64, term: u64) {
        if let Some(waiter) = self.by_id.lock().get_mut(&id) {
            waiter.term = term;
        }
    }

    /// Whether anyone here waits for `id`: if not, this member need not work out the answer.
    pub fn is_awaited(&self, id: u64) -> bool {
        self.by_id.lock().contains_key(&id)
    }

    pub fn answer(&self, id: u64, answer: T) {
        if let Some(waiter) = self.by_id.lock().remove(&id) {
            // A caller that has just given up has nobody left to tell.
            waiter.answer.send(answer).ok();
        }
    }

    /// Answers all whose proposal was taken before `term`, and says how many these were.
    pub fn answer_older(&self, term: u64, answer: &T) -> usize {
        self.answer_taken(answer, |_, taken_in| taken_in < term)
    }

    /// Answers all whose proposal was taken and whose id was drawn before `limit`.
    pub fn answer_before(&self, limit: u64, answer: &T) -> usize {
        self.answer_taken(answer, |id, _| id < limit)
    }

    /// In the order of the ids.
    fn answer_taken(&self, answer: &T, is_meant: impl Fn(u64, u64) -> bool) -> usize {
        let mut by_id = self.by_id.lock();
        let mut meant: Vec<u64> = by_id
            .iter()
            .filter(|(id, waiter)| waiter.term > 0 && is_meant(**id, waiter.term))
            .map(|(id, _)| *id)
            .collect();
        meant.sort_unstable();
        for id in &meant {
            if let Some(waiter) = by_id.remove(id) {
                waiter.answer.send(answer.clone()).ok();
            }
        }
        meant.len()
    }

    pub fn forget(&self, id: u64) {
        self.by_id.lock().remove(&id);
    }

    pub fn count(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Drops every caller: their receivers report that the server stopped.
    pub fn clear(&self) {
        self.by_id.lock().clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_older_term_took_is_answered_by_a_newer_one() {
        let waiters: Waiters<&str> = Waiters::default();
        let mut receivers: Vec<_> = (1..=3).map(|id| waiters.register(id)).collect();
        waiters.note_proposed(1, 4);
        waiters.note_proposed(2, 5);
        assert_eq!(waiters.answer_older(5, &"lost"), 1);
        assert_eq!(receivers[0].try_recv(), Ok("lost"));
        assert!(receivers[1].try_recv().is_err() && receivers[2].try_recv().is_err());
        assert_eq!(waiters.count(), 2);
    }

    #[test]
    fn what_was_not_taken_is_not_answered_with_what_came_before() {
        let waiters: Waiters<&str> = Waiters::default();
        let mut receivers: Vec<_> = (1..=3).map(|id| waiters.register(id)).collect();
        waiters.note_proposed(2, 5);
        waiters.note_proposed(3, 5);
        assert_eq!(waiters.answer_before(3, &"unknown"), 1);
        assert_eq!(receivers[1].try_recv(), Ok("unknown"));
        assert!(receivers[0].try_recv().is_err() && receivers[2].try_recv().is_err());
    }
}
