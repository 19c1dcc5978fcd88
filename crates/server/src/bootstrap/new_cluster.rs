//! The first start of a member of a cluster that is being formed: everyone begins with the same entries, which
//! make the members that `--initial-cluster` names.

use std::collections::BTreeSet;
use std::net::ToSocketAddrs;
use std::time::{Duration, Instant};

use bytes::Bytes;
use membership::{Attributes, ClusterId, Member, MemberChange, MemberId};
use raft::{ConfChange, Entry, HardState, Index, Term};

use super::database::FileAge;
use super::{BootError, Booted, Dir, LogState, Result};
use crate::backend;

/// How long the others have to tell that this member was part of the cluster before.
/// Source: etcd `server/etcdserver/config.go`, `BootstrapTimeoutEffective`.
const ASK_LIMIT: Duration = Duration::from_secs(1);

/// How long names of peer URLs may take to be resolved, and how often they are tried.
/// Source: etcd `server/etcdserver/api/membership/cluster.go`.
const RESOLVE_LIMIT: Duration = Duration::from_secs(30);
const RESOLVE_PAUSE: Duration = Duration::from_secs(1);

impl Dir<'_> {
    pub(super) fn start_new(&self) -> Result<Booted> {
        let members = self.initial_members()?;
        let cluster_id = ClusterId::of(members.iter().map(|member| member.id));
        let me = self.own_member(&members)?;
        if self.is_bootstrapped(me, &members) {
            return Err(BootError::Config(format!("member {me} has already been bootstrapped")));
        }
        self.refuse_file_without_log()?;
        tracing::info!(local_member_id = %me, cluster_id = %cluster_id, "starting local member");
        let mut wal = self.create_log(me, cluster_id)?;
        let entries = first_entries(&members);
        let commit = entries.last().map_or(Index::ZERO, |entry| entry.index);
        let hard_state = HardState { term: Term(1), vote: None, commit };
        wal.append(Some(&hard_state), &entries)?;
        wal.sync()?;
        let db = self.open_db(FileAge::MayBeUnborn)?;
        self.assemble(wal, db, me, cluster_id, LogState { hard_state, snapshot: None, entries })
    }

    /// Whether the cluster runs already and has seen this member start: its data is gone then, and with it
    /// the votes and entries that it has promised to keep.
    fn is_bootstrapped(&self, me: MemberId, members: &[Member]) -> bool {
        let others = members.iter().filter(|member| member.id != me);
        let urls: Vec<&String> = others.flat_map(|member| &member.peer_urls).collect();
        let Ok(remote) = self.ask_cluster(&urls, ASK_LIMIT) else { return false };
        remote.members.iter().any(|member| member.id == me && !member.attributes.client_urls.is_empty())
    }

    /// The members that `--initial-cluster` names, each with the id that its URLs and the token give.
    pub(super) fn initial_members(&self) -> Result<Vec<Member>> {
        let mut members: Vec<Member> = Vec::new();
        for (name, url) in &self.config.initial_cluster {
            match members.iter_mut().find(|member| member.attributes.name == *name) {
                Some(member) => member.peer_urls.push(url.clone()),
                None => members.push(Member {
                    id: MemberId(0),
                    peer_urls: vec![url.clone()],
                    is_learner: false,
                    attributes: Attributes { name: name.clone(), client_urls: Vec::new() },
                }),
            }
        }
        for member in &mut members {
            member.peer_urls.sort();
            member.id = MemberId::at_bootstrap(&member.peer_urls, &self.config.initial_cluster_token);
        }
        let mut urls: Vec<&String> = members.iter().flat_map(|member| &member.peer_urls).collect();
        urls.sort();
        if urls.windows(2).any(|pair| pair[0] == pair[1]) {
            let cluster = self.initial_cluster_text();
            return Err(BootError::Config(format!("initial cluster {cluster} has duplicate url")));
        }
        members.sort_by_key(|member| member.id);
        Ok(members)
    }

    fn initial_cluster_text(&self) -> String {
        let pairs: Vec<String> =
            self.config.initial_cluster.iter().map(|(name, url)| format!("{name}={url}")).collect();
        pairs.join(",")
    }

    pub(super) fn own_member(&self, members: &[Member]) -> Result<MemberId> {
        let name = &self.config.name;
        let Some(me) = members.iter().find(|member| member.attributes.name == *name) else {
            return Err(BootError::Config(format!(
                "couldn't find local name {name:?} in the initial cluster configuration"
            )));
        };
        let mut advertised = self.config.initial_advertise_peer_urls.clone();
        advertised.sort();
        if name_same_places(&me.peer_urls, &advertised) {
            return Ok(me.id);
        }
        let in_cluster = |url: &&String| !me.peer_urls.contains(url);
        let in_advertised = |url: &&String| !advertised.contains(url);
        let listed =
            |urls: &[String]| urls.iter().map(|url| format!("{name}={url}")).collect::<Vec<_>>().join(",");
        let missing_advertised: Vec<String> = me.peer_urls.iter().filter(in_advertised).cloned().collect();
        if !missing_advertised.is_empty() {
            return Err(BootError::Config(format!(
                "--initial-cluster has {} but missing from --initial-advertise-peer-urls={}",
                listed(&missing_advertised),
                advertised.join(",")
            )));
        }
        let missing_cluster: Vec<String> = advertised.iter().filter(in_cluster).cloned().collect();
        if !missing_cluster.is_empty() {
            return Err(BootError::Config(format!(
                "--initial-advertise-peer-urls has {} but missing from --initial-cluster={}",
                missing_cluster.join(","),
                self.initial_cluster_text()
            )));
        }
        Ok(me.id)
    }

    /// Nothing reaches the file before the log has it, so a file with applied entries had a log.
    pub(super) fn refuse_file_without_log(&self) -> Result<()> {
        if !self.exists(&self.db_path)? {
            return Ok(());
        }
        let db = match self.try_open_db() {
            Err(bolt::Error::Unborn { .. }) => return Ok(()),
            opened => opened.map_err(|error| self.file_error(error))?,
        };
        let applied = backend::applied(&db.begin_read()).map_err(|error| self.file_error(error))?;
        if applied.index == 0 {
            return Ok(());
        }
        Err(BootError::Data(format!(
            "{} holds the state up to log index {}, but there is no write-ahead log in {}: \
             restore the log's directory, or start with an empty --data-dir",
            self.db_path.display(),
            applied.index,
            self.wal_dir.display()
        )))
    }
}

/// Whether both lists name the same places: as written, or once their hosts are resolved. Names that cannot be
/// resolved yet are tried again for a while: a machine's network may come up after its services.
fn name_same_places(one: &[String], other: &[String]) -> bool {
    let as_written = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<String>>();
    if as_written(one) == as_written(other) {
        return true;
    }
    let started = Instant::now();
    loop {
        match (resolved(one), resolved(other)) {
            (Some(one), Some(other)) => return one == other,
            _ if started.elapsed() >= RESOLVE_LIMIT => return false,
            _ => std::thread::sleep(RESOLVE_PAUSE),
        }
    }
}

/// As [`name_same_places`], judged by what can be resolved now.
pub(super) fn same_urls(one: &[String], other: &[String]) -> bool {
    let as_written = |urls: &[String]| urls.iter().cloned().collect::<BTreeSet<String>>();
    as_written(one) == as_written(other) || resolved(one).is_some_and(|one| Some(one) == resolved(other))
}

/// The URLs with addresses in place of names; `None` when a name cannot be resolved.
fn resolved(urls: &[String]) -> Option<BTreeSet<String>> {
    let resolve = |url: &String| {
        let (scheme, address) = url.split_once("://")?;
        if scheme.starts_with("unix") {
            return Some(url.clone());
        }
        let addresses = address.trim_end_matches('/').to_socket_addrs().ok()?;
        // Compat: Go takes one address, IPv4 before IPv6.
        let address = addresses.min_by_key(|address| (address.is_ipv6(), *address))?;
        Some(format!("{scheme}://{address}"))
    };
    urls.iter().map(resolve).collect()
}

/// The entries that make the first members, already committed: everyone starts with the same.
fn first_entries(members: &[Member]) -> Vec<Entry> {
    let entry = |(at, member): (usize, &Member)| {
        let change = ConfChange {
            context: Bytes::from(MemberChange::context(member)),
            ..ConfChange::add_node(member.id.0)
        };
        Entry { term: Term(1), index: Index(at as u64 + 1), ..change.to_entry() }
    };
    members.iter().enumerate().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn urls_name_the_same_place_by_name_or_by_address() {
        let by_name = urls(&["http://localhost:2380"]);
        assert!(name_same_places(&by_name, &urls(&["http://127.0.0.1:2380"])));
        assert!(!name_same_places(&by_name, &urls(&["https://127.0.0.1:2380"])));
        assert!(!same_urls(&by_name, &urls(&["http://127.0.0.1:2381"])));
        let two = urls(&["http://127.0.0.1:1", "http://127.0.0.1:2"]);
        assert!(same_urls(&two, &urls(&["http://127.0.0.1:2", "http://127.0.0.1:1"])));
    }
}
