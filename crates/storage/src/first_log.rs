//! The log that a new cluster begins with.

use bytes::Bytes;
use membership::{Member, MemberChange};
use raft::{ConfChange, Entry, Index, Term};

/// The entries that make the first members, already committed: everyone starts with the same.
pub fn first_entries(members: &[Member]) -> Vec<Entry> {
    let entry = |(at, member): (usize, &Member)| {
        let change = ConfChange {
            context: Bytes::from(MemberChange::context(member)),
            ..ConfChange::add_node(member.id.0)
        };
        Entry { term: Term(1), index: Index(at as u64 + 1), ..change.to_entry() }
    };
    members.iter().enumerate().map(entry).collect()
}
