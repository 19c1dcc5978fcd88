//! One page of the file, seen as bytes that may hold anything.
//!
//! Layout (little-endian): header `id u64 | flags u16 | count u16 | overflow u32`, then `count` elements
//! of 16 bytes, then keys and values. A page spans `1 + overflow` pages of the file.
//! - branch element: `pos u32 | ksize u32 | child u64`
//! - leaf element: `flags u32 | pos u32 | ksize u32 | vsize u32`, the value follows its key
//!
//! `pos` counts from the element itself. Every access is checked against the page's bytes: a damaged
//! file gives [`Error::Corrupt`], never a panic and never a byte of another page.

use std::cmp::Ordering;
use std::sync::Arc;

use disk::Mapping;

use crate::error::{Error, Result};

pub(crate) const PAGE_HEADER_SIZE: usize = 16;
pub(crate) const ELEMENT_SIZE: usize = 16;
pub(crate) const BRANCH_FLAG: u16 = 0x01;
pub(crate) const LEAF_FLAG: u16 = 0x02;
pub(crate) const META_FLAG: u16 = 0x04;
pub(crate) const FREELIST_FLAG: u16 = 0x10;
/// Leaf element flag: the value is a bucket.
pub(crate) const BUCKET_FLAG: u32 = 0x01;
/// Bucket value: `root u64 | sequence u64`, then a leaf page image when `root` is 0.
pub(crate) const BUCKET_HEADER_SIZE: usize = 16;
/// Levels of a tree, and of buckets in buckets. A tree of 64 levels with two keys each outgrows any
/// disk, so a deeper one is a cycle.
pub(crate) const DEPTH_MAX: usize = 64;

pub(crate) fn read_u16(bytes: &[u8], at: usize) -> u16 {
    let mut field = [0; 2];
    field.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(field)
}

pub(crate) fn read_u32(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

pub(crate) fn read_u64(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

pub(crate) fn write_header(out: &mut [u8], id: u64, flags: u16, count: u16, overflow: u32) {
    out[0..8].copy_from_slice(&id.to_le_bytes());
    out[8..10].copy_from_slice(&flags.to_le_bytes());
    out[10..12].copy_from_slice(&count.to_le_bytes());
    out[12..16].copy_from_slice(&overflow.to_le_bytes());
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Branch,
    Leaf,
}

/// A range of the mapping. Stays valid as long as the transaction that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ValueRef {
    /// Bytes from the start of the file.
    pub offset: u64,
    pub len: u32,
}

/// A leaf's or a branch's page, with its overflow.
#[derive(Clone, Copy)]
pub(crate) struct Page<'a> {
    /// 0 for the page of an inline bucket.
    pub id: u64,
    pub kind: Kind,
    pub count: usize,
    pub overflow: u32,
    bytes: &'a [u8],
    /// Where `bytes` begins in the file.
    offset: u64,
}

#[derive(Clone, Copy)]
pub(crate) struct LeafElement<'a> {
    pub flags: u32,
    pub key: &'a [u8],
    pub value: &'a [u8],
    /// Where the key begins in the file; the value follows it.
    pub key_offset: u64,
}

impl LeafElement<'_> {
    pub fn is_bucket(&self) -> bool {
        self.flags & BUCKET_FLAG != 0
    }

    pub fn key_ref(&self) -> ValueRef {
        ValueRef { offset: self.key_offset, len: self.key.len() as u32 }
    }

    pub fn value_ref(&self) -> ValueRef {
        ValueRef { offset: self.key_offset + self.key.len() as u64, len: self.value.len() as u32 }
    }
}

impl<'a> Page<'a> {
    /// `bytes` holds the page with its overflow and begins at `offset` in the file.
    fn parse(id: u64, bytes: &'a [u8], offset: u64) -> Result<Page<'a>> {
        let corrupt = |what| Error::Corrupt { page: id, what };
        if bytes.len() < PAGE_HEADER_SIZE {
            return Err(corrupt("page is shorter than its header"));
        }
        if read_u64(bytes, 0) != id {
            return Err(corrupt("page bears another id"));
        }
        let kind = match read_u16(bytes, 8) {
            BRANCH_FLAG => Kind::Branch,
            LEAF_FLAG => Kind::Leaf,
            _ => return Err(corrupt("neither a branch nor a leaf page")),
        };
        let count = usize::from(read_u16(bytes, 10));
        if PAGE_HEADER_SIZE + count * ELEMENT_SIZE > bytes.len() {
            return Err(corrupt("more elements than the page holds"));
        }
        if kind == Kind::Branch && count == 0 {
            return Err(corrupt("branch page without children"));
        }
        Ok(Page { id, kind, count, overflow: read_u32(bytes, 12), bytes, offset })
    }

    /// The page inside the value of an inline bucket. `value_offset` is the value's place in the file.
    pub fn inline(value: &'a [u8], value_offset: u64) -> Result<Page<'a>> {
        let bytes = value
            .get(BUCKET_HEADER_SIZE..)
            .ok_or(Error::Corrupt { page: 0, what: "bucket value is shorter than its header" })?;
        let page = Page::parse(0, bytes, value_offset + BUCKET_HEADER_SIZE as u64)?;
        if page.kind != Kind::Leaf {
            return Err(Error::Corrupt { page: 0, what: "inline bucket is no leaf" });
        }
        Ok(page)
    }

    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    pub fn corrupt(&self, what: &'static str) -> Error {
        Error::Corrupt { page: self.id, what }
    }

    pub fn key(&self, index: usize) -> Result<&'a [u8]> {
        assert!(index < self.count, "element {index} of {} on page {}", self.count, self.id);
        let element = PAGE_HEADER_SIZE + index * ELEMENT_SIZE;
        let at = match self.kind {
            Kind::Branch => element,
            Kind::Leaf => element + 4,
        };
        let start = element + read_u32(self.bytes, at) as usize;
        let size = read_u32(self.bytes, at + 4) as usize;
        self.bytes.get(start..start + size).ok_or_else(|| self.corrupt("key outside its page"))
    }

    pub fn child(&self, index: usize) -> u64 {
        assert!(index < self.count, "element {index} of {} on page {}", self.count, self.id);
        read_u64(self.bytes, PAGE_HEADER_SIZE + index * ELEMENT_SIZE + 8)
    }

    /// The branch key as a range of the file.
    pub fn key_ref(&self, index: usize) -> Result<ValueRef> {
        let key = self.key(index)?;
        let element = PAGE_HEADER_SIZE + index * ELEMENT_SIZE;
        let at = match self.kind {
            Kind::Branch => element,
            Kind::Leaf => element + 4,
        };
        let start = element + read_u32(self.bytes, at) as usize;
        Ok(ValueRef { offset: self.offset + start as u64, len: key.len() as u32 })
    }

    pub fn is_bucket(&self, index: usize) -> bool {
        assert!(index < self.count, "element {index} of {} on page {}", self.count, self.id);
        read_u32(self.bytes, PAGE_HEADER_SIZE + index * ELEMENT_SIZE) & BUCKET_FLAG != 0
    }

    pub fn leaf(&self, index: usize) -> Result<LeafElement<'a>> {
        assert!(index < self.count, "element {index} of {} on page {}", self.count, self.id);
        let element = PAGE_HEADER_SIZE + index * ELEMENT_SIZE;
        let start = element + read_u32(self.bytes, element + 4) as usize;
        let key_end = start + read_u32(self.bytes, element + 8) as usize;
        let value_end = key_end + read_u32(self.bytes, element + 12) as usize;
        let (Some(key), Some(value)) = (self.bytes.get(start..key_end), self.bytes.get(key_end..value_end))
        else {
            return Err(self.corrupt("key or value outside its page"));
        };
        let flags = read_u32(self.bytes, element);
        Ok(LeafElement { flags, key, value, key_offset: self.offset + start as u64 })
    }

    /// First element whose key is not below `key`, and whether it is equal.
    pub fn lower_bound(&self, key: &[u8]) -> Result<(usize, bool)> {
        let (mut low, mut high) = (0, self.count);
        while low < high {
            let middle = (low + high) / 2;
            match self.key(middle)?.cmp(key) {
                Ordering::Less => low = middle + 1,
                Ordering::Equal => return Ok((middle, true)),
                Ordering::Greater => high = middle,
            }
        }
        Ok((low, false))
    }

    /// The child that `key` belongs to: the last whose first key is not above it, else the first.
    pub fn child_index(&self, key: &[u8]) -> Result<usize> {
        let (index, exact) = self.lower_bound(key)?;
        Ok(if exact { index } else { index.saturating_sub(1) })
    }

    /// Bytes that this page's content takes, without the unused rest.
    pub fn used_bytes(&self) -> Result<usize> {
        let mut used = PAGE_HEADER_SIZE + self.count * ELEMENT_SIZE;
        for index in 0..self.count {
            used += match self.kind {
                Kind::Branch => self.key(index)?.len(),
                Kind::Leaf => {
                    let element = self.leaf(index)?;
                    element.key.len() + element.value.len()
                }
            };
        }
        Ok(used)
    }
}

/// The pages that one transaction may see.
#[derive(Clone)]
pub(crate) struct Pages {
    pub mapping: Arc<dyn Mapping>,
    pub page_size: u32,
    /// First page id that is not in use. `high_water * page_size` never exceeds the file.
    pub high_water: u64,
}

impl Pages {
    /// The page `id` with its overflow, when it is a leaf or branch inside the file.
    pub fn page(&self, id: u64) -> Result<Page<'_>> {
        if id < 2 || id >= self.high_water {
            return Err(Error::Corrupt { page: id, what: "reference outside the file" });
        }
        let page_size = self.page_size as usize;
        let offset = id * u64::from(self.page_size);
        let first = self.mapping.bytes(offset, page_size);
        let overflow = read_u32(first, 12);
        if overflow == 0 {
            return Page::parse(id, first, offset);
        }
        if u64::from(overflow) >= self.high_water - id {
            return Err(Error::Corrupt { page: id, what: "page reaches beyond the file" });
        }
        Page::parse(id, self.mapping.bytes(offset, (1 + overflow as usize) * page_size), offset)
    }

    /// Any range below the high-water mark. Panics outside of it: the caller got the range from a page.
    pub fn bytes(&self, range: ValueRef) -> &[u8] {
        let end = range.offset.checked_add(u64::from(range.len));
        assert!(
            end.is_some_and(|end| end <= self.size_bytes()),
            "{range:?} is not of this transaction, which ends at {}",
            self.size_bytes()
        );
        self.mapping.bytes(range.offset, range.len as usize)
    }

    pub fn size_bytes(&self) -> u64 {
        self.high_water * u64::from(self.page_size)
    }
}

/// Root page and sequence, as stored in the value of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BucketHeader {
    /// 0: inline.
    pub root: u64,
    pub sequence: u64,
}

impl BucketHeader {
    pub fn parse(value: &[u8]) -> Result<BucketHeader> {
        if value.len() < BUCKET_HEADER_SIZE {
            return Err(Error::Corrupt { page: 0, what: "bucket value is shorter than its header" });
        }
        Ok(BucketHeader { root: read_u64(value, 0), sequence: read_u64(value, 8) })
    }

    pub fn encode(&self) -> [u8; BUCKET_HEADER_SIZE] {
        let mut out = [0; BUCKET_HEADER_SIZE];
        out[0..8].copy_from_slice(&self.root.to_le_bytes());
        out[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        out
    }
}
