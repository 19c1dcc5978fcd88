//! Point lookups that remember where the last one ended.
//!
//! A LIST looks up one record per object, in the order of revisions or of keys: neighbours often lie in
//! the same leaf or under the same branch. The finder keeps the path of the last lookup with the range
//! of keys each page on it answers for, and starts at the lowest page that covers the new key.

use crate::error::Result;
use crate::page::{DEPTH_MAX, Kind, LeafElement, Page, ValueRef};
use crate::read::Bucket;

struct Level<'tx> {
    page: Page<'tx>,
    /// First key the page answers for; empty for all below `end`.
    start: &'tx [u8],
    /// First key it does not answer for, if there is one.
    end: Option<&'tx [u8]>,
}

impl<'tx> Bucket<'tx> {
    /// As [`Bucket::find`], for callers that cannot hold a [`Finder`]: `near` are the leaf where the last
    /// lookup in this bucket and this transaction ended and the branch above it, zeros at first. A leaf that
    /// has the key's neighbours on both sides answers without a descent, and one begins at that branch if it
    /// has them.
    pub fn find_near(&self, key: &[u8], near: &mut [u64; 2]) -> Result<Option<ValueRef>> {
        let [leaf, branch] = near;
        if *leaf != 0 {
            let page = self.tx.pages().page(*leaf)?;
            if page.kind == Kind::Leaf && page.count > 0 {
                let (index, exact) = page.lower_bound(key)?;
                if exact {
                    let element = page.leaf(index)?;
                    return Ok((!element.is_bucket()).then(|| element.value_ref()));
                }
                if index > 0 && index < page.count {
                    return Ok(None);
                }
            }
        }
        let mut page = match self.covering(key, *branch)? {
            Some(page) => page,
            None => self.root_page()?,
        };
        for _ in 0..DEPTH_MAX {
            match page.kind {
                Kind::Branch => {
                    *branch = page.id;
                    page = self.tx.pages().page(page.child(page.child_index(key)?))?;
                }
                Kind::Leaf => {
                    *leaf = page.id;
                    let (index, exact) = page.lower_bound(key)?;
                    if !exact {
                        return Ok(None);
                    }
                    let element = page.leaf(index)?;
                    return Ok((!element.is_bucket()).then(|| element.value_ref()));
                }
            }
        }
        Err(page.corrupt("tree too deep"))
    }

    /// The branch page `id`, if the key lies between its first and its last child's first keys: then no
    /// other page of its level answers for the key.
    fn covering(&self, key: &[u8], id: u64) -> Result<Option<Page<'tx>>> {
        if id == 0 {
            return Ok(None);
        }
        let page = self.tx.pages().page(id)?;
        let covers = page.kind == Kind::Branch
            && page.count > 1
            && page.key(0)? <= key
            && key < page.key(page.count - 1)?;
        Ok(covers.then_some(page))
    }
}

pub struct Finder<'tx> {
    bucket: Bucket<'tx>,
    path: Vec<Level<'tx>>,
}

impl<'tx> Finder<'tx> {
    pub(crate) fn new(bucket: Bucket<'tx>) -> Finder<'tx> {
        Finder { bucket, path: Vec::new() }
    }

    /// The value of `key`; `None` also when the key is a bucket.
    pub fn get(&mut self, key: &[u8]) -> Result<Option<&'tx [u8]>> {
        Ok(self.element(key)?.filter(|element| !element.is_bucket()).map(|element| element.value))
    }

    /// As [`Finder::get`], giving the place of the value for [`crate::ReadTx::bytes`].
    pub fn find(&mut self, key: &[u8]) -> Result<Option<ValueRef>> {
        Ok(self.element(key)?.filter(|element| !element.is_bucket()).map(|element| element.value_ref()))
    }

    fn element(&mut self, key: &[u8]) -> Result<Option<LeafElement<'tx>>> {
        while let Some(level) = self.path.last()
            && (key < level.start || level.end.is_some_and(|end| key >= end))
        {
            self.path.pop();
        }
        if self.path.is_empty() {
            self.path.push(Level { page: self.bucket.root_page()?, start: b"", end: None });
        }
        loop {
            let Some(level) = self.path.last() else { return Ok(None) };
            let page = level.page;
            if page.kind == Kind::Leaf {
                let (index, exact) = page.lower_bound(key)?;
                return if exact { page.leaf(index).map(Some) } else { Ok(None) };
            }
            let index = page.child_index(key)?;
            let start = if index == 0 { level.start } else { page.key(index)? };
            let end = if index + 1 < page.count { Some(page.key(index + 1)?) } else { level.end };
            if self.path.len() >= DEPTH_MAX {
                return Err(page.corrupt("tree too deep"));
            }
            let child = self.bucket.tx.pages().page(page.child(index))?;
            self.path.push(Level { page: child, start, end });
        }
    }
}
