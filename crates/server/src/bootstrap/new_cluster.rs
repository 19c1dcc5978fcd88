//! The first start of a member of a cluster that is being formed: everyone begins with the same entries, which
//! make the members that `--initial-cluster` names.

use std::time::Duration;

use golang::resolve::compare_urls;
use membership::{ClusterId, Member, MemberId};
use raft::{HardState, Index, Term};
use storage::first_entries;

use super::database::FileAge;
use super::{BootError, Booted, Dir, LogState, Result};
use crate::backend;

/// How long the others have to tell that this member was part of the cluster before.
/// Source: etcd `server/etcdserver/config.go`, `BootstrapTimeoutEffective`.
const ASK_LIMIT: Duration = Duration::from_secs(1);

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
        membership::initial_members(&self.config.initial_cluster, &self.config.initial_cluster_token)
            .map_err(|error| BootError::Config(error.to_string()))
    }

    pub(super) fn own_member(&self, members: &[Member]) -> Result<MemberId> {
        let advertised = &self.config.initial_advertise_peer_urls;
        membership::own_member(members, &self.config.name, advertised, compare_urls)
            .map_err(|error| BootError::Config(error.to_string()))
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
