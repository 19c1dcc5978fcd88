//! The configuration in force changes when a change is applied, on every member at the same entry.

use super::Raft;
use crate::changer::Changer;
use crate::conf_change::ConfChangeV2;
use crate::conf_state::ConfState;
use crate::error::ConfChangeError;
use crate::hard_state::Role;
use crate::storage::Storage;
use crate::tracker::{Configuration, ProgressMap};

impl<S: Storage> Raft<S> {
    pub fn apply_conf_change(&mut self, change: &ConfChangeV2) -> Result<ConfState, ConfChangeError> {
        let (config, progress) = Changer::new(&self.tracker, self.log.last_index()).apply(change)?;
        Ok(self.switch_to(config, progress))
    }

    pub(super) fn switch_to(&mut self, config: Configuration, progress: ProgressMap) -> ConfState {
        self.tracker.config = config;
        self.tracker.progress = progress;
        let conf_state = self.tracker.config.to_conf_state();
        if self.role != Role::Leader {
            return conf_state;
        }
        let is_voter = self.tracker.progress.get(&self.id).is_some_and(|own| !own.is_learner);
        if !is_voter {
            // Removed or demoted. Without the option it goes on until somebody else campaigns.
            if self.config.step_down_on_removal {
                self.become_follower(self.term, None);
            }
            return conf_state;
        }
        if self.maybe_commit() {
            // A smaller quorum may have had enough already.
            self.broadcast_append();
        } else {
            // New members need not wait for a heartbeat.
            for id in self.tracker.others(self.id) {
                self.send_entries(id);
            }
        }
        if self.lead_transferee.is_some_and(|id| !self.tracker.config.voters.contains(id)) {
            self.lead_transferee = None;
        }
        conf_state
    }
}
