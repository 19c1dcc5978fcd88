//! A page being changed: its elements in memory, and how they are cut into pages again.

use std::ops::Range;

use crate::arena::{Arena, Slice};
use crate::error::{Error, Result};
use crate::freelist::Span;
use crate::page::{
    BRANCH_FLAG, BUCKET_FLAG, ELEMENT_SIZE, Kind, LEAF_FLAG, PAGE_HEADER_SIZE, Page, write_header,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct NodeId(pub u32);

#[derive(Clone, Copy, Debug)]
pub(crate) struct LeafItem {
    pub key: Slice,
    pub value: Slice,
    pub flags: u32,
}

impl LeafItem {
    pub fn is_bucket(&self) -> bool {
        self.flags & BUCKET_FLAG != 0
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Child {
    /// As it is in the file.
    Page(u64),
    Node(NodeId),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct BranchItem {
    pub key: Slice,
    pub child: Child,
}

#[derive(Debug)]
pub(crate) enum Items {
    Leaf(Vec<LeafItem>),
    Branch(Vec<BranchItem>),
}

#[derive(Debug)]
pub(crate) struct Node {
    /// The pages it was read from, to be freed when it is written elsewhere.
    pub span: Option<Span>,
    /// Something was deleted from it, so it may have to join a neighbour.
    pub shrunk: bool,
    pub items: Items,
}

impl Node {
    pub fn empty_leaf() -> Node {
        Node { span: None, shrunk: false, items: Items::Leaf(Vec::new()) }
    }

    /// Reads all elements of a page. Those of an inline bucket (id 0) own no pages.
    pub fn read(page: &Page<'_>) -> Result<Node> {
        let items = match page.kind {
            Kind::Leaf => {
                let mut items = Vec::with_capacity(page.count + 1);
                for index in 0..page.count {
                    let element = page.leaf(index)?;
                    if element.key.is_empty() {
                        return Err(page.corrupt("empty key"));
                    }
                    items.push(LeafItem {
                        key: element.key_ref().into(),
                        value: element.value_ref().into(),
                        flags: element.flags,
                    });
                }
                Items::Leaf(items)
            }
            Kind::Branch => {
                let mut items = Vec::with_capacity(page.count + 1);
                for index in 0..page.count {
                    let key = page.key_ref(index)?;
                    if key.len == 0 {
                        return Err(page.corrupt("empty key"));
                    }
                    items.push(BranchItem { key: key.into(), child: Child::Page(page.child(index)) });
                }
                Items::Branch(items)
            }
        };
        let span = (page.id != 0).then_some(Span { start: page.id, count: 1 + u64::from(page.overflow) });
        let node = Node { span, shrunk: false, items };
        if node.bytes() > page.size_bytes() {
            return Err(page.corrupt("elements share their bytes"));
        }
        Ok(node)
    }

    pub fn kind(&self) -> Kind {
        match self.items {
            Items::Leaf(_) => Kind::Leaf,
            Items::Branch(_) => Kind::Branch,
        }
    }

    pub fn count(&self) -> usize {
        match &self.items {
            Items::Leaf(items) => items.len(),
            Items::Branch(items) => items.len(),
        }
    }

    pub fn key(&self, index: usize) -> Slice {
        match &self.items {
            Items::Leaf(items) => items[index].key,
            Items::Branch(items) => items[index].key,
        }
    }

    fn item_bytes(&self, index: usize) -> usize {
        ELEMENT_SIZE
            + match &self.items {
                Items::Leaf(items) => items[index].key.len() + items[index].value.len(),
                Items::Branch(items) => items[index].key.len(),
            }
    }

    /// Bytes of the elements in `range` as a page.
    pub fn bytes_of(&self, range: Range<usize>) -> usize {
        PAGE_HEADER_SIZE + range.map(|index| self.item_bytes(index)).sum::<usize>()
    }

    pub fn bytes(&self) -> usize {
        self.bytes_of(0..self.count())
    }

    /// First element whose key is not below `key`, and whether it is equal.
    pub fn lower_bound(&self, arena: &Arena, key: &[u8]) -> (usize, bool) {
        let (mut low, mut high) = (0, self.count());
        // Appending is the common case by far.
        if high > 0 && arena.bytes(self.key(high - 1)) < key {
            return (high, false);
        }
        while low < high {
            let middle = (low + high) / 2;
            match arena.bytes(self.key(middle)).cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return (middle, true),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        (low, false)
    }

    /// As [`Page::child_index`].
    pub fn child_index(&self, arena: &Arena, key: &[u8]) -> usize {
        let (index, exact) = self.lower_bound(arena, key);
        if exact { index } else { index.saturating_sub(1) }
    }

    /// Cuts the elements into pages filled to `threshold_bytes`; whole when one page holds them. A branch
    /// is never left with an only child, as bbolt panics when it later merges that child.
    pub fn split(&self, page_size: usize, threshold_bytes: usize) -> Vec<Range<usize>> {
        let count = self.count();
        if self.bytes() <= page_size {
            return std::iter::once(0..count).collect();
        }
        let mut pieces = Vec::new();
        let mut start = 0;
        let mut size = PAGE_HEADER_SIZE;
        for index in 0..count {
            let item = self.item_bytes(index);
            let joins = match self.kind() {
                _ if index == start => true,
                Kind::Branch => index - start < 2 || count - index < 2 || size + item <= threshold_bytes,
                Kind::Leaf => joins_leaf(index - start, size, item, page_size, threshold_bytes),
            };
            if !joins {
                pieces.push(start..index);
                start = index;
                size = PAGE_HEADER_SIZE;
            }
            size += item;
        }
        pieces.push(start..count);
        pieces
    }

    /// Appends the page image of the elements in `range`, without padding. Children must be pages.
    pub fn encode(
        &self,
        arena: &Arena,
        range: Range<usize>,
        id: u64,
        pages: u64,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let start = out.len();
        let count = range.len();
        assert!(count <= 0xFFFF, "{count} elements on page {id}");
        let flags = match self.kind() {
            Kind::Leaf => LEAF_FLAG,
            Kind::Branch => BRANCH_FLAG,
        };
        out.resize(start + PAGE_HEADER_SIZE, 0);
        write_header(&mut out[start..], id, flags, count as u16, (pages - 1) as u32);
        let mut data = PAGE_HEADER_SIZE + count * ELEMENT_SIZE;
        let mut element = PAGE_HEADER_SIZE;
        match &self.items {
            Items::Leaf(items) => {
                for item in &items[range.clone()] {
                    let fields =
                        [item.flags, (data - element) as u32, item.key.len() as u32, item.value.len() as u32];
                    fields.iter().for_each(|field| out.extend_from_slice(&field.to_le_bytes()));
                    data += item.key.len() + item.value.len();
                    element += ELEMENT_SIZE;
                }
                for item in &items[range] {
                    out.extend_from_slice(arena.bytes(item.key));
                    out.extend_from_slice(arena.bytes(item.value));
                }
            }
            Items::Branch(items) => {
                for item in &items[range.clone()] {
                    let Child::Page(child) = item.child else { panic!("branch page {id} names {item:?}") };
                    if child == id {
                        // The page was free and in the tree at once.
                        return Err(Error::Corrupt { page: id, what: "page would be its own child" });
                    }
                    out.extend_from_slice(&((data - element) as u32).to_le_bytes());
                    out.extend_from_slice(&(item.key.len() as u32).to_le_bytes());
                    out.extend_from_slice(&child.to_le_bytes());
                    data += item.key.len();
                    element += ELEMENT_SIZE;
                }
                for item in &items[range] {
                    out.extend_from_slice(arena.bytes(item.key));
                }
            }
        }
        assert!(out.len() - start == data, "page {id} encoded to {} bytes of {data}", out.len() - start);
        Ok(())
    }
}

/// Whether an element of `item_bytes` belongs on a leaf that holds `count` of them in `bytes`. A second
/// one also when that takes fewer pages than one leaf for each: large values share overflow pages.
pub(crate) fn joins_leaf(
    count: usize,
    bytes: usize,
    item_bytes: usize,
    page_size: usize,
    threshold_bytes: usize,
) -> bool {
    let pages = |bytes: usize| bytes.div_ceil(page_size);
    let apart = pages(bytes) + pages(PAGE_HEADER_SIZE + item_bytes);
    match count {
        0 => true,
        // Positions in a page have 32 bits.
        1 if bytes + item_bytes > u32::MAX as usize => false,
        1 => bytes + item_bytes <= threshold_bytes || pages(bytes + item_bytes) < apart,
        _ => bytes + item_bytes <= threshold_bytes,
    }
}
