//! raftpb, byte for byte as etcd 3.7 writes it, and as every etcd since 3.0 does.
//!
//! Writers disagree on which zero values are present: releases up to 3.6 write every scalar and empty
//! sub-messages, 3.7 leaves unset ones out. Readers take a missing field as zero, so both decode alike.
//! What we write:
//!
//! | message | present even when 0 | left out when 0 |
//! |---|---|---|
//! | Entry | Term, Index | Type, Data |
//! | HardState | term, vote, commit | |
//! | ConfChange | type, node_id, context | id |
//! | Message | type; for MsgApp logTerm, index, commit; for MsgHeartbeat commit | the rest |
//!
//! Entry data is never looked into: the bytes that a proposer sent are the bytes that every member stores.

use std::fmt;

use bytes::{BufMut, Bytes};
use prost::Message as _;
use proto::raftpb;

use crate::conf_change::{ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
use crate::conf_state::ConfState;
use crate::entry::{Entry, EntryKind};
use crate::hard_state::HardState;
use crate::message::{Message, MessageType};
use crate::position::{Index, Term};
use crate::snapshot::{Snapshot, SnapshotMetadata};

/// Context of a `Vote` that the leader itself asked for: it overrides the leader's lease.
pub const CAMPAIGN_TRANSFER: &[u8] = b"CampaignTransfer";

/// Bytes that are no raftpb, or say something that no member may say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CodecError {
    Protobuf(prost::DecodeError),
    UnknownEntryType(i32),
    UnknownMessageType(i32),
    /// A type that never leaves a member.
    LocalMessage(i32),
    UnknownConfChangeType(i32),
    UnknownConfChangeTransition(i32),
}

impl fmt::Display for CodecError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            CodecError::Protobuf(error) => write!(f, "decode raftpb: {error}"),
            CodecError::UnknownEntryType(number) => write!(f, "unknown entry type {number}"),
            CodecError::UnknownMessageType(number) => write!(f, "unknown message type {number}"),
            CodecError::LocalMessage(number) => write!(f, "message type {number} is local"),
            CodecError::UnknownConfChangeType(number) => write!(f, "unknown conf change type {number}"),
            CodecError::UnknownConfChangeTransition(number) => {
                write!(f, "unknown conf change transition {number}")
            }
        }
    }
}

impl std::error::Error for CodecError {}

impl From<prost::DecodeError> for CodecError {
    fn from(error: prost::DecodeError) -> CodecError {
        CodecError::Protobuf(error)
    }
}

// ---- entries -----------------------------------------------------------------------------------------

pub fn encode_entry(entry: &Entry) -> Bytes {
    let mut out = Vec::with_capacity(entry.encoded_bytes() as usize);
    encode_entry_to(entry, &mut out);
    out.into()
}

/// Appends exactly [`Entry::encoded_bytes`] bytes.
pub fn encode_entry_to(entry: &Entry, out: &mut impl BufMut) {
    if entry.kind != EntryKind::Normal {
        put_number(out, 1, entry_type(entry.kind) as u64);
    }
    put_number(out, 2, entry.term.0);
    put_number(out, 3, entry.index.0);
    if !entry.data.is_empty() {
        put_bytes(out, 4, &entry.data);
    }
}

/// The entry's data shares `bytes`, nothing is copied.
pub fn decode_entry(bytes: Bytes) -> Result<Entry, CodecError> {
    entry_from_proto(raftpb::Entry::decode(bytes)?)
}

pub fn entry_from_proto(entry: raftpb::Entry) -> Result<Entry, CodecError> {
    let kind = match entry.r#type.unwrap_or(0) {
        0 => EntryKind::Normal,
        1 => EntryKind::ConfChange,
        2 => EntryKind::ConfChangeV2,
        other => return Err(CodecError::UnknownEntryType(other)),
    };
    Ok(Entry {
        term: Term(entry.term),
        index: Index(entry.index),
        kind,
        data: entry.data.unwrap_or_default(),
    })
}

pub fn entry_to_proto(entry: &Entry) -> raftpb::Entry {
    raftpb::Entry {
        r#type: (entry.kind != EntryKind::Normal).then_some(entry_type(entry.kind)),
        term: entry.term.0,
        index: entry.index.0,
        data: (!entry.data.is_empty()).then(|| entry.data.clone()),
    }
}

fn entry_type(kind: EntryKind) -> i32 {
    match kind {
        EntryKind::Normal => 0,
        EntryKind::ConfChange => 1,
        EntryKind::ConfChangeV2 => 2,
    }
}

// ---- hard state, membership, snapshots ----------------------------------------------------------------

pub fn encode_hard_state(state: &HardState) -> Bytes {
    hard_state_to_proto(state).encode_to_vec().into()
}

pub fn decode_hard_state(bytes: Bytes) -> Result<HardState, CodecError> {
    Ok(hard_state_from_proto(raftpb::HardState::decode(bytes)?))
}

pub fn hard_state_to_proto(state: &HardState) -> raftpb::HardState {
    raftpb::HardState { term: state.term.0, vote: state.vote.unwrap_or(0), commit: state.commit.0 }
}

pub fn hard_state_from_proto(state: raftpb::HardState) -> HardState {
    HardState {
        term: Term(state.term),
        vote: (state.vote != 0).then_some(state.vote),
        commit: Index(state.commit),
    }
}

pub fn conf_state_to_proto(state: &ConfState) -> raftpb::ConfState {
    raftpb::ConfState {
        voters: state.voters.clone(),
        learners: state.learners.clone(),
        voters_outgoing: state.voters_outgoing.clone(),
        learners_next: state.learners_next.clone(),
        auto_leave: state.auto_leave.then_some(true),
    }
}

pub fn conf_state_from_proto(state: raftpb::ConfState) -> ConfState {
    ConfState {
        voters: state.voters,
        learners: state.learners,
        voters_outgoing: state.voters_outgoing,
        learners_next: state.learners_next,
        auto_leave: state.auto_leave.unwrap_or(false),
    }
}

pub fn encode_conf_state(state: &ConfState) -> Bytes {
    conf_state_to_proto(state).encode_to_vec().into()
}

pub fn decode_conf_state(bytes: Bytes) -> Result<ConfState, CodecError> {
    Ok(conf_state_from_proto(raftpb::ConfState::decode(bytes)?))
}

pub fn encode_snapshot(snapshot: &Snapshot) -> Bytes {
    snapshot_to_proto(snapshot).encode_to_vec().into()
}

pub fn decode_snapshot(bytes: Bytes) -> Result<Snapshot, CodecError> {
    Ok(snapshot_from_proto(raftpb::Snapshot::decode(bytes)?))
}

pub fn snapshot_to_proto(snapshot: &Snapshot) -> raftpb::Snapshot {
    raftpb::Snapshot {
        data: (!snapshot.data.is_empty()).then(|| snapshot.data.clone()),
        metadata: Some(raftpb::SnapshotMetadata {
            conf_state: Some(conf_state_to_proto(&snapshot.metadata.conf_state)),
            index: snapshot.metadata.index.0,
            term: snapshot.metadata.term.0,
        }),
    }
}

pub fn snapshot_from_proto(snapshot: raftpb::Snapshot) -> Snapshot {
    let metadata = snapshot.metadata.unwrap_or_default();
    Snapshot {
        data: snapshot.data.unwrap_or_default(),
        metadata: SnapshotMetadata {
            conf_state: conf_state_from_proto(metadata.conf_state.unwrap_or_default()),
            index: Index(metadata.index),
            term: Term(metadata.term),
        },
    }
}

// ---- configuration changes ----------------------------------------------------------------------------

pub fn encode_conf_change(change: &ConfChange) -> Bytes {
    raftpb::ConfChange {
        id: (change.id != 0).then_some(change.id),
        r#type: conf_change_type(change.change),
        node_id: change.node_id,
        context: change.context.clone(),
    }
    .encode_to_vec()
    .into()
}

pub fn decode_conf_change(bytes: Bytes) -> Result<ConfChange, CodecError> {
    let change = raftpb::ConfChange::decode(bytes)?;
    Ok(ConfChange {
        id: change.id.unwrap_or(0),
        change: conf_change_type_from(change.r#type)?,
        node_id: change.node_id,
        context: change.context,
    })
}

pub fn encode_conf_change_v2(change: &ConfChangeV2) -> Bytes {
    let transition = match change.transition {
        ConfChangeTransition::Auto => None,
        ConfChangeTransition::JointImplicit => Some(1),
        ConfChangeTransition::JointExplicit => Some(2),
    };
    raftpb::ConfChangeV2 {
        transition,
        changes: change
            .changes
            .iter()
            .map(|single| raftpb::ConfChangeSingle {
                r#type: conf_change_type(single.change),
                node_id: single.node_id,
            })
            .collect(),
        context: (!change.context.is_empty()).then(|| change.context.clone()),
    }
    .encode_to_vec()
    .into()
}

pub fn decode_conf_change_v2(bytes: Bytes) -> Result<ConfChangeV2, CodecError> {
    let change = raftpb::ConfChangeV2::decode(bytes)?;
    let transition = match change.transition.unwrap_or(0) {
        0 => ConfChangeTransition::Auto,
        1 => ConfChangeTransition::JointImplicit,
        2 => ConfChangeTransition::JointExplicit,
        other => return Err(CodecError::UnknownConfChangeTransition(other)),
    };
    let changes = change
        .changes
        .iter()
        .map(|single| {
            Ok(ConfChangeSingle { change: conf_change_type_from(single.r#type)?, node_id: single.node_id })
        })
        .collect::<Result<_, CodecError>>()?;
    Ok(ConfChangeV2 { transition, changes, context: change.context.unwrap_or_default() })
}

fn conf_change_type(change: ConfChangeType) -> i32 {
    match change {
        ConfChangeType::AddNode => 0,
        ConfChangeType::RemoveNode => 1,
        ConfChangeType::UpdateNode => 2,
        ConfChangeType::AddLearnerNode => 3,
    }
}

fn conf_change_type_from(number: i32) -> Result<ConfChangeType, CodecError> {
    match number {
        0 => Ok(ConfChangeType::AddNode),
        1 => Ok(ConfChangeType::RemoveNode),
        2 => Ok(ConfChangeType::UpdateNode),
        3 => Ok(ConfChangeType::AddLearnerNode),
        other => Err(CodecError::UnknownConfChangeType(other)),
    }
}

// ---- messages -----------------------------------------------------------------------------------------

pub fn encode_message(message: &Message) -> Bytes {
    let entries: u64 = message.entries.iter().map(Entry::encoded_bytes).sum();
    let mut out = Vec::with_capacity(64 + entries as usize + 12 * message.entries.len());
    encode_message_to(message, &mut out);
    out.into()
}

pub fn encode_message_to(message: &Message, out: &mut impl BufMut) {
    let is_append = message.kind == MessageType::App;
    let is_heartbeat = message.kind == MessageType::Heartbeat && !message.is_link_heartbeat();
    let put_unless_zero = |out: &mut _, field, value, always: bool| {
        if always || value != 0 {
            put_number(out, field, value);
        }
    };
    put_number(out, 1, message_type(message.kind) as u64);
    put_unless_zero(out, 2, message.to, false);
    put_unless_zero(out, 3, message.from, false);
    put_unless_zero(out, 4, message.term.0, is_heartbeat);
    put_unless_zero(out, 5, message.log_term.0, is_append);
    put_unless_zero(out, 6, message.index.0, is_append);
    for entry in &message.entries {
        put_key(out, 7, LENGTH_DELIMITED);
        put_varint(out, entry.encoded_bytes());
        encode_entry_to(entry, out);
    }
    put_unless_zero(out, 8, message.commit.0, is_append || is_heartbeat);
    if let Some(snapshot) = &message.snapshot {
        put_bytes(out, 9, &encode_snapshot(snapshot));
    }
    put_unless_zero(out, 10, u64::from(message.reject), false);
    put_unless_zero(out, 11, message.reject_hint.0, false);
    if !message.context.is_empty() {
        put_bytes(out, 12, &message.context);
    }
}

/// Entry data and context share `bytes`.
pub fn decode_message(bytes: Bytes) -> Result<Message, CodecError> {
    message_from_proto(raftpb::Message::decode(bytes)?)
}

pub fn message_from_proto(message: raftpb::Message) -> Result<Message, CodecError> {
    let kind = message_type_from(message.r#type)?;
    let entries =
        message.entries.into_iter().map(entry_from_proto).collect::<Result<Vec<_>, CodecError>>()?;
    // Compat: raft 3.6 and older attach an empty snapshot to every message.
    let snapshot = message.snapshot.map(snapshot_from_proto).filter(|snapshot| !snapshot.is_empty());
    Ok(Message {
        kind,
        to: message.to,
        from: message.from,
        term: Term(message.term),
        log_term: Term(message.log_term.unwrap_or(0)),
        index: Index(message.index.unwrap_or(0)),
        entries,
        commit: Index(message.commit.unwrap_or(0)),
        snapshot,
        reject: message.reject.unwrap_or(false),
        reject_hint: Index(message.reject_hint.unwrap_or(0)),
        context: message.context.unwrap_or_default(),
    })
}

fn message_type(kind: MessageType) -> i32 {
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

fn message_type_from(number: i32) -> Result<MessageType, CodecError> {
    Ok(match number {
        2 => MessageType::Prop,
        3 => MessageType::App,
        4 => MessageType::AppResp,
        5 => MessageType::Vote,
        6 => MessageType::VoteResp,
        7 => MessageType::Snap,
        8 => MessageType::Heartbeat,
        9 => MessageType::HeartbeatResp,
        13 => MessageType::TransferLeader,
        14 => MessageType::TimeoutNow,
        15 => MessageType::ReadIndex,
        16 => MessageType::ReadIndexResp,
        17 => MessageType::PreVote,
        18 => MessageType::PreVoteResp,
        23 => MessageType::ForgetLeader,
        // Hup, Beat, Unreachable, SnapStatus, CheckQuorum and the four storage messages.
        0 | 1 | 10..=12 | 19..=22 => return Err(CodecError::LocalMessage(number)),
        _ => return Err(CodecError::UnknownMessageType(number)),
    })
}

// ---- the few protobuf primitives that the above needs ---------------------------------------------------

const VARINT: u64 = 0;
const LENGTH_DELIMITED: u64 = 2;

fn put_key(out: &mut impl BufMut, field: u64, wire_type: u64) {
    put_varint(out, field << 3 | wire_type);
}

fn put_number(out: &mut impl BufMut, field: u64, value: u64) {
    put_key(out, field, VARINT);
    put_varint(out, value);
}

fn put_bytes(out: &mut impl BufMut, field: u64, value: &[u8]) {
    put_key(out, field, LENGTH_DELIMITED);
    put_varint(out, value.len() as u64);
    out.put_slice(value);
}

fn put_varint(out: &mut impl BufMut, mut value: u64) {
    while value >= 0x80 {
        out.put_u8(value as u8 | 0x80);
        value >>= 7;
    }
    out.put_u8(value as u8);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entry_writes_term_and_index_even_when_zero() {
        assert_eq!(&encode_entry(&Entry::default())[..], &[0x10, 0, 0x18, 0]);
        let entry = Entry {
            term: Term(1),
            index: Index(300),
            kind: EntryKind::ConfChange,
            data: Bytes::from_static(b"x"),
        };
        assert_eq!(&encode_entry(&entry)[..], &[0x08, 1, 0x10, 1, 0x18, 0xac, 2, 0x22, 1, b'x']);
        assert_eq!(encode_entry(&entry), Bytes::from(entry_to_proto(&entry).encode_to_vec()));
    }

    #[test]
    fn hard_state_writes_all_three() {
        assert_eq!(&encode_hard_state(&HardState::default())[..], &[8, 0, 16, 0, 24, 0]);
    }

    #[test]
    fn conf_change_leaves_out_only_the_id() {
        assert_eq!(&encode_conf_change(&ConfChange::default())[..], &[0x10, 0, 0x18, 0, 0x22, 0]);
        let change = ConfChange { id: 5, ..ConfChange::add_learner(2) };
        assert_eq!(&encode_conf_change(&change)[..], &[8, 5, 0x10, 3, 0x18, 2, 0x22, 0]);
        assert_eq!(decode_conf_change(encode_conf_change(&change)), Ok(change));
    }

    #[test]
    fn empty_change_v2_is_no_bytes() {
        assert!(encode_conf_change_v2(&ConfChangeV2::leave_joint()).is_empty());
        assert_eq!(decode_conf_change_v2(Bytes::new()), Ok(ConfChangeV2::leave_joint()));
    }

    #[test]
    fn heartbeats_write_commit_and_link_heartbeats_only_the_type() {
        let heartbeat = Message { from: 1, term: Term(3), ..Message::new(MessageType::Heartbeat, 2) };
        assert_eq!(&encode_message(&heartbeat)[..], &[8, 8, 16, 2, 24, 1, 32, 3, 64, 0]);
        assert_eq!(&encode_message(&Message::link_heartbeat())[..], &[8, 8]);
        assert!(decode_message(Bytes::from_static(&[8, 8])).unwrap().is_link_heartbeat());
    }

    #[test]
    fn append_writes_its_position_and_commit_even_when_zero() {
        let append = Message { from: 1, term: Term(1), ..Message::new(MessageType::App, 2) };
        assert_eq!(&encode_message(&append)[..], &[8, 3, 16, 2, 24, 1, 32, 1, 40, 0, 48, 0, 64, 0]);
    }

    #[test]
    fn an_older_member_s_empty_snapshot_is_none() {
        let old = raftpb::Message {
            r#type: 3,
            to: 2,
            from: 1,
            term: 1,
            snapshot: Some(raftpb::Snapshot {
                data: None,
                metadata: Some(raftpb::SnapshotMetadata {
                    conf_state: Some(raftpb::ConfState::default()),
                    index: 0,
                    term: 0,
                }),
            }),
            ..raftpb::Message::default()
        };
        assert_eq!(message_from_proto(old).unwrap().snapshot, None);
    }

    #[test]
    fn what_no_member_may_send_is_refused() {
        let typed = |number: u8| decode_message(Bytes::copy_from_slice(&[8, number]));
        for local in [0, 1, 10, 11, 12, 19, 20, 21, 22] {
            assert_eq!(typed(local), Err(CodecError::LocalMessage(local.into())));
        }
        assert_eq!(typed(24), Err(CodecError::UnknownMessageType(24)));
        assert_eq!(decode_entry(Bytes::from_static(&[8, 9])), Err(CodecError::UnknownEntryType(9)));
        assert!(matches!(decode_entry(Bytes::from_static(&[0x22, 9])), Err(CodecError::Protobuf(_))));
    }

    fn arbitrary_message() -> impl Strategy<Value = Message> {
        let kinds = prop::sample::select(vec![
            MessageType::Prop,
            MessageType::App,
            MessageType::AppResp,
            MessageType::Vote,
            MessageType::Snap,
            MessageType::Heartbeat,
            MessageType::HeartbeatResp,
            MessageType::ReadIndexResp,
            MessageType::ForgetLeader,
        ]);
        let entries = prop::collection::vec(
            (any::<u64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..200)),
            0..4,
        );
        let numbers = prop::array::uniform7(prop::num::u64::ANY);
        (kinds, numbers, entries, any::<bool>(), prop::collection::vec(any::<u8>(), 0..20)).prop_map(
            |(kind, n, entries, reject, context)| Message {
                kind,
                to: n[0],
                from: n[1],
                term: Term(n[2]),
                log_term: Term(n[3]),
                index: Index(n[4]),
                entries: entries
                    .into_iter()
                    .map(|(term, index, data)| Entry {
                        term: Term(term),
                        index: Index(index),
                        kind: EntryKind::Normal,
                        data: data.into(),
                    })
                    .collect(),
                commit: Index(n[5]),
                snapshot: (kind == MessageType::Snap).then(|| Snapshot {
                    data: Bytes::from_static(b"s"),
                    metadata: SnapshotMetadata {
                        conf_state: ConfState::of_voters([1, 2]),
                        index: Index(n[6] | 1),
                        term: Term(n[3]),
                    },
                }),
                reject,
                reject_hint: Index(n[6]),
                context: context.into(),
            },
        )
    }

    proptest! {
        #[test]
        fn messages_survive_the_wire(message in arbitrary_message()) {
            prop_assert_eq!(decode_message(encode_message(&message)), Ok(message));
        }

        #[test]
        fn any_bytes_decode_or_fail_but_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let bytes = Bytes::from(bytes);
            let _ = decode_message(bytes.clone());
            let _ = decode_entry(bytes.clone());
            let _ = decode_conf_change(bytes.clone());
            let _ = decode_conf_change_v2(bytes.clone());
            let _ = decode_snapshot(bytes);
        }
    }
}
