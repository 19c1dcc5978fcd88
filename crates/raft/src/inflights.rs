//! Appends that a follower has not answered yet.

use std::collections::VecDeque;

use crate::position::Index;

/// A window over unanswered `App`s, bounded by count and by payload bytes. Bytes are checked before an
/// append is added, so the last one may exceed them; otherwise one large entry could never be sent.
#[derive(Clone, Debug)]
pub struct Inflights {
    /// Last index and payload bytes of each, in sending order.
    sent: VecDeque<(Index, u64)>,
    bytes: u64,
    count_max: usize,
    bytes_max: u64,
}

impl Inflights {
    pub fn new(count_max: usize, bytes_max: u64) -> Inflights {
        Inflights { sent: VecDeque::new(), bytes: 0, count_max, bytes_max }
    }

    pub fn is_full(&self) -> bool {
        self.sent.len() >= self.count_max || self.bytes >= self.bytes_max
    }

    pub fn count(&self) -> usize {
        self.sent.len()
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Notes an append whose last entry is `last`.
    pub fn add(&mut self, last: Index, bytes: u64) {
        assert!(!self.is_full(), "append up to {last} sent into a full window of {}", self.sent.len());
        debug_assert!(self.sent.back().is_none_or(|&(index, _)| index < last));
        self.sent.push_back((last, bytes));
        self.bytes += bytes;
    }

    /// Frees the appends that end at or before `acked`.
    pub fn free_through(&mut self, acked: Index) {
        while let Some(&(last, bytes)) = self.sent.front()
            && last <= acked
        {
            self.bytes -= bytes;
            self.sent.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_by_count_and_by_bytes() {
        let mut by_count = Inflights::new(2, u64::MAX);
        by_count.add(Index(1), 100);
        assert!(!by_count.is_full());
        by_count.add(Index(2), 100);
        assert!(by_count.is_full());

        let mut by_bytes = Inflights::new(10, 100);
        by_bytes.add(Index(1), 99);
        assert!(!by_bytes.is_full());
        by_bytes.add(Index(2), 50);
        assert!(by_bytes.is_full());
        by_bytes.free_through(Index(1));
        assert_eq!((by_bytes.count(), by_bytes.bytes()), (1, 50));
        assert!(!by_bytes.is_full());
    }

    #[test]
    fn freeing_takes_a_prefix() {
        let mut inflights = Inflights::new(10, u64::MAX);
        for index in [3, 6, 9] {
            inflights.add(Index(index), 1);
        }
        for (acked, left) in [(2, 3), (3, 2), (8, 1), (1, 1), (20, 0)] {
            inflights.free_through(Index(acked));
            assert_eq!(inflights.count(), left, "after {acked}");
        }
        assert_eq!(inflights.bytes(), 0);
    }

    #[test]
    #[should_panic(expected = "full window")]
    fn adding_to_a_full_window_is_a_bug() {
        let mut inflights = Inflights::new(1, u64::MAX);
        inflights.add(Index(1), 1);
        inflights.add(Index(2), 1);
    }
}
