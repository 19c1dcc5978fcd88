//! Where an entry stands: its term and its index. Both are plain numbers on the wire and on disk, but
//! mixing them up is a bug that no test finds quickly, so they are types here.

use std::fmt;

/// A member's raft identity. 0 is no member; on the wire it means "unset".
pub type NodeId = u64;

/// One reign of at most one leader. 0 before the first election.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Term(pub u64);

/// Position in the log. The first entry has index 1; 0 is the empty log's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Index(pub u64);

/// One entry's identity: two logs that hold the same `EntryId` are equal up to it (log matching).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct EntryId {
    pub term: Term,
    pub index: Index,
}

impl Term {
    pub const ZERO: Term = Term(0);
    /// Only a broken peer gets there. No term follows it, so nobody campaigns in it.
    pub const MAX: Term = Term(u64::MAX);

    #[must_use]
    pub fn next(self) -> Term {
        Term(self.0 + 1)
    }
}

impl Index {
    pub const ZERO: Index = Index(0);
    pub const MAX: Index = Index(u64::MAX);

    /// The index after this one. Saturates, as peers may send any number; no real log gets near.
    #[must_use]
    pub fn next(self) -> Index {
        Index(self.0.saturating_add(1))
    }

    /// The index before this one; 0 stays 0.
    #[must_use]
    pub fn prev(self) -> Index {
        Index(self.0.saturating_sub(1))
    }

    /// The index `count` entries further on. Saturates like [`Index::next`].
    #[must_use]
    pub fn plus(self, count: u64) -> Index {
        Index(self.0.saturating_add(count))
    }

    /// How many entries lie in `(earlier, self]`; 0 when `earlier` is not earlier.
    #[must_use]
    pub fn distance_from(self, earlier: Index) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl EntryId {
    pub fn new(term: Term, index: Index) -> EntryId {
        EntryId { term, index }
    }
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Index {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of term {}", self.index, self.term)
    }
}
