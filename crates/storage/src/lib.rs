//! What a member's files hold, for those who run a member and those who work on its directory while it is
//! stopped: the buckets of the database file, `.snap` files with their v2 store, the first entries of a log.
//!
//! What is absent: any wait, any thread, any clock; files come through the disk traits.

mod first_log;
mod schema;
mod snap_file;
mod source;
pub mod v2_store;

pub use first_log::first_entries;
pub use schema::{
    Applied, Bucket, Buckets, CONF_STATE, CONSISTENT_INDEX, FINISHED_COMPACT, Item, NOT_HASHED,
    SCHEDULED_COMPACT, STORAGE_VERSION, TERM, Write, applied, compactions, conf_state_json, for_each_item,
    make_buckets, meta, pairs, storage_version,
};
pub use snap_file::{SnapFile, purge as purge_snap_files};
pub use source::FileSource;
