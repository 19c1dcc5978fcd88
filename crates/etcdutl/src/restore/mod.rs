//! A snapshot becomes the directory of a member of a new cluster.
//!
//! Everything is made beside the place where a start would look for it, made durable, and then renamed: the log
//! first, if it lies elsewhere, and last of all `member`. Whatever fails or ends the process before leaves no
//! `member`; an error also takes back what was made.
//!
//! Source: etcd `etcdutl/snapshot/v3_snapshot.go` (3.7.3).

mod building;
mod copy;
mod database;
mod error;
mod first_log;

use std::path::PathBuf;
use std::sync::Arc;

use disk::Disk;
use golang::resolve::compare_urls;
use membership::{ClusterId, initial_members, own_member};
use storage::Applied;

pub use error::RestoreError;

use crate::log::{self, Level, Value};
use building::Building;

const CALLER: &str = "restore/mod.rs";

/// What is restored, where to, and of which cluster the member will be.
#[derive(Clone, Debug)]
pub struct Restore {
    pub snapshot: PathBuf,
    pub data_dir: PathBuf,
    pub wal_dir: PathBuf,
    pub name: String,
    /// Names with their peer URLs.
    pub initial_cluster: Vec<(String, String)>,
    pub initial_cluster_token: String,
    pub initial_advertise_peer_urls: Vec<String>,
    pub hash: Hash,
    /// Address space for the mapping of the database file; 0 for the default.
    pub initial_memory_map_size_bytes: u64,
    pub bump: Option<RevisionBump>,
}

/// Whether the snapshot file must end in its own checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    Required,
    Ignored,
}

/// Revisions are skipped, and everything before is marked as compacted: clients that know revisions of the
/// cluster before must not take them for ones of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RevisionBump {
    pub amount: u64,
}

/// Restores on `disk`.
pub fn restore(
    disk: &Arc<dyn Disk>,
    log_options: wal::Options,
    restore: &Restore,
) -> Result<(), RestoreError> {
    let members = initial_members(&restore.initial_cluster, &restore.initial_cluster_token);
    let members = members.map_err(RestoreError::InitialCluster)?;
    let me = own_member(&members, &restore.name, &restore.initial_advertise_peer_urls, compare_urls)
        .map_err(RestoreError::InitialCluster)?;
    let cluster_id = ClusterId::of(members.iter().map(|member| member.id));
    building::check_targets(&**disk, &restore.data_dir, &restore.wal_dir)?;
    tell("restoring snapshot", restore);

    let building = Building::begin(disk.clone(), &restore.data_dir, &restore.wal_dir)?;
    let applied = Applied { index: members.len() as u64, term: 1 };
    copy::copy(&**disk, &restore.snapshot, &building.db_path(), restore.hash)?;
    database::make_own(&**disk, &building.db_path(), restore, &members, cluster_id, applied)?;
    first_log::write(disk, log_options, &building, me, cluster_id, &members, applied)?;
    building.finish()?;
    tell("restored snapshot", restore);
    Ok(())
}

fn tell(message: &str, restore: &Restore) {
    let path = |path: &PathBuf| Value::text(path.display());
    let snap_dir = restore.data_dir.join("member").join("snap");
    let fields = [
        ("path", path(&restore.snapshot)),
        ("wal-dir", path(&restore.wal_dir)),
        ("data-dir", path(&restore.data_dir)),
        ("snap-dir", path(&snap_dir)),
        ("initial-memory-map-size", Value::int(restore.initial_memory_map_size_bytes)),
    ];
    log::line(Level::Info, CALLER, message, &fields);
}

#[cfg(test)]
mod tests;
