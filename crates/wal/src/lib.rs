//! etcd's write-ahead log, byte for byte: what etcd 3.5 to 3.7 writes is read, what is written here they read.
//!
//! The log is the durable truth of a member; the database file is only a checkpoint of it. It is a directory
//! of segments, each a run of records whose checksums form one chain through all segments:
//!
//! | segment | records, in order |
//! |---|---|
//! | `0000000000000000-0000000000000000.wal` | crc(0), metadata, snapshot(0, 0), then entries, states and snapshots |
//! | every later one | crc(chain so far), metadata, state, then the same |
//!
//! - **Written**: [`Wal::append`] only encodes; [`Wal::sync`] makes everything appended so far durable by one
//!   write and one flush. A batch counts only once `sync` returned, and after any error the log refuses
//!   further use: what a failed flush left behind is unknown, so the member must stop and recover.
//! - **Torn**: the power may go in the middle of a write. A record that ends behind the file, or that fails
//!   its check while a whole 512-byte sector of it is zero, was torn. At the end of the last segment that is
//!   normal: [`Wal::open`] keeps a copy (`.broken`) and cuts it off. Anything else that does not check is
//!   [`Error::Corrupt`], and nothing is changed on disk.
//! - **Behind the last record** a segment holds zeros, always; a length of zero ends it.
//!
//! Absent here: threads, the clock, what an entry or the metadata means, and when to sync, snapshot or purge.

mod error;
mod frame;
mod name;
mod open;
mod prepare;
mod probe;
mod purge;
mod read;
mod record;
mod segment_reader;
pub mod snap;
mod wal;

pub use error::{Damage, Error};
pub use name::SegmentName;
pub use open::{Recovered, Repair};
pub use prepare::Preparation;
pub use probe::{Presence, discard_unborn, probe};
pub use purge::purge;
pub use read::{ReadLog, read, valid_snapshots};
pub use record::SnapshotRecord;
pub use wal::{Options, Wal};
