//! Which version the cluster runs and which the file is of, and the way down to an older one.
//!
//! The leader asks every member for its version and has the cluster agree on the lowest; a cluster that is
//! being downgraded agrees on the target. Each member then moves its own file there, one minor release at a
//! time. Source: etcd `server/etcdserver/version` and `server/etcdserver/server.go` (`monitor…`).

use std::time::Duration;

use apply::{Command, Outcome};
use membership::{Cluster, Member, Version};
use proto::membershippb::{ClusterVersionSetRequest, DowngradeInfoSetRequest};
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::backend::{BackendInput, STORAGE_VERSION, Write};
use crate::config::SERVER_VERSION;
use crate::error::Error;
use crate::handle::Server;

/// How often versions are compared. Source: etcd `server/etcdserver/server.go`.
const VERSION_INTERVAL: Duration = Duration::from_secs(4);

/// As long as some member has not answered yet, for a new cluster.
const FIRST_INTERVAL: Duration = Duration::from_millis(250);

/// A member that does not tell its version in this time is passed over until the next look.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// What a cluster agrees on while some member has not been heard from at all.
/// Source: etcd `api/version/version.go`, `MinClusterVersion`.
const VERSION_MIN: Version = Version::new(3, 0);

/// The oldest layout of the file that names its version.
const STORAGE_VERSION_MIN: Version = Version::new(3, 6);

/// Settles versions for as long as the member runs.
pub async fn settle_versions(server: Server) {
    let mut ticks = interval(VERSION_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut leader = server.leader();
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            changed = leader.changed() => if changed.is_err() { return },
            () = server.shared.cluster_version_changed.notified() => {}
            // A new cluster starts with the version that all can speak: its members come up one by one.
            () = sleep(FIRST_INTERVAL), if is_provisional(&server) => {}
        }
        settle_cluster_version(&server).await;
        settle_storage_version(&server);
    }
}

fn is_provisional(server: &Server) -> bool {
    server.is_leader() && server.cluster().version().is_none_or(|version| version == VERSION_MIN)
}

/// What keeps this release from being part of a cluster at `version`.
pub(crate) fn refusal(version: Version) -> Option<String> {
    let own = own_version();
    (version.without_patch() > own.without_patch()).then(|| {
        format!(
            "invalid downgrade; server version is lower than determined cluster version: \
             this is {own}, the cluster runs {version}"
        )
    })
}

fn own_version() -> Version {
    SERVER_VERSION.parse().expect("our own version is one")
}

async fn settle_cluster_version(server: &Server) {
    if !server.is_leader() {
        return;
    }
    let cluster = server.cluster();
    let present = cluster.version();
    let lowest = member_versions(server)
        .await
        .map(|versions| versions.into_iter().min().unwrap_or_else(own_version).without_patch());
    let Some(wanted) = wanted_version(&cluster, lowest) else { return };
    match present {
        None => tracing::info!(
            cluster_version = wanted.major_minor(),
            "setting up initial cluster version using v3 API"
        ),
        Some(from) => tracing::info!(
            from = from.major_minor(),
            to = wanted.major_minor(),
            "updating cluster version using v3 API"
        ),
    }
    let request = ClusterVersionSetRequest { ver: wanted.to_string() };
    if let Err(error) = server.propose(Command::ClusterVersionSet(request)).await {
        tracing::warn!(%error, "failed to set the cluster version");
    }
}

/// What the cluster should agree on, if that is news. `lowest` is `None` while some member is silent.
fn wanted_version(cluster: &Cluster, lowest: Option<Version>) -> Option<Version> {
    let Some(present) = cluster.version() else { return Some(lowest.unwrap_or(VERSION_MIN)) };
    let lowest = lowest?;
    if let Some(target) = downgrade_target(cluster) {
        return (target < present && target.is_one_minor_below(present)).then_some(target);
    }
    (lowest > present).then_some(lowest)
}

/// Where a downgrade under way leads.
pub(crate) fn downgrade_target(cluster: &Cluster) -> Option<Version> {
    let downgrade = cluster.downgrade().filter(|downgrade| downgrade.enabled)?;
    downgrade.target_version.parse().ok()
}

/// The versions of all members' binaries; `None` when one does not answer.
async fn member_versions(server: &Server) -> Option<Vec<Version>> {
    let cluster = server.cluster();
    let mut asked = JoinSet::new();
    let others = cluster.members().filter(|member| member.id != server.member_id());
    for member in others {
        let (server, member) = (server.clone(), member.clone());
        asked.spawn(async move { version_of(&server, &member).await });
    }
    let mut versions = vec![own_version()];
    while let Some(version) = asked.join_next().await {
        versions.push(version.ok().flatten()?);
    }
    Some(versions)
}

async fn version_of(server: &Server, member: &Member) -> Option<Version> {
    for url in &member.peer_urls {
        match server.shared.network.ask_version(url, ANSWER_LIMIT).await {
            Ok(version) => return Some(version.server),
            Err(error) => {
                tracing::debug!(remote_member_id = %member.id, url, %error, "failed to get the version of a member");
            }
        }
    }
    tracing::warn!(remote_member_id = %member.id, "failed to reach the peer URL; its version is not known");
    None
}

/// The file follows the cluster, one minor release at a time.
fn settle_storage_version(server: &Server) {
    let Some(target) = server.cluster().version() else { return };
    loop {
        let present = server.storage_version().unwrap_or(Version::new(3, 5));
        let target = target.max(Version::new(3, 5));
        let next = match present.cmp(&target) {
            std::cmp::Ordering::Less => Version::new(present.major, present.minor + 1),
            std::cmp::Ordering::Equal => return,
            std::cmp::Ordering::Greater => Version::new(present.major, present.minor.saturating_sub(1)),
        };
        // Files of 3.5 have no such key.
        let is_named = next >= STORAGE_VERSION_MIN;
        if present < target && !is_named {
            return;
        }
        let write = match is_named {
            true => Write::meta(STORAGE_VERSION, next.to_string()),
            false => Write::remove_meta(STORAGE_VERSION),
        };
        if server.shared.to_backend.send(BackendInput::Write(write)).is_err() {
            return;
        }
        server.shared.storage_version.store(Some(std::sync::Arc::new(next)));
        tracing::info!(new_storage_version = %next, "updated storage version");
        if next == target && present > target && downgrade_target(&server.cluster()).is_some() {
            tracing::info!(cluster_version = target.major_minor(), "The server is ready to downgrade");
        }
    }
}

/// Ends a downgrade by itself once every member runs its target, while this member leads.
pub async fn end_downgrade(server: Server) {
    let pause = server.shared.config.downgrade_check_interval;
    if pause.is_zero() {
        return;
    }
    let mut ticks = interval(pause);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if !server.is_leader() {
            continue;
        }
        let Some(target) = downgrade_target(&server.cluster()) else { continue };
        let Some(versions) = member_versions(&server).await else { continue };
        if versions.iter().any(|version| version.without_patch() != target) {
            continue;
        }
        match server.downgrade_cancel().await {
            Ok(_) => {
                tracing::info!(cluster_version = target.major_minor(), "the cluster has been downgraded")
            }
            Err(error) => tracing::warn!(%error, "failed to end the downgrade"),
        }
    }
}

impl Server {
    /// Whether a downgrade is under way, as all members agree.
    pub async fn is_downgrading(&self) -> Result<bool, Error> {
        self.linearizable_view().await?;
        Ok(downgrade_target(&self.cluster()).is_some())
    }

    /// Whether the cluster may go to `target` (`X.Y`, or more of a version); its present version.
    pub async fn downgrade_validate(&self, target: &str) -> Result<Version, Error> {
        self.checked_downgrade(target).await.map(|(present, _)| present)
    }

    /// Lets the cluster go down to `target`; its version before.
    pub async fn downgrade_enable(&self, target: &str) -> Result<Version, Error> {
        let (present, target) = self.checked_downgrade(target).await?;
        self.set_downgrade(true, target.to_string()).await?;
        Ok(present)
    }

    /// Ends a downgrade before its time. Compat: that none is under way is no error.
    pub async fn downgrade_cancel(&self) -> Result<Version, Error> {
        self.linearizable_view().await?;
        let cluster = self.cluster();
        if downgrade_target(&cluster).is_none() {
            tracing::warn!(error = "etcdserver: no inflight downgrade job", "failed to cancel downgrade");
        }
        self.set_downgrade(false, String::new()).await?;
        self.cluster().version().ok_or(Error::ClusterVersionUnavailable)
    }

    async fn checked_downgrade(&self, target: &str) -> Result<(Version, Version), Error> {
        let target = Version::parse_loose(target).ok_or(Error::WrongDowngradeVersionFormat)?.without_patch();
        // What other members have agreed on counts, not what this one knows.
        self.linearizable_view().await?;
        let cluster = self.cluster();
        let present = cluster.version().ok_or(Error::ClusterVersionUnavailable)?;
        if !target.is_one_minor_below(present) {
            return Err(Error::InvalidDowngradeTargetVersion);
        }
        if downgrade_target(&cluster).is_some() {
            return Err(Error::DowngradeInProcess);
        }
        Ok((present, target))
    }

    async fn set_downgrade(&self, enabled: bool, ver: String) -> Result<(), Error> {
        match self.propose(Command::DowngradeInfoSet(DowngradeInfoSetRequest { enabled, ver })).await? {
            Outcome::Done => Ok(()),
            other => unreachable!("a downgrade was answered {other:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use membership::DowngradeRecord;

    use super::*;

    #[test]
    fn the_cluster_follows_its_lowest_member_up_and_a_downgrade_down() {
        let v = Version::new;
        let mut cluster = Cluster::default();
        assert_eq!(wanted_version(&cluster, None), Some(VERSION_MIN));
        assert_eq!(wanted_version(&cluster, Some(v(3, 7))), Some(v(3, 7)));
        cluster.set_version(v(3, 6));
        assert_eq!(wanted_version(&cluster, None), None, "a silent member holds it back");
        assert_eq!(wanted_version(&cluster, Some(v(3, 6))), None);
        assert_eq!(wanted_version(&cluster, Some(v(3, 7))), Some(v(3, 7)));
        assert_eq!(wanted_version(&cluster, Some(v(3, 5))), None, "never down by itself");
        cluster.set_version(v(3, 7));
        cluster.set_downgrade(DowngradeRecord { target_version: "3.6.0".to_owned(), enabled: true });
        assert_eq!(wanted_version(&cluster, Some(v(3, 7))), Some(v(3, 6)));
        cluster.set_version(v(3, 6));
        assert_eq!(wanted_version(&cluster, Some(v(3, 7))), None, "it is there");
        cluster.set_downgrade(DowngradeRecord { target_version: String::new(), enabled: false });
        assert_eq!(wanted_version(&cluster, Some(v(3, 7))), Some(v(3, 7)));
    }
}
