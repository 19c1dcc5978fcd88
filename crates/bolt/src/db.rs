//! An open file: its current state, who reads it, and the one writer.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use disk::{File, LockKind, Mapping};
use parking_lot::Mutex;

use crate::check::{self, Finding};
use crate::error::{Error, Result};
use crate::freelist::{self, Freelist, Span};
use crate::meta::{self, Meta, NO_FREELIST};
use crate::page::Pages;
use crate::reach;
use crate::read::ReadTx;
use crate::write::WriteTx;

/// bbolt's `InitialMmapSize` has the same purpose; address space costs nothing until it is used.
const RESERVE_BYTES: u64 = 128 << 30;
/// The file grows by this much at a time, once it is as large.
const GROWTH_BYTES: u64 = 16 << 20;
const FIRST_GROWTH_BYTES: u64 = 32 << 10;

/// What a file whose freelist is not stored may contain: decides how much of it is read at opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// Buckets only at the top, as etcd's. Leaves need not be read; nested buckets are refused.
    Flat,
    /// Buckets inside buckets, as bbolt allows.
    Nested,
}

#[derive(Clone, Debug)]
pub struct Options {
    /// For a new file: a power of two from 512 to 64 Ki. An existing file keeps its own.
    pub page_size: u32,
    /// Never writes, not even the first pages of an empty file.
    pub read_only: bool,
    /// etcd's `--unsafe-no-fsync`: a power cut may cost the file.
    pub no_sync: bool,
    /// Stores the freelist with every commit. Without, only [`Db::close`] does.
    pub sync_freelist: bool,
    pub layout: Layout,
    /// Address space for the one mapping; a larger file gets twice its size.
    pub reserve_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            page_size: 4096,
            read_only: false,
            no_sync: false,
            sync_freelist: false,
            layout: Layout::Nested,
            reserve_bytes: RESERVE_BYTES,
        }
    }
}

/// Numbers of the last commit, and sums since the file was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub page_size: u32,
    pub txid: u64,
    /// Pages below the high-water mark, all of them.
    pub pages: u64,
    /// Pages that the next commit may write.
    pub free_pages: u64,
    /// Pages out of use that readers still see, or that the last commit freed.
    pub pending_pages: u64,
    pub open_readers: u64,
    pub commits: u64,
    pub written_pages: u64,
    pub written_bytes: u64,
    pub writes: u64,
    pub syncs: u64,
    /// Nodes that were cut in two or more when written.
    pub splits: u64,
    /// Nodes that were joined with a neighbour.
    pub merges: u64,
}

impl Stats {
    /// What etcd reports as `dbSize`.
    pub fn size_bytes(&self) -> u64 {
        self.pages * u64::from(self.page_size)
    }

    /// What etcd reports as `dbSizeInUse`.
    pub fn in_use_bytes(&self) -> u64 {
        (self.pages - self.free_pages) * u64::from(self.page_size)
    }
}

/// The newest committed state, and the transactions that are being read with how many readers each.
pub(crate) struct Current {
    pub meta: Meta,
    pub readers: BTreeMap<u64, u64>,
    pub stats: Stats,
    /// The first write or sync that failed. Nothing is written after it.
    pub poison: Option<Error>,
}

pub(crate) struct Shared {
    pub file: Arc<dyn File>,
    pub mapping: Arc<dyn Mapping>,
    pub reserved_bytes: u64,
    pub options: Options,
    pub current: Mutex<Current>,
    /// `None` in a file opened for reading.
    writer: Option<Arc<Mutex<Writer>>>,
}

/// What only the writer touches.
pub(crate) struct Writer {
    pub freelist: Freelist,
    /// Where the file holds the freelist, if it does.
    pub stored_freelist: Option<Span>,
    pub file_size_bytes: u64,
    /// Kept between commits, so that each does not fault in fresh memory.
    pub buffer: Vec<u8>,
}

impl Shared {
    pub fn pages(&self, meta: &Meta) -> Pages {
        Pages { mapping: self.mapping.clone(), page_size: meta.page_size, high_water: meta.high_water }
    }

    pub fn remove_reader(&self, txid: u64) {
        let mut current = self.current.lock();
        if let Some(count) = current.readers.get_mut(&txid) {
            *count -= 1;
            if *count == 0 {
                current.readers.remove(&txid);
            }
        }
    }

    /// Nothing may be written after this.
    pub fn poison(&self, error: &Error) {
        self.current.lock().poison.get_or_insert_with(|| error.clone());
    }

    /// The size to grow a file to that needs `needed_bytes`.
    pub fn grown_size(&self, needed_bytes: u64) -> Result<u64> {
        if needed_bytes > self.reserved_bytes {
            return Err(Error::Full { needed_bytes, reserved_bytes: self.reserved_bytes });
        }
        let grown = if needed_bytes <= GROWTH_BYTES {
            needed_bytes.next_power_of_two().max(FIRST_GROWTH_BYTES)
        } else {
            needed_bytes + GROWTH_BYTES
        };
        Ok(grown.min(self.reserved_bytes).next_multiple_of(u64::from(self.options.page_size)))
    }
}

/// Cheap to clone; clones share the file.
#[derive(Clone)]
pub struct Db {
    shared: Arc<Shared>,
}

impl Db {
    /// Locks the file, makes its first pages when it is empty, and reads which pages are free.
    pub fn open(file: Arc<dyn File>, options: Options) -> Result<Db> {
        let page_size = options.page_size;
        assert!(
            page_size.is_power_of_two() && (meta::PAGE_SIZE_MIN..=meta::PAGE_SIZE_MAX).contains(&page_size),
            "page size {page_size}"
        );
        let lock = if options.read_only { LockKind::Shared } else { LockKind::Exclusive };
        file.try_lock(lock).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => Error::Locked,
            _ => Error::io("lock the database file")(error),
        })?;
        let mut file_size_bytes = file.len().map_err(Error::io("size of the database file"))?;
        if file_size_bytes == 0 && !options.read_only {
            let first = meta::first_pages(page_size);
            file.write_at(&first, 0).map_err(Error::io("write the first pages"))?;
            if !options.no_sync {
                file.sync_data().map_err(Error::io("sync the first pages"))?;
            }
            file_size_bytes = first.len() as u64;
        }
        let meta = Meta::select(file.as_ref(), file_size_bytes)?;
        let wanted = options.reserve_bytes.max(if options.read_only { 0 } else { file_size_bytes * 2 });
        let reserved_bytes = wanted.max(file_size_bytes).next_multiple_of(u64::from(meta::PAGE_SIZE_MAX));
        let mapping = file.map(reserved_bytes).map_err(Error::io("map the database file"))?;
        let pages =
            Pages { mapping: mapping.clone(), page_size: meta.page_size, high_water: meta.high_water };
        let writer = match options.read_only {
            true => None,
            false => Some(Writer::load(&pages, &meta, options.layout, file_size_bytes)?),
        };
        let mut stats =
            Stats { page_size: meta.page_size, txid: meta.txid, pages: meta.high_water, ..Stats::default() };
        if let Some(writer) = &writer {
            stats.free_pages = writer.freelist.free_pages();
        }
        let current = Mutex::new(Current { meta, readers: BTreeMap::new(), stats, poison: None });
        let options = Options { page_size: meta.page_size, ..options };
        let writer = writer.map(|writer| Arc::new(Mutex::new(writer)));
        Ok(Db { shared: Arc::new(Shared { file, mapping, reserved_bytes, options, current, writer }) })
    }

    /// The newest committed state. Never waits for the writer.
    pub fn begin_read(&self) -> ReadTx {
        let meta = {
            let mut current = self.shared.current.lock();
            let txid = current.meta.txid;
            *current.readers.entry(txid).or_insert(0) += 1;
            current.meta
        };
        ReadTx::new(self.shared.clone(), meta)
    }

    /// Waits for the writer before. Dropping the transaction undoes it.
    pub fn begin_write(&self) -> Result<WriteTx> {
        let Some(writer) = &self.shared.writer else { return Err(Error::ReadOnly) };
        let writer = writer.lock_arc();
        let meta = {
            let current = self.shared.current.lock();
            if let Some(error) = &current.poison {
                return Err(error.clone());
            }
            current.meta
        };
        Ok(WriteTx::new(self.shared.clone(), writer, meta))
    }

    pub fn page_size(&self) -> u32 {
        self.shared.options.page_size
    }

    pub fn stats(&self) -> Stats {
        let current = self.shared.current.lock();
        Stats { open_readers: current.readers.values().sum(), ..current.stats }
    }

    /// The error that ended all writing, if one did.
    pub fn poison(&self) -> Option<Error> {
        self.shared.current.lock().poison.clone()
    }

    /// Stores the freelist in a last transaction, so that the next opening needs no walk. The file is
    /// whole without this, too. Other clones can still write: the next commit takes the list out again.
    pub fn close(self) -> Result<()> {
        let Some(writer) = &self.shared.writer else { return Ok(()) };
        if writer.lock().stored_freelist.is_some() {
            return Ok(());
        }
        self.begin_write()?.commit_with_freelist()
    }

    /// [`check::check`] of the newest state, and of the free pages in memory against it.
    pub fn check(&self) -> Result<Vec<Finding>> {
        let Some(writer) = &self.shared.writer else { return Ok(check::check(&self.begin_read())) };
        let writer = writer.lock();
        let unused = writer.freelist.unused()?;
        Ok(check::check_with_freelist(&self.begin_read(), &unused))
    }
}

impl Writer {
    fn load(pages: &Pages, meta: &Meta, layout: Layout, file_size_bytes: u64) -> Result<Writer> {
        let (stored_freelist, free) = if meta.freelist == NO_FREELIST {
            (None, reach::reachable(pages, meta.root, layout)?.gaps(meta.high_water)?)
        } else {
            let (span, free) = freelist::decode(pages, meta.freelist)?;
            (Some(span), free)
        };
        Ok(Writer { freelist: Freelist::new(free), stored_freelist, file_size_bytes, buffer: Vec::new() })
    }
}
