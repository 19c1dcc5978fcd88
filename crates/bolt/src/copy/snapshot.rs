//! The file as one transaction sees it, byte for byte what bbolt's `WriteTo` gives.

use std::io::{self, Read};

use crate::meta::Meta;
use crate::read::ReadTx;

/// Gives the image of `tx`: two meta pages that name its tree, then the pages up to its high-water mark.
/// Pages it does not reach may change while they are copied; nothing refers to them.
pub fn snapshot(tx: &ReadTx) -> Snapshot {
    let meta = *tx.meta();
    let mut metas = meta.encode(0);
    // Older by one, so that both readers of the larger txid and of page 0 take the first.
    metas.extend_from_slice(&Meta { txid: meta.txid.saturating_sub(1), ..meta }.encode(1));
    Snapshot { tx: tx.clone(), metas, at: 0 }
}

/// Reads the image front to back. Holds its transaction until dropped, and no page of it in memory.
pub struct Snapshot {
    tx: ReadTx,
    metas: Vec<u8>,
    at: u64,
}

impl Snapshot {
    /// Bytes of the whole image.
    pub fn size_bytes(&self) -> u64 {
        self.tx.size()
    }

    /// Bytes not read yet.
    pub fn remaining_bytes(&self) -> u64 {
        self.tx.size() - self.at
    }
}

impl Read for Snapshot {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let metas_len = self.metas.len() as u64;
        let count = if self.at < metas_len {
            let rest = &self.metas[self.at as usize..];
            let count = rest.len().min(buf.len());
            buf[..count].copy_from_slice(&rest[..count]);
            count
        } else {
            // Through the file, not the mapping: a long walk over it would fill the page tables.
            let count = self.remaining_bytes().min(buf.len() as u64) as usize;
            let read = self.tx.shared().file.read_at(&mut buf[..count], self.at)?;
            if read == 0 && count > 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            read
        };
        self.at += count as u64;
        Ok(count)
    }
}
