//! Committed changes of membership: judged here, put into force in raft, told to the network.

use bytes::Bytes;
use membership::{Member, MemberChange, MemberId};
use raft::{ConfChangeType, ConfChangeV2, Entry, EntryKind, codec};

use super::ApplyLoop;
use crate::error::Error;
use crate::replicate::RaftInput;
use crate::shared::StopReason;

/// How long a removed member goes on, so that the others learn from it that its removal is committed.
/// Source: etcd `server/etcdserver/server.go`.
const REMOVED_LINGERS: std::time::Duration = std::time::Duration::from_secs(1);

/// A configuration change as an entry holds it.
struct Committed {
    /// What its proposer waits for; 0 when nobody can.
    id: u64,
    change: ConfChangeV2,
}

impl ApplyLoop {
    /// A change that does not fit the membership reaches raft with nobody in it: the entry then changes
    /// nothing, on every member alike.
    pub(super) fn apply_conf_change(&mut self, entry: &Entry) -> Result<(), apply::Fatal> {
        let Committed { id, mut change } = read(entry)?;
        let outcome = match self.change_members(&change)? {
            Ok(()) => self.conf_state.after(&change).map_err(|error| {
                tracing::warn!(%error, "a committed membership change leaves no cluster");
                Error::NotEnoughStartedMembers
            }),
            Err(error) => Err(error),
        };
        let answer = match outcome {
            Ok(conf_state) => {
                self.conf_state = conf_state;
                self.conf_state_changed = true;
                self.put_into_force(&change);
                Ok(apply::Outcome::Done)
            }
            Err(error) => {
                for single in &mut change.changes {
                    single.node_id = 0;
                }
                Err(error)
            }
        };
        self.tell_raft_configuration(change);
        self.applied_conf_change = true;
        if id != 0 {
            self.answers.push((id, answer));
        }
        Ok(())
    }

    fn tell_raft_configuration(&mut self, change: ConfChangeV2) {
        let expected = self.conf_state.clone();
        self.to_raft.send(RaftInput::ConfChange { change, expected }).ok();
    }

    /// The cluster's record of its members follows the change, or refuses it.
    fn change_members(&mut self, change: &ConfChangeV2) -> Result<Result<(), Error>, apply::Fatal> {
        let [single] = change.changes[..] else {
            // Compat: etcd proposes changes of one member only; others touch nothing but raft.
            return Ok(Ok(()));
        };
        let id = MemberId(single.node_id);
        let context = &change.context[..];
        let member_change = match single.change {
            ConfChangeType::AddNode => MemberChange::from_add_context(context, false),
            ConfChangeType::AddLearnerNode => MemberChange::from_add_context(context, true),
            ConfChangeType::UpdateNode => MemberChange::from_update_context(context),
            ConfChangeType::RemoveNode => Ok(MemberChange::Remove(id)),
        };
        let member_change = member_change.map_err(|error| malformed(error.to_string()))?;
        let named = match &member_change {
            MemberChange::Add(member) => member.id,
            MemberChange::Promote(id) | MemberChange::Remove(id) => *id,
            MemberChange::UpdatePeerUrls { id, .. } => *id,
        };
        if named != id {
            return Err(malformed(format!("a change of member {id} carries the record of {named}")));
        }
        let max_learners = self.shared.config.max_learners;
        if let Err(reason) = self.state.cluster.validate(&member_change, max_learners) {
            tracing::warn!(%reason, member_id = %id, "a committed membership change does not apply");
            return Ok(Err(reason.into()));
        }
        // Raft must be able to follow before the record changes.
        if let Err(error) = self.conf_state.after(change) {
            tracing::warn!(%error, member_id = %id, "a committed membership change leaves no cluster");
            return Ok(Err(Error::NotEnoughStartedMembers));
        }
        let writes = self.state.cluster.apply(member_change);
        self.state.note_membership(writes);
        Ok(Ok(()))
    }

    fn put_into_force(&mut self, change: &ConfChangeV2) {
        let [single] = change.changes[..] else { return };
        let id = MemberId(single.node_id);
        match self.state.cluster.member(id).cloned() {
            Some(member) => self.know_member(&member, single.change),
            None => self.forget_member(id),
        }
    }

    fn know_member(&self, member: &Member, change: ConfChangeType) {
        let shared = &self.shared;
        let (what, id) = (member, member.id);
        match change {
            ConfChangeType::AddNode | ConfChangeType::AddLearnerNode => tracing::info!(
                cluster_id = %shared.cluster_id,
                local_member_id = %shared.member_id,
                added_peer_id = %id,
                added_peer_peer_urls = ?what.peer_urls,
                added_peer_is_learner = what.is_learner,
                "added member"
            ),
            ConfChangeType::UpdateNode => tracing::info!(
                cluster_id = %shared.cluster_id,
                local_member_id = %shared.member_id,
                updated_remote_peer_id = %id,
                updated_remote_peer_urls = ?what.peer_urls,
                "updated member"
            ),
            ConfChangeType::RemoveNode => unreachable!("a removed member is no longer known"),
        }
        shared.note_peer(member);
    }

    fn forget_member(&self, id: MemberId) {
        let shared = &self.shared;
        shared.forget_peer(id);
        if id != shared.member_id {
            tracing::info!(
                cluster_id = %shared.cluster_id,
                local_member_id = %shared.member_id,
                removed_remote_peer_id = %id,
                "removed member"
            );
            return;
        }
        let removed = shared.clone();
        self.runtime.spawn(async move {
            tokio::time::sleep(REMOVED_LINGERS).await;
            tracing::warn!(
                local_member_id = %removed.member_id,
                "the member has been permanently removed from the cluster"
            );
            removed.stop_with(StopReason::Removed);
        });
    }
}

fn read(entry: &Entry) -> Result<Committed, apply::Fatal> {
    let unreadable = |error: codec::CodecError| malformed(error.to_string());
    let data: Bytes = entry.data.clone();
    match entry.kind {
        EntryKind::ConfChange => {
            let change = codec::decode_conf_change(data).map_err(unreadable)?;
            Ok(Committed { id: change.id, change: change.into() })
        }
        EntryKind::ConfChangeV2 => {
            Ok(Committed { id: 0, change: codec::decode_conf_change_v2(data).map_err(unreadable)? })
        }
        EntryKind::Normal => unreachable!("the loop has looked at the kind"),
    }
}

fn malformed(reason: String) -> apply::Fatal {
    apply::Fatal::Command(apply::CommandError::Malformed(reason))
}
