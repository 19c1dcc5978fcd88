//! What `bbolt check` looks at, and what bbolt relies on without looking.
//!
//! Linear in the file: a page is followed once, so references in circles end.

use std::fmt;

use crate::freelist::{self, Span};
use crate::meta::NO_FREELIST;
use crate::page::{BucketHeader, DEPTH_MAX, Kind, Page, Pages};
use crate::reach::PageSet;
use crate::read::{Bucket, BucketHandle, ReadTx, Root};

/// More findings than this are not collected: the file is lost, and the first tell why.
const FINDINGS_MAX: usize = 1000;

/// Something wrong with the file, and the page where it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub page: u64,
    pub what: String,
}

const LEAKED: &str = "unreachable unfreed";

impl Finding {
    /// A page that nothing uses and nothing will: it costs space and no more.
    pub fn is_leak(&self) -> bool {
        self.what == LEAKED
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "page {}: {}", self.page, self.what)
    }
}

/// Checks what the transaction sees, with the freelist of the file if it has one. Empty: all is well.
pub fn check(tx: &ReadTx) -> Vec<Finding> {
    let mut checker = Checker::new(tx);
    let mut unused = Vec::new();
    let mut stored = None;
    if tx.meta().freelist != NO_FREELIST {
        match freelist::decode(tx.pages(), tx.meta().freelist) {
            Ok((span, free)) => {
                unused.extend(free.spans());
                stored = Some(span);
            }
            Err(error) => checker.find(tx.meta().freelist, error.to_string()),
        }
    }
    checker.stored(stored);
    checker.tree();
    if stored.is_some() {
        checker.unused(&unused);
    }
    checker.findings
}

/// As [`check`], with the pages that the writer holds to be unused instead of the file's list.
pub(crate) fn check_with_freelist(tx: &ReadTx, unused: &[Span]) -> Vec<Finding> {
    let mut checker = Checker::new(tx);
    if tx.meta().freelist != NO_FREELIST {
        match freelist::decode(tx.pages(), tx.meta().freelist) {
            Ok((span, _)) => checker.stored(Some(span)),
            Err(error) => checker.find(tx.meta().freelist, error.to_string()),
        }
    }
    checker.tree();
    checker.unused(unused);
    checker.findings
}

struct Checker<'tx> {
    tx: &'tx ReadTx,
    pages: &'tx Pages,
    reachable: PageSet,
    findings: Vec<Finding>,
}

impl<'tx> Checker<'tx> {
    fn new(tx: &'tx ReadTx) -> Checker<'tx> {
        let pages = tx.pages();
        Checker { tx, pages, reachable: PageSet::new(pages.high_water), findings: Vec::new() }
    }

    fn find(&mut self, page: u64, what: impl Into<String>) {
        if self.findings.len() < FINDINGS_MAX {
            self.findings.push(Finding { page, what: what.into() });
        }
    }

    fn stored(&mut self, span: Option<Span>) {
        if let Some(span) = span {
            (span.start..span.end()).for_each(|page| {
                self.reachable.insert(page);
            });
        }
    }

    fn tree(&mut self) {
        let tx = self.tx;
        self.bucket(tx.root(), 0);
    }

    fn unused(&mut self, unused: &[Span]) {
        let mut next = 2;
        for span in unused {
            for page in next..span.start.min(self.pages.high_water) {
                self.not_free(page);
            }
            for page in span.start..span.end() {
                if page >= self.pages.high_water {
                    self.find(page, "free page beyond the high-water mark");
                } else if self.reachable.contains(page) {
                    self.find(page, "reachable freed");
                }
            }
            next = span.end();
        }
        for page in next..self.pages.high_water {
            self.not_free(page);
        }
    }

    fn not_free(&mut self, page: u64) {
        if !self.reachable.contains(page) {
            self.find(page, LEAKED);
        }
    }

    fn bucket(&mut self, bucket: Bucket<'tx>, bucket_depth: usize) {
        if bucket_depth > DEPTH_MAX {
            return self.find(0, "buckets nested too deeply");
        }
        let mut nested = Vec::new();
        match bucket.handle().root {
            Root::Page(id) => {
                let mut leaf_depth = None;
                self.page(id, Bounds { low: None, high: None }, 0, &mut leaf_depth, &mut nested);
            }
            Root::Inline(_) => match bucket.root_page() {
                Ok(page) => self.leaf(&page, Bounds { low: None, high: None }, &mut nested),
                Err(error) => self.find(0, error.to_string()),
            },
        }
        for handle in nested {
            self.bucket(self.tx.bucket_at(handle), bucket_depth + 1);
        }
    }

    fn page(
        &mut self,
        id: u64,
        bounds: Bounds<'tx>,
        depth: usize,
        leaf_depth: &mut Option<usize>,
        nested: &mut Vec<BucketHandle>,
    ) {
        if depth > DEPTH_MAX {
            return self.find(id, "tree too deep");
        }
        let page = match self.pages.page(id) {
            Ok(page) => page,
            Err(error) => return self.find(id, error.to_string()),
        };
        for used in id..=id + u64::from(page.overflow) {
            if !self.reachable.insert(used) {
                return self.find(used, "multiple references");
            }
        }
        match page.kind {
            Kind::Leaf => {
                // bbolt never checks this, but its rebalancing and our fast opening rely on it.
                if *leaf_depth.get_or_insert(depth) != depth {
                    self.find(id, "leaf at another depth than the first");
                }
                if depth > 0 && page.count == 0 {
                    self.find(id, "empty leaf");
                }
                self.leaf(&page, bounds, nested);
            }
            Kind::Branch => {
                // bbolt panics when it has to merge an only child.
                if page.count < 2 {
                    self.find(id, "branch with an only child");
                }
                self.order(&page, bounds);
                for index in 0..page.count {
                    let Ok(low) = page.key(index) else { return };
                    let high = match index + 1 < page.count {
                        true => page.key(index + 1).ok(),
                        false => bounds.high,
                    };
                    let bounds = Bounds { low: Some(low), high };
                    self.page(page.child(index), bounds, depth + 1, leaf_depth, nested);
                }
            }
        }
    }

    fn leaf(&mut self, page: &Page<'tx>, bounds: Bounds<'tx>, nested: &mut Vec<BucketHandle>) {
        self.order(page, bounds);
        for index in 0..page.count {
            match page.leaf(index) {
                Err(error) => self.find(page.id, error.to_string()),
                Ok(element) if element.is_bucket() => {
                    match BucketHeader::parse(element.value).and(BucketHandle::from_element(&element)) {
                        Ok(handle) => nested.push(handle),
                        Err(error) => self.find(page.id, error.to_string()),
                    }
                }
                Ok(_) => {}
            }
        }
    }

    /// Keys ascend, and lie in the range that the branch above gives the page.
    fn order(&mut self, page: &Page<'tx>, bounds: Bounds<'tx>) {
        let mut previous: Option<&[u8]> = None;
        for index in 0..page.count {
            let key = match page.key(index) {
                Ok(key) => key,
                Err(error) => return self.find(page.id, error.to_string()),
            };
            if key.is_empty() {
                self.find(page.id, format!("element {index} has an empty key"));
            }
            if bounds.low.is_some_and(|low| key < low) {
                self.find(page.id, format!("element {index} is below the key of its branch"));
            }
            if bounds.high.is_some_and(|high| key >= high) {
                self.find(page.id, format!("element {index} is not below the next key of its branch"));
            }
            if previous.is_some_and(|previous| key <= previous) {
                self.find(page.id, format!("element {index} is not above the one before"));
            }
            previous = Some(key);
        }
    }
}

#[derive(Clone, Copy)]
struct Bounds<'tx> {
    low: Option<&'tx [u8]>,
    high: Option<&'tx [u8]>,
}
