//! Leases: granted and revoked through the log, kept alive by the leader, who alone knows when they end. Other
//! members ask it.

use std::time::Duration;

use apply::{Command, Outcome};
use bytes::Bytes;
use lease::{LeaseId, RenewError};
use membership::Member;
use mvcc::Revision;
use prost::Message;
use proto::etcdserverpb::{
    LeaseCheckpoint, LeaseCheckpointRequest, LeaseGrantRequest, LeaseRevokeRequest, LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
};
use tokio::time::{Instant, sleep, timeout_at};

use crate::error::Error;
use crate::handle::Server;
use crate::network::AskError;
use crate::quota;

/// How often the end of an expired lease is looked for by a keep-alive that came too late.
const EXPIRED_POLL: Duration = Duration::from_millis(20);

/// Between two tries to reach the leader. Source: etcd `server/etcdserver/v3_server.go`.
const FORWARD_RETRY: Duration = Duration::from_millis(50);

/// What the leader's HTTP answer says of a lease that it does not know.
/// Source: etcd `server/lease/leasehttp/http.go`.
const STATUS_NOT_FOUND: u16 = 404;

/// A lease's times, in seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseTimes {
    /// Truncated toward zero; may be negative between the deadline and the revoke.
    pub remaining_secs: i64,
    pub granted_secs: i64,
    /// Attached keys, sorted; empty unless asked for.
    pub keys: Vec<Bytes>,
}

/// Whether an answer about a lease lists its keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseKeys {
    Listed,
    Omitted,
}

impl Server {
    /// Grants a lease; `None` lets the server choose its id.
    pub async fn lease_grant(&self, id: Option<LeaseId>, ttl_secs: i64) -> Result<(LeaseId, i64), Error> {
        self.check_quota(quota::LEASE_GRANT_COST).await?;
        let id = id.unwrap_or_else(|| self.draw_lease_id());
        let request = LeaseGrantRequest { id: id.0, ttl: ttl_secs };
        match self.propose(Command::LeaseGrant(request)).await? {
            Outcome::LeaseGrant { id, ttl_secs } => Ok((id, ttl_secs)),
            other => unreachable!("a lease grant was answered {other:?}"),
        }
    }

    fn draw_lease_id(&self) -> LeaseId {
        loop {
            let id = (self.shared.request_ids.next() & i64::MAX as u64) as i64;
            if id != 0 {
                return LeaseId(id);
            }
        }
    }

    /// The store's revision after the attached keys are deleted.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<Revision, Error> {
        match self.propose(Command::LeaseRevoke(LeaseRevokeRequest { id: id.0 })).await? {
            Outcome::LeaseRevoke { revision } => Ok(revision),
            other => unreachable!("a lease revoke was answered {other:?}"),
        }
    }

    /// The renewed time to live in seconds; `None` when there is no such lease, or no longer.
    pub async fn lease_renew(&self, id: LeaseId) -> Result<Option<i64>, Error> {
        let deadline = Instant::now() + self.shared.config.request_timeout();
        loop {
            let leader = self.known_leader(deadline).await?;
            if leader.id == self.shared.member_id {
                match self.renew_here(id).await {
                    // Deposed meanwhile: the new leader knows.
                    Err(Error::NotPrimaryLessor) if Instant::now() < deadline => {}
                    renewed => return renewed,
                }
            } else {
                let asked = |url: &str, limit| self.shared.network.ask_renew(url, id.0, limit);
                match self.ask_leader(&leader, deadline, asked).await {
                    Ok(ttl_secs) => return Ok(Some(ttl_secs)),
                    Err(AskError::Refused { status: STATUS_NOT_FOUND, .. }) => return Ok(None),
                    Err(error) => tracing::debug!(%error, lease_id = %id, "the leader did not renew a lease"),
                }
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            sleep(FORWARD_RETRY).await;
        }
    }

    /// As [`Server::lease_renew`], by this member as the leader.
    ///
    /// # Errors
    /// [`Error::NotPrimaryLessor`] when another member leads.
    pub async fn renew_here(&self, id: LeaseId) -> Result<Option<i64>, Error> {
        // A leader that is cut off, or stuck, may have a successor that ends this lease.
        self.ensure_leadership().await?;
        let is_fast = self.shared.config.fast_lease_keep_alive;
        let known = self.shared.lessor.lock().contains(id);
        if !known || !is_fast {
            // Its grant may be committed and not yet applied here.
            self.wait_applied().await?;
        }
        let deadline = Instant::now() + self.shared.config.request_timeout();
        loop {
            let renewed = self.shared.lessor.lock().renew(id, self.shared.clock.now());
            match renewed {
                Ok(renewed) => {
                    self.shared.metrics.lease.renewed.inc();
                    if renewed.clear_checkpoint {
                        self.clear_checkpoint(id).await?;
                    }
                    return Ok(Some(renewed.ttl_secs));
                }
                Err(RenewError::NotFound { .. }) => return Ok(None),
                // Elected, and the first entry of its term is not applied yet: a moment later it is primary.
                Err(RenewError::NotPrimary) if self.is_leader() && Instant::now() < deadline => {
                    sleep(EXPIRED_POLL).await;
                }
                Err(RenewError::NotPrimary) => return Err(Error::NotPrimaryLessor),
                // Its revoke is under way. An answer now could promise life to keys that are about to go.
                Err(RenewError::Expired { .. }) if Instant::now() < deadline => sleep(EXPIRED_POLL).await,
                Err(RenewError::Expired { .. }) => return Err(Error::Timeout),
            }
        }
    }

    /// A remaining time that was replicated before counts no longer.
    async fn clear_checkpoint(&self, id: LeaseId) -> Result<(), Error> {
        let checkpoints = vec![LeaseCheckpoint { id: id.0, remaining_ttl: 0 }];
        self.propose(Command::LeaseCheckpoint(LeaseCheckpointRequest { checkpoints })).await.map(|_| ())
    }

    /// `None` when there is no such lease.
    pub async fn lease_times(&self, id: LeaseId, keys: LeaseKeys) -> Result<Option<LeaseTimes>, Error> {
        let deadline = Instant::now() + self.shared.config.request_timeout();
        loop {
            let leader = self.known_leader(deadline).await?;
            if leader.id == self.shared.member_id {
                match self.lease_times_here(id, keys).await {
                    Err(Error::NotPrimaryLessor) if Instant::now() < deadline => {}
                    times => return times,
                }
            } else if let Some(times) = self.ask_lease_times(&leader, deadline, id, keys).await {
                return times;
            }
            if Instant::now() >= deadline {
                return Err(Error::Timeout);
            }
            sleep(FORWARD_RETRY).await;
        }
    }

    /// `None`: the leader gave no answer that could be used.
    async fn ask_lease_times(
        &self,
        leader: &Member,
        deadline: Instant,
        id: LeaseId,
        keys: LeaseKeys,
    ) -> Option<Result<Option<LeaseTimes>, Error>> {
        let request = LeaseTimeToLiveRequest { id: id.0, keys: keys == LeaseKeys::Listed };
        let request = Bytes::from(request.encode_to_vec());
        let asked = |url: &str, limit| self.shared.network.ask_lease_times(url, request.clone(), limit);
        let answer = match self.ask_leader(leader, deadline, asked).await {
            Ok(answer) => LeaseTimeToLiveResponse::decode(answer).map_err(|error| error.to_string()),
            Err(AskError::Refused { status: STATUS_NOT_FOUND, .. }) => return Some(Ok(None)),
            Err(error) => Err(error.to_string()),
        };
        match answer {
            Ok(answer) => Some(Ok(Some(LeaseTimes {
                remaining_secs: answer.ttl,
                granted_secs: answer.granted_ttl,
                keys: answer.keys,
            }))),
            Err(error) => {
                tracing::debug!(error, lease_id = %id, "the leader did not tell a lease's times");
                None
            }
        }
    }

    /// As [`Server::lease_times`], by this member as the leader.
    ///
    /// # Errors
    /// [`Error::NotPrimaryLessor`] when another member leads.
    pub async fn lease_times_here(&self, id: LeaseId, keys: LeaseKeys) -> Result<Option<LeaseTimes>, Error> {
        self.wait_applied().await?;
        let mut lessor = self.shared.lessor.lock();
        if !lessor.is_primary() {
            return Err(Error::NotPrimaryLessor);
        }
        let Some(times) = lessor.time_to_live(id, self.shared.clock.now()) else { return Ok(None) };
        let keys = match keys {
            LeaseKeys::Listed => lessor.keys(id).cloned().collect(),
            LeaseKeys::Omitted => Vec::new(),
        };
        let (remaining_secs, granted_secs) = (times.remaining_secs, times.granted_secs);
        Ok(Some(LeaseTimes { remaining_secs, granted_secs, keys }))
    }

    /// Asks the leader by its URLs in turn, until one answers or refuses.
    pub(crate) async fn ask_leader<T>(
        &self,
        leader: &Member,
        deadline: Instant,
        mut ask: impl FnMut(&str, Duration) -> crate::network::Asked<T>,
    ) -> Result<T, AskError> {
        let mut last = AskError::Unreachable("the leader has no peer URL".to_owned());
        for url in &leader.peer_urls {
            let limit = deadline.saturating_duration_since(Instant::now());
            let mut leaders = self.leader();
            let other = leaders.wait_for(|known| *known != Some(leader.id));
            // Whoever is asked may be gone: a new leader is asked at once.
            let asked = tokio::select! {
                asked = ask(url, limit) => asked,
                _ = other => return Err(AskError::Unreachable("it leads no longer".to_owned())),
            };
            match asked {
                Ok(answer) => return Ok(answer),
                Err(refused @ AskError::Refused { .. }) => return Err(refused),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// The leader, once there is one.
    pub(crate) async fn known_leader(&self, deadline: Instant) -> Result<Member, Error> {
        let mut leaders = self.leader();
        loop {
            let known = leaders.wait_for(Option::is_some);
            let id = match timeout_at(deadline, known).await {
                Ok(Ok(leader)) => leader.expect("waited for"),
                Ok(Err(_)) => return Err(Error::Stopped),
                Err(_) => return Err(Error::NoLeader),
            };
            if let Some(member) = self.shared.cluster.load().member(id) {
                return Ok(member.clone());
            }
            // A leader that this member has not heard of yet: its joining is still to be applied.
            if Instant::now() >= deadline {
                return Err(Error::NoLeader);
            }
            sleep(FORWARD_RETRY).await;
        }
    }

    /// Leases of this member's state, the one that ends first in front.
    pub fn leases(&self) -> Vec<LeaseId> {
        self.shared.lessor.lock().leases(self.shared.clock.now())
    }
}
