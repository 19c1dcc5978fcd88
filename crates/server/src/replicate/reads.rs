//! What the raft stage does for linearizable reads: it learns from the leader how far the view must be.

use bytes::Bytes;
use raft::ReadState;

use super::Replicator;
use crate::error::Error;
use crate::reads;

impl Replicator {
    /// Without a leader there is nobody to ask: reads stay in the queue until there is one, or they give up.
    /// While a round is under way they gather for the next, unless its answer is late.
    pub(super) fn start_read_round(&mut self) {
        let now = self.shared.clock.elapsed();
        if self.shared.raft.leader().is_none() || self.reads.is_under_way(now) {
            return;
        }
        let waiters = self.shared.reads.take();
        if waiters.is_empty() {
            return;
        }
        // Never used twice, not even by an earlier run: a late answer to that one's read proves nothing now.
        let context = self.shared.request_ids.next();
        self.reads.begin(context, now, waiters);
        self.ask_read_index(context);
    }

    fn ask_read_index(&mut self, context: u64) {
        self.node.read_index(Bytes::copy_from_slice(&context.to_be_bytes()));
    }

    pub(super) fn finish_read(&mut self, state: &ReadState) {
        let Ok(context) = <[u8; 8]>::try_from(&state.request_context[..]) else { return };
        let waiters = self.reads.answered(u64::from_be_bytes(context));
        if !waiters.is_empty() {
            self.shared.apply_waiters.wait(state.index.0, waiters, || self.shared.raft.applied());
        }
        self.start_read_round();
    }

    pub(super) fn retry_reads(&mut self) {
        if self.shared.raft.leader().is_none() {
            self.shared.reads.drop_abandoned();
        }
        self.start_read_round();
        for context in self.reads.due(self.shared.clock.elapsed()) {
            self.shared.metrics.server.slow_read_indexes.inc();
            self.ask_read_index(context);
        }
    }

    pub(super) fn fail_reads(&mut self, error: &Error) {
        let (rounds, waiters) = self.reads.take();
        self.shared.metrics.server.read_indexes_failed.inc_by(rounds as u64);
        reads::answer(waiters, &Err(error.clone()));
    }

    /// The one that was asked may be gone.
    pub(super) fn ask_new_leader_for_reads(&mut self) {
        self.start_read_round();
        for context in self.reads.all(self.shared.clock.elapsed()) {
            self.ask_read_index(context);
        }
    }
}
