//! The later starts of a member: the log says who it is, and `--initial-…` is not read.

use std::path::PathBuf;

use bolt::Db;
use membership::{Attributes, ClusterId, Member, MemberChange, MemberId};
use prost::Message;
use proto::walpb;
use raft::{ConfChange, ConfChangeV2, Entry, EntryId, HardState, Index};
use wal::{SnapshotRecord, Wal};

use super::database::FileAge;
use super::{BootError, Booted, Dir, LogState, Result, io};
use crate::backend;
use crate::restore;

impl Dir<'_> {
    pub(super) fn start_again(&self) -> Result<Booted> {
        let snapshot = self.newest_usable_snapshot()?;
        let from =
            snapshot.as_ref().map_or(EntryId::default(), |record| EntryId::new(record.term, record.index));
        let (mut wal, recovered) = Wal::open(self.disk.clone(), &self.wal_dir, from, self.log)?;
        if let Some(repair) = &recovered.repair {
            tracing::warn!(
                segment = %repair.segment.display(),
                offset = repair.offset,
                copy = %repair.copy.display(),
                "cut a torn record off the end of the write-ahead log"
            );
        }
        let metadata = walpb::Metadata::decode(recovered.metadata.clone())
            .map_err(|error| BootError::Data(format!("metadata of the write-ahead log: {error}")))?;
        let db = self.open_db_for(from.index)?;
        let mut log = LogState {
            hard_state: recovered.hard_state,
            snapshot: snapshot.filter(|record| record.index > Index::ZERO),
            entries: recovered.entries,
        };
        tracing::info!(
            local_member_id = format!("{:x}", metadata.node_id),
            cluster_id = format!("{:x}", metadata.cluster_id),
            commit_index = log.hard_state.commit.0,
            "restarting local member"
        );
        let me = MemberId(metadata.node_id);
        if self.config.force_new_cluster {
            self.leave_the_others(&mut wal, &db, &mut log, me)?;
        }
        self.assemble(wal, db, me, ClusterId(metadata.cluster_id), log)
    }

    /// The newest snapshot of the log whose state is there: in the file, or received. A record may come
    /// before its file counts, when a start was cut short; then an earlier one serves, if the log still has
    /// what follows it.
    fn newest_usable_snapshot(&self) -> Result<Option<SnapshotRecord>> {
        let mut snapshots = wal::valid_snapshots(self.disk.as_ref(), &self.wal_dir)?;
        snapshots.sort_by_key(|record| record.index);
        let Some(newest) = snapshots.last().map(|record| record.index) else { return Ok(None) };
        let held = self.index_held()?;
        while let Some(record) = snapshots.pop() {
            if record.index <= held || self.exists(&self.received(record.index))? {
                if record.index < newest {
                    tracing::warn!(
                        newest_index = newest.0,
                        usable_index = record.index.0,
                        "the newest snapshot of the log has no file; starting from an earlier one"
                    );
                }
                return Ok(Some(record));
            }
        }
        Err(self.snapshot_file_missing(newest))
    }

    /// Up to which index the file holds the state; zero when it is not there or was never completely made.
    fn index_held(&self) -> Result<Index> {
        if !self.exists(&self.db_path)? {
            return Ok(Index::ZERO);
        }
        match self.try_open_db() {
            Ok(db) => {
                let applied = backend::applied(&db.begin_read()).map_err(|error| self.file_error(error))?;
                Ok(Index(applied.index))
            }
            Err(bolt::Error::Unborn { .. }) => Ok(Index::ZERO),
            Err(error) => Err(self.file_error(error)),
        }
    }

    fn received(&self, snapshot: Index) -> PathBuf {
        self.snap_dir.join(format!("{:016x}.snap.db", snapshot.0))
    }

    /// `--force-new-cluster`: drops what is not known to be committed, and adds committed entries that remove
    /// everybody else. Source: etcd `server/etcdserver/bootstrap.go`, `createConfChangeEnts`.
    fn leave_the_others(&self, wal: &mut Wal, db: &Db, log: &mut LogState, me: MemberId) -> Result<()> {
        let tx = db.begin_read();
        let applied = backend::applied(&tx).map_err(|error| self.file_error(error))?;
        let cluster = restore::cluster(&tx, &self.db_path).map_err(BootError::Data)?;
        let hard_state = log.hard_state_covering(applied);
        let commit = hard_state.commit;
        let dropped = log.entries.iter().filter(|entry| entry.index > commit).count();
        log.entries.retain(|entry| entry.index <= commit);
        let mut conf_state = match cluster.members().next() {
            Some(_) => restore::conf_state_of(&cluster),
            None => log.conf_state(),
        };
        for entry in log.entries.iter().filter(|entry| entry.index.0 > applied.index) {
            let change = ConfChangeV2::from_entry(entry)
                .map_err(|error| BootError::Data(format!("entry {} of the log: {error}", entry.index)))?;
            // A change that the members refused is left out by them as well.
            if let Some(change) = change
                && let Ok(next) = conf_state.after(&change)
            {
                conf_state = next;
            }
        }
        let mut changes = Vec::new();
        if !conf_state.voters.contains(&me.0) {
            let context = match conf_state.learners.contains(&me.0) {
                true => MemberChange::promote_context(me),
                false => MemberChange::context(&Member {
                    id: me,
                    peer_urls: self.config.initial_advertise_peer_urls.clone(),
                    is_learner: false,
                    attributes: Attributes::default(),
                }),
            };
            changes.push(ConfChange { context: context.into(), ..ConfChange::add_node(me.0) });
        }
        let others = conf_state.voters.iter().chain(&conf_state.learners).filter(|id| **id != me.0);
        changes.extend(others.map(|&id| ConfChange::remove_node(id)));
        let entries: Vec<Entry> = (1..)
            .zip(&changes)
            .map(|(at, change)| Entry { term: hard_state.term, index: commit.plus(at), ..change.to_entry() })
            .collect();
        let last = entries.last().map_or(commit, |entry| entry.index);
        log.hard_state = HardState { commit: last, ..hard_state };
        wal.append(Some(&log.hard_state), &entries)?;
        wal.sync()?;
        log.entries.extend(entries);
        tracing::warn!(
            local_member_id = %me,
            dropped_entries = dropped,
            commit_index = last.0,
            "forcing a new cluster of this member alone"
        );
        Ok(())
    }

    /// The file that goes with a log whose entries begin behind `snapshot`.
    fn open_db_for(&self, snapshot: Index) -> Result<Db> {
        // The log holds everything from its first entry on: the file can be made anew from it.
        let age = if snapshot == Index::ZERO { FileAge::MayBeUnborn } else { FileAge::Old };
        let received = self.received(snapshot);
        if age == FileAge::Old && !self.exists(&self.db_path)? && !self.exists(&received)? {
            return Err(self.snapshot_file_missing(snapshot));
        }
        let db = self.open_db(age)?;
        let applied = backend::applied(&db.begin_read()).map_err(|error| self.file_error(error))?;
        if applied.index >= snapshot.0 {
            return Ok(db);
        }
        if !self.exists(&received)? {
            return Err(self.snapshot_file_missing(snapshot));
        }
        tracing::info!(path = %received.display(), "taking over a received snapshot file");
        drop(db);
        self.disk
            .rename(&received, &self.db_path)
            .and_then(|()| self.disk.sync_dir(&self.snap_dir))
            .map_err(io(format!("rename {}", received.display())))?;
        self.open_db(FileAge::Old)
    }

    fn snapshot_file_missing(&self, snapshot: Index) -> BootError {
        BootError::Data(format!(
            "failed to find database snapshot file (snap: snapshot file doesn't exist): {} does not hold \
             the state of the log's snapshot at index {}",
            self.db_path.display(),
            snapshot.0
        ))
    }
}
