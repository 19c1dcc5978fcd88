//! Copies of the file taken while it is in use: as it is, or compacted.

mod compact;
mod snapshot;

pub use compact::{Progress, compact_into};
pub use snapshot::{Snapshot, snapshot};
