//! Changing the members: who may join, leave, move or vote, judged before it is proposed. What must hold on
//! every member alike is judged again when the change is applied.
//!
//! Source of the checks: etcd `server/etcdserver/server.go` (`mayAddMember`, `mayRemoveMember`,
//! `mayPromote…`) and `api/membership/cluster.go` (`IsReadyTo…`).

use std::time::Duration;

use golang::url::Url;
use membership::{Attributes, Cluster, Member, MemberChange, MemberId};
use raft::ConfChange;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use crate::error::Error;
use crate::handle::Server;
use crate::network::AskError;
use crate::replicate::RaftInput;

/// How long a member must have been connected to count as one that a change may rely on.
/// Source: etcd `server/etcdserver/server.go`, `HealthInterval`.
const HEALTHY_AFTER: Duration = Duration::from_secs(5);

/// How much of the leader's log a learner must have to become a voter.
/// Source: etcd `server/etcdserver/server.go`, `readyPercentThreshold`.
const READY_SHARE: f64 = 0.9;

/// Between two tries to have the leader promote a learner.
const FORWARD_RETRY: Duration = Duration::from_millis(50);

/// What the leader's HTTP answers mean. Source: etcd `server/etcdserver/api/etcdhttp/peer.go`.
const STATUS_NOT_FOUND: u16 = 404;
const STATUS_PRECONDITION_FAILED: u16 = 412;

/// Whether a new member votes at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JoinAs {
    Voter,
    Learner,
}

/// How far a follower's log and the leader's own go, as the leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Matched {
    pub follower: u64,
    pub leader: u64,
}

impl Server {
    /// Adds a member that has yet to start: the new member and all members afterwards.
    pub async fn member_add(
        &self,
        peer_urls: &[String],
        join_as: JoinAs,
    ) -> Result<(Member, Vec<Member>), Error> {
        let peer_urls = checked_urls(peer_urls)?;
        if self.shared.config.strict_reconfig_check {
            self.may_add(join_as)?;
        }
        let id = MemberId::at_run_time(&peer_urls, self.shared.clock.unix_time().as_secs());
        let is_learner = join_as == JoinAs::Learner;
        let member = Member { id, peer_urls, is_learner, attributes: Attributes::default() };
        let change = match join_as {
            JoinAs::Voter => ConfChange::add_node(id.0),
            JoinAs::Learner => ConfChange::add_learner(id.0),
        };
        let context = MemberChange::context(&member).into();
        let members = self.configure(ConfChange { context, ..change }).await?;
        Ok((member, members))
    }

    fn may_add(&self, join_as: JoinAs) -> Result<(), Error> {
        let cluster = self.cluster();
        let (voters, started) = voters(&cluster);
        if join_as == JoinAs::Voter {
            let next = voters.len() + 1;
            // Compat: a lone member may always get its second.
            let is_second = started == 1 && next == 2;
            if started < quorum(next) && !is_second {
                tracing::warn!(
                    started_members = started,
                    required_members = quorum(next),
                    "rejecting member add request; not enough healthy members"
                );
                return Err(Error::NotEnoughStartedMembers);
            }
        }
        if voters.len() > 1 && self.connected(&voters) < quorum(voters.len() + 1) {
            tracing::warn!("rejecting member add request; local member has not been connected to all peers");
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// Removes a member for good; the members afterwards.
    pub async fn member_remove(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        if self.shared.config.strict_reconfig_check {
            self.may_remove(id)?;
        }
        self.relieve(id).await;
        self.configure(ConfChange::remove_node(id.0)).await
    }

    fn may_remove(&self, id: MemberId) -> Result<(), Error> {
        let cluster = self.cluster();
        if cluster.member(id).is_some_and(|member| member.is_learner) {
            return Ok(());
        }
        let (voters, _) = voters(&cluster);
        let staying: Vec<&Member> = voters.iter().copied().filter(|member| member.id != id).collect();
        let started = staying.iter().filter(|member| member.is_started()).count();
        // Compat: the quorum of none is one, so the last member stays.
        if started < quorum(staying.len()) {
            tracing::warn!(
                requested_member_remove_id = %id,
                started_members = started,
                required_members = quorum(staying.len()),
                "rejecting member remove request; not enough healthy members"
            );
            return Err(Error::NotEnoughStartedMembers);
        }
        // One that is down is no part of what keeps the cluster going.
        if id != self.shared.member_id && self.shared.network.active_for(id).is_none() {
            return Ok(());
        }
        let left = self.connected(&voters).saturating_sub(1);
        if left < 1 + voters.len().saturating_sub(1) / 2 {
            tracing::warn!(
                requested_member_remove_id = %id,
                active_peers = left + 1,
                "rejecting member remove request; local member has not been connected to all peers"
            );
            return Err(Error::Unhealthy);
        }
        Ok(())
    }

    /// Gives a member other peer URLs; the members afterwards.
    pub async fn member_update(&self, id: MemberId, peer_urls: &[String]) -> Result<Vec<Member>, Error> {
        // Go's members store an empty list, and end when they apply a URL that cannot be one. Compat: in the order given.
        let peer_urls = well_formed(peer_urls)?;
        let member = Member { id, peer_urls, is_learner: false, attributes: Attributes::default() };
        let context = MemberChange::context(&member).into();
        self.configure(ConfChange { context, ..ConfChange::update_node(id.0) }).await
    }

    /// Makes a voter of a learner that has caught up; the members afterwards. Only the leader knows whether
    /// it has, so other members ask it.
    pub async fn member_promote(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let deadline = Instant::now() + self.shared.config.request_timeout();
        loop {
            let leader = self.known_leader(deadline).await?;
            if leader.id == self.shared.member_id {
                match self.promote_here(id).await {
                    // Deposed meanwhile.
                    Err(Error::NotLeader) if Instant::now() < deadline => {}
                    promoted => return promoted,
                }
            } else {
                let ask = |url: &str, limit| self.shared.network.ask_promote(url, id, limit);
                match self.ask_leader(&leader, deadline, ask).await {
                    Ok(members) => return Ok(members),
                    Err(AskError::Refused { status, text }) => match refusal(status, &text) {
                        Some(error) => return Err(error),
                        None => tracing::debug!(status, text, "the leader did not promote a member"),
                    },
                    Err(error) => tracing::debug!(%error, "the leader did not promote a member"),
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            sleep(FORWARD_RETRY).await;
        }
    }

    /// As [`Server::member_promote`], by this member as the leader.
    ///
    /// # Errors
    /// [`Error::NotLeader`] when another member leads.
    pub async fn promote_here(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        let promoted = self.promote_checked(id).await;
        let metrics = &self.shared.metrics.server;
        match &promoted {
            Ok(_) => metrics.learner_promote_successes.inc(),
            Err(error) => metrics.learner_promote_failures.with_label_values(&[&error.to_string()]).inc(),
        }
        promoted
    }

    async fn promote_checked(&self, id: MemberId) -> Result<Vec<Member>, Error> {
        self.must_have_caught_up(id).await?;
        if self.shared.config.strict_reconfig_check {
            let cluster = self.cluster();
            let (voters, started) = voters(&cluster);
            if started + 1 < quorum(voters.len() + 1) {
                tracing::warn!(
                    requested_member_promote_id = %id,
                    "rejecting member promote request; not enough healthy members"
                );
                return Err(Error::NotEnoughStartedMembers);
            }
        }
        let context = MemberChange::promote_context(id).into();
        self.configure(ConfChange { context, ..ConfChange::add_node(id.0) }).await
    }

    async fn must_have_caught_up(&self, id: MemberId) -> Result<(), Error> {
        if !self.is_leader() {
            return Err(Error::NotLeader);
        }
        let cluster = self.cluster();
        let member = cluster.member(id).ok_or(Error::MemberNotFound)?;
        let (reply, matched) = oneshot::channel();
        self.shared.to_raft.send(RaftInput::AskMatched { id, reply }).map_err(|_| Error::Stopped)?;
        // Without progress of it this member leads no longer, or has not yet applied that it joined.
        let matched = matched.await.map_err(|_| Error::Stopped)?.ok_or(Error::LearnerNotReady)?;
        let has_caught_up = matched.follower as f64 >= matched.leader as f64 * READY_SHARE;
        // Compat: in this order, so that a voter who never came is told to be out of sync.
        match (has_caught_up, member.is_learner) {
            (false, _) => Err(Error::LearnerNotReady),
            (true, false) => Err(Error::MemberNotLearner),
            (true, true) => Ok(()),
        }
    }

    async fn configure(&self, change: ConfChange) -> Result<Vec<Member>, Error> {
        self.propose_conf_change(change).await?;
        Ok(self.cluster().members().cloned().collect())
    }

    /// This member, if it is one of these, and those that have been connected for long enough.
    fn connected(&self, members: &[&Member]) -> usize {
        let is_connected = |id| {
            id == self.shared.member_id
                || self.shared.network.active_for(id).is_some_and(|active| active >= HEALTHY_AFTER)
        };
        members.iter().filter(|member| is_connected(member.id)).count()
    }
}

fn quorum(voters: usize) -> usize {
    voters / 2 + 1
}

/// The voters, and how many of them have ever started.
fn voters(cluster: &Cluster) -> (Vec<&Member>, usize) {
    let voters: Vec<&Member> = cluster.members().filter(|member| !member.is_learner).collect();
    let started = voters.iter().filter(|member| member.is_started()).count();
    (voters, started)
}

/// As ids are made from them.
fn checked_urls(urls: &[String]) -> Result<Vec<String>, Error> {
    let mut checked = well_formed(urls)?;
    checked.sort();
    Ok(checked)
}

/// At least one, each well-formed.
fn well_formed(urls: &[String]) -> Result<Vec<String>, Error> {
    if urls.is_empty() {
        return Err(Error::BadMemberUrls);
    }
    let checked: Result<_, String> = urls.iter().map(|url| Ok(Url::parse(url)?.normalized())).collect();
    checked.map_err(|error| {
        tracing::warn!(error, "rejecting a member's URLs");
        Error::BadMemberUrls
    })
}

/// What the leader's answer says for good; `None` when it is worth asking again.
fn refusal(status: u16, text: &str) -> Option<Error> {
    match status {
        STATUS_NOT_FOUND => Some(Error::MemberNotFound),
        STATUS_PRECONDITION_FAILED if text.contains(&Error::LearnerNotReady.to_string()) => {
            Some(Error::LearnerNotReady)
        }
        STATUS_PRECONDITION_FAILED if text.contains(&Error::MemberNotLearner.to_string()) => {
            Some(Error::MemberNotLearner)
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_checked_before_anyone_has_to_live_with_them() {
        let urls = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
        let sorted = checked_urls(&urls(&["http://b:1", "http://a:1"])).unwrap();
        assert_eq!(sorted, ["http://a:1", "http://b:1"]);
        let bad: [&[&str]; 9] = [
            &[],
            &[""],
            &["foo"],
            &["http://a"],
            &["http://a:1", "ftp://b:1"],
            &["http://a:1/"],
            // What ends members of etcd when they apply it.
            &["http://[::1"],
            &["http://a b:1"],
            &["http://%zz:1"],
        ];
        for bad in bad {
            assert_eq!(checked_urls(&urls(bad)), Err(Error::BadMemberUrls), "{bad:?}");
        }
    }

    #[test]
    fn refusals_are_told_apart_by_status_and_text() {
        let not_ready = "etcdserver: can only promote a learner member which is in sync with leader\n";
        assert_eq!(refusal(412, not_ready), Some(Error::LearnerNotReady));
        assert_eq!(
            refusal(412, "membership: can only promote a learner member\n"),
            Some(Error::MemberNotLearner)
        );
        assert_eq!(refusal(404, "membership: ID not found"), Some(Error::MemberNotFound));
        assert_eq!(refusal(500, "Internal Server Error"), None);
    }
}
