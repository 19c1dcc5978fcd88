//! What a leader sends to its followers.

use super::Raft;
use crate::entry::{Entry, payload_bytes_of};
use crate::message::{Message, MessageType};
use crate::position::{EntryId, NodeId};
use crate::storage::Storage;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Empty {
    /// An append without entries still tells the commit index, and its answer tells where the follower is.
    Send,
    Skip,
}

impl<S: Storage> Raft<S> {
    /// Sends one append, even without entries, unless the flow is paused.
    pub(super) fn send_append(&mut self, to: NodeId) {
        self.maybe_send_append(to, Empty::Send);
    }

    /// Sends one append if there are entries for it and the flow is not paused.
    pub(super) fn send_entries(&mut self, to: NodeId) -> bool {
        self.maybe_send_append(to, Empty::Skip)
    }

    fn maybe_send_append(&mut self, to: NodeId, empty: Empty) -> bool {
        let Some(progress) = self.tracker.progress.get(&to) else { return false };
        if progress.is_paused() {
            return false;
        }
        let previous = progress.next.prev();
        let Ok(previous_term) = self.log.term(previous) else { return self.send_snapshot(to) };
        let entries = if progress.takes_entries() {
            self.log.entries_from(progress.next, self.config.max_size_per_msg)
        } else {
            Ok(Vec::new())
        };
        match entries {
            Err(_) if empty == Empty::Send => self.send_snapshot(to),
            Err(_) => false,
            Ok(entries) if entries.is_empty() && empty == Empty::Skip => false,
            Ok(entries) => {
                self.send_append_after(to, EntryId::new(previous_term, previous), entries);
                true
            }
        }
    }

    fn send_append_after(&mut self, to: NodeId, previous: EntryId, entries: Vec<Entry>) {
        let commit = self.log.committed();
        if let Some(progress) = self.tracker.progress.get_mut(&to) {
            progress.sent_entries(entries.len() as u64, payload_bytes_of(&entries));
            progress.sent_commit(commit);
        }
        self.send(Message {
            index: previous.index,
            log_term: previous.term,
            entries,
            commit,
            ..Message::new(MessageType::App, to)
        });
    }

    /// The follower needs entries that are gone: it gets all state instead. Not when it was silent of late,
    /// as a snapshot is dear and the flow stops until it is reported.
    fn send_snapshot(&mut self, to: NodeId) -> bool {
        let Some(progress) = self.tracker.progress.get_mut(&to) else { return false };
        if !progress.recent_active {
            return false;
        }
        let Ok(snapshot) = self.log.snapshot() else { return false };
        assert!(!snapshot.is_empty(), "the log is compacted, and there is no snapshot of what is gone");
        progress.become_snapshot(snapshot.index());
        self.send(Message { snapshot: Some(snapshot), ..Message::new(MessageType::Snap, to) });
        true
    }

    pub(super) fn broadcast_append(&mut self) {
        for id in self.tracker.others(self.id) {
            self.send_append(id);
        }
    }

    /// Tells everybody that the leader lives. Carries the round that confirms all waiting reads.
    pub(super) fn broadcast_heartbeat(&mut self) {
        let context = self.read_only.heartbeat_context();
        for id in self.tracker.others(self.id) {
            let Some(progress) = self.tracker.progress.get_mut(&id) else { continue };
            // Never beyond what matches: the follower commits to this without looking at its log.
            let commit = progress.matched.min(self.log.committed());
            progress.sent_commit(commit);
            self.send(Message {
                commit,
                context: context.clone(),
                ..Message::new(MessageType::Heartbeat, id)
            });
        }
    }
}
