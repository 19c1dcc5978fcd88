//! From changed nodes to a new tree in the file.
//!
//! 1. Nodes that shrank join a neighbour, empty ones go, a root with one child gives way to it.
//! 2. From the leaves up, each changed node is cut into pages, gets new page ids, and is named by its
//!    parent; small buckets become part of their parent's leaf. The old pages are given up.
//! 3. The pages are written in file order, then synced; then the meta page, then synced.
//!
//! Only step 3 touches the file, and no page that the state before can reach.

use std::ops::Range;

use crate::db::Shared;
use crate::error::{Error, Result};
use crate::freelist::{self, Span};
use crate::meta::{Meta, NO_FREELIST};
use crate::node::{BranchItem, Child, Items, Node, NodeId};
use crate::page::{BUCKET_FLAG, BUCKET_HEADER_SIZE, BucketHeader, Kind};

use super::{BucketId, WriteRoot, WriteTx};

/// Bytes gathered for one write: large enough that the number of calls does not matter.
const WRITE_BYTES: usize = 1 << 20;

pub(super) enum Freelist {
    /// As [`crate::Options::sync_freelist`] says.
    AsOptions,
    Stored,
}

/// Elements of a node that become one page with its overflow.
struct Dirty {
    span: Span,
    node: NodeId,
    range: Range<usize>,
}

struct Commit {
    tx: WriteTx,
    page_size: usize,
    txid: u64,
    high_water: u64,
    dirty: Vec<Dirty>,
    /// Free pages set aside for this commit, so that what is written together lies together.
    run: Option<Span>,
    /// Guess of the pages still to be allocated: how long a run to ask for.
    expected_pages: u64,
    splits: u64,
    merges: u64,
}

impl WriteTx {
    pub(super) fn finish(self, freelist: Freelist) -> Result<()> {
        let store = match freelist {
            Freelist::AsOptions => self.shared.options.sync_freelist,
            Freelist::Stored => true,
        };
        let sequence_changed = self.buckets.iter().any(|bucket| bucket.sequence_changed);
        if self.nodes.is_empty() && !sequence_changed && (!store || self.writer.stored_freelist.is_some()) {
            return Ok(());
        }
        let shared = self.shared.clone();
        // From here on the freelist changes with the tree: a failure leaves no way back but reopening.
        let result = Commit::new(self).run(store);
        if let Err(error) = &result {
            shared.poison(error);
        }
        result
    }
}

impl Commit {
    fn new(tx: WriteTx) -> Commit {
        let base = tx.base;
        let page_size = base.page_size as usize;
        let expected_pages = tx.nodes.iter().map(|node| node.bytes().div_ceil(page_size) as u64).sum();
        Commit {
            tx,
            page_size,
            txid: base.txid + 1,
            high_water: base.high_water,
            dirty: Vec::new(),
            run: None,
            expected_pages,
            splits: 0,
            merges: 0,
        }
    }

    fn run(mut self, store_freelist: bool) -> Result<()> {
        let shared = self.tx.shared.clone();
        let readers: Vec<u64> = shared.current.lock().readers.keys().copied().collect();
        self.tx.writer.freelist.release(&readers)?;

        self.settle_bucket(BucketId::ROOT)?;
        let root = match self.tx.slot(BucketId::ROOT)?.root {
            WriteRoot::Page(page) => page,
            other => panic!("root bucket settled to {other:?}"),
        };
        for span in std::mem::take(&mut self.tx.freed) {
            self.tx.writer.freelist.free(self.txid, span);
        }
        if let Some(old) = self.tx.writer.stored_freelist.take() {
            self.tx.writer.freelist.free(self.txid, old);
        }
        let list = if store_freelist { Some(self.place_freelist()?) } else { None };
        if let Some(rest) = self.run.take() {
            self.tx.writer.freelist.give_back(rest)?;
        }
        let meta = Meta {
            page_size: self.tx.base.page_size,
            root,
            root_sequence: self.tx.slot(BucketId::ROOT)?.sequence,
            freelist: list.map_or(NO_FREELIST, |span| span.start),
            high_water: self.high_water,
            txid: self.txid,
        };
        let list = match list {
            // Encoded last: the pages set aside and not used are free again.
            Some(span) => Some((span, self.encode_freelist(span)?)),
            None => None,
        };
        let written = self.write(&shared, &meta, list)?;
        self.publish(&shared, meta, written);
        Ok(())
    }

    fn publish(&mut self, shared: &Shared, meta: Meta, written: Written) {
        let freelist = &self.tx.writer.freelist;
        let mut current = shared.current.lock();
        assert!(current.meta.txid + 1 == meta.txid, "commit {} after {}", meta.txid, current.meta.txid);
        current.meta = meta;
        let stats = &mut current.stats;
        stats.txid = meta.txid;
        stats.pages = meta.high_water;
        stats.free_pages = freelist.free_pages();
        stats.pending_pages = freelist.pending_pages();
        stats.commits += 1;
        stats.written_pages += written.pages;
        stats.written_bytes += written.bytes;
        stats.writes += written.writes;
        stats.syncs += written.syncs;
        stats.splits += self.splits;
        stats.merges += self.merges;
    }

    /// Settles a bucket and those in it. Gives its new value in the parent's leaf when that changed.
    fn settle_bucket(&mut self, bucket: BucketId) -> Result<Option<Vec<u8>>> {
        let opened: Vec<(Vec<u8>, BucketId)> =
            self.tx.slot(bucket)?.opened.iter().map(|(name, id)| (name.clone(), *id)).collect();
        for (name, inner) in opened {
            if let Some(value) = self.settle_bucket(inner)? {
                self.tx.put_item(bucket, &name, &value, BUCKET_FLAG)?;
            }
        }
        let slot = self.tx.slot(bucket)?;
        let (sequence, sequence_changed) = (slot.sequence, slot.sequence_changed);
        let header = |root| BucketHeader { root, sequence }.encode().to_vec();
        match slot.root {
            WriteRoot::Page(page) => Ok(sequence_changed.then(|| header(page))),
            WriteRoot::Inline(value) => Ok(sequence_changed.then(|| {
                let mut out = header(0);
                out.extend_from_slice(&self.tx.arena.bytes(value)[BUCKET_HEADER_SIZE..]);
                out
            })),
            WriteRoot::Node(id) => {
                let fill_percent = slot.fill_percent;
                self.rebalance(id, fill_percent)?;
                let page = match self.collapse_root(id)? {
                    Child::Page(page) => page,
                    Child::Node(id) if bucket != BucketId::ROOT && self.fits_inline(id) => {
                        self.tx.give_up_pages(id);
                        let mut out = header(0);
                        let node = self.tx.node(id);
                        node.encode(&self.tx.arena, 0..node.count(), 0, 1, &mut out)?;
                        return Ok(Some(out));
                    }
                    Child::Node(id) => self.spill_root(id, fill_percent)?,
                };
                self.tx.slot_mut(bucket)?.root = WriteRoot::Page(page);
                Ok(Some(header(page)))
            }
        }
    }

    /// A small leaf without buckets lives in its bucket's value.
    fn fits_inline(&self, id: NodeId) -> bool {
        match &self.tx.node(id).items {
            Items::Branch(_) => false,
            Items::Leaf(items) => {
                !items.iter().any(|item| item.is_bucket()) && self.tx.node(id).bytes() <= self.page_size / 4
            }
        }
    }

    /// Settles the sizes of all changed nodes below `id`, deepest first.
    fn rebalance(&mut self, id: NodeId, fill_percent: f64) -> Result<()> {
        if self.tx.node(id).kind() == Kind::Leaf {
            return Ok(());
        }
        for index in 0..self.tx.branch(id).len() {
            if let Child::Node(child) = self.tx.branch(id)[index].child {
                self.rebalance(child, fill_percent)?;
            }
        }
        self.join_children(id, fill_percent)
    }

    /// Drops the empty children of a branch, and joins the small ones with a neighbour where one page
    /// holds both. A branch with an only child joins in any case: bbolt cannot deal with one.
    fn join_children(&mut self, id: NodeId, fill_percent: f64) -> Result<()> {
        let threshold_bytes = (self.page_size as f64 * fill_percent) as usize / 2;
        let mut index = 0;
        while index < self.tx.branch(id).len() {
            let child = match self.tx.branch(id)[index].child {
                Child::Node(child) if self.tx.node(child).shrunk => child,
                Child::Node(_) | Child::Page(_) => {
                    index += 1;
                    continue;
                }
            };
            let node = self.tx.node(child);
            let (count, bytes) = (node.count(), node.bytes());
            if count == 0 {
                self.tx.give_up_pages(child);
                self.tx.branch_mut(id).remove(index);
                self.tx.node_mut(id).shrunk = true;
                continue;
            }
            let (count_min, must) = match node.kind() {
                Kind::Leaf => (1, false),
                Kind::Branch => (2, count < 2),
            };
            if bytes > threshold_bytes && count > count_min {
                index += 1;
                continue;
            }
            match self.partner(id, index, bytes, must)? {
                Some(left) => {
                    self.join(id, left, fill_percent)?;
                    index = left;
                }
                None => index += 1,
            }
        }
        Ok(())
    }

    /// The left one of the two children to be joined, when child `index` should join a neighbour.
    fn partner(&self, id: NodeId, index: usize, bytes: usize, must: bool) -> Result<Option<usize>> {
        let count = self.tx.branch(id).len();
        let left = index.checked_sub(1);
        let right = (index + 1 < count).then_some(index);
        for (start, neighbour) in [(left, index.wrapping_sub(1)), (right, index + 1)] {
            if start.is_none() {
                continue;
            }
            let used = match self.tx.branch(id)[neighbour].child {
                Child::Node(node) => self.tx.node(node).bytes(),
                Child::Page(page) => self.tx.arena.pages().page(page)?.used_bytes()?,
            };
            if used + bytes - crate::page::PAGE_HEADER_SIZE <= self.page_size {
                return Ok(start);
            }
        }
        Ok(if must { left.or(right) } else { None })
    }

    /// Joins children `left` and `left + 1` of a branch.
    fn join(&mut self, id: NodeId, left: usize, fill_percent: f64) -> Result<()> {
        let first = self.tx.child_node(id, left)?;
        let second = self.tx.child_node(id, left + 1)?;
        let node = std::mem::replace(self.tx.node_mut(second), Node::empty_leaf());
        self.tx.freed.extend(node.span);
        match (&mut self.tx.node_mut(first).items, node.items) {
            (Items::Leaf(items), Items::Leaf(mut more)) => items.append(&mut more),
            (Items::Branch(items), Items::Branch(mut more)) => items.append(&mut more),
            _ => return Err(Error::Corrupt { page: self.tx.base.root, what: "leaf beside a branch" }),
        }
        self.tx.branch_mut(id).remove(left + 1);
        self.tx.node_mut(first).shrunk = true;
        self.tx.node_mut(id).shrunk = true;
        self.merges += 1;
        // What could not join for want of a neighbour may have one now.
        match self.tx.node(first).kind() {
            Kind::Branch => self.join_children(first, fill_percent),
            Kind::Leaf => Ok(()),
        }
    }

    /// A root with one child gives way to it; without any, it becomes an empty leaf.
    fn collapse_root(&mut self, root: NodeId) -> Result<Child> {
        let mut id = root;
        loop {
            let only = match &self.tx.node(id).items {
                Items::Branch(items) if items.is_empty() => {
                    self.tx.node_mut(id).items = Items::Leaf(Vec::new());
                    return Ok(Child::Node(id));
                }
                Items::Branch(items) if items.len() == 1 => items[0].child,
                Items::Branch(_) | Items::Leaf(_) => return Ok(Child::Node(id)),
            };
            self.tx.give_up_pages(id);
            match only {
                Child::Page(page) => return Ok(Child::Page(page)),
                Child::Node(child) => id = child,
            }
        }
    }

    fn spill_root(&mut self, id: NodeId, fill_percent: f64) -> Result<u64> {
        let mut pieces = self.spill(id, fill_percent)?;
        while pieces.len() > 1 {
            let root = Node { span: None, shrunk: false, items: Items::Branch(pieces) };
            let root = self.tx.add_node(root);
            pieces = self.place(root, fill_percent);
        }
        match pieces[0].child {
            Child::Page(page) => Ok(page),
            Child::Node(node) => panic!("node {node:?} was not placed"),
        }
    }

    /// Gives all changed nodes from `id` down their pages, and the elements that name those of `id`.
    fn spill(&mut self, id: NodeId, fill_percent: f64) -> Result<Vec<BranchItem>> {
        if self.tx.node(id).kind() == Kind::Branch {
            let items = std::mem::take(self.tx.branch_mut(id));
            let mut placed = Vec::with_capacity(items.len());
            for item in items {
                match item.child {
                    Child::Page(_) => placed.push(item),
                    Child::Node(child) => placed.append(&mut self.spill(child, fill_percent)?),
                }
            }
            *self.tx.branch_mut(id) = placed;
        }
        Ok(self.place(id, fill_percent))
    }

    /// Cuts a node into pages. An empty one, which only a root can be, is one page without a key.
    fn place(&mut self, id: NodeId, fill_percent: f64) -> Vec<BranchItem> {
        self.tx.give_up_pages(id);
        let threshold_bytes = (self.page_size as f64 * fill_percent) as usize;
        let pieces = self.tx.node(id).split(self.page_size, threshold_bytes);
        self.splits += u64::from(pieces.len() > 1);
        let mut placed = Vec::with_capacity(pieces.len());
        for range in pieces {
            let node = self.tx.node(id);
            let key = match node.count() {
                0 => self.tx.arena.push(b""),
                _ => node.key(range.start),
            };
            let bytes = self.tx.node(id).bytes_of(range.clone());
            let span = self.allocate(bytes.div_ceil(self.page_size) as u64);
            self.dirty.push(Dirty { span, node: id, range });
            placed.push(BranchItem { key, child: Child::Page(span.start) });
        }
        placed
    }

    fn allocate(&mut self, count: u64) -> Span {
        let freelist = &mut self.tx.writer.freelist;
        self.expected_pages = self.expected_pages.saturating_sub(count);
        if count == 1 && self.run.is_none() {
            self.run = freelist.take_run(self.expected_pages + 1);
        }
        let start = match &mut self.run {
            Some(run) if run.count >= count => {
                let start = run.start;
                *run = Span { start: run.start + count, count: run.count - count };
                if run.count == 0 {
                    self.run = None;
                }
                start
            }
            _ => match freelist.take(count) {
                Some(start) => start,
                None => {
                    let start = self.high_water;
                    self.high_water += count;
                    start
                }
            },
        };
        freelist.note_allocation(self.txid, start);
        Span { start, count }
    }

    /// Pages for the freelist, which lists itself neither as used nor as free.
    fn place_freelist(&mut self) -> Result<Span> {
        let freelist = &self.tx.writer.freelist;
        let ids = freelist.free_pages() + freelist.pending_pages() + self.run.map_or(0, |run| run.count);
        let count = freelist::pages_for(ids, self.tx.base.page_size);
        let span = self.allocate(count);
        self.tx.writer.stored_freelist = Some(span);
        Ok(span)
    }

    fn encode_freelist(&self, span: Span) -> Result<Vec<u8>> {
        Ok(freelist::encode(&self.tx.writer.freelist.unused()?, span, self.tx.base.page_size))
    }

    /// Data, sync, meta, sync.
    fn write(&mut self, shared: &Shared, meta: &Meta, list: Option<(Span, Vec<u8>)>) -> Result<Written> {
        let page_size = self.page_size as u64;
        let mut written = Written::default();
        let needed_bytes = self.high_water * page_size;
        if needed_bytes > self.tx.writer.file_size_bytes {
            let grown = shared.grown_size(needed_bytes)?;
            shared.file.set_len(grown).map_err(Error::io("grow the database file"))?;
            self.tx.writer.file_size_bytes = grown;
        }
        self.dirty.sort_unstable_by_key(|dirty| dirty.span.start);
        let mut buffer = std::mem::take(&mut self.tx.writer.buffer);
        buffer.clear();
        let mut buffer_start = 0;
        for dirty in &self.dirty {
            let offset = dirty.span.start * page_size;
            let end = buffer_start + buffer.len() as u64;
            if !buffer.is_empty() && (offset != end || buffer.len() >= WRITE_BYTES) {
                assert!(offset >= end, "page {} written twice", dirty.span.start);
                written.write(shared, &buffer, buffer_start)?;
                buffer.clear();
            }
            if buffer.is_empty() {
                buffer_start = offset;
            }
            let node = self.tx.node(dirty.node);
            let size = buffer.len() + (dirty.span.count * page_size) as usize;
            node.encode(
                &self.tx.arena,
                dirty.range.clone(),
                dirty.span.start,
                dirty.span.count,
                &mut buffer,
            )?;
            assert!(buffer.len() <= size, "page {} overflows its {}", dirty.span.start, dirty.span.count);
            buffer.resize(size, 0);
        }
        if !buffer.is_empty() {
            written.write(shared, &buffer, buffer_start)?;
        }
        if let Some((span, bytes)) = list {
            written.write(shared, &bytes, span.start * page_size)?;
        }
        written.sync(shared, "sync the database file")?;
        written.write(shared, &meta.encode(meta.txid % 2), meta.txid % 2 * page_size)?;
        written.sync(shared, "sync the meta page")?;
        buffer.clear();
        buffer.shrink_to(4 * WRITE_BYTES);
        self.tx.writer.buffer = buffer;
        written.pages = self.dirty.iter().map(|dirty| dirty.span.count).sum();
        Ok(written)
    }
}

#[derive(Default)]
struct Written {
    pages: u64,
    bytes: u64,
    writes: u64,
    syncs: u64,
}

impl Written {
    fn write(&mut self, shared: &Shared, bytes: &[u8], offset: u64) -> Result<()> {
        shared.file.write_at(bytes, offset).map_err(Error::io("write to the database file"))?;
        self.bytes += bytes.len() as u64;
        self.writes += 1;
        Ok(())
    }

    fn sync(&mut self, shared: &Shared, action: &'static str) -> Result<()> {
        if !shared.options.no_sync {
            shared.file.sync_data().map_err(Error::io(action))?;
            self.syncs += 1;
        }
        Ok(())
    }
}
