//! A fresh copy of the live tree without its gaps: etcd's defragmentation, beside the running writer.
//!
//! Leaves are filled in key order and written front to back; each level of branches above keeps one
//! open page, so memory does not grow with the file. Progress is reported between slices, where the
//! caller may wait or stop, and where what was written is synced: one sync of gigabytes at the end would
//! hold up everyone else's.
//!
//! What is committed to the source meanwhile is not in the copy. The caller opens the copy as a [`Db`],
//! repeats those changes on it, and renames it over the source.

use std::ops::ControlFlow;

use disk::File;

use crate::arena::Arena;
use crate::error::{Error, Result};
use crate::freelist::{self, Span};
use crate::meta::Meta;
use crate::node::{self, BranchItem, Child, Items, LeafItem, Node};
use crate::page::{BUCKET_FLAG, BucketHeader, DEPTH_MAX, ELEMENT_SIZE, Kind, PAGE_HEADER_SIZE};
use crate::read::{Bucket, ReadTx, Root};
use crate::write::FILL_PERCENT_APPEND;

#[cfg(doc)]
use crate::Db;

/// Between two calls of the callback, and what one sync covers: a log's own sync waits behind it.
const SLICE_BYTES: u64 = 1 << 20;
const WRITE_BYTES: usize = 1 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub keys: u64,
    pub written_bytes: u64,
    /// Size of the source: an upper bound of what will be written, roughly.
    pub source_bytes: u64,
}

/// Writes a compacted copy of what `tx` sees into the empty `file`, synced. The callback is called after
/// every megabyte; it may sleep, and it may stop the copy ([`Error::Stopped`]). Gives the final
/// numbers. On an error the file is of no use.
pub fn compact_into(
    tx: &ReadTx,
    file: &dyn File,
    progress: &mut dyn FnMut(Progress) -> ControlFlow<()>,
) -> Result<Progress> {
    assert!(file.is_empty().map_err(Error::io("size of the copy"))?, "copy into a file that is not empty");
    let page_size = tx.page_size() as usize;
    let mut copy = Copy {
        arena: Arena::new(tx.pages().clone()),
        tx,
        file,
        progress,
        page_size,
        next_page: 2,
        keys: 0,
        entered: 0,
        buffer: Vec::with_capacity(WRITE_BYTES + page_size),
        written_bytes: 0,
        reported_bytes: 0,
    };
    let root = copy.bucket(tx.root(), 0)?;
    let list = Span { start: copy.next_page, count: 1 };
    copy.next_page += 1;
    copy.buffer.extend_from_slice(&freelist::encode(&[], list, tx.page_size()));
    copy.flush()?;
    file.sync_data().map_err(Error::io("sync the copy"))?;
    let meta = Meta { root, freelist: list.start, high_water: copy.next_page, ..*tx.meta() };
    // Both pages: should one be torn, the other is the same state.
    for txid in [meta.txid.saturating_sub(1), meta.txid] {
        let page = txid % 2;
        let bytes = Meta { txid, ..meta }.encode(page);
        file.write_at(&bytes, page * page_size as u64).map_err(Error::io("write the copy's meta page"))?;
    }
    file.sync_data().map_err(Error::io("sync the copy's meta page"))?;
    Ok(copy.now())
}

struct Copy<'a> {
    /// Keys and values stay in the source.
    arena: Arena,
    tx: &'a ReadTx,
    file: &'a dyn File,
    progress: &'a mut dyn FnMut(Progress) -> ControlFlow<()>,
    page_size: usize,
    /// Where the buffer's end will be written.
    next_page: u64,
    keys: u64,
    /// Pages of the source that were read, roots of buckets not counted.
    entered: u64,
    buffer: Vec<u8>,
    written_bytes: u64,
    reported_bytes: u64,
}

/// One level of a tree being built: the page being filled, and the full one before it, kept until it is
/// certain that the last page of the level gets enough elements.
struct Level {
    before: Option<Node>,
    open: Node,
    open_bytes: usize,
}

impl Level {
    fn new(kind: Kind) -> Level {
        Level { before: None, open: empty(kind), open_bytes: PAGE_HEADER_SIZE }
    }
}

fn empty(kind: Kind) -> Node {
    let items = match kind {
        Kind::Leaf => Items::Leaf(Vec::new()),
        Kind::Branch => Items::Branch(Vec::new()),
    };
    Node { span: None, shrunk: false, items }
}

impl<'a> Copy<'a> {
    fn now(&self) -> Progress {
        Progress { keys: self.keys, written_bytes: self.written_bytes, source_bytes: self.tx.size() }
    }

    /// Copies a bucket that is not inline, those in it first; gives its new root page.
    fn bucket(&mut self, bucket: Bucket<'a>, bucket_depth: usize) -> Result<u64> {
        if bucket_depth > DEPTH_MAX {
            return Err(Error::Corrupt { page: 0, what: "buckets nested too deeply" });
        }
        let mut levels = vec![Level::new(Kind::Leaf)];
        let mut cursor = bucket.cursor();
        let mut entry = cursor.first()?;
        let mut entered = 0;
        while let Some(found) = entry {
            // Over all buckets: a page that belongs to two would be copied again and again.
            self.entered += cursor.entered() - entered;
            entered = cursor.entered();
            if self.entered > self.tx.pages().high_water {
                return Err(Error::Corrupt { page: 0, what: "tree repeats itself" });
            }
            if found.key().is_empty() {
                return Err(Error::Corrupt { page: 0, what: "empty key" });
            }
            let mut item = LeafItem {
                key: found.key_ref().into(),
                value: found.value_ref().into(),
                flags: if found.is_bucket() { BUCKET_FLAG } else { 0 },
            };
            if found.is_bucket() {
                let handle = found.bucket()?;
                if let Root::Page(_) = handle.root {
                    let root = self.bucket(self.tx.bucket_at(handle), bucket_depth + 1)?;
                    let header = BucketHeader { root, sequence: handle.sequence };
                    item.value = self.arena.push(&header.encode());
                }
            }
            self.keys += 1;
            self.add_leaf_item(&mut levels, item)?;
            self.report()?;
            entry = cursor.next()?;
        }
        self.finish(levels)
    }

    fn add_leaf_item(&mut self, levels: &mut Vec<Level>, item: LeafItem) -> Result<()> {
        let level = &mut levels[0];
        let bytes = ELEMENT_SIZE + item.key.len() + item.value.len();
        if !node::joins_leaf(
            level.open.count(),
            level.open_bytes,
            bytes,
            self.page_size,
            self.threshold_bytes(),
        ) {
            self.turn(levels, 0)?;
        }
        let level = &mut levels[0];
        level.open_bytes += bytes;
        if let Items::Leaf(items) = &mut level.open.items {
            items.push(item);
        }
        Ok(())
    }

    fn add_branch_item(&mut self, levels: &mut Vec<Level>, depth: usize, item: BranchItem) -> Result<()> {
        if depth == levels.len() {
            levels.push(Level::new(Kind::Branch));
        }
        let level = &mut levels[depth];
        let bytes = ELEMENT_SIZE + item.key.len();
        // Two at least: a branch with an only child would make ever more levels, and bbolt panic.
        if level.open.count() >= 2 && level.open_bytes + bytes > self.threshold_bytes() {
            self.turn(levels, depth)?;
        }
        let level = &mut levels[depth];
        level.open_bytes += bytes;
        if let Items::Branch(items) = &mut level.open.items {
            items.push(item);
        }
        Ok(())
    }

    fn threshold_bytes(&self) -> usize {
        (self.page_size as f64 * FILL_PERCENT_APPEND) as usize
    }

    /// Begins a new page on a level and writes the one before the last.
    fn turn(&mut self, levels: &mut Vec<Level>, depth: usize) -> Result<()> {
        let level = &mut levels[depth];
        let fresh = empty(level.open.kind());
        let full = std::mem::replace(&mut level.open, fresh);
        level.open_bytes = PAGE_HEADER_SIZE;
        match level.before.replace(full) {
            Some(node) => {
                let item = self.place(&node)?;
                self.add_branch_item(levels, depth + 1, item)
            }
            None => Ok(()),
        }
    }

    /// Writes what is open on all levels, from the leaves up; gives the root.
    fn finish(&mut self, mut levels: Vec<Level>) -> Result<u64> {
        let mut depth = 0;
        loop {
            let level = &mut levels[depth];
            let mut before = level.before.take();
            let open = std::mem::replace(&mut level.open, empty(Kind::Leaf));
            let only = match (&open.items, before.as_mut()) {
                (Items::Branch(items), Some(before)) if items.len() == 1 => {
                    if let Items::Branch(full) = &mut before.items {
                        full.extend_from_slice(items);
                    }
                    None
                }
                _ => Some(open),
            };
            let is_top = depth + 1 == levels.len();
            let mut last = None;
            for node in before.into_iter().chain(only) {
                let item = self.place(&node)?;
                match (is_top, last.take()) {
                    (true, None) => last = Some(item),
                    (true, Some(first)) => {
                        self.add_branch_item(&mut levels, depth + 1, first)?;
                        self.add_branch_item(&mut levels, depth + 1, item)?;
                    }
                    (false, _) => self.add_branch_item(&mut levels, depth + 1, item)?,
                }
            }
            if let Some(BranchItem { child: Child::Page(root), .. }) = last {
                return Ok(root);
            }
            depth += 1;
        }
    }

    /// Appends a page; gives the element that names it.
    fn place(&mut self, node: &Node) -> Result<BranchItem> {
        let pages = node.bytes().div_ceil(self.page_size) as u64;
        let id = self.next_page;
        self.next_page += pages;
        // A full page of three becomes two of two and one at worst.
        if self.next_page > 2 * self.tx.pages().high_water + 64 {
            return Err(Error::Corrupt { page: 0, what: "more data than the file has room for" });
        }
        let end = self.buffer.len() + pages as usize * self.page_size;
        node.encode(&self.arena, 0..node.count(), id, pages, &mut self.buffer)?;
        self.buffer.resize(end, 0);
        if self.buffer.len() >= WRITE_BYTES {
            self.flush()?;
        }
        let key = if node.count() == 0 { self.arena.push(b"") } else { node.key(0) };
        Ok(BranchItem { key, child: Child::Page(id) })
    }

    fn flush(&mut self) -> Result<()> {
        let end = self.next_page * self.page_size as u64;
        let start = end - self.buffer.len() as u64;
        self.file.write_at(&self.buffer, start).map_err(Error::io("write the copy"))?;
        self.written_bytes += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    fn report(&mut self) -> Result<()> {
        if self.written_bytes - self.reported_bytes < SLICE_BYTES {
            return Ok(());
        }
        self.reported_bytes = self.written_bytes;
        self.file.sync_data().map_err(Error::io("sync the copy"))?;
        let now = self.now();
        match (self.progress)(now) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Error::Stopped),
        }
    }
}
