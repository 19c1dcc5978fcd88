//! One member of a cluster: bootstrap, propose, replicate, apply, checkpoint, and what runs beside them.
//!
//! [`Server`] (`handle.rs`) is what callers hold. Behind it four stages pass a write along, each owning what it
//! works on. Each has a thread; who else may take its turns is told in `inlet`.
//!
//! | thread | module | owns |
//! |---|---|---|
//! | raft | `replicate` | the raft core; never touches a disk or a socket |
//! | wal | `log_writer` | the log files; one write and one sync for all that waits |
//! | apply | `apply_loop` | keys, leases, alarms, membership; publishes one view per batch |
//! | backend | `backend` | the file: folds batches into it, compacts, defragments, copies |

mod apply_loop;
mod backend;
pub mod background;
mod bootstrap;
mod clock;
mod compactor;
mod config;
mod corruption;
mod error;
mod handle;
mod inbound;
mod inlet;
mod leadership;
mod leases;
mod log_writer;
mod members;
mod metrics;
mod network;
mod process_metrics;
mod progress;
mod quota;
mod reads;
mod replicate;
mod request_id;
mod restore;
mod shared;
mod start;
mod tasks;
mod versions;
mod waiters;

pub use backend::{HashAnswer, SnapshotReader};
pub use bootstrap::BootError;
pub use clock::Clock;
pub use config::{AutoCompaction, ClusterState, Config, DEFAULT_QUOTA_BYTES, SERVER_VERSION};
pub use error::Error;
pub use handle::{HashKvAnswer, ReadMode, Server};
pub use inbound::{ReceiveError, SnapshotWriter};
pub use lease::CHECKPOINT_INTERVAL as LEASE_CHECKPOINT_INTERVAL;
pub use leases::{LeaseKeys, LeaseTimes};
pub use members::JoinAs;
pub use metrics::Metrics;
pub use network::{AskError, Asked, ConnectionLoss, Network, NoNetwork, RemoteCluster, RemoteVersion};
pub use progress::{FileProgress, RaftProgress};
pub use shared::StopReason;
pub use start::{Environment, Member, Stage, Stages};
