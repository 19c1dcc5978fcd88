//! The copied database, made that of a new cluster.
//!
//! Members and removed members of the old cluster go, those of the new one come, and the applied index is that
//! of the new log. Keys, leases, alarms, users and the cluster version stay.

use std::path::Path;

use bolt::{Db, Finding, Layout, Options, ReadTx};
use disk::{Disk, OpenMode};
use membership::{Cluster, ClusterId, Member, MemberChange};
use mvcc::{Revision, RevisionPair, compact_revision_to_bytes};
use storage::{Applied, Bucket, Buckets, CONSISTENT_INDEX, SCHEDULED_COMPACT, TERM, Write};

use super::{Restore, RestoreError, RevisionBump};
use crate::log::{self, Level, Value};
use crate::progress::Progress;
use crate::status;

const CALLER: &str = "restore/database.rs";

/// Address space for what is written here, whatever was asked for.
const ROOM_BYTES: u64 = 64 << 20;

/// Checks the database at `path` and makes it the members'. One transaction: all of it or nothing.
pub(super) fn make_own(
    disk: &dyn Disk,
    path: &Path,
    restore: &Restore,
    members: &[Member],
    cluster_id: ClusterId,
    applied: Applied,
) -> Result<(), RestoreError> {
    let file = disk.open(path, OpenMode::ReadWrite).map_err(RestoreError::io("open", path))?;
    let size = file.len().map_err(RestoreError::io("stat", path))?;
    if size == 0 {
        return Err(RestoreError::Database(bolt::Error::Unborn { file_size_bytes: 0 }));
    }
    let defaults = Options { layout: Layout::Flat, ..Options::default() };
    let options = match restore.initial_memory_map_size_bytes {
        0 => defaults,
        asked => Options { reserve_bytes: asked.max(size.saturating_add(ROOM_BYTES)), ..defaults },
    };
    let db = Db::open(file, options)?;
    let latest = latest_revision(&check(&db)?)?;

    let mut tx = db.begin_write()?;
    log::line(Level::Info, CALLER, "Trimming membership information from the backend...", &[]);
    for bucket in [Bucket::Members, Bucket::MembersRemoved] {
        match tx.delete_bucket(bucket.name()) {
            Ok(()) | Err(bolt::Error::BucketNotFound) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let buckets = Buckets::open(&mut tx)?;
    if let Some(bump) = restore.bump {
        let bumped = bumped(latest, bump)?;
        // Compat: a record of no key at all. Whoever reads it finds an empty key that no request can name.
        let record = RevisionPair::new(bumped, 0).to_bytes();
        tx.put(buckets.id(Bucket::Key), &record, b"")?;
        buckets
            .apply(&mut tx, &Write::meta(SCHEDULED_COMPACT, compact_revision_to_bytes(bumped).to_vec()))?;
    }
    let mut cluster = Cluster::default();
    for member in members {
        for write in cluster.apply(MemberChange::Add(member.clone())) {
            buckets.apply(&mut tx, &write.into())?;
        }
        tell_of(member, cluster_id);
    }
    buckets.apply(&mut tx, &Write::meta(CONSISTENT_INDEX, applied.index.to_be_bytes().to_vec()))?;
    buckets.apply(&mut tx, &Write::meta(TERM, applied.term.to_be_bytes().to_vec()))?;
    tx.commit()?;
    Ok(db.close()?)
}

/// Damage that a hash cannot tell, because it was saved with it. Pages that are merely lost stay so.
fn check(db: &Db) -> Result<ReadTx, RestoreError> {
    let _progress = Progress::of("checking the snapshot", 0);
    let tx = db.begin_read();
    let findings: Vec<Finding> = bolt::check(&tx).into_iter().filter(|finding| !finding.is_leak()).collect();
    if findings.is_empty() { Ok(tx) } else { Err(RestoreError::Damaged(findings)) }
}

/// The revision that the store stands at. Reads every record, so that none is found malformed at a start.
fn latest_revision(tx: &ReadTx) -> Result<Revision, RestoreError> {
    let Some(keys) = tx.bucket(Bucket::Key.name())? else { return Err(RestoreError::NoKeys) };
    let compactions = storage::compactions(tx)?;
    let mut latest = compactions.scheduled.max(compactions.finished).unwrap_or_default();
    let mut cursor = keys.cursor();
    let mut entry = cursor.first()?;
    while let Some(pair) = entry {
        let (key, _) = status::record(pair.key(), pair.value()).map_err(RestoreError::Record)?;
        latest = latest.max(key.revision.main);
        entry = cursor.next()?;
    }
    Ok(latest)
}

/// The revision behind the skipped ones, with at least one left to be written.
fn bumped(latest: Revision, bump: RevisionBump) -> Result<Revision, RestoreError> {
    let RevisionBump { amount } = bump;
    let bumped = latest.get().checked_add(amount).and_then(Revision::new);
    let bumped = bumped
        .filter(|bumped| *bumped < Revision::MAX)
        .ok_or(RestoreError::BumpTooLarge { latest: latest.to_wire(), amount })?;
    let fields = [
        ("latest-revision", Value::int(latest.get())),
        ("bump-amount", Value::int(amount)),
        ("new-latest-revision", Value::int(bumped.get())),
    ];
    log::line(Level::Info, CALLER, "bumping latest revision", &fields);
    let fields = [("revision", Value::int(bumped.get()))];
    log::line(Level::Info, CALLER, "marking revision compacted", &fields);
    Ok(bumped)
}

fn tell_of(member: &Member, cluster_id: ClusterId) {
    let fields = [
        ("cluster-id", Value::text(cluster_id)),
        ("local-member-id", Value::text(0)),
        ("added-peer-id", Value::text(member.id)),
        ("added-peer-peer-urls", Value::Texts(member.peer_urls.clone())),
        ("added-peer-is-learner", Value::Bool(member.is_learner)),
    ];
    log::line(Level::Info, CALLER, "added member", &fields);
}
