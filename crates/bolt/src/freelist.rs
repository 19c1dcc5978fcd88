//! Which pages below the high-water mark may be written again.
//!
//! A page freed by transaction `t` stays as it is while any reader sees it: a reader of transaction `r`
//! sees the pages allocated at or before `r` and freed after `r`. Until then it is *pending*; the pages
//! blocked by a reader are filed under that reader, so that a long-lived one (a snapshot being sent)
//! costs nothing per commit. Pages both allocated and freed during the life of such a reader are
//! reusable at once, hence `allocated`.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::meta::NO_FREELIST;
use crate::page::{FREELIST_FLAG, PAGE_HEADER_SIZE, Pages, read_u16, read_u32, read_u64, write_header};

/// `count` pages from `start`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Span {
    pub start: u64,
    pub count: u64,
}

impl Span {
    pub fn end(&self) -> u64 {
        self.start + self.count
    }
}

/// Disjoint, never adjacent spans, found by place and by size in O(log n).
#[derive(Debug, Default)]
pub(crate) struct FreeSpans {
    by_start: BTreeMap<u64, u64>,
    by_size: BTreeSet<(u64, u64)>,
    pages: u64,
}

impl FreeSpans {
    pub fn pages(&self) -> u64 {
        self.pages
    }

    pub fn spans(&self) -> impl Iterator<Item = Span> + '_ {
        self.by_start.iter().map(|(start, count)| Span { start: *start, count: *count })
    }

    fn add(&mut self, span: Span) {
        self.by_start.insert(span.start, span.count);
        self.by_size.insert((span.count, span.start));
    }

    fn remove(&mut self, span: Span) {
        self.by_start.remove(&span.start);
        self.by_size.remove(&(span.count, span.start));
    }

    /// Errors when a page of the span is here already, as only a damaged tree frees a page twice.
    pub fn insert(&mut self, span: Span) -> Result<()> {
        assert!(span.count > 0, "empty span at {}", span.start);
        let twice = || Error::Corrupt { page: span.start, what: "page freed twice" };
        let before = self.by_start.range(..span.end()).next_back();
        let before = before.map(|(start, count)| Span { start: *start, count: *count });
        let mut merged = span;
        if let Some(before) = before {
            if before.end() > span.start {
                return Err(twice());
            }
            if before.end() == span.start {
                self.remove(before);
                merged = Span { start: before.start, count: before.count + span.count };
            }
        }
        if let Some(count) = self.by_start.get(&span.end()).copied() {
            self.remove(Span { start: span.end(), count });
            merged.count += count;
        }
        self.add(merged);
        self.pages += span.count;
        Ok(())
    }

    /// Takes `count` contiguous pages: the smallest span that is large enough, the first of these.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        let (found, start) = self.by_size.range((count, 0)..).next().copied()?;
        self.remove(Span { start, count: found });
        if found > count {
            self.add(Span { start: start + count, count: found - count });
        }
        self.pages -= count;
        Some(start)
    }

    /// Takes `wanted` contiguous pages, or the largest span when none is as large.
    pub fn take_run(&mut self, wanted: u64) -> Option<Span> {
        let largest = self.by_size.last()?.0;
        let count = wanted.min(largest);
        self.take(count).map(|start| Span { start, count })
    }
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    span: Span,
    /// Transaction that allocated it; 0 when it is at most that of every reader.
    allocated: u64,
    freed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Freelist {
    free: FreeSpans,
    /// Freed by the last commit, not judged against the readers yet.
    fresh: Vec<Pending>,
    /// By the transaction of the newest reader that still sees them.
    blocked: BTreeMap<u64, Vec<Pending>>,
    pending_pages: u64,
    /// First page of a span → transaction that allocated it. Only while a reader is older than that.
    allocated: BTreeMap<u64, u64>,
    allocated_by: BTreeMap<u64, Vec<u64>>,
}

impl Freelist {
    pub fn new(free: FreeSpans) -> Freelist {
        Freelist { free, ..Freelist::default() }
    }

    pub fn free_pages(&self) -> u64 {
        self.free.pages()
    }

    pub fn pending_pages(&self) -> u64 {
        self.pending_pages
    }

    /// Moves what no reader sees any more to the free spans. `readers`: transactions of the open readers,
    /// ascending, without repetition.
    pub fn release(&mut self, readers: &[u64]) -> Result<()> {
        let mut judge = std::mem::take(&mut self.fresh);
        let gone: Vec<u64> =
            self.blocked.keys().copied().filter(|reader| readers.binary_search(reader).is_err()).collect();
        for reader in gone {
            judge.extend(self.blocked.remove(&reader).unwrap_or_default());
        }
        for pending in judge {
            let below = readers.partition_point(|reader| *reader < pending.freed);
            match below.checked_sub(1).map(|at| readers[at]) {
                Some(reader) if reader >= pending.allocated => {
                    self.blocked.entry(reader).or_default().push(pending)
                }
                _ => {
                    self.free.insert(pending.span)?;
                    self.pending_pages -= pending.span.count;
                }
            }
        }
        // Every reader, present or to come, is at least as young as these allocations.
        let oldest = readers.first().copied().unwrap_or(u64::MAX);
        while let Some(entry) = self.allocated_by.first_entry()
            && *entry.key() <= oldest
        {
            let txid = *entry.key();
            for start in entry.remove() {
                if self.allocated.get(&start) == Some(&txid) {
                    self.allocated.remove(&start);
                }
            }
        }
        Ok(())
    }

    /// Takes `count` contiguous free pages.
    pub fn take(&mut self, count: u64) -> Option<u64> {
        self.free.take(count)
    }

    /// Takes a span for `wanted` pages, or as many of them as lie together anywhere.
    pub fn take_run(&mut self, wanted: u64) -> Option<Span> {
        self.free.take_run(wanted)
    }

    /// Pages taken and not used after all.
    pub fn give_back(&mut self, span: Span) -> Result<()> {
        self.free.insert(span)
    }

    /// Transaction `txid` uses the span at `start` from now on.
    pub fn note_allocation(&mut self, txid: u64, start: u64) {
        self.allocated.insert(start, txid);
        self.allocated_by.entry(txid).or_default().push(start);
    }

    /// Pages that transaction `txid` does not use any more.
    pub fn free(&mut self, txid: u64, span: Span) {
        let allocated = self.allocated.remove(&span.start).unwrap_or(0);
        self.pending_pages += span.count;
        self.fresh.push(Pending { span, allocated, freed: txid });
    }

    /// All spans that the current transaction does not use, ascending. Errors when two overlap.
    pub fn unused(&self) -> Result<Vec<Span>> {
        let pending = self.fresh.iter().chain(self.blocked.values().flatten()).map(|pending| pending.span);
        let mut spans: Vec<Span> = self.free.spans().chain(pending).collect();
        spans.sort_unstable();
        match spans.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            Some(pair) => Err(Error::Corrupt { page: pair[1].start, what: "page freed twice" }),
            None => Ok(spans),
        }
    }
}

/// Pages that a freelist of `ids` page ids takes.
pub(crate) fn pages_for(ids: u64, page_size: u32) -> u64 {
    // One more for the count, which moves into the list when it outgrows 16 bits.
    (PAGE_HEADER_SIZE as u64 + 8 * (ids + 1)).div_ceil(u64::from(page_size))
}

/// The freelist page image: `count` ids, or 0xFFFF and the count as first id.
pub(crate) fn encode(spans: &[Span], page: Span, page_size: u32) -> Vec<u8> {
    let mut out = vec![0; (page.count * u64::from(page_size)) as usize];
    let ids: u64 = spans.iter().map(|span| span.count).sum();
    let mut at = PAGE_HEADER_SIZE;
    let mut push = |value: u64| {
        out[at..at + 8].copy_from_slice(&value.to_le_bytes());
        at += 8;
    };
    let count = if ids < 0xFFFF {
        ids as u16
    } else {
        push(ids);
        0xFFFF
    };
    for span in spans {
        (span.start..span.end()).for_each(&mut push);
    }
    write_header(&mut out, page.start, FREELIST_FLAG, count, (page.count - 1) as u32);
    out
}

/// Reads the list at page `id`: the span it takes, and what it lists.
pub(crate) fn decode(pages: &Pages, id: u64) -> Result<(Span, FreeSpans)> {
    assert!(id != NO_FREELIST, "freelist is not in the file");
    let corrupt = |what| Error::Corrupt { page: id, what };
    if id < 2 || id >= pages.high_water {
        return Err(corrupt("freelist outside the file"));
    }
    let page_size = pages.page_size as usize;
    let offset = id * u64::from(pages.page_size);
    let first = pages.mapping.bytes(offset, page_size);
    let span = Span { start: id, count: 1 + u64::from(read_u32(first, 12)) };
    if read_u64(first, 0) != id || read_u16(first, 8) != FREELIST_FLAG {
        return Err(corrupt("not a freelist page"));
    }
    if span.count > pages.high_water - id {
        return Err(corrupt("freelist reaches beyond the file"));
    }
    let bytes = pages.mapping.bytes(offset, span.count as usize * page_size);
    let (count, start) = match read_u16(bytes, 10) {
        0xFFFF => (read_u64(bytes, PAGE_HEADER_SIZE), PAGE_HEADER_SIZE + 8),
        count => (u64::from(count), PAGE_HEADER_SIZE),
    };
    if count > ((bytes.len() - start) / 8) as u64 {
        return Err(corrupt("freelist longer than its pages"));
    }
    let mut free = FreeSpans::default();
    let mut run: Option<Span> = None;
    for index in 0..count as usize {
        let page = read_u64(bytes, start + 8 * index);
        if page < 2 || page >= pages.high_water || (span.start..span.end()).contains(&page) {
            return Err(corrupt("freelist names a page that cannot be free"));
        }
        run = match run {
            Some(run) if run.end() == page => Some(Span { start: run.start, count: run.count + 1 }),
            Some(run) if run.end() > page => return Err(corrupt("freelist is not sorted")),
            Some(done) => {
                free.insert(done)?;
                Some(Span { start: page, count: 1 })
            }
            None => Some(Span { start: page, count: 1 }),
        };
    }
    if let Some(done) = run {
        free.insert(done)?;
    }
    Ok((span, free))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(start: u64, count: u64) -> Span {
        Span { start, count }
    }

    #[test]
    fn neighbours_merge_and_the_smallest_fit_is_taken() {
        let mut free = FreeSpans::default();
        for (start, count) in [(10, 2), (14, 1), (12, 2), (30, 2), (20, 9)] {
            free.insert(span(start, count)).unwrap();
        }
        assert_eq!(free.spans().collect::<Vec<_>>(), [span(10, 5), span(20, 9), span(30, 2)]);
        assert_eq!(free.take(2), Some(30));
        assert_eq!(free.take(4), Some(10));
        assert_eq!(free.take(10), None);
        assert_eq!(free.pages(), 10);
        assert!(free.insert(span(22, 1)).is_err());
        assert!(free.insert(span(13, 3)).is_err());
    }

    #[test]
    fn pages_wait_for_the_readers_that_see_them_and_for_no_other() {
        let mut list = Freelist::default();
        // Reader 5 is open. Page 100 is from before it, page 200 was allocated by transaction 6.
        list.note_allocation(6, 200);
        list.free(7, span(100, 1));
        list.free(7, span(200, 1));
        list.release(&[5]).unwrap();
        assert_eq!((list.free_pages(), list.pending_pages()), (1, 1));
        assert_eq!(list.take(1), Some(200));
        list.note_allocation(8, 200);
        // A reader of transaction 8 sees page 200 again.
        list.free(9, span(200, 1));
        list.release(&[5, 8]).unwrap();
        assert_eq!(list.free_pages(), 0);
        list.release(&[8]).unwrap();
        assert_eq!((list.free_pages(), list.pending_pages()), (1, 1));
        list.release(&[9]).unwrap();
        assert_eq!((list.free_pages(), list.pending_pages()), (2, 0));
    }
}
