//! Read transactions: one committed state of the file, for as long as anyone holds it.

use std::sync::Arc;

use crate::cursor::Cursor;
use crate::db::Shared;
use crate::error::{Error, Result};
use crate::finder::Finder;
use crate::meta::Meta;
use crate::page::{BucketHeader, DEPTH_MAX, Kind, LeafElement, Page, Pages, ValueRef};

/// A consistent snapshot. Clones share it; the pages it sees are not reused before the last is dropped.
#[derive(Clone)]
pub struct ReadTx {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    meta: Meta,
    pages: Pages,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.remove_reader(self.meta.txid);
    }
}

impl ReadTx {
    /// The caller has registered `meta.txid` as a reader.
    pub(crate) fn new(shared: Arc<Shared>, meta: Meta) -> ReadTx {
        let pages = shared.pages(&meta);
        ReadTx { inner: Arc::new(Inner { shared, meta, pages }) }
    }

    pub(crate) fn meta(&self) -> &Meta {
        &self.inner.meta
    }

    pub(crate) fn pages(&self) -> &Pages {
        &self.inner.pages
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    pub fn txid(&self) -> u64 {
        self.inner.meta.txid
    }

    pub fn page_size(&self) -> u32 {
        self.inner.meta.page_size
    }

    /// High-water mark times page size: what etcd calls the database's size.
    pub fn size(&self) -> u64 {
        self.inner.pages.size_bytes()
    }

    /// The bucket that holds the top-level buckets.
    pub fn root(&self) -> Bucket<'_> {
        let meta = &self.inner.meta;
        let handle = BucketHandle { root: Root::Page(meta.root), sequence: meta.root_sequence };
        Bucket { tx: self, handle }
    }

    /// A top-level bucket.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'_>>> {
        self.root().bucket(name)
    }

    /// A bucket found before in this same transaction, without looking it up again.
    pub fn bucket_at(&self, handle: BucketHandle) -> Bucket<'_> {
        Bucket { tx: self, handle }
    }

    /// The bytes of a range that a lookup in this transaction gave. Panics on a range beyond its end,
    /// which another transaction must have given.
    pub fn bytes(&self, range: ValueRef) -> &[u8] {
        self.inner.pages.bytes(range)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Root {
    Page(u64),
    /// The whole value of the bucket's element.
    Inline(ValueRef),
}

/// Where a bucket is, valid in the transaction that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketHandle {
    pub(crate) root: Root,
    pub(crate) sequence: u64,
}

impl BucketHandle {
    pub(crate) fn from_element(element: &LeafElement<'_>) -> Result<BucketHandle> {
        let header = BucketHeader::parse(element.value)?;
        let root = match header.root {
            0 => Root::Inline(element.value_ref()),
            page => Root::Page(page),
        };
        Ok(BucketHandle { root, sequence: header.sequence })
    }
}

#[derive(Clone, Copy)]
pub struct Bucket<'tx> {
    pub(crate) tx: &'tx ReadTx,
    handle: BucketHandle,
}

impl<'tx> Bucket<'tx> {
    pub fn handle(&self) -> BucketHandle {
        self.handle
    }

    /// The counter that bbolt keeps for each bucket. etcd does not use it.
    pub fn sequence(&self) -> u64 {
        self.handle.sequence
    }

    pub(crate) fn root_page(&self) -> Result<Page<'tx>> {
        match self.handle.root {
            Root::Page(id) => self.tx.pages().page(id),
            Root::Inline(value) => Page::inline(self.tx.bytes(value), value.offset),
        }
    }

    fn element(&self, key: &[u8]) -> Result<Option<LeafElement<'tx>>> {
        let mut page = self.root_page()?;
        for _ in 0..DEPTH_MAX {
            match page.kind {
                Kind::Branch => page = self.tx.pages().page(page.child(page.child_index(key)?))?,
                Kind::Leaf => {
                    let (index, exact) = page.lower_bound(key)?;
                    return if exact { page.leaf(index).map(Some) } else { Ok(None) };
                }
            }
        }
        Err(page.corrupt("tree too deep"))
    }

    /// The value of `key`; `None` also when the key is a bucket.
    pub fn get(&self, key: &[u8]) -> Result<Option<&'tx [u8]>> {
        Ok(self.element(key)?.filter(|element| !element.is_bucket()).map(|element| element.value))
    }

    /// As [`Bucket::get`], giving the place of the value for [`ReadTx::bytes`].
    pub fn find(&self, key: &[u8]) -> Result<Option<ValueRef>> {
        Ok(self.element(key)?.filter(|element| !element.is_bucket()).map(|element| element.value_ref()))
    }

    /// A bucket inside this one.
    pub fn bucket(&self, name: &[u8]) -> Result<Option<Bucket<'tx>>> {
        match self.element(name)?.filter(LeafElement::is_bucket) {
            Some(element) => Ok(Some(Bucket { tx: self.tx, handle: BucketHandle::from_element(&element)? })),
            None => Ok(None),
        }
    }

    /// Walks keys in order.
    pub fn cursor(&self) -> Cursor<'tx> {
        Cursor::new(*self)
    }

    /// Looks up many keys that tend to be near each other.
    pub fn finder(&self) -> Finder<'tx> {
        Finder::new(*self)
    }
}

/// One key of a bucket, seen by a cursor.
#[derive(Clone, Copy)]
pub struct Entry<'tx> {
    element: LeafElement<'tx>,
}

impl<'tx> Entry<'tx> {
    pub(crate) fn new(element: LeafElement<'tx>) -> Entry<'tx> {
        Entry { element }
    }

    pub fn key(&self) -> &'tx [u8] {
        self.element.key
    }

    /// The value; of a bucket, its stored form.
    pub fn value(&self) -> &'tx [u8] {
        self.element.value
    }

    pub fn key_ref(&self) -> ValueRef {
        self.element.key_ref()
    }

    pub fn value_ref(&self) -> ValueRef {
        self.element.value_ref()
    }

    pub fn is_bucket(&self) -> bool {
        self.element.is_bucket()
    }

    /// The bucket at this key, for [`ReadTx::bucket_at`].
    pub fn bucket(&self) -> Result<BucketHandle> {
        if !self.is_bucket() {
            return Err(Error::IncompatibleValue);
        }
        BucketHandle::from_element(&self.element)
    }
}
