//! The write transaction: changes gather in memory, in copies of the touched pages.

mod commit;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::{ArcMutexGuard, RawMutex};

use crate::arena::{Arena, Slice};
use crate::db::{Layout, Shared, Writer};
use crate::error::{Error, Result};
use crate::freelist::Span;
use crate::meta::Meta;
use crate::node::{BranchItem, Child, Items, LeafItem, Node, NodeId};
use crate::page::{
    BUCKET_FLAG, BUCKET_HEADER_SIZE, BucketHeader, DEPTH_MAX, Kind, LEAF_FLAG, PAGE_HEADER_SIZE, Page,
    write_header,
};
use crate::{KEY_SIZE_MAX, VALUE_SIZE_MAX};

const FILL_PERCENT_DEFAULT: f64 = 0.5;
/// For buckets that grow at their end, such as etcd's `key`.
pub const FILL_PERCENT_APPEND: f64 = 0.9;

/// A bucket of one write transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct BucketId(u32);

impl BucketId {
    /// The bucket that holds the top-level buckets.
    pub const ROOT: BucketId = BucketId(0);
}

#[derive(Clone, Copy, Debug)]
enum WriteRoot {
    Page(u64),
    /// The whole value of an inline bucket's element.
    Inline(Slice),
    Node(NodeId),
}

struct WriteBucket {
    root: WriteRoot,
    sequence: u64,
    /// The sequence changed, so the header must be written even when nothing else did.
    sequence_changed: bool,
    fill_percent: f64,
    /// Buckets of this one that were opened in this transaction.
    opened: BTreeMap<Vec<u8>, BucketId>,
    deleted: bool,
}

impl WriteBucket {
    fn new(root: WriteRoot, sequence: u64) -> WriteBucket {
        WriteBucket {
            root,
            sequence,
            sequence_changed: false,
            fill_percent: FILL_PERCENT_DEFAULT,
            opened: BTreeMap::new(),
            deleted: false,
        }
    }
}

/// The one writer. Nothing reaches the file before [`WriteTx::commit`]; dropping it forgets everything.
pub struct WriteTx {
    shared: Arc<Shared>,
    writer: ArcMutexGuard<RawMutex, Writer>,
    /// The state this transaction began with.
    base: Meta,
    arena: Arena,
    nodes: Vec<Node>,
    buckets: Vec<WriteBucket>,
    /// Pages of the base state that this transaction has given up already.
    freed: Vec<Span>,
    /// Pages read to find the buckets in deleted ones. A page can be deleted only once.
    walked: u64,
}

impl WriteTx {
    pub(crate) fn new(shared: Arc<Shared>, writer: ArcMutexGuard<RawMutex, Writer>, base: Meta) -> WriteTx {
        let arena = Arena::new(shared.pages(&base));
        let root = WriteBucket::new(WriteRoot::Page(base.root), base.root_sequence);
        WriteTx {
            shared,
            writer,
            base,
            arena,
            nodes: Vec::new(),
            buckets: vec![root],
            freed: Vec::new(),
            walked: 0,
        }
    }

    /// The transaction that this becomes when committed.
    pub fn txid(&self) -> u64 {
        self.base.txid + 1
    }

    /// A top-level bucket.
    pub fn bucket(&mut self, name: &[u8]) -> Result<Option<BucketId>> {
        self.bucket_in(BucketId::ROOT, name)
    }

    pub fn bucket_in(&mut self, parent: BucketId, name: &[u8]) -> Result<Option<BucketId>> {
        if let Some(id) = self.slot(parent)?.opened.get(name) {
            return Ok(Some(*id));
        }
        let Some(item) = self.find(parent, name)? else { return Ok(None) };
        if !item.is_bucket() {
            return Err(Error::IncompatibleValue);
        }
        let header = BucketHeader::parse(self.arena.bytes(item.value))?;
        let root = match header.root {
            0 => WriteRoot::Inline(item.value),
            page => WriteRoot::Page(page),
        };
        let id = BucketId(self.buckets.len() as u32);
        self.buckets.push(WriteBucket::new(root, header.sequence));
        self.slot_mut(parent)?.opened.insert(name.to_vec(), id);
        Ok(Some(id))
    }

    /// A top-level bucket, made when it is not there.
    pub fn create_bucket_if_missing(&mut self, name: &[u8]) -> Result<BucketId> {
        self.create_bucket_in_if_missing(BucketId::ROOT, name)
    }

    pub fn create_bucket_in_if_missing(&mut self, parent: BucketId, name: &[u8]) -> Result<BucketId> {
        if let Some(id) = self.bucket_in(parent, name)? {
            return Ok(id);
        }
        if parent != BucketId::ROOT && self.shared.options.layout == Layout::Flat {
            return Err(Error::NestedBucket);
        }
        let mut value = [0; BUCKET_HEADER_SIZE + PAGE_HEADER_SIZE];
        write_header(&mut value[BUCKET_HEADER_SIZE..], 0, LEAF_FLAG, 0, 0);
        self.put_item(parent, name, &value, BUCKET_FLAG)?;
        // Finds what was just put.
        self.bucket_in(parent, name)?.ok_or(Error::BucketNotFound)
    }

    /// Deletes a top-level bucket and all in it. Its ids must not be used any more.
    pub fn delete_bucket(&mut self, name: &[u8]) -> Result<()> {
        self.delete_bucket_in(BucketId::ROOT, name)
    }

    pub fn delete_bucket_in(&mut self, parent: BucketId, name: &[u8]) -> Result<()> {
        let Some(id) = self.bucket_in(parent, name)? else { return Err(Error::BucketNotFound) };
        self.release_bucket(id, 0)?;
        self.slot_mut(parent)?.opened.remove(name);
        let (leaf, index) = self.locate(parent, name)?;
        let index = index.ok_or(Error::BucketNotFound)?;
        self.remove_item(leaf, index);
        Ok(())
    }

    /// How full pages are made when a node has to be cut: 0.1 to 1.0. For this transaction.
    pub fn set_fill_percent(&mut self, bucket: BucketId, fill_percent: f64) -> Result<()> {
        self.slot_mut(bucket)?.fill_percent = fill_percent.clamp(0.1, 1.0);
        Ok(())
    }

    pub fn sequence(&self, bucket: BucketId) -> Result<u64> {
        Ok(self.slot(bucket)?.sequence)
    }

    pub fn set_sequence(&mut self, bucket: BucketId, sequence: u64) -> Result<()> {
        let slot = self.slot_mut(bucket)?;
        slot.sequence_changed |= slot.sequence != sequence;
        slot.sequence = sequence;
        Ok(())
    }

    /// The value of `key`, this transaction's changes included; `None` also when the key is a bucket.
    pub fn get(&self, bucket: BucketId, key: &[u8]) -> Result<Option<&[u8]>> {
        let item = self.find(bucket, key)?.filter(|item| !item.is_bucket());
        Ok(item.map(|item| self.arena.bytes(item.value)))
    }

    pub fn put(&mut self, bucket: BucketId, key: &[u8], value: &[u8]) -> Result<()> {
        self.put_item(bucket, key, value, 0)
    }

    /// Whether the key was there.
    pub fn delete(&mut self, bucket: BucketId, key: &[u8]) -> Result<bool> {
        // A look first: a key that is not there must not make a copy of its leaf.
        match self.find(bucket, key)? {
            None => return Ok(false),
            Some(item) if item.is_bucket() => return Err(Error::IncompatibleValue),
            Some(_) => {}
        }
        let (leaf, index) = self.locate(bucket, key)?;
        match index {
            Some(index) => self.remove_item(leaf, index),
            None => return Ok(false),
        }
        Ok(true)
    }

    /// Writes and syncs all changes. After an error of the file nothing more can be written to it.
    pub fn commit(self) -> Result<()> {
        self.finish(commit::Freelist::AsOptions)
    }

    pub(crate) fn commit_with_freelist(self) -> Result<()> {
        self.finish(commit::Freelist::Stored)
    }

    fn slot(&self, bucket: BucketId) -> Result<&WriteBucket> {
        self.buckets.get(bucket.0 as usize).filter(|slot| !slot.deleted).ok_or(Error::BucketNotFound)
    }

    fn slot_mut(&mut self, bucket: BucketId) -> Result<&mut WriteBucket> {
        self.buckets.get_mut(bucket.0 as usize).filter(|slot| !slot.deleted).ok_or(Error::BucketNotFound)
    }

    fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0 as usize]
    }

    fn branch_mut(&mut self, id: NodeId) -> &mut Vec<BranchItem> {
        match &mut self.nodes[id.0 as usize].items {
            Items::Branch(items) => items,
            Items::Leaf(_) => panic!("node {id:?} is a leaf"),
        }
    }

    fn branch(&self, id: NodeId) -> &[BranchItem] {
        match &self.nodes[id.0 as usize].items {
            Items::Branch(items) => items,
            Items::Leaf(_) => panic!("node {id:?} is a leaf"),
        }
    }

    fn add_node(&mut self, node: Node) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node);
        id
    }

    /// The node of a branch's child, read now if it was not before.
    fn child_node(&mut self, branch: NodeId, index: usize) -> Result<NodeId> {
        match self.branch(branch)[index].child {
            Child::Node(id) => Ok(id),
            Child::Page(page) => {
                let node = Node::read(&self.arena.pages().page(page)?)?;
                let id = self.add_node(node);
                self.branch_mut(branch)[index].child = Child::Node(id);
                Ok(id)
            }
        }
    }

    fn inline_page(&self, value: Slice) -> Result<Page<'_>> {
        Page::inline(self.arena.bytes(value), 0)
    }

    fn root_node(&mut self, bucket: BucketId) -> Result<NodeId> {
        let node = match self.slot(bucket)?.root {
            WriteRoot::Node(id) => return Ok(id),
            WriteRoot::Page(page) => Node::read(&self.arena.pages().page(page)?)?,
            WriteRoot::Inline(value) => {
                let count = self.inline_page(value)?.count;
                let items: Vec<LeafItem> =
                    (0..count).map(|index| self.inline_item(value, index)).collect::<Result<_>>()?;
                if items.iter().any(|item| item.key.len() == 0) {
                    return Err(Error::Corrupt { page: 0, what: "empty key in an inline bucket" });
                }
                let node = Node { items: Items::Leaf(items), ..Node::empty_leaf() };
                if node.bytes() > value.len() {
                    return Err(Error::Corrupt { page: 0, what: "elements share their bytes" });
                }
                node
            }
        };
        let id = self.add_node(node);
        self.slot_mut(bucket)?.root = WriteRoot::Node(id);
        Ok(id)
    }

    /// The leaf that `key` belongs to, as a node.
    fn leaf_for(&mut self, bucket: BucketId, key: &[u8]) -> Result<NodeId> {
        let mut id = self.root_node(bucket)?;
        for _ in 0..DEPTH_MAX {
            if self.node(id).kind() == Kind::Leaf {
                return Ok(id);
            }
            let index = self.node(id).child_index(&self.arena, key);
            id = self.child_node(id, index)?;
        }
        Err(Error::Corrupt { page: self.base.root, what: "tree too deep" })
    }

    /// The leaf that `key` belongs to, as a node, and where in it the key is.
    fn locate(&mut self, bucket: BucketId, key: &[u8]) -> Result<(NodeId, Option<usize>)> {
        let leaf = self.leaf_for(bucket, key)?;
        let (index, exact) = self.node(leaf).lower_bound(&self.arena, key);
        Ok((leaf, exact.then_some(index)))
    }

    fn remove_item(&mut self, leaf: NodeId, index: usize) {
        let node = self.node_mut(leaf);
        node.shrunk = true;
        match &mut node.items {
            Items::Leaf(items) => items.remove(index),
            Items::Branch(_) => panic!("node {leaf:?} is a branch"),
        };
    }

    fn put_item(&mut self, bucket: BucketId, key: &[u8], value: &[u8], flags: u32) -> Result<()> {
        if key.is_empty() {
            return Err(Error::KeyRequired);
        }
        if key.len() > KEY_SIZE_MAX {
            return Err(Error::KeyTooLarge { size_bytes: key.len() });
        }
        if value.len() > VALUE_SIZE_MAX {
            return Err(Error::ValueTooLarge { size_bytes: value.len() });
        }
        if bucket == BucketId::ROOT && flags & BUCKET_FLAG == 0 {
            return Err(Error::IncompatibleValue); // as bbolt: only buckets at the top
        }
        let leaf = self.leaf_for(bucket, key)?;
        let (index, exact) = self.node(leaf).lower_bound(&self.arena, key);
        let value = self.arena.push(value);
        let fresh = if exact { None } else { Some(self.arena.push(key)) };
        let Items::Leaf(items) = &mut self.nodes[leaf.0 as usize].items else {
            panic!("node {leaf:?} is a branch");
        };
        match fresh {
            Some(key) => items.insert(index, LeafItem { key, value, flags }),
            None if (items[index].flags ^ flags) & BUCKET_FLAG != 0 => return Err(Error::IncompatibleValue),
            None => items[index].value = value,
        }
        Ok(())
    }

    /// Looks a key up without copying pages.
    fn find(&self, bucket: BucketId, key: &[u8]) -> Result<Option<LeafItem>> {
        let mut page = match self.slot(bucket)?.root {
            WriteRoot::Inline(value) => {
                let page = self.inline_page(value)?;
                let (index, exact) = page.lower_bound(key)?;
                return if exact { self.inline_item(value, index).map(Some) } else { Ok(None) };
            }
            WriteRoot::Page(page) => page,
            WriteRoot::Node(mut id) => loop {
                let node = self.node(id);
                let index = match &node.items {
                    Items::Branch(_) => node.child_index(&self.arena, key),
                    Items::Leaf(items) => {
                        let (index, exact) = node.lower_bound(&self.arena, key);
                        return Ok(exact.then(|| items[index]));
                    }
                };
                match self.branch(id)[index].child {
                    Child::Node(child) => id = child,
                    Child::Page(page) => break page,
                }
            },
        };
        for _ in 0..DEPTH_MAX {
            let seen = self.arena.pages().page(page)?;
            if seen.kind == Kind::Branch {
                page = seen.child(seen.child_index(key)?);
                continue;
            }
            let (index, exact) = seen.lower_bound(key)?;
            if !exact {
                return Ok(None);
            }
            let element = seen.leaf(index)?;
            let (key, value) = (element.key_ref().into(), element.value_ref().into());
            return Ok(Some(LeafItem { key, value, flags: element.flags }));
        }
        Err(Error::Corrupt { page, what: "tree too deep" })
    }

    /// An element of an inline bucket's value, wherever that value lies.
    fn inline_item(&self, value: Slice, index: usize) -> Result<LeafItem> {
        // With the page at offset 0, element offsets count from the value.
        let element = self.inline_page(value)?.leaf(index)?;
        let (key, inner) = (element.key_ref(), element.value_ref());
        Ok(LeafItem {
            key: value.part(key.offset, key.len),
            value: value.part(inner.offset, inner.len),
            flags: element.flags,
        })
    }

    /// Gives up all pages of a bucket and of the buckets in it.
    fn release_bucket(&mut self, bucket: BucketId, bucket_depth: usize) -> Result<()> {
        if bucket_depth > DEPTH_MAX {
            return Err(Error::Corrupt { page: 0, what: "buckets nested too deeply" });
        }
        // The buckets in it first, by the way that knows of their changes.
        for name in self.bucket_names(bucket)? {
            if let Some(inner) = self.bucket_in(bucket, &name)? {
                self.release_bucket(inner, bucket_depth + 1)?;
            }
        }
        match self.slot(bucket)?.root {
            WriteRoot::Inline(_) => {}
            WriteRoot::Page(page) => self.release_pages(page)?,
            WriteRoot::Node(id) => self.release_nodes(id)?,
        }
        self.slot_mut(bucket)?.deleted = true;
        Ok(())
    }

    /// Frees the pages that a node was read from.
    fn give_up_pages(&mut self, id: NodeId) {
        self.freed.extend(self.nodes[id.0 as usize].span.take());
    }

    fn release_nodes(&mut self, id: NodeId) -> Result<()> {
        self.give_up_pages(id);
        if self.node(id).kind() == Kind::Branch {
            for index in 0..self.node(id).count() {
                match self.branch(id)[index].child {
                    Child::Node(child) => self.release_nodes(child)?,
                    Child::Page(page) => self.release_pages(page)?,
                }
            }
        }
        Ok(())
    }

    fn release_pages(&mut self, root: u64) -> Result<()> {
        let mut waiting = vec![root];
        let mut released = 0;
        while let Some(id) = waiting.pop() {
            let page = self.arena.pages().page(id)?;
            released += 1;
            if released > self.base.high_water {
                return Err(page.corrupt("tree repeats itself"));
            }
            if page.kind == Kind::Branch {
                waiting.extend((0..page.count).map(|index| page.child(index)));
            }
            self.freed.push(Span { start: id, count: 1 + u64::from(page.overflow) });
        }
        Ok(())
    }

    /// Names of the buckets in a bucket.
    fn bucket_names(&mut self, bucket: BucketId) -> Result<Vec<Vec<u8>>> {
        let mut names = Vec::new();
        let mut waiting = Vec::new();
        match self.slot(bucket)?.root {
            WriteRoot::Inline(_) => {} // none, by definition
            WriteRoot::Page(page) => waiting.push(Child::Page(page)),
            WriteRoot::Node(id) => waiting.push(Child::Node(id)),
        }
        let mut walked = self.walked;
        while let Some(child) = waiting.pop() {
            match child {
                Child::Node(id) => match &self.node(id).items {
                    Items::Branch(items) => waiting.extend(items.iter().map(|item| item.child)),
                    Items::Leaf(items) => {
                        let buckets = items.iter().filter(|item| item.is_bucket());
                        names.extend(buckets.map(|item| self.arena.bytes(item.key).to_vec()));
                    }
                },
                Child::Page(id) => {
                    let page = self.arena.pages().page(id)?;
                    walked += 1;
                    if walked > self.base.high_water {
                        return Err(page.corrupt("tree repeats itself"));
                    }
                    for index in 0..page.count {
                        match page.kind {
                            Kind::Branch => waiting.push(Child::Page(page.child(index))),
                            Kind::Leaf if page.is_bucket(index) => names.push(page.key(index)?.to_vec()),
                            Kind::Leaf => {}
                        }
                    }
                }
            }
        }
        self.walked = walked;
        Ok(names)
    }
}
