//! The storage version of a stopped member's files, moved to that of another release.
//!
//! Source: etcd `server/storage/schema/{schema,migration}.go` (3.7.3). 3.6 and newer name the version in the
//! bucket `meta`; 3.5 has no such key. Nothing else differs between these layouts.

use std::fmt;
use std::path::Path;

use bolt::{ReadTx, WriteTx};
use disk::RealDisk;
use membership::Version;
use prost::Message;
use proto::etcdserverpb::InternalRaftRequest;
use raft::{Entry, EntryKind};
use storage::{Bucket, STORAGE_VERSION, TERM};

use crate::log::{self, Level, Value};
use crate::open::{Access, LockWait, OpenError, open};

const CALLER: &str = "migrate.rs";

/// The oldest release that files can be moved to, and the newest that is known.
pub const OLDEST: Version = Version::new(3, 5);
const NEWEST: Version = Version::new(3, 7);
/// From here on the file names its version.
const FIRST_NAMED: Version = Version::new(3, 6);

/// What becomes of a migration that cannot be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    Report,
    /// The version is written all the same: `--force`.
    Override,
}

#[derive(Debug)]
pub enum MigrateError {
    Open(OpenError),
    Database(bolt::Error),
    /// The file is of 3.4 or older, or of no member at all.
    NoTerm,
    /// The file's storage version is no version.
    MalformedVersion(String),
    Snapshots(wal::Error),
    Log(wal::Error),
    /// An entry that is no request.
    Entry {
        index: u64,
        reason: String,
    },
    Plan(PlanError),
    NewerEntries {
        target: Version,
        needed: Version,
    },
}

/// Why there is no way from one version to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PlanError {
    OtherMajor,
    Unknown(Version),
}

impl fmt::Display for MigrateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MigrateError::Open(error) => error.fmt(f),
            MigrateError::Database(error) => error.fmt(f),
            MigrateError::NoTerm => f.write_str("missing term information"),
            MigrateError::MalformedVersion(text) => write!(f, "{text:?} is no storage version"),
            MigrateError::Snapshots(error) => write!(f, "failed to get the lastest snapshot: {error}"),
            MigrateError::Log(error) => write!(f, "failed to open wal: {error}"),
            MigrateError::Entry { index, reason } => {
                write!(f, "failed to read wal: entry {index}: {reason}")
            }
            MigrateError::Plan(PlanError::OtherMajor) => {
                f.write_str("cannot create migration plan: changing major storage version is not supported")
            }
            MigrateError::Plan(PlanError::Unknown(version)) => {
                write!(f, "cannot create migration plan: version \"{version}\" is not supported")
            }
            MigrateError::NewerEntries { target, needed } => write!(
                f,
                "cannot downgrade storage, WAL contains newer entries, as the target version ({target}) is \
                 lower than the version ({needed}) detected from WAL logs"
            ),
        }
    }
}

impl std::error::Error for MigrateError {}

impl From<bolt::Error> for MigrateError {
    fn from(error: bolt::Error) -> MigrateError {
        MigrateError::Database(error)
    }
}

/// Moves the files in a data directory to `target`.
pub fn migrate(
    data_dir: &Path,
    target: Version,
    on_failure: Failure,
    wait: LockWait,
) -> Result<(), MigrateError> {
    let file = data_dir.join("member").join("snap").join("db");
    let db = open(&file, Access::Write, wait, None).map_err(MigrateError::Open)?;
    let current = match storage_version(&db.begin_read()) {
        Err(MigrateError::NoTerm) => {
            let message = "failed to detect storage version. \
                           Please make sure you are using data dir from etcd v3.5 and older";
            log::line(Level::Error, CALLER, message, &[]);
            return Err(MigrateError::NoTerm);
        }
        detected => detected?,
    };
    if current == target {
        let fields = [("storage-version", Value::text(current.major_minor()))];
        log::line(Level::Info, CALLER, "storage version up-to-date", &fields);
        return Ok(());
    }
    let needed = match needed_version(&data_dir.join("member").join("wal")) {
        Ok(needed) => needed,
        Err(error) => {
            let fields = [("error", Value::text(&error))];
            log::line(Level::Error, CALLER, "Failed to finalize config", &fields);
            return Err(error);
        }
    };
    if current.major != target.major {
        let (current, target) = (current.without_patch(), target.without_patch());
        let fields =
            [("storage-version", Value::text(current)), ("target-storage-version", Value::text(target))];
        log::line(Level::Error, CALLER, "Changing major storage version is not supported", &fields);
    }
    let mut tx = db.begin_write()?;
    match (plan(current, target, needed), on_failure) {
        (Ok(steps), _) => {
            for step in steps {
                set_version(&mut tx, step)?;
                let fields = [("new-storage-version", Value::text(step))];
                log::line(Level::Info, CALLER, "updated storage version", &fields);
            }
        }
        (Err(error), Failure::Report) => return Err(error),
        (Err(error), Failure::Override) => {
            let fields = [("error", Value::text(&error))];
            log::line(Level::Info, CALLER, "normal migrate failed, trying with force", &fields);
            set_version(&mut tx, target)?;
            warn_of_force(target);
        }
    }
    tx.commit()?;
    Ok(db.close()?)
}

fn warn_of_force(target: Version) {
    if target < FIRST_NAMED {
        return log::line(Level::Warn, CALLER, "forcefully cleared storage version", &[]);
    }
    let fields = [("storage-version", Value::text(target.major_minor()))];
    log::line(Level::Warn, CALLER, "forcefully set storage version", &fields);
}

fn set_version(tx: &mut WriteTx, version: Version) -> bolt::Result<()> {
    let meta = tx.create_bucket_if_missing(Bucket::Meta.name())?;
    match version < FIRST_NAMED {
        true => tx.delete(meta, STORAGE_VERSION).map(|_| ()),
        false => tx.put(meta, STORAGE_VERSION, version.to_string().as_bytes()),
    }
}

fn storage_version(tx: &ReadTx) -> Result<Version, MigrateError> {
    if let Some(text) = storage::meta(tx, STORAGE_VERSION)? {
        let text = String::from_utf8_lossy(text).into_owned();
        return text.parse().map_err(|_| MigrateError::MalformedVersion(text));
    }
    // A term of 0 is none.
    let term = storage::meta(tx, TERM)?.filter(|term| term.iter().any(|byte| *byte != 0));
    term.map(|_| OLDEST).ok_or(MigrateError::NoTerm)
}

/// The versions on the way, one minor after the other, `target` last.
fn plan(current: Version, target: Version, needed: Option<Version>) -> Result<Vec<Version>, MigrateError> {
    let (mut at, target) = (current.without_patch(), target.without_patch());
    if at.major != target.major {
        return Err(MigrateError::Plan(PlanError::OtherMajor));
    }
    let mut steps = Vec::new();
    while at != target {
        // Whichever way it goes, what changes is told by the higher of the two.
        let (higher, next) = match at < target {
            true => (Version::new(at.major, at.minor + 1), Version::new(at.major, at.minor + 1)),
            false => (at, Version::new(at.major, at.minor - 1)),
        };
        if higher < FIRST_NAMED || higher > NEWEST {
            return Err(MigrateError::Plan(PlanError::Unknown(higher)));
        }
        steps.push(next);
        at = next;
    }
    match needed {
        Some(needed) if target < current && target < needed => {
            Err(MigrateError::NewerEntries { target, needed })
        }
        _ => Ok(steps),
    }
}

/// The release that it takes to read the entries behind the newest snapshot; `None` if the oldest will do.
fn needed_version(wal_dir: &Path) -> Result<Option<Version>, MigrateError> {
    let snapshots = wal::valid_snapshots(&RealDisk, wal_dir).map_err(MigrateError::Snapshots)?;
    let from = snapshots.last().map(wal::SnapshotRecord::id).unwrap_or_default();
    let log = wal::read(&RealDisk, wal_dir, from).map_err(MigrateError::Log)?;
    let mut newest = None;
    for entry in &log.entries {
        newest = newest.max(needed_by(entry)?);
    }
    Ok(newest)
}

/// etcd marks in its messages with which release each field came. Since [`OLDEST`] that is one request, which
/// exists for tests and names a version itself.
fn needed_by(entry: &Entry) -> Result<Option<Version>, MigrateError> {
    let malformed = |reason: String| MigrateError::Entry { index: entry.index.0, reason };
    match entry.kind {
        EntryKind::ConfChange | EntryKind::ConfChangeV2 => Ok(None),
        EntryKind::Normal => {
            let request = InternalRaftRequest::decode(entry.data.clone())
                .map_err(|error| malformed(error.to_string()))?;
            let Some(test) = request.downgrade_version_test else { return Ok(None) };
            let named: Version = test.ver.parse().map_err(|error| malformed(format!("{error}")))?;
            Ok(Some(named.max(FIRST_NAMED)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_way_goes_by_every_minor() {
        let v = |minor| Version::new(3, minor);
        let way = |from, to, needed| plan(from, to, needed).map_err(|error| error.to_string());
        assert_eq!(way(v(5), v(7), None), Ok(vec![v(6), v(7)]));
        assert_eq!(way(v(7), v(5), None), Ok(vec![v(6), v(5)]));
        assert_eq!(
            way(v(7), v(8), None),
            Err("cannot create migration plan: version \"3.8.0\" is not supported".into())
        );
        assert_eq!(
            way(v(8), v(7), None),
            Err("cannot create migration plan: version \"3.8.0\" is not supported".into())
        );
        assert_eq!(
            way(v(7), v(5), Some(v(6))),
            Err("cannot downgrade storage, WAL contains newer entries, as the target version (3.5.0) is lower \
                 than the version (3.6.0) detected from WAL logs"
                .into())
        );
        assert_eq!(way(v(5), v(6), Some(v(7))), Ok(vec![v(6)]));
        assert!(
            way(v(7), Version::new(4, 0), None)
                .unwrap_err()
                .ends_with("changing major storage version is not supported")
        );
    }

    #[test]
    fn only_the_request_made_for_tests_needs_a_newer_release() {
        let entry =
            |request: InternalRaftRequest| Entry { data: request.encode_to_vec().into(), ..Entry::default() };
        let test = proto::etcdserverpb::DowngradeVersionTestRequest { ver: "3.7.0".to_owned() };
        let with_test = InternalRaftRequest { downgrade_version_test: Some(test), ..Default::default() };
        assert_eq!(needed_by(&entry(with_test)).unwrap(), Some(Version::new(3, 7)));
        let put = InternalRaftRequest { put: Some(Default::default()), ..Default::default() };
        assert_eq!(needed_by(&entry(put)).unwrap(), None);
        assert_eq!(needed_by(&Entry::default()).unwrap(), None);
        let bent = Entry { data: b"\xff\xff".to_vec().into(), ..Entry::default() };
        assert!(matches!(needed_by(&bent), Err(MigrateError::Entry { .. })));
    }
}
