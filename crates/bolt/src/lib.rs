//! etcd's database file: a B+tree in bbolt's format, always left in a state that bbolt opens.
//!
//! One writer changes the tree by copying every page it touches; readers hold on to the pages of the
//! state they began with. The file is mapped once, into address space that is reserved for its growth,
//! so growing it waits for no reader. There is no page cache of our own: the mapping is it.
//!
//! A commit writes the changed pages, syncs, writes one of the two meta pages, and syncs again: a power
//! cut leaves either the state before or the state after. The freelist is not stored with every commit;
//! opening finds the free pages by walking the branch pages, or reads the list that [`Db::close`] left.
//!
//! Every byte of the file is taken for hostile: damage gives [`Error::Corrupt`].

mod arena;
mod check;
pub mod copy;
mod cursor;
mod db;
mod error;
mod finder;
mod freelist;
mod meta;
mod node;
mod page;
mod reach;
mod read;
mod write;

pub use check::{Finding, check};
pub use cursor::Cursor;
pub use db::{Db, Layout, Options, Stats};
pub use error::{Error, Result};
pub use finder::Finder;
pub use page::ValueRef;
pub use read::{Bucket, BucketHandle, Entry, ReadTx};
pub use write::{BucketId, FILL_PERCENT_APPEND, WriteTx};

/// A key is not empty and at most this long.
pub const KEY_SIZE_MAX: usize = 32 << 10;
/// A value is at most this long.
pub const VALUE_SIZE_MAX: usize = (1 << 31) - 2;
