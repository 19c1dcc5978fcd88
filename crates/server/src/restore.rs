//! What the cluster has agreed on, read from the file: at start, and when a leader's snapshot took its place.

use std::fmt::Display;
use std::path::Path;
use std::sync::Arc;

use apply::{Alarms, State};
use bolt::ReadTx;
use bytes::Bytes;
use lease::{CheckpointPolicy, Lessor};
use membership::{Cluster, Version};
use mvcc::{CompactionPlan, CompactionsOnFile, Store};
use raft::ConfState;

use crate::backend::{self, Applied, Bucket, FileSource};
use crate::config::Config;
use crate::versions;

/// The newest layout of the file that this release reads.
const STORAGE_VERSION_MAX: Version = Version::new(3, 7);

/// Everything but the keys.
pub struct Parts {
    pub storage_version: Option<Version>,
    pub cluster: Cluster,
    pub applied: Applied,
    alarms: Alarms,
    lessor: Lessor,
    compactions: CompactionsOnFile,
}

/// Everything.
pub struct Restored {
    pub state: State,
    pub lessor: Lessor,
    pub storage_version: Option<Version>,
    /// The file holds everything up to here.
    pub applied: Applied,
    pub unfinished_compaction: Option<CompactionPlan>,
}

impl Parts {
    /// Reads the keys too, which may take long: `pause` is called behind each small piece. The error's text names
    /// the file.
    pub fn with_keys(self, tx: ReadTx, path: &Path, pause: &mut dyn FnMut()) -> Result<Restored, String> {
        let Parts { storage_version, cluster, applied, alarms, mut lessor, compactions } = self;
        let source = Arc::new(FileSource::new(tx).map_err(|error| told(path, &error))?);
        let mut lost = 0_u64;
        let mut attach = |key: &[u8], id: mvcc::LeaseId| {
            if lessor.attach(lease::LeaseId(id.0), Bytes::copy_from_slice(key)).is_err() {
                lost += 1;
            }
        };
        let mvcc::Restored { store, resumed } =
            Store::restore_with_pauses(source, compactions, &mut attach, pause)
                .map_err(|error| told(path, &error))?;
        if lost > 0 {
            tracing::warn!(keys = lost, "keys name leases that do not exist");
        }
        let state = State::new(store, alarms, cluster);
        Ok(Restored { state, lessor, storage_version, applied, unfinished_compaction: resumed })
    }
}

/// Reads the parts; the error's text names the file.
pub fn parts(tx: &ReadTx, path: &Path, config: &Config) -> Result<Parts, String> {
    let storage_version = backend::storage_version(tx).map_err(|error| told(path, &error))?;
    if let Some(version) = storage_version.filter(|version| *version > STORAGE_VERSION_MAX) {
        return Err(format!(
            "{} is of storage version {version}; this release reads up to {STORAGE_VERSION_MAX}: \
             downgrade it with the release that wrote it",
            path.display()
        ));
    }
    refuse_auth(tx, path)?;
    let cluster = cluster(tx, path)?;
    if let Some(refusal) = cluster.version().and_then(versions::refusal) {
        return Err(refusal);
    }
    Ok(Parts {
        storage_version,
        cluster,
        applied: backend::applied(tx).map_err(|error| told(path, &error))?,
        alarms: alarms(tx, path)?,
        lessor: lessor(tx, path, config)?,
        compactions: storage::compactions(tx).map_err(|error| told(path, &error))?,
    })
}

/// The configuration that raft starts from. The members are in the same transactions as the applied index, so
/// they tell it exactly; what a snapshot record says may be older. Source: etcd 3.7 `server/etcdserver/bootstrap.go`.
pub fn conf_state_of(cluster: &Cluster) -> ConfState {
    let ids = |are_learners: bool| {
        cluster.members().filter(move |member| member.is_learner == are_learners).map(|member| member.id.0)
    };
    ConfState { learners: ids(true).collect(), ..ConfState::of_voters(ids(false)) }
}

/// The members and versions of the file.
pub fn cluster(tx: &ReadTx, path: &Path) -> Result<Cluster, String> {
    let mut records = Vec::new();
    let buckets = [
        (Bucket::Members, membership::Bucket::Members),
        (Bucket::MembersRemoved, membership::Bucket::MembersRemoved),
        (Bucket::Cluster, membership::Bucket::Cluster),
    ];
    for (bucket, kind) in buckets {
        let pairs = backend::pairs(tx, bucket).map_err(|error| told(path, &error))?;
        records.extend(pairs.into_iter().map(|(key, value)| (kind, key, value)));
    }
    Cluster::restore(records).map_err(|error| told(path, &error))
}

/// This release has no users and roles: it would open to everyone what they protect.
fn refuse_auth(tx: &ReadTx, path: &Path) -> Result<(), String> {
    let pairs = backend::pairs(tx, Bucket::Auth).map_err(|error| told(path, &error))?;
    if pairs.iter().any(|(key, value)| *key == b"authEnabled" && *value == [1]) {
        return Err(format!(
            "{} has authentication enabled, which this release does not support",
            path.display()
        ));
    }
    Ok(())
}

fn alarms(tx: &ReadTx, path: &Path) -> Result<Alarms, String> {
    let pairs = backend::pairs(tx, Bucket::Alarm).map_err(|error| told(path, &error))?;
    Alarms::restore(pairs.into_iter().map(|(key, _)| key))
        .map_err(|error| told(path, &format!("read alarm: {error}")))
}

fn lessor(tx: &ReadTx, path: &Path, config: &Config) -> Result<Lessor, String> {
    let checkpoints = config.lease_checkpoint_interval.map_or(CheckpointPolicy::Off, CheckpointPolicy::Every);
    let lease_config = lease::Config::for_election_timeout(config.election_timeout, checkpoints);
    let pairs = backend::pairs(tx, Bucket::Lease).map_err(|error| told(path, &error))?;
    let records: Result<Vec<_>, _> =
        pairs.into_iter().map(|(key, value)| lease::Record::decode(key, value)).collect();
    let records = records.map_err(|error| told(path, &format!("read lease: {error}")))?;
    Ok(Lessor::restore(lease_config, records))
}

fn told(path: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", path.display())
}
