//! Every error with its code and etcd's exact text. Clients compare the texts.

use server::Error;

use crate::grpc::{Code, Status};

impl From<Error> for Status {
    fn from(error: Error) -> Status {
        let (code, text) = match error {
            Error::Compacted => (Code::OutOfRange, "etcdserver: mvcc: required revision has been compacted"),
            Error::FutureRevision => {
                (Code::OutOfRange, "etcdserver: mvcc: required revision is a future revision")
            }
            Error::NoSpace => (Code::ResourceExhausted, "etcdserver: mvcc: database space exceeded"),
            Error::Corrupt => (Code::DataLoss, "etcdserver: corrupt cluster"),
            Error::KeyNotFound => (Code::InvalidArgument, "etcdserver: key not found"),
            Error::LeaseNotFound => (Code::NotFound, "etcdserver: requested lease not found"),
            Error::LeaseExists => (Code::FailedPrecondition, "etcdserver: lease already exists"),
            Error::LeaseTtlTooLarge => (Code::OutOfRange, "etcdserver: too large lease TTL"),
            Error::RequestTooLarge => (Code::InvalidArgument, "etcdserver: request is too large"),
            // Compat: etcd maps this one to a client-side error and so loses ResourceExhausted.
            Error::TooManyRequests => (Code::Unknown, "etcdserver: too many requests"),
            Error::NoLeader => (Code::Unavailable, "etcdserver: no leader"),
            Error::NotLeader => (Code::FailedPrecondition, "etcdserver: not leader"),
            Error::LeaderChanged => (Code::Unavailable, "etcdserver: leader changed"),
            Error::Timeout => (Code::Unavailable, "etcdserver: request timed out"),
            Error::TimeoutLeaderFailure => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to previous leader failure")
            }
            Error::TimeoutConnectionLost => {
                (Code::Unavailable, "etcdserver: request timed out, possibly due to connection lost")
            }
            Error::TimeoutWaitAppliedIndex => (
                Code::Unavailable,
                "etcdserver: request timed out, waiting for the applied index took too long",
            ),
            Error::Stopped => (Code::Unavailable, "etcdserver: server stopped"),
            Error::Unhealthy => (Code::Unavailable, "etcdserver: unhealthy cluster"),
            Error::NotCapable => (Code::FailedPrecondition, "etcdserver: not capable"),
            Error::LearnerNotSupported => {
                (Code::FailedPrecondition, "etcdserver: rpc not supported for learner")
            }
            // Compat: what etcd's table does not know goes out as Unknown with its raw text.
            Error::NotPrimaryLessor => (Code::Unknown, "not a primary lessor"),
            Error::MemberNotFound => (Code::NotFound, "etcdserver: member not found"),
            Error::MemberExists => (Code::FailedPrecondition, "etcdserver: member ID already exist"),
            Error::PeerUrlExists => (Code::FailedPrecondition, "etcdserver: Peer URLs already exists"),
            Error::BadMemberUrls => (Code::InvalidArgument, "etcdserver: given member URLs are invalid"),
            Error::MemberNotLearner => {
                (Code::FailedPrecondition, "etcdserver: can only promote a learner member")
            }
            Error::LearnerNotReady => (
                Code::FailedPrecondition,
                "etcdserver: can only promote a learner member which is in sync with leader",
            ),
            Error::TooManyLearners => {
                (Code::FailedPrecondition, "etcdserver: too many learner members in cluster")
            }
            // Compat: as with too many requests, the code is lost on etcd's way from error to answer.
            Error::NotEnoughStartedMembers => {
                (Code::Unknown, "etcdserver: re-configuration failed due to not enough started members")
            }
            Error::BadLeaderTransferee => (Code::FailedPrecondition, "etcdserver: bad leader transferee"),
            Error::TimeoutLeaderTransfer => {
                (Code::Unknown, "etcdserver: request timed out, leader transfer took too long")
            }
            Error::WrongDowngradeVersionFormat => {
                (Code::InvalidArgument, "etcdserver: wrong downgrade target version format")
            }
            Error::InvalidDowngradeTargetVersion => {
                (Code::InvalidArgument, "etcdserver: invalid downgrade target version")
            }
            Error::ClusterVersionUnavailable => {
                (Code::FailedPrecondition, "etcdserver: cluster version not found during downgrade")
            }
            Error::DowngradeInProcess => {
                (Code::FailedPrecondition, "etcdserver: cluster has a downgrade job in progress")
            }
            Error::UnknownMethod => (Code::Unknown, "etcdserver: unknown method"),
            Error::DefragmentFailed { reason } => return Status::new(Code::Unknown, reason),
        };
        Status::new(code, text)
    }
}

/// Errors that arise in this crate, before the server is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestError {
    EmptyKey,
    EmptyOperation,
    ValueProvided,
    LeaseProvided,
    TooManyOps,
    DuplicateKey,
    InvalidSortOption,
    InvalidClientApiVersion,
    StreamSort,
    StreamFilters,
    UnknownHealthService,
}

impl From<RequestError> for Status {
    fn from(error: RequestError) -> Status {
        let (code, text) = match error {
            RequestError::EmptyKey => (Code::InvalidArgument, "etcdserver: key is not provided"),
            RequestError::EmptyOperation => (Code::InvalidArgument, "etcdserver: key not found"),
            RequestError::ValueProvided => (Code::InvalidArgument, "etcdserver: value is provided"),
            RequestError::LeaseProvided => (Code::InvalidArgument, "etcdserver: lease is provided"),
            RequestError::TooManyOps => {
                (Code::InvalidArgument, "etcdserver: too many operations in txn request")
            }
            RequestError::DuplicateKey => {
                (Code::InvalidArgument, "etcdserver: duplicate key given in txn request")
            }
            RequestError::InvalidSortOption => (Code::InvalidArgument, "etcdserver: invalid sort option"),
            RequestError::InvalidClientApiVersion => {
                (Code::InvalidArgument, "etcdserver: invalid client api version")
            }
            RequestError::StreamSort => {
                (Code::Unimplemented, "RangeStream does not support custom sort orders")
            }
            RequestError::StreamFilters => {
                (Code::Unimplemented, "RangeStream does not support revision filters")
            }
            RequestError::UnknownHealthService => (Code::NotFound, "unknown service"),
        };
        Status::new(code, text)
    }
}
