//! Why the server did not do what was asked.
//!
//! One variant per answer that etcd tells apart; `api` turns them into gRPC codes and etcd's texts in
//! one exhaustive match.

use std::fmt;

/// An answer other than success. Fields carry what the answer's text needs and nothing else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The read or watch starts below what compaction has kept, or the compaction was done before.
    Compacted,
    /// The revision has not happened yet.
    FutureRevision,
    /// The quota is reached, or a NOSPACE alarm stands.
    NoSpace,
    /// A CORRUPT alarm stands.
    Corrupt,
    /// `ignore_value` or `ignore_lease` on a key that is not there, or an empty txn operation.
    KeyNotFound,
    LeaseNotFound,
    LeaseExists,
    LeaseTtlTooLarge,
    RequestTooLarge,
    /// The gap between committed and applied entries, or a queue, is at its limit.
    TooManyRequests,
    NoLeader,
    NotLeader,
    LeaderChanged,
    /// The proposal may or may not be applied later.
    Timeout,
    TimeoutLeaderFailure,
    TimeoutConnectionLost,
    TimeoutWaitAppliedIndex,
    Stopped,
    Unhealthy,
    NotCapable,
    /// This member is a learner.
    LearnerNotSupported,
    /// A lease operation that only the leader's lessor may answer.
    NotPrimaryLessor,
    MemberNotFound,
    MemberExists,
    PeerUrlExists,
    /// A peer URL that no member could be reached by.
    BadMemberUrls,
    MemberNotLearner,
    LearnerNotReady,
    TooManyLearners,
    NotEnoughStartedMembers,
    /// Leadership cannot go to that member.
    BadLeaderTransferee,
    TimeoutLeaderTransfer,
    WrongDowngradeVersionFormat,
    /// A downgrade goes one minor release down.
    InvalidDowngradeTargetVersion,
    ClusterVersionUnavailable,
    DowngradeInProcess,
    /// A request of a kind that this build never proposes was found in the log.
    UnknownMethod,
    /// The file could not be copied, and is as it was. The reason is for people.
    DefragmentFailed {
        reason: String,
    },
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Compacted => "mvcc: required revision has been compacted",
            Error::FutureRevision => "mvcc: required revision is a future revision",
            Error::NoSpace => "mvcc: database space exceeded",
            Error::Corrupt => "etcdserver: corrupt cluster",
            Error::KeyNotFound => "etcdserver: key not found",
            Error::LeaseNotFound => "lease not found",
            Error::LeaseExists => "lease already exists",
            Error::LeaseTtlTooLarge => "too large lease TTL",
            Error::RequestTooLarge => "etcdserver: request is too large",
            Error::TooManyRequests => "etcdserver: too many requests",
            Error::NoLeader => "etcdserver: no leader",
            Error::NotLeader => "etcdserver: not leader",
            Error::LeaderChanged => "etcdserver: leader changed",
            Error::Timeout => "etcdserver: request timed out",
            Error::TimeoutLeaderFailure => {
                "etcdserver: request timed out, possibly due to previous leader failure"
            }
            Error::TimeoutConnectionLost => "etcdserver: request timed out, possibly due to connection lost",
            Error::TimeoutWaitAppliedIndex => {
                "etcdserver: request timed out, waiting for the applied index took too long"
            }
            Error::Stopped => "etcdserver: server stopped",
            Error::Unhealthy => "etcdserver: unhealthy cluster",
            Error::NotCapable => "etcdserver: not capable",
            Error::LearnerNotSupported => "etcdserver: rpc not supported for learner",
            Error::NotPrimaryLessor => "not a primary lessor",
            Error::MemberNotFound => "membership: ID not found",
            Error::MemberExists => "membership: ID exists",
            Error::PeerUrlExists => "membership: peerURL exists",
            Error::BadMemberUrls => "etcdserver: given member URLs are invalid",
            Error::MemberNotLearner => "membership: can only promote a learner member",
            Error::LearnerNotReady => {
                "etcdserver: can only promote a learner member which is in sync with leader"
            }
            Error::TooManyLearners => "membership: too many learner members in cluster",
            Error::NotEnoughStartedMembers => {
                "etcdserver: re-configuration failed due to not enough started members"
            }
            Error::BadLeaderTransferee => "etcdserver: bad leader transferee",
            Error::WrongDowngradeVersionFormat => "etcdserver: wrong downgrade target version format",
            Error::InvalidDowngradeTargetVersion => "etcdserver: invalid downgrade target version",
            Error::ClusterVersionUnavailable => "etcdserver: cluster version not found during downgrade",
            Error::DowngradeInProcess => "etcdserver: cluster has a downgrade job in progress",
            Error::TimeoutLeaderTransfer => "etcdserver: request timed out, leader transfer took too long",
            Error::UnknownMethod => "etcdserver: unknown method",
            Error::DefragmentFailed { reason } => reason,
        })
    }
}

impl std::error::Error for Error {}

impl From<membership::ConfChangeError> for Error {
    fn from(error: membership::ConfChangeError) -> Error {
        use membership::ConfChangeError;
        match error {
            // Compat: a removed member is one that cannot be found.
            ConfChangeError::IdRemoved | ConfChangeError::IdNotFound => Error::MemberNotFound,
            ConfChangeError::IdExists => Error::MemberExists,
            ConfChangeError::PeerUrlExists => Error::PeerUrlExists,
            ConfChangeError::NotLearner => Error::MemberNotLearner,
            ConfChangeError::TooManyLearners => Error::TooManyLearners,
        }
    }
}
