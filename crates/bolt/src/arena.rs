//! Keys and values of a write transaction: either in the file, where they stay put until the
//! transaction ends, or in memory of the transaction's own.

use crate::page::{Pages, ValueRef};

const CHUNK_BYTES: usize = 1 << 20;
const OWN_BIT: u64 = 1 << 63;

/// Bytes in the file or, with [`OWN_BIT`], in the arena: `chunk << 32 | place`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Slice {
    at: u64,
    len: u32,
}

impl Slice {
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// `len` bytes from `offset` inside of these.
    pub fn part(&self, offset: u64, len: u32) -> Slice {
        assert!(offset + u64::from(len) <= u64::from(self.len), "{offset} + {len} of {} bytes", self.len);
        Slice { at: self.at + offset, len }
    }
}

impl From<ValueRef> for Slice {
    fn from(range: ValueRef) -> Slice {
        assert!(range.offset < OWN_BIT, "file offset {}", range.offset);
        Slice { at: range.offset, len: range.len }
    }
}

pub(crate) struct Arena {
    pages: Pages,
    chunks: Vec<Vec<u8>>,
}

impl Arena {
    pub fn new(pages: Pages) -> Arena {
        Arena { pages, chunks: Vec::new() }
    }

    /// The pages of the state that the transaction began with.
    pub fn pages(&self) -> &Pages {
        &self.pages
    }

    pub fn push(&mut self, bytes: &[u8]) -> Slice {
        let room = self.chunks.last().map_or(0, |chunk| chunk.capacity() - chunk.len());
        if room < bytes.len() {
            self.chunks.push(Vec::with_capacity(bytes.len().max(CHUNK_BYTES)));
        }
        let index = self.chunks.len().saturating_sub(1);
        let Some(chunk) = self.chunks.last_mut() else {
            return Slice { at: 0, len: 0 }; // no bytes and no chunk yet
        };
        let at = OWN_BIT | (index as u64) << 32 | chunk.len() as u64;
        chunk.extend_from_slice(bytes);
        Slice { at, len: bytes.len() as u32 }
    }

    pub fn bytes(&self, slice: Slice) -> &[u8] {
        if slice.at & OWN_BIT == 0 {
            return self.pages.bytes(ValueRef { offset: slice.at, len: slice.len });
        }
        let chunk = ((slice.at & !OWN_BIT) >> 32) as usize;
        let start = (slice.at & 0xFFFF_FFFF) as usize;
        &self.chunks[chunk][start..start + slice.len as usize]
    }
}
