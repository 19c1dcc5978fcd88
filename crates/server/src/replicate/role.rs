//! What a change of role or leader means for the rest of the member.

use membership::MemberId;
use raft::{Role, SoftState};

use super::Replicator;
use crate::error::Error;

impl Replicator {
    pub(super) fn change_role(&mut self, state: SoftState) {
        let before = self.role.replace(state);
        let me = self.shared.member_id;
        let term = self.shared.raft.term();
        let metrics = &self.shared.metrics.server;
        let led = before.is_some_and(|before| before.role == Role::Leader);
        let leads = state.role == Role::Leader;
        metrics.is_leader.set(i64::from(leads));
        metrics.has_leader.set(i64::from(state.leader.is_some()));
        if leads && !led {
            tracing::info!(logger = "raft", "{me} became leader at term {term}");
        }
        let leader = state.leader.map(MemberId);
        let leader_before = before.and_then(|before| before.leader).map(MemberId);
        // Before the lessor: the apply thread looks whether this member leads, and then promotes it.
        self.shared.raft.set_leader(leader);
        if led && !leads {
            self.shared.lessor.lock().demote();
            tracing::info!(logger = "raft", "{me} became {:?} at term {term}", state.role);
            // Compat: a leader's own reads fail with it. Those of other members go on under the next one.
            self.fail_reads(&Error::LeaderChanged);
        }
        if leader_before == leader && before.is_some() {
            return;
        }
        match (leader_before, leader) {
            (_, Some(leader)) => {
                self.shared.metrics.server.leader_changes_seen.inc();
                tracing::info!(logger = "raft", "raft.node: {me} elected leader {leader} at term {term}");
            }
            (Some(lost), None) => {
                tracing::info!(logger = "raft", "raft.node: {me} lost leader {lost} at term {term}");
            }
            (None, None) => {}
        }
        self.shared.note_leader(leader);
        if leader.is_some() {
            self.propose_parked();
            self.release_changes();
            self.ask_new_leader_for_reads();
        }
    }
}
