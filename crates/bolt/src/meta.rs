//! The two meta pages: which tree is the current one.
//!
//! Page header, then (little-endian) `magic u32 | version u32 | page_size u32 | flags u32 | root u64 |
//! root sequence u64 | freelist u64 | high water u64 | txid u64 | checksum u64`. The checksum is FNV-1a
//! over the 56 bytes before it. Transaction `t` writes page `t % 2`, so a torn meta page leaves the
//! one before it whole.

use disk::File;

use crate::error::{Error, Result};
use crate::page::{
    FREELIST_FLAG, LEAF_FLAG, META_FLAG, PAGE_HEADER_SIZE, read_u16, read_u32, read_u64, write_header,
};

pub(crate) const MAGIC: u32 = 0xED0C_DAED;
pub(crate) const VERSION: u32 = 2;
/// Meta's freelist field when the list is not in the file.
pub(crate) const NO_FREELIST: u64 = u64::MAX;
pub(crate) const PAGE_SIZE_MIN: u32 = 512;
pub(crate) const PAGE_SIZE_MAX: u32 = 64 << 10;
/// A file without a valid meta page that is longer than this was not just being created.
const UNBORN_SIZE_MAX_BYTES: u64 = 1 << 20;
const META_BYTES: usize = PAGE_HEADER_SIZE + 64;
const CHECKSUM_AT: usize = PAGE_HEADER_SIZE + 56;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meta {
    pub page_size: u32,
    /// Root page of the tree that holds the top-level buckets.
    pub root: u64,
    pub root_sequence: u64,
    /// First page of the freelist, or [`NO_FREELIST`].
    pub freelist: u64,
    /// First page id that is not in use.
    pub high_water: u64,
    pub txid: u64,
}

fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

impl Meta {
    /// A whole meta page for slot `page`.
    pub fn encode(&self, page: u64) -> Vec<u8> {
        assert!(page < 2, "meta page {page}");
        assert!(self.root < self.high_water, "root {} above high water {}", self.root, self.high_water);
        let mut out = vec![0; self.page_size as usize];
        write_header(&mut out, page, META_FLAG, 0, 0);
        let fields = [
            (0, u64::from(MAGIC) | u64::from(VERSION) << 32),
            (8, u64::from(self.page_size)),
            (16, self.root),
            (24, self.root_sequence),
            (32, self.freelist),
            (40, self.high_water),
            (48, self.txid),
        ];
        for (at, value) in fields {
            out[PAGE_HEADER_SIZE + at..PAGE_HEADER_SIZE + at + 8].copy_from_slice(&value.to_le_bytes());
        }
        let checksum = fnv1a(&out[PAGE_HEADER_SIZE..CHECKSUM_AT]);
        out[CHECKSUM_AT..META_BYTES].copy_from_slice(&checksum.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8; META_BYTES]) -> Result<Option<Meta>> {
        let body = &bytes[PAGE_HEADER_SIZE..];
        let checksum = fnv1a(&bytes[PAGE_HEADER_SIZE..CHECKSUM_AT]);
        if read_u32(body, 0) != MAGIC || read_u64(body, 56) != checksum || read_u16(bytes, 8) != META_FLAG {
            return Ok(None);
        }
        let version = read_u32(body, 4);
        if version != VERSION {
            return Err(Error::Version { found: version });
        }
        let page_size = read_u32(body, 8);
        if !page_size.is_power_of_two() || !(PAGE_SIZE_MIN..=PAGE_SIZE_MAX).contains(&page_size) {
            return Ok(None);
        }
        Ok(Some(Meta {
            page_size,
            root: read_u64(body, 16),
            root_sequence: read_u64(body, 24),
            freelist: read_u64(body, 32),
            high_water: read_u64(body, 40),
            txid: read_u64(body, 48),
        }))
    }

    /// Reads the meta page at `offset`; `None` when it is invalid.
    fn read(file: &dyn File, offset: u64) -> Result<Option<Meta>> {
        let mut bytes = [0; META_BYTES];
        let mut filled = 0;
        while filled < META_BYTES {
            let count = file
                .read_at(&mut bytes[filled..], offset + filled as u64)
                .map_err(Error::io("read a meta page"))?;
            if count == 0 {
                return Ok(None);
            }
            filled += count;
        }
        Meta::decode(&bytes)
    }

    /// The valid meta with the larger txid, checked against the file's size.
    pub fn select(file: &dyn File, file_size_bytes: u64) -> Result<Meta> {
        if is_unborn(file, file_size_bytes)? {
            return Err(Error::Unborn { file_size_bytes });
        }
        let first = Meta::read(file, 0)?;
        let second = match first {
            Some(first) => {
                Meta::read(file, u64::from(first.page_size))?.filter(|meta| meta.page_size == first.page_size)
            }
            None => {
                let mut found = None;
                let mut page_size = PAGE_SIZE_MIN;
                while page_size <= PAGE_SIZE_MAX && found.is_none() {
                    found =
                        Meta::read(file, u64::from(page_size))?.filter(|meta| meta.page_size == page_size);
                    page_size *= 2;
                }
                found
            }
        };
        let meta = match (first, second) {
            (Some(first), Some(second)) if first.txid > second.txid => first,
            (_, Some(second)) => second,
            (Some(first), None) => first,
            (None, None) => return Err(Error::NoMeta { file_size_bytes }),
        };
        meta.validate(file_size_bytes)?;
        Ok(meta)
    }

    fn validate(&self, file_size_bytes: u64) -> Result<()> {
        let corrupt = |what| Err(Error::Corrupt { page: self.txid % 2, what });
        if self.high_water.checked_mul(u64::from(self.page_size)).is_none_or(|size| size > file_size_bytes) {
            return corrupt("the file is shorter than its high-water mark");
        }
        if self.root < 2 || self.root >= self.high_water {
            return corrupt("root page outside the file");
        }
        if self.freelist != NO_FREELIST && (self.freelist < 2 || self.freelist >= self.high_water) {
            return corrupt("freelist outside the file");
        }
        if self.txid >= u64::MAX / 2 {
            return corrupt("transaction id out of range");
        }
        Ok(())
    }
}

/// What a new file holds: two metas, an empty freelist, an empty root leaf.
pub(crate) fn first_pages(page_size: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(4 * page_size as usize);
    for txid in 0..2 {
        let meta = Meta { page_size, root: 3, root_sequence: 0, freelist: 2, high_water: 4, txid };
        out.extend_from_slice(&meta.encode(txid));
    }
    for (id, flags) in [(2, FREELIST_FLAG), (3, LEAF_FLAG)] {
        let mut page = vec![0; page_size as usize];
        write_header(&mut page, id, flags, 0, 0);
        out.extend_from_slice(&page);
    }
    out
}

/// True when the file is an unfinished first write: every byte is zero or that of a new file, and some
/// are missing. Once a transaction has been committed a meta page differs from the first ones, so such
/// a file is never taken for unborn.
fn is_unborn(file: &dyn File, file_size_bytes: u64) -> Result<bool> {
    if file_size_bytes > UNBORN_SIZE_MAX_BYTES {
        return Ok(false);
    }
    let mut bytes = vec![0; file_size_bytes as usize];
    let mut filled = 0;
    while filled < bytes.len() {
        match file.read_at(&mut bytes[filled..], filled as u64).map_err(Error::io("read the first pages"))? {
            0 => break,
            count => filled += count,
        }
    }
    let mut page_size = PAGE_SIZE_MIN;
    while page_size <= PAGE_SIZE_MAX {
        let whole = first_pages(page_size);
        let piece = bytes.iter().enumerate().all(|(at, byte)| *byte == 0 || whole.get(at) == Some(byte));
        if piece {
            return Ok(!bytes.starts_with(&whole));
        }
        page_size *= 2;
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Golden: bbolt 1.5.0 makes the same checksums for a new file with 4 KiB pages, and the same file.
    #[test]
    fn the_first_pages_are_those_of_bbolt() {
        let pages = first_pages(4096);
        assert_eq!(pages.len(), 4 * 4096);
        assert_eq!(pages[72..80], [0xee, 0xfd, 0x89, 0x46, 0x11, 0x6e, 0x51, 0x07]);
        assert_eq!(pages[4168..4176], [0x0f, 0x48, 0x79, 0x51, 0x1a, 0x35, 0x4c, 0x26]);
    }

    #[test]
    fn a_meta_page_reads_back_and_a_damaged_one_does_not() {
        let meta = Meta { page_size: 4096, root: 3, root_sequence: 7, freelist: 2, high_water: 4, txid: 9 };
        let page = meta.encode(1);
        assert_eq!(page.len(), 4096);
        let mut bytes = [0; META_BYTES];
        bytes.copy_from_slice(&page[..META_BYTES]);
        assert_eq!(Meta::decode(&bytes).unwrap(), Some(meta));
        for bit in PAGE_HEADER_SIZE * 8..META_BYTES * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Meta::decode(&flipped).unwrap(), None, "bit {bit}");
        }
    }
}
