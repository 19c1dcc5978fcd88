//! The properties, and all that was ever seen of the cluster to check them against.

use std::collections::BTreeMap;
use std::fmt;

use raft::{Entry, EntryId, Index, NodeId, ReadState, Role, Term, VoteResult};

use crate::member::Member;
use crate::rng::fold_hash;

/// A property that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub property: &'static str,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is violated: {}", self.property, self.what)
    }
}

fn violation(property: &'static str, what: String) -> Result<(), Violation> {
    Err(Violation { property, what })
}

#[derive(Clone, Copy, Debug)]
struct Committed {
    term: Term,
    /// The lowest term of anybody who knew that it is committed. Leaders of later terms must hold it.
    known_in: Term,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    hash: u64,
    term_before: Term,
}

#[derive(Debug, Default)]
pub struct Checker {
    /// Who led, and in which of its lives.
    leaders: BTreeMap<Term, (NodeId, u64)>,
    contents: BTreeMap<(Index, Term), Content>,
    committed: BTreeMap<Index, Committed>,
    machine_hashes: BTreeMap<Index, u64>,
    /// Per member and life: how far its commit index was looked at.
    looked_at: BTreeMap<NodeId, (u64, Index)>,
    /// By context: the highest commit index there was when the read was asked for.
    reads: BTreeMap<u64, Index>,
    pub elections: u64,
    pub reads_answered: u64,
}

impl Checker {
    pub fn commit_max(&self) -> Index {
        self.committed.last_key_value().map_or(Index::ZERO, |(&index, _)| index)
    }

    pub fn committed_count(&self) -> u64 {
        self.committed.len() as u64
    }

    /// Entries that entered a log after one of term `term_before`.
    pub fn appended(
        &mut self,
        member: NodeId,
        term_before: Term,
        entries: &[Entry],
    ) -> Result<(), Violation> {
        let mut term_before = term_before;
        for entry in entries {
            let content = Content { hash: fold_hash(entry.kind as u64, &entry.data), term_before };
            let known = *self.contents.entry((entry.index, entry.term)).or_insert(content);
            if known != content {
                return violation(
                    "log matching",
                    format!("entry {} on member {member} is {content:?}, elsewhere {known:?}", entry.id()),
                );
            }
            term_before = entry.term;
        }
        Ok(())
    }

    /// Looks at a member after an event that touched it.
    pub fn look_at(&mut self, member: &Member, all: &[Member]) -> Result<(), Violation> {
        let Some(running) = &member.running else { return Ok(()) };
        let status = running.node.basic_status();
        let term = status.hard_state.term;
        if status.soft_state.role == Role::Leader {
            self.check_leader(member, term)?;
        }
        let commit = status.hard_state.commit;
        let looked_at = self.looked_at.entry(member.id).or_default();
        if looked_at.0 != member.incarnation {
            *looked_at = (member.incarnation, Index::ZERO);
        }
        let from = looked_at.1;
        if commit < from {
            return violation(
                "commit order",
                format!("the commit index of member {} fell from {from} to {commit}", member.id),
            );
        }
        looked_at.1 = commit;
        for index in from.0 + 1..=commit.0 {
            self.check_commit(member, all, term, Index(index))?;
        }
        Ok(())
    }

    fn check_leader(&mut self, member: &Member, term: Term) -> Result<(), Violation> {
        let life = (member.id, member.incarnation);
        match self.leaders.get(&term) {
            Some(&known) if known == life => return Ok(()),
            Some(known) => {
                return violation(
                    "election safety",
                    format!("in term {term} both {known:?} and {life:?} (member, life) led"),
                );
            }
            None => {}
        }
        self.leaders.insert(term, life);
        self.elections += 1;
        for (&index, committed) in &self.committed {
            if committed.known_in < term {
                check_holds(member, term, index, committed.term)?;
            }
        }
        Ok(())
    }

    fn check_commit(
        &mut self,
        member: &Member,
        all: &[Member],
        term: Term,
        index: Index,
    ) -> Result<(), Violation> {
        let Some(running) = &member.running else { return Ok(()) };
        let Some(entry_term) = running.node.entry_term(index) else { return Ok(()) };
        if let Some(known) = self.committed.get_mut(&index) {
            if known.term != entry_term {
                return violation(
                    "state machine safety",
                    format!(
                        "entry {index} is committed with term {entry_term} on member {} and with term {} elsewhere",
                        member.id, known.term
                    ),
                );
            }
            known.known_in = known.known_in.min(term);
            return Ok(());
        }
        self.committed.insert(index, Committed { term: entry_term, known_in: term });
        if running.node.basic_status().soft_state.role == Role::Leader {
            check_quorum_holds(member, all, index, entry_term)?;
        }
        // Whoever leads a later term already must hold it too.
        for other in all {
            let Some(running) = &other.running else { continue };
            let status = running.node.basic_status();
            let leads_later = status.soft_state.role == Role::Leader && status.hard_state.term > term;
            if leads_later {
                check_holds(other, status.hard_state.term, index, entry_term)?;
            }
        }
        Ok(())
    }

    /// Entries were handed out to be applied.
    pub fn handed_out(&self, member: &Member, committed: &[EntryId]) -> Result<(), Violation> {
        match committed.iter().find(|entry| !member.holds_durably(entry.index, entry.term)) {
            None => Ok(()),
            Some(entry) => violation(
                "durable before applied",
                format!("member {} is to apply entry {entry}, which is not on its disk", member.id),
            ),
        }
    }

    /// An entry was applied, or a snapshot installed.
    pub fn applied(&mut self, member: NodeId, index: Index, hash: u64) -> Result<(), Violation> {
        let known = *self.machine_hashes.entry(index).or_insert(hash);
        if known != hash {
            return violation(
                "state machine safety",
                format!("the state of member {member} at {index} is {hash:x}, elsewhere {known:x}"),
            );
        }
        Ok(())
    }

    pub fn read_asked(&mut self, context: u64) {
        self.reads.insert(context, self.commit_max());
    }

    pub fn read_answered(&mut self, member: NodeId, read: &ReadState) -> Result<(), Violation> {
        self.reads_answered += 1;
        let context = <[u8; 8]>::try_from(&read.request_context[..]).map(u64::from_be_bytes).unwrap_or(0);
        let Some(&at_least) = self.reads.get(&context) else {
            return violation("no stale read", format!("member {member} answers a read that nobody asked"));
        };
        if read.index < at_least {
            return violation(
                "no stale read",
                format!(
                    "member {member} reads at {}, but {at_least} was committed when the read began",
                    read.index
                ),
            );
        }
        Ok(())
    }
}

fn check_holds(member: &Member, leader_term: Term, index: Index, term: Term) -> Result<(), Violation> {
    let Some(running) = &member.running else { return Ok(()) };
    let holds = match running.node.entry_term(index) {
        Some(held) => held == term,
        // Compacted entries were checked when they were committed here.
        None => index <= running.node.last_index(),
    };
    if holds {
        return Ok(());
    }
    violation(
        "leader completeness",
        format!(
            "member {} leads term {leader_term} without committed entry {index} of term {term}",
            member.id
        ),
    )
}

fn check_quorum_holds(leader: &Member, all: &[Member], index: Index, term: Term) -> Result<(), Violation> {
    let Some(running) = &leader.running else { return Ok(()) };
    let voters = &running.node.configuration().voters;
    let result = voters.vote_result(|id| {
        Some(all.iter().any(|member| member.id == id && member.holds_durably(index, term)))
    });
    if result == VoteResult::Won {
        return Ok(());
    }
    violation(
        "commit rule",
        format!("member {} commits entry {index} of term {term}, which no quorum has on disk", leader.id),
    )
}
