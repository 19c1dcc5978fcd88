//! Both sides of etcd's protocol between members (rafthttp), as etcd 3.5 to 3.7 speak it.
//!
//! ```text
//! raft, wal threads ─ PeerNetwork::send ─▶ peer ─▶ outlet: queue and connection of a stream that the other
//!                                            │      side has opened
//!                                            └── no stream ──▶ pipeline: POST /raft
//! server::Server ◀─ receive ─ stream that this side has opened │ POST /raft │ POST /raft/snapshot
//! ```
//!
//! Who wants messages opens the streams for them: each member asks every other one for two, of which the
//! answers never end ([`stream`]). What the others ask of this member over HTTP is in [`routes`], what it asks
//! of them in [`questions`].
//!
//! Everything but the files of snapshots runs on one thread with a runtime of its own, so that heartbeats never
//! wait behind the work for clients; small messages are written by whoever has them, without waking it. A peer that is dead, slow or hostile holds up nobody else: each has its own
//! bounded queues, which drop when they are full, and its own connections.

mod body;
mod codec;
mod config;
mod dialer;
mod hash_kv;
mod headers;
mod listener;
mod metrics;
mod network;
mod outlet;
mod peer;
mod pipeline;
mod probe;
mod questions;
mod reader;
mod routes;
mod san;
mod snapshot;
mod stream;

pub use config::PeerConfig;
pub use listener::BindError;
pub use network::PeerNetwork;
