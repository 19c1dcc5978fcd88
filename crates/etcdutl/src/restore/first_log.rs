//! The log that the new member begins with, and the `.snap` file beside its first snapshot.

use std::sync::Arc;

use bytes::Bytes;
use disk::Disk;
use membership::{Cluster, ClusterId, Member, MemberChange, MemberId};
use prost::Message;
use proto::walpb;
use raft::{ConfState, HardState, Index, Term};
use storage::{Applied, SnapFile, first_entries, v2_store};
use wal::{SnapshotRecord, Wal};

use super::RestoreError;
use super::building::Building;

/// The members join by the same entries as in a cluster that begins empty; a snapshot covers them, as the
/// database is that far.
pub(super) fn write(
    disk: &Arc<dyn Disk>,
    options: wal::Options,
    building: &Building,
    me: MemberId,
    cluster_id: ClusterId,
    members: &[Member],
    applied: Applied,
) -> Result<(), RestoreError> {
    let metadata = walpb::Metadata { node_id: me.0, cluster_id: cluster_id.0 }.encode_to_vec();
    let mut wal = Wal::create(disk.clone(), building.wal_path(), Bytes::from(metadata), options)?;
    let (term, index) = (Term(applied.term), Index(applied.index));
    // Compat: whoever comes first has everyone's vote of a term that is over.
    let vote = members.first().map(|member| member.id.0);
    wal.append(Some(&HardState { term, vote, commit: index }), &first_entries(members))?;
    wal.sync()?;

    let conf_state = ConfState::of_voters(members.iter().map(|member| member.id.0));
    let mut cluster = Cluster::default();
    for member in members {
        cluster.apply(MemberChange::Add(member.clone()));
    }
    let snap_dir = building.snap_dir();
    SnapFile::new(applied, &conf_state, &v2_store::dump(&cluster, applied.index))
        .save(&**disk, &snap_dir)
        .map_err(RestoreError::io("save a .snap file in", &snap_dir))?;
    wal.save_snapshot(&SnapshotRecord { index, term, conf_state: Some(conf_state) })?;
    Ok(wal.close()?)
}
