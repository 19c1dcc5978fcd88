//! A snapshot from the leader: the backend thread lets the received file take the place of ours, everything
//! that was applied is read anew from it in the background, and then taken over here.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver, TryRecvError, bounded};
use raft::Snapshot;

use super::ApplyLoop;
use crate::backend::BackendInput;
use crate::background;
use crate::error::Error;
use crate::replicate::RaftInput;
use crate::restore::Restored;

/// The state of the file that took over, or why it did not.
pub type Installed = Result<Restored, String>;

/// An installation that others are at.
pub struct Installing {
    snapshot: Snapshot,
    installed: Receiver<Installed>,
}

impl Installing {
    /// `Ok(None)` while they are still at it; an error when they have stopped, and with them the member.
    pub fn look(&self) -> Result<Option<Installed>, ()> {
        match self.installed.try_recv() {
            Ok(installed) => Ok(Some(installed)),
            Err(TryRecvError::Empty) => Ok(None),
            Err(TryRecvError::Disconnected) => Err(()),
        }
    }
}

impl ApplyLoop {
    pub(super) fn begin_install(&mut self, snapshot: Snapshot) {
        let index = snapshot.index().0;
        // Raft drops snapshots of what is committed, and nothing is applied before it is committed.
        assert!(
            index > self.applied.index,
            "a snapshot at {index} behind what is applied, {}",
            self.applied.index
        );
        tracing::info!(
            current_applied_index = self.applied.index,
            incoming_leader_snapshot_index = index,
            incoming_leader_snapshot_term = snapshot.term().0,
            "applying snapshot"
        );
        self.shared.metrics.server.snapshot_apply_in_progress.inc();
        let (done, installed) = bounded(1);
        self.shared.to_backend.send(BackendInput::Install { index, done }).ok();
        self.installing = Some(Installing { snapshot, installed });
    }

    /// Takes over the state of the file. The published view changes in one step: until then readers work on
    /// the old file, which stays open as long as they need it.
    pub(super) fn finish_install(
        &mut self,
        installing: Installing,
        installed: Installed,
    ) -> Result<(), String> {
        let Installing { snapshot, .. } = installing;
        let Restored { state, lessor, storage_version, applied, unfinished_compaction } = installed?;
        if applied.index < snapshot.index().0 {
            return Err(format!(
                "the file of the snapshot at {} holds the state of {} only",
                snapshot.index(),
                applied.index
            ));
        }
        let shared = self.shared.clone();
        let members_before: Vec<_> = self.state.cluster.members().map(|member| member.id).collect();
        let old = self.state.take_over(state);
        self.free(old);
        *shared.lessor.lock() = lessor;
        shared.alarms.store(Arc::new(self.state.alarms.clone()));
        shared.publish_cluster(&self.state.cluster);
        shared.storage_version.store(storage_version.map(Arc::new));
        *shared.compaction_hashes.lock() = Default::default();
        for id in members_before {
            if self.state.cluster.member(id).is_none() {
                shared.forget_peer(id);
            }
        }
        for member in self.state.cluster.members() {
            shared.note_peer(member);
        }

        self.applied = applied;
        self.snapshot_index = snapshot.index().0;
        self.conf_state = snapshot.metadata.conf_state.clone();
        let revision = self.state.store.revision();
        shared.hub.restore(revision);
        shared.raft.set_applied(applied.index, applied.term);
        shared.to_backend.send(BackendInput::Installed { unfinished_compaction }).ok();
        // What was proposed here before may be in the snapshot or may be lost: nobody can tell any more, and
        // what is in the snapshot will not come by.
        shared.waiters.answer_older(applied.term, &Err(Error::TimeoutLeaderFailure));
        let begun = shared.snapshot_begun.load(Ordering::Relaxed);
        shared.waiters.answer_before(begun, &Err(Error::Timeout));
        shared.apply_waiters.reached(applied.index);
        self.to_raft
            .send(RaftInput::Applied { index: snapshot.index().0, conf_state: self.conf_state.clone() })
            .ok();
        shared.metrics.server.snapshot_apply_in_progress.dec();
        let view = shared.views.load();
        self.note_metrics(view.revision().to_wire(), view.key_count());
        tracing::info!(applied_index = applied.index, current_rev = revision.get(), "applied snapshot");
        Ok(())
    }

    /// Millions of keys take long, and what is committed behind the snapshot waits.
    fn free(&self, old: mvcc::Store) {
        if !self.shared.clock.is_simulated()
            && let Err(error) = background::spawn("free", move || drop(old))
        {
            tracing::warn!(%error, "no thread to free the state that was before a snapshot");
        }
    }
}
