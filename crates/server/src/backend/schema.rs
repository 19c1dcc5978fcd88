//! The buckets of the file and the keys of `meta`. Source: etcd `server/storage/schema`.

use bolt::{BucketId, Db, ReadTx, WriteTx};
use bytes::Bytes;
use membership::Version;
use raft::ConfState;
use serde_json::json;

/// A top-level bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bucket {
    Key,
    Meta,
    Lease,
    Alarm,
    Cluster,
    Members,
    MembersRemoved,
    Auth,
    AuthUsers,
    AuthRoles,
}

impl Bucket {
    pub const ALL: [Bucket; 10] = [
        Bucket::Key,
        Bucket::Meta,
        Bucket::Lease,
        Bucket::Alarm,
        Bucket::Cluster,
        Bucket::Members,
        Bucket::MembersRemoved,
        Bucket::Auth,
        Bucket::AuthUsers,
        Bucket::AuthRoles,
    ];

    pub fn name(self) -> &'static [u8] {
        match self {
            Bucket::Key => b"key",
            Bucket::Meta => b"meta",
            Bucket::Lease => b"lease",
            Bucket::Alarm => b"alarm",
            Bucket::Cluster => b"cluster",
            Bucket::Members => b"members",
            Bucket::MembersRemoved => b"members_removed",
            Bucket::Auth => b"auth",
            Bucket::AuthUsers => b"authUsers",
            Bucket::AuthRoles => b"authRoles",
        }
    }

    fn position(self) -> usize {
        self as usize
    }
}

impl From<membership::Bucket> for Bucket {
    fn from(bucket: membership::Bucket) -> Bucket {
        match bucket {
            membership::Bucket::Members => Bucket::Members,
            membership::Bucket::MembersRemoved => Bucket::MembersRemoved,
            membership::Bucket::Cluster => Bucket::Cluster,
        }
    }
}

/// One write outside the `key` bucket's records; no value deletes the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    pub bucket: Bucket,
    pub key: Bytes,
    pub value: Option<Bytes>,
}

impl Write {
    pub fn meta(key: &'static [u8], value: impl Into<Bytes>) -> Write {
        Write { bucket: Bucket::Meta, key: Bytes::from_static(key), value: Some(value.into()) }
    }
}

impl Write {
    pub fn remove_meta(key: &'static [u8]) -> Write {
        Write { bucket: Bucket::Meta, key: Bytes::from_static(key), value: None }
    }
}

impl From<membership::Write> for Write {
    fn from(write: membership::Write) -> Write {
        Write { bucket: write.bucket.into(), key: write.key.into(), value: write.value.map(Bytes::from) }
    }
}

pub const CONSISTENT_INDEX: &[u8] = b"consistent_index";
pub const TERM: &[u8] = b"term";
pub const CONF_STATE: &[u8] = b"confState";
pub const STORAGE_VERSION: &[u8] = b"storageVersion";
pub const SCHEDULED_COMPACT: &[u8] = b"scheduledCompactRev";
pub const FINISHED_COMPACT: &[u8] = b"finishedCompactRev";

const AUTH_REVISION: &[u8] = b"authRevision";

/// The keys of `meta` that Hash passes over, because members differ in them.
pub const NOT_HASHED: [&[u8]; 3] = [CONSISTENT_INDEX, TERM, STORAGE_VERSION];

/// The last applied entry that a state of the file holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Applied {
    pub index: u64,
    pub term: u64,
}

/// The bucket ids of one write transaction.
pub struct Buckets {
    ids: [BucketId; Bucket::ALL.len()],
}

impl Buckets {
    /// Makes the buckets that are missing.
    pub fn open(tx: &mut WriteTx) -> bolt::Result<Buckets> {
        let mut ids = [BucketId::ROOT; Bucket::ALL.len()];
        for bucket in Bucket::ALL {
            ids[bucket.position()] = tx.create_bucket_if_missing(bucket.name())?;
        }
        // Revisions only grow, so the last leaf fills up and is never split again.
        tx.set_fill_percent(ids[Bucket::Key.position()], bolt::FILL_PERCENT_APPEND)?;
        Ok(Buckets { ids })
    }

    pub fn id(&self, bucket: Bucket) -> BucketId {
        self.ids[bucket.position()]
    }

    pub fn apply(&self, tx: &mut WriteTx, write: &Write) -> bolt::Result<()> {
        match &write.value {
            Some(value) => tx.put(self.id(write.bucket), &write.key, value),
            None => tx.delete(self.id(write.bucket), &write.key).map(|_| ()),
        }
    }
}

/// Makes a new file's buckets, with the one record that etcd's has from its first start.
pub fn make_buckets(db: &Db) -> bolt::Result<()> {
    let tx = db.begin_read();
    let mut missing = false;
    for bucket in Bucket::ALL {
        missing |= tx.bucket(bucket.name())?.is_none();
    }
    let auth_revision =
        tx.bucket(Bucket::Auth.name())?.map(|auth| auth.get(AUTH_REVISION)).transpose()?.flatten();
    if !missing && auth_revision.is_some() {
        return Ok(());
    }
    let is_new = auth_revision.is_none();
    drop(tx);
    let mut tx = db.begin_write()?;
    let buckets = Buckets::open(&mut tx)?;
    if is_new {
        tx.put(buckets.id(Bucket::Auth), AUTH_REVISION, &1_u64.to_be_bytes())?;
    }
    tx.commit()
}

/// The value of a key of `meta`.
pub fn meta<'tx>(tx: &'tx ReadTx, key: &[u8]) -> bolt::Result<Option<&'tx [u8]>> {
    match tx.bucket(Bucket::Meta.name())? {
        None => Ok(None),
        Some(bucket) => bucket.get(key),
    }
}

fn meta_u64(tx: &ReadTx, key: &[u8]) -> bolt::Result<u64> {
    let bytes = meta(tx, key)?.and_then(|value| value.try_into().ok());
    Ok(bytes.map_or(0, u64::from_be_bytes))
}

pub fn applied(tx: &ReadTx) -> bolt::Result<Applied> {
    Ok(Applied { index: meta_u64(tx, CONSISTENT_INDEX)?, term: meta_u64(tx, TERM)? })
}

/// The version of the file's layout. Files that name none are of 3.5 when they hold a term, else unknown.
pub fn storage_version(tx: &ReadTx) -> bolt::Result<Option<Version>> {
    match meta(tx, STORAGE_VERSION)? {
        Some(text) => Ok(std::str::from_utf8(text).ok().and_then(|text| text.parse().ok())),
        None => Ok(meta(tx, TERM)?.map(|_| Version::new(3, 5))),
    }
}

/// Every pair of a bucket, in key order.
pub fn pairs(tx: &ReadTx, bucket: Bucket) -> bolt::Result<Vec<(&[u8], &[u8])>> {
    let mut pairs = Vec::new();
    let Some(bucket) = tx.bucket(bucket.name())? else { return Ok(pairs) };
    let mut cursor = bucket.cursor();
    let mut entry = cursor.first()?;
    while let Some(pair) = entry {
        pairs.push((pair.key(), pair.value()));
        entry = cursor.next()?;
    }
    Ok(pairs)
}

/// The membership as `meta` holds it: Go's JSON of `raftpb.ConfState`.
pub fn conf_state_json(conf_state: &ConfState) -> Bytes {
    let mut members = serde_json::Map::new();
    let mut list = |name: &str, ids: &[u64]| {
        if !ids.is_empty() {
            members.insert(name.to_owned(), json!(ids));
        }
    };
    list("voters", &conf_state.voters);
    list("learners", &conf_state.learners);
    list("voters_outgoing", &conf_state.voters_outgoing);
    list("learners_next", &conf_state.learners_next);
    members.insert("auto_leave".to_owned(), json!(conf_state.auto_leave));
    // The map sorts its keys; Go writes them in the message's order.
    let order = ["voters", "learners", "voters_outgoing", "learners_next", "auto_leave"];
    let fields: Vec<String> = order
        .iter()
        .filter_map(|name| members.get(*name).map(|value| format!("{}:{value}", json!(name))))
        .collect();
    Bytes::from(format!("{{{}}}", fields.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conf_state_is_written_as_go_does() {
        let lone = ConfState::of_voters([10276657743932975437]);
        assert_eq!(&conf_state_json(&lone)[..], br#"{"voters":[10276657743932975437],"auto_leave":false}"#);
        let joint = ConfState {
            voters: vec![1, 2],
            learners: vec![3],
            voters_outgoing: vec![1],
            learners_next: vec![4],
            auto_leave: true,
        };
        let text: &[u8] =
            br#"{"voters":[1,2],"learners":[3],"voters_outgoing":[1],"learners_next":[4],"auto_leave":true}"#;
        assert_eq!(&conf_state_json(&joint)[..], text);
    }
}
