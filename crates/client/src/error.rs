//! What a call can end with, in the words that etcd's users know.

use std::fmt;

use tonic::{Code, Status};

/// Why a call, or a client, did not come about.
#[derive(Debug)]
pub enum Error {
    /// A member, or the transport on the way to it, refused the call.
    Rpc(Box<Status>),
    /// The deadline passed; `last` is the latest trouble with a connection, if there was any.
    DeadlineExceeded { last: Option<String> },
    /// No endpoint was given.
    NoEndpoint,
    /// Both a token and a user were given.
    TokenAndUser,
    /// A certificate, key or list of roots cannot be used.
    Tls { action: String, reason: String },
}

impl Error {
    /// The error that stands for a member's reason to cancel a watch.
    pub fn canceled_watch(reason: &str) -> Error {
        Status::failed_precondition(reason).into()
    }

    /// The gRPC code, for errors that have one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Error::Rpc(status) => Some(status.code()),
            Error::DeadlineExceeded { .. } => Some(Code::DeadlineExceeded),
            Error::NoEndpoint | Error::TokenAndUser | Error::Tls { .. } => None,
        }
    }

    /// The member's own text; empty for errors that no member sent.
    pub fn message(&self) -> &str {
        match self {
            Error::Rpc(status) => status.message(),
            _ => "",
        }
    }

    /// Whether the member answered with exactly this text of etcd's.
    pub fn is(&self, text: &str) -> bool {
        self.message() == text
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Error {
        Error::Rpc(Box::new(status))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Rpc(status) if is_etcd_text(status.message()) => f.write_str(status.message()),
            Error::Rpc(status) => write_status(f, status),
            Error::DeadlineExceeded { .. } => f.write_str("context deadline exceeded"),
            Error::NoEndpoint => f.write_str("etcdclient: no available endpoints"),
            Error::TokenAndUser => f.write_str(
                "token and username/password are mutually exclusive, only one should be configured",
            ),
            Error::Tls { action, reason } => write!(f, "{action}: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

fn write_status(f: &mut fmt::Formatter<'_>, status: &Status) -> fmt::Result {
    write!(f, "rpc error: code = {} desc = {}", code_name(status.code()), status.message())
}

/// gRPC's codes by the names that Go's tools print.
pub fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Texts of etcd's that its clients show without the gRPC code around them; all begin `etcdserver: `.
/// Compat: those of etcd's texts that its client does not know are shown as plain gRPC errors.
pub(crate) fn is_etcd_text(text: &str) -> bool {
    text.strip_prefix("etcdserver: ").is_some_and(|rest| KNOWN.contains(&rest))
}

/// In alphabetical order, without the common beginning.
const KNOWN: [&str; 57] = [
    "Peer URLs already exists",
    "authentication failed, invalid user ID or password",
    "authentication is not enabled",
    "bad leader transferee",
    "can only promote a learner member which is in sync with leader",
    "can only promote a learner member",
    "cluster ID mismatch",
    "cluster has a downgrade job in progress",
    "cluster version not found during downgrade",
    "corrupt cluster",
    "duplicate key given in txn request",
    "given member URLs are invalid",
    "invalid auth management",
    "invalid auth token",
    "invalid downgrade target version",
    "invalid sort option",
    "key is not provided",
    "key not found",
    "leader changed",
    "lease already exists",
    "lease is provided",
    "member ID already exist",
    "member not found",
    "mvcc: database space exceeded",
    "mvcc: required revision has been compacted",
    "mvcc: required revision is a future revision",
    "no inflight downgrade job",
    "no leader",
    "not capable",
    "not leader",
    "permission denied",
    "permission is not granted to the role",
    "re-configuration failed due to not enough started members",
    "request is too large",
    "request timed out",
    "request timed out, possibly due to connection lost",
    "request timed out, possibly due to previous leader failure",
    "requested lease not found",
    "revision of auth store is old",
    "role is not granted to the user",
    "role name already exists",
    "role name is empty",
    "role name not found",
    "root user does not exist",
    "root user does not have root role",
    "rpc not supported for learner",
    "server stopped",
    "too large lease TTL",
    "too many learner members in cluster",
    "too many operations in txn request",
    "too many requests",
    "unhealthy cluster",
    "user name already exists",
    "user name is empty",
    "user name not found",
    "value is provided",
    "wrong downgrade target version format",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etcd_texts_stand_alone_and_others_keep_their_code() {
        let known = Error::from(Status::permission_denied("etcdserver: permission denied"));
        assert_eq!(known.to_string(), "etcdserver: permission denied");
        let unknown = Error::from(Status::cancelled("etcdserver: watch canceled"));
        assert_eq!(unknown.to_string(), "rpc error: code = Canceled desc = etcdserver: watch canceled");
        let late = Error::DeadlineExceeded { last: Some("connection refused".into()) };
        assert_eq!(late.to_string(), "context deadline exceeded");
    }
}
