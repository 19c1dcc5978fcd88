//! The first start of a member that was added to a running cluster: the members that run say which cluster
//! that is and which of them this one is.

use std::time::Duration;

use membership::{Member, MemberId, Version};
use raft::HardState;

use super::database::FileAge;
use super::new_cluster::same_urls;
use super::{BootError, Booted, Dir, LogState, Result};
use crate::config::SERVER_VERSION;
use crate::network::{AskError, RemoteCluster, RemoteVersion};

/// How long the running members have to answer. Source: etcd `server/etcdserver/cluster_util.go`.
const ASK_LIMIT: Duration = Duration::from_secs(10);

/// The oldest cluster that this release joins.
const CLUSTER_VERSION_MIN: Version = Version::new(3, 0);

impl Dir<'_> {
    pub(super) fn join(&self) -> Result<Booted> {
        let config = self.config;
        let named = self.initial_members()?;
        let me = self.own_member(&named)?;
        let others = named.iter().filter(|member| member.id != me);
        let urls: Vec<&String> = others.flat_map(|member| &member.peer_urls).collect();
        let remote = self.ask_cluster(&urls, ASK_LIMIT).map_err(|error| {
            BootError::Config(format!(
                "cannot fetch cluster info from peer urls: could not retrieve cluster information from the given URLs ({error})"
            ))
        })?;
        let me = own_id(&config.name, &named, &remote).map_err(|error| {
            BootError::Config(format!("error validating peerURLs {}: {error}", told(&remote)))
        })?;
        self.must_be_compatible(&remote, me)?;
        self.refuse_file_without_log()?;
        tracing::info!(
            local_member_id = %me,
            cluster_id = %remote.cluster_id,
            "starting local member of a running cluster"
        );
        let mut wal = self.create_log(me, remote.cluster_id)?;
        wal.sync()?;
        let db = self.open_db(FileAge::MayBeUnborn)?;
        // Until the log tells, these are the members to listen to.
        for member in remote.members.iter().filter(|member| member.id != me) {
            self.network.set_peer(member.id, &member.peer_urls);
        }
        let log = LogState { hard_state: HardState::default(), snapshot: None, entries: Vec::new() };
        self.assemble(wal, db, me, remote.cluster_id, log)
    }

    /// The cluster as the first member that answers tells it.
    pub(super) fn ask_cluster(
        &self,
        urls: &[&String],
        limit: Duration,
    ) -> std::result::Result<RemoteCluster, AskError> {
        let mut last = AskError::Unreachable("no other member is named".to_owned());
        for url in urls {
            match self.runtime.block_on(self.network.ask_members(url, limit)) {
                Ok(cluster) if cluster.members.is_empty() => {
                    last = AskError::Malformed("the member knows no members".to_owned());
                }
                Ok(cluster) => return Ok(cluster),
                Err(error) => {
                    tracing::warn!(address = url.as_str(), %error, "failed to get cluster response");
                    last = error;
                }
            }
        }
        Err(last)
    }

    /// The cluster's version must be one that this release can run, or a downgrade must be under way to it.
    fn must_be_compatible(&self, remote: &RemoteCluster, me: MemberId) -> Result<()> {
        let own: Version = SERVER_VERSION.parse().expect("our own version is one");
        let mut own = own.without_patch();
        let others: Vec<&Member> = remote.members.iter().filter(|member| member.id != me).collect();
        let asked = others.iter().flat_map(|member| &member.peer_urls);
        let is_downgrading = asked
            .clone()
            .any(|url| self.runtime.block_on(self.network.ask_downgrade_enabled(url, ASK_LIMIT)) == Ok(true));
        if is_downgrading {
            own.minor += 1;
        }
        let versions: Vec<RemoteVersion> = asked
            .filter_map(|url| self.runtime.block_on(self.network.ask_version(url, ASK_LIMIT)).ok())
            .collect();
        let mut decided = versions.iter().filter_map(|version| version.cluster).peekable();
        let is_compatible = decided.peek().is_some()
            && decided.all(|cluster| (CLUSTER_VERSION_MIN..=own).contains(&cluster.without_patch()));
        if is_compatible {
            return Ok(());
        }
        Err(BootError::Config("incompatible with current running cluster".to_owned()))
    }
}

/// Matches the members that are named with those that run, by their URLs: names may differ.
fn own_id(own_name: &str, named: &[Member], remote: &RemoteCluster) -> std::result::Result<MemberId, String> {
    if named.len() != remote.members.len() {
        return Err("member count is unequal".to_owned());
    }
    let mut own = None;
    for running in &remote.members {
        let Some(member) = named.iter().find(|member| same_urls(&member.peer_urls, &running.peer_urls))
        else {
            let urls = running.peer_urls.join(" ");
            return Err(format!("PeerURLs: no match found for existing member ({}, [{urls}])", running.id));
        };
        if member.attributes.name == own_name {
            own = Some(running.id);
        }
    }
    own.ok_or_else(|| format!("couldn't find local name {own_name:?} among the running members"))
}

/// The running members, for an error's text.
fn told(remote: &RemoteCluster) -> String {
    let members: Vec<String> = remote
        .members
        .iter()
        .map(|member| format!("{}:[{}]", member.id, member.peer_urls.join(" ")))
        .collect();
    format!("{{ClusterID:{} Members:[{}]}}", remote.cluster_id, members.join(" "))
}

#[cfg(test)]
mod tests {
    use membership::{Attributes, ClusterId};

    use super::*;

    fn member(id: u64, name: &str, url: &str) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            is_learner: false,
            attributes: Attributes { name: name.to_owned(), client_urls: Vec::new() },
        }
    }

    #[test]
    fn members_are_matched_by_their_urls_whatever_they_are_called() {
        let named = [member(0, "hex", "http://127.0.0.1:1"), member(0, "me", "http://127.0.0.1:2")];
        let running = [member(7, "a", "http://127.0.0.1:1"), member(8, "", "http://127.0.0.1:2")];
        let mut remote = RemoteCluster { cluster_id: ClusterId(1), members: running.to_vec() };
        assert_eq!(own_id("me", &named, &remote), Ok(MemberId(8)));
        remote.members[1].peer_urls = vec!["http://127.0.0.1:3".to_owned()];
        let error = own_id("me", &named, &remote).unwrap_err();
        assert_eq!(error, "PeerURLs: no match found for existing member (8, [http://127.0.0.1:3])");
        remote.members.pop();
        assert_eq!(own_id("me", &named, &remote).unwrap_err(), "member count is unequal");
    }
}
