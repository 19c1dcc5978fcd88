//! Finds the free pages of a file whose freelist is not in it: all that the tree does not reach.
//!
//! Level by level, pages in file order, each page at most once. In a flat file (etcd's: buckets only at
//! the top) the leaves need not be read at all: a leaf's id stands in its branch, and how far it
//! overflows only matters when the next page is not itself referenced. So opening a file of many
//! gigabytes reads its branch pages, about one page in a hundred, and the leaves in front of a gap.

use crate::db::Layout;
use crate::error::{Error, Result};
use crate::freelist::{FreeSpans, Span};
use crate::page::{BucketHeader, DEPTH_MAX, Kind, Pages};

/// A set of page ids.
pub(crate) struct PageSet {
    words: Vec<u64>,
}

impl PageSet {
    pub fn new(high_water: u64) -> PageSet {
        PageSet { words: vec![0; high_water.div_ceil(64) as usize] }
    }

    pub fn contains(&self, page: u64) -> bool {
        self.words.get((page / 64) as usize).is_some_and(|word| word & (1 << (page % 64)) != 0)
    }

    /// False when it was there already. The page must lie below the high-water mark.
    pub fn insert(&mut self, page: u64) -> bool {
        let word = &mut self.words[(page / 64) as usize];
        let fresh = *word & (1 << (page % 64)) == 0;
        *word |= 1 << (page % 64);
        fresh
    }

    /// Pages of `2..high_water` that are not in the set.
    pub fn gaps(&self, high_water: u64) -> Result<FreeSpans> {
        let mut free = FreeSpans::default();
        let mut page = 2;
        while page < high_water {
            if self.words[(page / 64) as usize] == u64::MAX {
                page = (page / 64 + 1) * 64;
                continue;
            }
            let start = page;
            while page < high_water && !self.contains(page) {
                page += 1;
            }
            if page > start {
                free.insert(Span { start, count: page - start })?;
            }
            page += 1;
        }
        Ok(free)
    }
}

/// All pages that the tree at `root` uses, those of its buckets included.
pub(crate) fn reachable(pages: &Pages, root: u64, layout: Layout) -> Result<PageSet> {
    let mut walk = Walk { pages, used: PageSet::new(pages.high_water) };
    match layout {
        Layout::Nested => walk.whole(vec![root])?,
        Layout::Flat => {
            let buckets = walk.tree(vec![root], 0)?;
            walk.branches(buckets)?;
        }
    }
    Ok(walk.used)
}

struct Walk<'a> {
    pages: &'a Pages,
    used: PageSet,
}

impl Walk<'_> {
    fn mark(&mut self, page: u64) -> Result<()> {
        if page < 2 || page >= self.pages.high_water {
            return Err(Error::Corrupt { page, what: "reference outside the file" });
        }
        if !self.used.insert(page) {
            return Err(Error::Corrupt { page, what: "page referenced twice" });
        }
        Ok(())
    }

    /// Marks the trees below `roots`, reading every page; gives the roots of the buckets in them.
    fn tree(&mut self, roots: Vec<u64>, bucket_depth: usize) -> Result<Vec<u64>> {
        if bucket_depth > DEPTH_MAX {
            return Err(Error::Corrupt { page: roots[0], what: "buckets nested too deeply" });
        }
        let mut buckets = Vec::new();
        let mut level = roots;
        while !level.is_empty() {
            level.sort_unstable();
            let mut below = Vec::new();
            for id in level {
                // Marked before it is followed: a cycle meets itself here.
                let page = self.pages.page(id)?;
                for used in id..=id + u64::from(page.overflow) {
                    self.mark(used)?;
                }
                for index in 0..page.count {
                    match page.kind {
                        Kind::Branch => below.push(page.child(index)),
                        Kind::Leaf if page.is_bucket(index) => {
                            let header = BucketHeader::parse(page.leaf(index)?.value)?;
                            buckets.extend((header.root != 0).then_some(header.root));
                        }
                        Kind::Leaf => {}
                    }
                }
            }
            level = below;
        }
        Ok(buckets)
    }

    fn whole(&mut self, roots: Vec<u64>) -> Result<()> {
        let mut roots = roots;
        let mut bucket_depth = 0;
        while !roots.is_empty() {
            roots = self.tree(roots, bucket_depth)?;
            bucket_depth += 1;
        }
        Ok(())
    }

    /// Marks the trees below `roots` by their branch pages alone. All leaves of a tree are equally deep.
    fn branches(&mut self, roots: Vec<u64>) -> Result<()> {
        let mut leaves = Vec::new();
        for root in roots {
            let mut level = vec![root];
            // A level all of whose pages are new cannot repeat: marking ends every cycle.
            while self.pages.page(level[0])?.kind == Kind::Branch {
                level.sort_unstable();
                let mut below = Vec::new();
                for id in level {
                    let page = self.pages.page(id)?;
                    if page.kind != Kind::Branch {
                        return Err(page.corrupt("leaf among branch pages"));
                    }
                    for used in id..=id + u64::from(page.overflow) {
                        self.mark(used)?;
                    }
                    below.extend((0..page.count).map(|index| page.child(index)));
                }
                level = below;
            }
            for leaf in &level {
                self.mark(*leaf)?;
            }
            leaves.append(&mut level);
        }
        leaves.sort_unstable();
        for leaf in leaves {
            if leaf + 1 >= self.pages.high_water || self.used.contains(leaf + 1) {
                continue;
            }
            let page = self.pages.page(leaf)?;
            if page.kind != Kind::Leaf {
                return Err(page.corrupt("branch among leaf pages"));
            }
            for used in leaf + 1..=leaf + u64::from(page.overflow) {
                self.mark(used)?;
            }
        }
        Ok(())
    }
}
