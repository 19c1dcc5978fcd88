//! Proving leadership, and handing it over.

use std::time::Duration;

use membership::MemberId;
use tokio::time::{sleep, timeout};

use crate::error::Error;
use crate::handle::Server;
use crate::replicate::RaftInput;

impl Server {
    /// Returns once a quorum has confirmed that this member leads.
    ///
    /// # Errors
    /// [`Error::NotPrimaryLessor`] when it does not, or when nobody confirms it in time.
    /// Source: etcd `server/etcdserver/server.go`, `ensureLeadership`.
    pub(crate) async fn ensure_leadership(&self) -> Result<(), Error> {
        let term = self.shared.raft.term();
        if let Err(error) = self.linearizable_view().await {
            tracing::warn!(%error, "failed to confirm leadership");
            return Err(Error::NotPrimaryLessor);
        }
        if self.is_leader() && self.shared.raft.term() == term {
            Ok(())
        } else {
            Err(Error::NotPrimaryLessor)
        }
    }

    /// Hands leadership to a voter, and returns once it leads: at once if it does already.
    pub async fn move_leader(&self, to: MemberId) -> Result<(), Error> {
        if !self.is_leader() {
            return Err(Error::NotLeader);
        }
        let is_voter = self.cluster().member(to).is_some_and(|member| !member.is_learner);
        if !is_voter {
            return Err(Error::BadLeaderTransferee);
        }
        if to == self.shared.member_id {
            return Ok(());
        }
        self.transfer(to, to, self.shared.config.request_timeout()).await
    }

    /// `partner` is the other member that this one needs for it.
    async fn transfer(&self, to: MemberId, partner: MemberId, limit: Duration) -> Result<(), Error> {
        let me = self.shared.member_id;
        tracing::info!(
            local_member_id = %me,
            transferee_member_id = %to,
            "leadership transfer starting"
        );
        let mut leader = self.leader();
        self.shared.to_raft.send(RaftInput::TransferLeader(to)).map_err(|_| Error::Stopped)?;
        let arrived = tokio::select! {
            arrived = timeout(limit, leader.wait_for(|leader| *leader == Some(to))) => {
                arrived.map_err(|_| Error::TimeoutLeaderTransfer)?.map_err(|_| Error::Stopped)
            }
            () = self.hopeless(partner) => Err(Error::TimeoutLeaderTransfer),
        };
        arrived?;
        tracing::info!(local_member_id = %me, transferee_member_id = %to, "leadership transfer finished");
        Ok(())
    }

    /// Resolves once a transfer cannot come about: nobody takes over what they do not hear of, and nobody is
    /// elected without a quorum.
    async fn hopeless(&self, partner: MemberId) {
        while self.shared.network.active_for(partner).is_some() && self.reaches_quorum() {
            sleep(self.shared.config.heartbeat_interval).await;
        }
    }

    /// Resolves once this member is cut off: it has connections to too few voters for anything to be decided, and had
    /// so a heartbeat ago.
    pub async fn cut_off(&self) {
        let mut was_cut_off = false;
        loop {
            let is_cut_off = !self.reaches_quorum();
            if is_cut_off && was_cut_off {
                return;
            }
            was_cut_off = is_cut_off;
            sleep(self.shared.config.heartbeat_interval).await;
        }
    }

    /// Whether the voters that this member has connections to are a quorum, with itself.
    fn reaches_quorum(&self) -> bool {
        let cluster = self.cluster();
        let (mut voters, mut reached) = (0, 0);
        for member in cluster.members().filter(|member| !member.is_learner) {
            let is_here = member.id == self.shared.member_id;
            voters += 1;
            reached += usize::from(is_here || self.shared.network.active_for(member.id).is_some());
        }
        reached > voters / 2
    }

    /// Before this member stops: hands leadership, if it has it, to another one, so that the others need not wait
    /// for an election timeout. Best effort.
    pub async fn hand_over(&self) {
        self.hand_over_within(self.shared.config.request_timeout()).await;
    }

    /// Before a member is removed: if it leads, another one takes over first, and nobody needs to notice by an
    /// election timeout that it is gone. Best effort.
    pub(crate) async fn relieve(&self, id: MemberId) {
        // Raft gives a transfer up after this time.
        let limit = self.shared.config.election_timeout;
        let me = self.shared.member_id;
        if self.shared.raft.leader() != Some(id) {
            return;
        }
        if id == me {
            return self.hand_over_within(limit).await;
        }
        let may_lead = self.cluster().member(me).is_some_and(|member| !member.is_learner);
        if may_lead {
            self.try_transfer(me, id, limit).await;
        }
    }

    /// To the voter that has been connected for longest.
    async fn hand_over_within(&self, limit: Duration) {
        if !self.is_leader() {
            return;
        }
        let cluster = self.cluster();
        let others =
            cluster.members().filter(|member| member.id != self.shared.member_id && !member.is_learner);
        let longest = others
            .filter_map(|member| Some((self.shared.network.active_for(member.id)?, member.id)))
            .max_by_key(|(active, _)| *active);
        let Some((_, to)) = longest else { return };
        if !self.reaches_quorum() {
            return tracing::info!(
                "not handing leadership over: too few voters are connected to elect another"
            );
        }
        self.try_transfer(to, to, limit).await;
    }

    async fn try_transfer(&self, to: MemberId, partner: MemberId, limit: Duration) {
        if let Err(error) = self.transfer(to, partner, limit).await {
            tracing::warn!(%error, transferee_member_id = %to, "leadership transfer failed");
        }
    }
}
