//! Who is in the cluster, and which version it speaks.
//!
//! [`Cluster`] holds what the `members`, `members_removed` and `cluster` buckets of the file hold, and
//! changes only by committed entries: the apply thread owns the one copy that counts. Nothing here does
//! IO; a change returns the bucket writes that make it durable.

mod cluster;
mod id;
mod initial_cluster;
mod member;
mod record;
mod version;

pub use cluster::{Cluster, ConfChangeError, MemberChange};
pub use id::{ClusterId, MemberId};
pub use initial_cluster::{InitialClusterError, initial_members, own_member};
pub use member::{Attributes, Member};
pub use record::{Bucket, DowngradeRecord, RecordError, Write, decode_members, encode_members};
pub use version::{ParseVersionError, Version};
