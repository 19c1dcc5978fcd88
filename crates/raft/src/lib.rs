//! Raft as etcd speaks it (etcd-raft 3.7): values in, effects out, no IO, no clock, no OS randomness.
//!
//! A driver owns one [`RawNode`] and loops: feed it messages ([`RawNode::step`]), ticks and proposals,
//! then take a [`Ready`] and carry it out:
//!
//! | part of [`Ready`] | promise | what the driver does |
//! |---|---|---|
//! | `send_now` | none | sends at once, in parallel with the local write |
//! | `persist` | term, vote, entries, snapshot | appends to [`Storage`] at once, writes and syncs the log, and only then calls [`Persist::synced`], which hands out the votes and acks to send and the [`PersistAck`] for [`RawNode::persisted`] |
//! | `committed` | on a quorum's disks and on ours | applies in order, calls [`RawNode::apply_conf_change`] for the configuration changes among them, then [`RawNode::applied`] |
//! | `read_states` | confirmed read indexes | waits until that index is applied, then reads |
//!
//! Several `Persist`s and batches of committed entries may be in flight; each kind is acknowledged in the
//! order in which it was handed out. What is *absent*: files, sockets, threads, time, and any knowledge of
//! what an entry means, except for configuration changes.
//!
//! `cargo xtask lockstep` compares it with Go's raft 3.7 (asynchronous storage writes) step by step. What differs
//! on purpose:
//!
//! - A candidate asks for votes only when its term is durable, as etcd's loop does; Go's asynchronous mode asks
//!   at once.
//! - An only voter that leads answers reads at once, but not before it has committed an entry of its term. Go's
//!   answers before that as well, and so does its leader that removed itself and left one voter behind. Reads
//!   that waited for that commit are answered at once, where Go's begins a round of heartbeats.
//! - What Go's panics on is refused: configuration changes that cannot be applied, malformed messages, commit
//!   indexes beyond the log (fatal, [`StepError::is_fatal`]).
//! - A limit of 0 bytes for committed entries lets one entry at a time through; Go's stops for ever.
//! - An entry counts as its encoding by our codec. Go's counts fields that are present in memory and empty, two
//!   bytes each, so limits may cut one entry earlier there.
//! - [`Persist::must_sync`] is also true for a snapshot.

mod changer;
pub mod codec;
mod conf_change;
mod conf_state;
mod config;
mod consensus;
mod entry;
mod error;
mod hard_state;
mod inflights;
mod log;
mod memory_storage;
mod message;
mod position;
mod progress;
mod quorum;
mod raw_node;
mod read_only;
mod ready;
mod snapshot;
mod status;
mod storage;
mod timeouts;
mod tracker;
mod unstable;

pub use conf_change::{ConfChange, ConfChangeSingle, ConfChangeTransition, ConfChangeType, ConfChangeV2};
pub use conf_state::ConfState;
pub use config::{Config, ReadOnlyOption};
pub use entry::{Entry, EntryKind};
pub use error::{ConfChangeError, ConfigError, StartError, StepError};
pub use hard_state::{HardState, Role, SoftState};
pub use inflights::Inflights;
pub use memory_storage::MemoryStorage;
pub use message::{Message, MessageType};
pub use position::{EntryId, Index, NodeId, Term};
pub use progress::{Progress, ProgressState};
pub use quorum::{JointConfig, MajorityConfig, VoteResult};
pub use raw_node::RawNode;
pub use read_only::ReadState;
pub use ready::{Acknowledgement, Persist, PersistAck, Ready, Synced};
pub use snapshot::{Snapshot, SnapshotMetadata, SnapshotStatus};
pub use status::{BasicStatus, Status};
pub use storage::{InitialState, Storage, StorageError};
pub use timeouts::{ElectionTimeouts, SeededTimeouts};
pub use tracker::Configuration;
