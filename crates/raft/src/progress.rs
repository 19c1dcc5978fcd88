//! What a leader knows about one follower, and how fast it may send to it.

use crate::inflights::Inflights;
use crate::position::Index;

/// How appends flow to a follower.
#[derive(Clone, Debug)]
pub enum ProgressState {
    /// Its log's end is a guess: one append at a time, and at most one per heartbeat.
    Probe,
    /// Its log's end is known: appends are sent ahead of their answers.
    Replicate { inflights: Inflights },
    /// It needs entries that are compacted. Nothing is sent until the snapshot that ends at `pending` is
    /// reported or acknowledged.
    Snapshot { pending: Index },
}

/// Invariant: `matched < next`.
#[derive(Clone, Debug)]
pub struct Progress {
    /// The follower's log is known to equal ours up to here.
    pub matched: Index,
    /// First entry of the next append; those between `matched` and `next` are on their way.
    pub next: Index,
    pub state: ProgressState,
    /// Highest commit index sent, so that the follower is not told twice.
    sent_commit: Index,
    /// It was heard from since the last quorum check. Always true for the leader itself.
    pub recent_active: bool,
    /// The leader's ticks since it was heard from. Always 0 for the leader itself.
    pub silent_ticks: u32,
    /// No append until the next heartbeat is answered, or until news of its log arrive.
    pub flow_paused: bool,
    pub is_learner: bool,
    /// Limits of the windows that `Replicate` opens.
    inflight_count_max: usize,
    inflight_bytes_max: u64,
}

impl Progress {
    pub(crate) fn new(next: Index, count_max: usize, bytes_max: u64) -> Progress {
        assert!(next > Index::ZERO, "a follower's next index is 0");
        Progress {
            matched: Index::ZERO,
            next,
            state: ProgressState::Probe,
            sent_commit: Index::ZERO,
            recent_active: false,
            silent_ticks: 0,
            flow_paused: false,
            is_learner: false,
            inflight_count_max: count_max,
            inflight_bytes_max: bytes_max,
        }
    }

    /// Forgets all but the membership: a new leadership starts from guesses.
    pub(crate) fn reset(&mut self, next: Index) {
        let is_learner = self.is_learner;
        *self = Progress::new(next, self.inflight_count_max, self.inflight_bytes_max);
        self.is_learner = is_learner;
    }

    /// Notes that it was heard from.
    pub(crate) fn heard(&mut self) {
        self.recent_active = true;
        self.silent_ticks = 0;
    }

    pub fn is_probing(&self) -> bool {
        matches!(self.state, ProgressState::Probe)
    }

    pub fn is_replicating(&self) -> bool {
        matches!(self.state, ProgressState::Replicate { .. })
    }

    /// The snapshot under way, if any.
    pub fn pending_snapshot(&self) -> Option<Index> {
        match self.state {
            ProgressState::Snapshot { pending } => Some(pending),
            ProgressState::Probe | ProgressState::Replicate { .. } => None,
        }
    }

    /// True when no append may be sent now.
    pub fn is_paused(&self) -> bool {
        match self.state {
            ProgressState::Probe | ProgressState::Replicate { .. } => self.flow_paused,
            ProgressState::Snapshot { .. } => true,
        }
    }

    /// True when an append may carry entries. A full window still lets an empty one through: if everything
    /// in the window was lost, its answer is what restarts the flow.
    pub(crate) fn takes_entries(&self) -> bool {
        match &self.state {
            ProgressState::Replicate { inflights } => !inflights.is_full(),
            ProgressState::Probe | ProgressState::Snapshot { .. } => true,
        }
    }

    /// Starts from what is matched; after a snapshot that arrived, from behind it.
    pub(crate) fn become_probe(&mut self) {
        let pending = self.pending_snapshot().unwrap_or(Index::ZERO);
        self.enter(ProgressState::Probe);
        self.next = self.matched.next().max(pending.next());
        self.sent_commit = self.sent_commit.min(self.next.prev());
    }

    /// The snapshot did not arrive: start from what is matched.
    pub(crate) fn become_probe_after_failed_snapshot(&mut self) {
        self.enter(ProgressState::Probe);
        self.next = self.matched.next();
        self.sent_commit = self.sent_commit.min(self.next.prev());
    }

    pub(crate) fn become_replicate(&mut self) {
        let inflights = Inflights::new(self.inflight_count_max, self.inflight_bytes_max);
        self.enter(ProgressState::Replicate { inflights });
        self.next = self.matched.next();
    }

    pub(crate) fn become_snapshot(&mut self, pending: Index) {
        self.enter(ProgressState::Snapshot { pending });
        self.next = pending.next();
        self.sent_commit = pending;
    }

    fn enter(&mut self, state: ProgressState) {
        self.flow_paused = false;
        self.state = state;
    }

    /// Notes an append of `count` entries.
    pub(crate) fn sent_entries(&mut self, count: u64, bytes: u64) {
        match &mut self.state {
            ProgressState::Replicate { inflights } => {
                if count > 0 {
                    self.next = self.next.plus(count);
                    inflights.add(self.next.prev(), bytes);
                }
                self.flow_paused = inflights.is_full();
            }
            ProgressState::Probe => {
                if count > 0 {
                    self.flow_paused = true;
                }
            }
            ProgressState::Snapshot { pending } => {
                panic!("append sent while the snapshot at {pending} is under way")
            }
        }
    }

    pub(crate) fn sent_commit(&mut self, commit: Index) {
        self.sent_commit = commit;
    }

    /// True when telling the follower of `commit` could move its commit index: it has not been told yet,
    /// and it has entries in reach beyond what it was told.
    pub(crate) fn can_bump_commit(&self, commit: Index) -> bool {
        commit > self.sent_commit && self.sent_commit < self.next.prev()
    }

    /// Takes an acknowledgement. False when it says nothing new.
    pub(crate) fn maybe_update(&mut self, acked: Index) -> bool {
        if acked <= self.matched {
            return false;
        }
        self.matched = acked;
        self.next = self.next.max(acked.next());
        self.flow_paused = false;
        true
    }

    /// Takes a rejection of the append after `rejected`. False when it is late and says nothing new.
    pub(crate) fn maybe_decrement(&mut self, rejected: Index, match_hint: Index) -> bool {
        match self.state {
            ProgressState::Replicate { .. } => {
                if rejected <= self.matched {
                    return false;
                }
                self.next = self.matched.next();
            }
            ProgressState::Probe | ProgressState::Snapshot { .. } => {
                // One probe is under way at a time, so a rejection of any other is an old one.
                if self.next.prev() != rejected {
                    return false;
                }
                self.next = rejected.min(match_hint.next()).max(self.matched.next());
                self.flow_paused = false;
            }
        }
        self.sent_commit = self.sent_commit.min(self.next.prev());
        true
    }

    pub(crate) fn free_inflights_through(&mut self, acked: Index) {
        if let ProgressState::Replicate { inflights } = &mut self.state {
            inflights.free_through(acked);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(matched: u64, next: u64) -> Progress {
        let mut progress = Progress::new(Index(next), 4, u64::MAX);
        progress.matched = Index(matched);
        progress
    }

    fn replicating(matched: u64, next: u64) -> Progress {
        let mut progress = progress(matched, next);
        progress.become_replicate();
        progress.next = Index(next);
        progress
    }

    #[test]
    fn rejections_table() {
        // (replicating, matched, next, rejected, hint, accepted, next afterwards)
        let table = [
            (true, 5, 10, 5, 5, false, 10),
            (true, 5, 10, 4, 4, false, 10),
            (true, 5, 10, 9, 9, true, 6),
            (false, 0, 1, 5, 5, false, 1),
            (false, 0, 10, 5, 5, false, 10),
            (false, 0, 10, 9, 9, true, 9),
            (false, 0, 2, 1, 1, true, 1),
            (false, 0, 1, 0, 0, true, 1),
            (false, 0, 10, 9, 2, true, 3),
            (false, 0, 10, 9, 0, true, 1),
            (false, 0, 10, 9, u64::MAX, true, 9),
        ];
        for (replicate, matched, next, rejected, hint, accepted, after) in table {
            let mut progress = if replicate { replicating(matched, next) } else { progress(matched, next) };
            assert_eq!(progress.maybe_decrement(Index(rejected), Index(hint)), accepted);
            assert_eq!(progress.next, Index(after), "rejected {rejected}, hint {hint}, next {next}");
            assert!(progress.matched < progress.next);
        }
    }

    #[test]
    fn acknowledgements_only_move_forward() {
        let mut progress = progress(3, 5);
        for (acked, accepted, matched, next) in
            [(2, false, 3, 5), (3, false, 3, 5), (4, true, 4, 5), (6, true, 6, 7)]
        {
            assert_eq!(progress.maybe_update(Index(acked)), accepted);
            assert_eq!((progress.matched, progress.next), (Index(matched), Index(next)));
        }
    }

    #[test]
    fn a_finished_snapshot_is_probed_from_behind_it_and_a_failed_one_is_not() {
        let mut finished = progress(1, 2);
        finished.become_snapshot(Index(10));
        assert!(finished.is_paused());
        finished.become_probe();
        assert_eq!(finished.next, Index(11));

        let mut failed = progress(1, 2);
        failed.become_snapshot(Index(10));
        failed.become_probe_after_failed_snapshot();
        assert_eq!(failed.next, Index(2));
    }

    #[test]
    fn a_full_window_pauses_the_flow_and_an_acknowledgement_resumes_it() {
        let mut progress = replicating(0, 1);
        for _ in 0..4 {
            assert!(!progress.is_paused());
            progress.sent_entries(1, 10);
        }
        assert!(progress.is_paused());
        assert!(!progress.takes_entries());
        assert!(progress.maybe_update(Index(2)));
        progress.free_inflights_through(Index(2));
        assert!(!progress.is_paused());
        assert!(progress.takes_entries());
    }

    #[test]
    fn a_probe_with_entries_waits_and_an_empty_one_does_not() {
        let mut progress = progress(0, 1);
        progress.sent_entries(0, 0);
        assert!(!progress.is_paused());
        progress.sent_entries(3, 30);
        assert!(progress.is_paused());
        assert_eq!(progress.next, Index(1));
    }
}
