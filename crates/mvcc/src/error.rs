//! Why a request to the store was refused.

use std::fmt;

use crate::record::LeaseId;
use crate::revision::Revision;
use crate::source::SourceError;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MvccError {
    /// History up to `compacted` is gone (`compacted` itself can be read).
    Compacted {
        requested: Revision,
        compacted: Revision,
    },
    FutureRevision {
        requested: Revision,
        current: Revision,
    },
    /// A put names a lease that does not exist.
    LeaseNotFound(LeaseId),
    /// `ignore_value` or `ignore_lease` of a key that does not exist.
    KeyNotFound,
    /// The file did not give what it must hold. The member stops: a wrong answer is worse.
    Source(SourceError),
}

impl From<SourceError> for MvccError {
    fn from(error: SourceError) -> MvccError {
        MvccError::Source(error)
    }
}

impl fmt::Display for MvccError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MvccError::Compacted { requested, compacted } => {
                write!(f, "revision {requested} is compacted, history starts at {compacted}")
            }
            MvccError::FutureRevision { requested, current } => {
                write!(f, "revision {requested} is in the future, the store is at {current}")
            }
            MvccError::LeaseNotFound(lease) => write!(f, "lease {lease} not found"),
            MvccError::KeyNotFound => write!(f, "key not found"),
            MvccError::Source(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for MvccError {}
