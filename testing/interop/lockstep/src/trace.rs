//! What a step did, as bytes that both sides write alike: labelled values, zero and empty ones left out.
//!
//! The labels are those of `trace.go`, in the same order; the names here are what a mismatch prints.

use std::fmt::Write as _;

use raft::{ConfState, Entry, EntryKind, HardState, Message, MessageType, Role, Snapshot, StepError};

macro_rules! labels {
    ($($label:ident = $name:literal,)*) => {
        // Some are written by the Go side alone.
        #[allow(dead_code)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Label {
            /// Labels count from 1.
            Unused,
            $($label,)*
        }
        const NAMES: &[&str] = &["unused", $($name,)*];
    };
}

// A name that begins with a line break begins a new line.
labels! {
    Error = "error",
    DrawsLeft = "draws_left",
    DrawsMissing = "draws_missing",
    Term = "term",
    Vote = "vote",
    Commit = "commit",
    Lead = "lead",
    RoleNow = "role",
    Applied = "applied",
    Transferee = "transferee",
    HasReady = "has_ready",
    Config = "\nconfig",
    Voter = "voter",
    Outgoing = "outgoing",
    Learner = "learner",
    LearnerNext = "learner_next",
    AutoLeave = "auto_leave",
    Progress = "\nprogress",
    Match = "match",
    Next = "next",
    State = "state",
    PendingSnapshot = "pending_snapshot",
    RecentActive = "recent_active",
    Paused = "paused",
    Inflights = "inflights",
    IsLearner = "is_learner",
    SoftStateNew = "\nsoft_state",
    ReadStateNew = "\nread_state",
    Persist = "\npersist",
    MustSync = "must_sync",
    EntryAt = "\n  entry",
    Index = "index",
    EntryType = "entry_type",
    SnapshotAt = "\n  snapshot",
    MessageOut = "\nmessage",
    To = "to",
    From = "from",
    LogTerm = "log_term",
    Reject = "reject",
    RejectHint = "reject_hint",
    Committed = "\ncommitted",
    Promise = "\npromise",
    ConfChangeAt = "\nconf_change",
    Refused = "\nrefused",
}

/// Labels from here on are followed by a length and bytes.
const BYTES: u8 = 0x80;
pub const DATA: u8 = BYTES;
pub const CONTEXT: u8 = BYTES + 1;
const BYTE_NAMES: &[&str] = &["data", "context", "PANIC"];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace(pub Vec<u8>);

impl Trace {
    pub fn mark(&mut self, label: Label, value: u64) {
        self.0.push(label as u8);
        put_number(&mut self.0, value);
    }

    pub fn number(&mut self, label: Label, value: u64) {
        if value != 0 {
            self.mark(label, value);
        }
    }

    pub fn flag(&mut self, label: Label, value: bool) {
        self.number(label, u64::from(value));
    }

    pub fn bytes(&mut self, label: u8, value: &[u8]) {
        if !value.is_empty() {
            self.0.push(label);
            put_bytes(&mut self.0, value);
        }
    }

    pub fn ids<'a>(&mut self, label: Label, ids: impl IntoIterator<Item = &'a u64>) {
        for &id in ids {
            self.number(label, id);
        }
    }

    pub fn error(&mut self, error: &StepError) {
        self.number(
            Label::Error,
            match error {
                StepError::ProposalDropped => 1,
                StepError::PeerNotFound { .. } => 2,
                StepError::Malformed { .. }
                | StepError::ConfChange(_)
                | StepError::CommitBeyondLog { .. } => 3,
            },
        );
    }

    pub fn hard_state(&mut self, state: HardState) {
        self.number(Label::Term, state.term.0);
        self.number(Label::Vote, state.vote.unwrap_or(0));
        self.number(Label::Commit, state.commit.0);
    }

    pub fn conf_state(&mut self, state: &ConfState) {
        self.ids(Label::Voter, &state.voters);
        self.ids(Label::Outgoing, &state.voters_outgoing);
        self.ids(Label::Learner, &state.learners);
        self.ids(Label::LearnerNext, &state.learners_next);
        self.flag(Label::AutoLeave, state.auto_leave);
    }

    pub fn entries(&mut self, entries: &[Entry]) {
        for entry in entries {
            self.mark(Label::EntryAt, entry.index.0);
            self.number(Label::Term, entry.term.0);
            let kind = match entry.kind {
                EntryKind::Normal => 0,
                EntryKind::ConfChange => 1,
                EntryKind::ConfChangeV2 => 2,
            };
            self.number(Label::EntryType, kind);
            self.bytes(DATA, &entry.data);
        }
    }

    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        self.mark(Label::SnapshotAt, snapshot.metadata.index.0);
        self.number(Label::Term, snapshot.metadata.term.0);
        self.conf_state(&snapshot.metadata.conf_state);
        self.bytes(DATA, &snapshot.data);
    }

    pub fn message(&mut self, label: Label, message: &Message) {
        self.mark(label, wire_number(message.kind));
        self.number(Label::To, message.to);
        self.number(Label::From, message.from);
        self.number(Label::Term, message.term.0);
        self.number(Label::LogTerm, message.log_term.0);
        self.number(Label::Index, message.index.0);
        self.number(Label::Commit, message.commit.0);
        self.flag(Label::Reject, message.reject);
        self.number(Label::RejectHint, message.reject_hint.0);
        self.bytes(CONTEXT, &message.context);
        self.entries(&message.entries);
        if let Some(snapshot) = &message.snapshot {
            self.snapshot(snapshot);
        }
    }

    /// One value a word, for people.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.as_slice();
        while let Some((&label, tail)) = rest.split_first() {
            let Some((value, tail)) = take_number(tail) else { break };
            rest = tail;
            let _ = if label < BYTES {
                let name = NAMES.get(usize::from(label)).copied().unwrap_or("unknown");
                write!(text, "{name}={value} ")
            } else {
                let name = BYTE_NAMES.get(usize::from(label - BYTES)).copied().unwrap_or("unknown");
                let (bytes, tail) = rest.split_at(rest.len().min(value as usize));
                rest = tail;
                write!(text, "{name}=\"{}\" ", bytes.escape_ascii())
            };
        }
        text
    }
}

pub fn role_number(role: Role) -> u64 {
    match role {
        Role::Follower => 0,
        Role::Candidate => 1,
        Role::Leader => 2,
        Role::PreCandidate => 3,
    }
}

fn wire_number(kind: MessageType) -> u64 {
    match kind {
        MessageType::Prop => 2,
        MessageType::App => 3,
        MessageType::AppResp => 4,
        MessageType::Vote => 5,
        MessageType::VoteResp => 6,
        MessageType::Snap => 7,
        MessageType::Heartbeat => 8,
        MessageType::HeartbeatResp => 9,
        MessageType::TransferLeader => 13,
        MessageType::TimeoutNow => 14,
        MessageType::ReadIndex => 15,
        MessageType::ReadIndexResp => 16,
        MessageType::PreVote => 17,
        MessageType::PreVoteResp => 18,
        MessageType::ForgetLeader => 23,
    }
}

pub fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0u64;
    for (position, &byte) in bytes.iter().enumerate().take(10) {
        value |= u64::from(byte & 0x7f) << (7 * position);
        if byte < 0x80 {
            return Some((value, &bytes[position + 1..]));
        }
    }
    None
}
