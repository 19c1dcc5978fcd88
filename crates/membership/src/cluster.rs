//! The cluster's members and version, and how committed entries change them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::id::{ClusterId, MemberId};
use crate::member::{Attributes, Member};
use crate::record::{
    Bucket, DowngradeRecord, RecordError, Write, decode_id, decode_member, encode_member, encode_promotion,
};
use crate::version::Version;

const CLUSTER_VERSION_KEY: &[u8] = b"clusterVersion";
const DOWNGRADE_KEY: &[u8] = b"downgrade";

/// Members, removed ids, cluster version and downgrade state of one cluster.
/// Invariant: no id is both a member and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    members: BTreeMap<MemberId, Member>,
    removed: BTreeSet<MemberId>,
    version: Option<Version>,
    downgrade: Option<DowngradeRecord>,
}

/// A membership change, read from a configuration change entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    Add(Member),
    /// A learner becomes a voter.
    Promote(MemberId),
    Remove(MemberId),
    UpdatePeerUrls {
        id: MemberId,
        peer_urls: Vec<String>,
    },
}

/// Why a committed change does not apply. The entry then changes nothing, on every member alike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfChangeError {
    IdRemoved,
    IdExists,
    IdNotFound,
    PeerUrlExists,
    NotLearner,
    TooManyLearners,
}

impl fmt::Display for ConfChangeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            ConfChangeError::IdRemoved => "membership: ID removed",
            ConfChangeError::IdExists => "membership: ID exists",
            ConfChangeError::IdNotFound => "membership: ID not found",
            ConfChangeError::PeerUrlExists => "membership: peerURL exists",
            ConfChangeError::NotLearner => "membership: can only promote a learner member",
            ConfChangeError::TooManyLearners => "membership: too many learner members in cluster",
        })
    }
}

impl std::error::Error for ConfChangeError {}

impl MemberChange {
    /// The context that `Add` and `UpdatePeerUrls` carry in their entry.
    pub fn context(member: &Member) -> Vec<u8> {
        encode_member(member)
    }

    /// The context of an add entry that makes a voter of a learner.
    pub fn promote_context(id: MemberId) -> Vec<u8> {
        encode_promotion(id)
    }

    /// Reads the context of an add entry; `is_learner` is what the entry's type says.
    pub fn from_add_context(context: &[u8], is_learner: bool) -> Result<MemberChange, RecordError> {
        let (member, is_promote) = decode_member("member of a configuration change", context)?;
        if is_promote {
            return Ok(MemberChange::Promote(member.id));
        }
        Ok(MemberChange::Add(Member { is_learner, ..member }))
    }

    pub fn from_update_context(context: &[u8]) -> Result<MemberChange, RecordError> {
        let (member, _) = decode_member("member of a configuration change", context)?;
        Ok(MemberChange::UpdatePeerUrls { id: member.id, peer_urls: member.peer_urls })
    }
}

impl Cluster {
    /// The cluster as the file's buckets hold it.
    pub fn restore<'a>(
        records: impl IntoIterator<Item = (Bucket, &'a [u8], &'a [u8])>,
    ) -> Result<Cluster, RecordError> {
        let mut cluster = Cluster::default();
        for (bucket, key, value) in records {
            match bucket {
                Bucket::Members => {
                    let id = decode_id("member id", key)?;
                    let (member, _) = decode_member("member", value)?;
                    cluster.members.insert(id, Member { id, ..member });
                }
                Bucket::MembersRemoved => {
                    cluster.removed.insert(decode_id("removed member id", key)?);
                }
                Bucket::Cluster => cluster.restore_cluster_record(key, value)?,
            }
        }
        Ok(cluster)
    }

    fn restore_cluster_record(&mut self, key: &[u8], value: &[u8]) -> Result<(), RecordError> {
        let text = || String::from_utf8_lossy(value).into_owned();
        if key == CLUSTER_VERSION_KEY {
            let version = text().parse().map_err(|error| RecordError {
                what: "cluster version",
                key: text(),
                reason: format!("{error}"),
            })?;
            self.version = Some(version);
        } else if key == DOWNGRADE_KEY {
            let record = serde_json::from_slice(value).map_err(|error| RecordError {
                what: "downgrade record",
                key: text(),
                reason: error.to_string(),
            })?;
            self.downgrade = Some(record);
        }
        Ok(())
    }

    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    pub fn member(&self, id: MemberId) -> Option<&Member> {
        self.members.get(&id)
    }

    pub fn removed(&self) -> impl Iterator<Item = MemberId> {
        self.removed.iter().copied()
    }

    pub fn is_removed(&self, id: MemberId) -> bool {
        self.removed.contains(&id)
    }

    pub fn version(&self) -> Option<Version> {
        self.version
    }

    pub fn downgrade(&self) -> Option<&DowngradeRecord> {
        self.downgrade.as_ref()
    }

    /// Id of a cluster formed by exactly these members.
    pub fn id_at_bootstrap(&self) -> ClusterId {
        ClusterId::of(self.members.keys().copied())
    }

    /// Whether the change may be applied; asked before it is, and again by every member at apply.
    pub fn validate(&self, change: &MemberChange, learners_max: usize) -> Result<(), ConfChangeError> {
        match change {
            MemberChange::Add(member) => {
                self.must_be_new(member.id)?;
                self.peer_urls_must_be_free(member.id, &member.peer_urls)?;
                let learners = self.members.values().filter(|member| member.is_learner).count();
                if member.is_learner && learners >= learners_max {
                    return Err(ConfChangeError::TooManyLearners);
                }
                Ok(())
            }
            MemberChange::Promote(id) => match self.must_exist(*id)?.is_learner {
                true => Ok(()),
                false => Err(ConfChangeError::NotLearner),
            },
            MemberChange::Remove(id) => self.must_exist(*id).map(|_| ()),
            MemberChange::UpdatePeerUrls { id, peer_urls } => {
                self.must_exist(*id)?;
                self.peer_urls_must_be_free(*id, peer_urls)
            }
        }
    }

    fn must_be_new(&self, id: MemberId) -> Result<(), ConfChangeError> {
        if self.removed.contains(&id) {
            return Err(ConfChangeError::IdRemoved);
        }
        if self.members.contains_key(&id) {
            return Err(ConfChangeError::IdExists);
        }
        Ok(())
    }

    fn must_exist(&self, id: MemberId) -> Result<&Member, ConfChangeError> {
        if self.removed.contains(&id) {
            return Err(ConfChangeError::IdRemoved);
        }
        self.members.get(&id).ok_or(ConfChangeError::IdNotFound)
    }

    fn peer_urls_must_be_free(&self, id: MemberId, peer_urls: &[String]) -> Result<(), ConfChangeError> {
        let taken = self
            .members
            .values()
            .filter(|member| member.id != id)
            .any(|member| member.peer_urls.iter().any(|url| peer_urls.contains(url)));
        if taken { Err(ConfChangeError::PeerUrlExists) } else { Ok(()) }
    }

    /// Applies a validated change and returns what the file must hold for it.
    pub fn apply(&mut self, change: MemberChange) -> Vec<Write> {
        match change {
            MemberChange::Add(member) => {
                let write = member_write(&member);
                self.members.insert(member.id, member);
                vec![write]
            }
            MemberChange::Promote(id) => self.update(id, |member| member.is_learner = false),
            MemberChange::UpdatePeerUrls { id, peer_urls } => {
                self.update(id, |member| member.peer_urls = peer_urls)
            }
            MemberChange::Remove(id) => {
                self.members.remove(&id);
                self.removed.insert(id);
                let key = id.to_string().into_bytes();
                vec![
                    Write { bucket: Bucket::Members, key: key.clone(), value: None },
                    Write { bucket: Bucket::MembersRemoved, key, value: Some(b"removed".to_vec()) },
                ]
            }
        }
    }

    /// A member has said its name and client URLs. Unknown and removed members are passed over.
    pub fn set_attributes(&mut self, id: MemberId, attributes: Attributes) -> Vec<Write> {
        self.update(id, |member| member.attributes = attributes)
    }

    fn update(&mut self, id: MemberId, change: impl FnOnce(&mut Member)) -> Vec<Write> {
        match self.members.get_mut(&id) {
            None => Vec::new(),
            Some(member) => {
                change(member);
                vec![member_write(member)]
            }
        }
    }

    pub fn set_version(&mut self, version: Version) -> Vec<Write> {
        self.version = Some(version);
        let value = Some(version.to_string().into_bytes());
        vec![Write { bucket: Bucket::Cluster, key: CLUSTER_VERSION_KEY.to_vec(), value }]
    }

    pub fn set_downgrade(&mut self, record: DowngradeRecord) -> Vec<Write> {
        let value = serde_json::to_vec(&record).expect("a string and a flag always serialise");
        self.downgrade = Some(record);
        vec![Write { bucket: Bucket::Cluster, key: DOWNGRADE_KEY.to_vec(), value: Some(value) }]
    }
}

fn member_write(member: &Member) -> Write {
    Write {
        bucket: Bucket::Members,
        key: member.id.to_string().into_bytes(),
        value: Some(encode_member(member)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, url: &str, is_learner: bool) -> Member {
        Member {
            id: MemberId(id),
            peer_urls: vec![url.to_owned()],
            is_learner,
            attributes: Attributes::default(),
        }
    }

    fn cluster_of(members: &[Member]) -> Cluster {
        let mut cluster = Cluster::default();
        for member in members {
            cluster.apply(MemberChange::Add(member.clone()));
        }
        cluster
    }

    #[test]
    fn a_record_has_gos_field_order_and_omits_zero_fields() {
        let mut cluster = cluster_of(&[member(0xab, "http://a:1", false)]);
        let writes = cluster.set_attributes(
            MemberId(0xab),
            Attributes { name: "n".to_owned(), client_urls: vec!["http://c:2".to_owned()] },
        );
        assert_eq!(writes[0].key, b"ab");
        assert_eq!(
            String::from_utf8(writes[0].value.clone().unwrap()).unwrap(),
            r#"{"id":171,"peerURLs":["http://a:1"],"name":"n","clientURLs":["http://c:2"]}"#
        );
    }

    #[test]
    fn restoring_the_writes_gives_the_same_cluster() {
        let mut cluster = cluster_of(&[member(1, "http://a:1", false), member(2, "http://b:1", true)]);
        let mut file: BTreeMap<(Bucket, Vec<u8>), Vec<u8>> = BTreeMap::new();
        let mut writes: Vec<Write> = cluster.members().map(member_write).collect();
        writes.extend(cluster.apply(MemberChange::Promote(MemberId(2))));
        writes.extend(cluster.set_version(Version::new(3, 7)));
        writes.extend(
            cluster.set_downgrade(DowngradeRecord { target_version: "3.6.0".to_owned(), enabled: true }),
        );
        writes.extend(cluster.apply(MemberChange::Remove(MemberId(1))));
        for write in writes {
            match write.value {
                Some(value) => file.insert((write.bucket, write.key), value),
                None => file.remove(&(write.bucket, write.key)),
            };
        }
        let records = file.iter().map(|((bucket, key), value)| (*bucket, key.as_slice(), value.as_slice()));
        assert_eq!(Cluster::restore(records).unwrap(), cluster);
    }

    #[test]
    fn changes_are_refused_with_etcds_reasons() {
        let mut cluster = cluster_of(&[member(1, "http://a:1", false), member(2, "http://b:1", true)]);
        let check = |cluster: &Cluster, change| cluster.validate(&change, 1);
        let add = |id, url, learner| MemberChange::Add(member(id, url, learner));
        assert_eq!(check(&cluster, add(1, "http://c:1", false)), Err(ConfChangeError::IdExists));
        assert_eq!(check(&cluster, add(3, "http://a:1", false)), Err(ConfChangeError::PeerUrlExists));
        assert_eq!(check(&cluster, add(3, "http://c:1", true)), Err(ConfChangeError::TooManyLearners));
        assert_eq!(check(&cluster, add(3, "http://c:1", false)), Ok(()));
        assert_eq!(check(&cluster, MemberChange::Promote(MemberId(1))), Err(ConfChangeError::NotLearner));
        assert_eq!(check(&cluster, MemberChange::Promote(MemberId(9))), Err(ConfChangeError::IdNotFound));
        cluster.apply(MemberChange::Remove(MemberId(2)));
        assert_eq!(check(&cluster, add(2, "http://d:1", false)), Err(ConfChangeError::IdRemoved));
    }

    #[test]
    fn hostile_records_are_errors() {
        let cases: [(Bucket, &[u8], &[u8]); 4] = [
            (Bucket::Members, b"xyz", b"{}"),
            (Bucket::Members, b"1", b"{"),
            (Bucket::MembersRemoved, b"", b"removed"),
            (Bucket::Cluster, b"clusterVersion", b"three"),
        ];
        for case in cases {
            assert!(Cluster::restore([case]).is_err());
        }
    }
}
