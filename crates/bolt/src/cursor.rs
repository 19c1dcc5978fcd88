//! Walking a bucket's keys in order, forwards and backwards.

use crate::error::{Error, Result};
use crate::page::{DEPTH_MAX, Kind, Page};
use crate::read::{Bucket, Entry};

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Forward,
    Backward,
}

/// Past either end it stays there until it is positioned again.
pub struct Cursor<'tx> {
    bucket: Bucket<'tx>,
    /// From the root to a leaf, each with the element the cursor is at. Empty: at no key.
    path: Vec<(Page<'tx>, usize)>,
    direction: Direction,
    /// Pages entered in one direction since it was positioned. A tree has each page once, so more than
    /// there are in the file means that pages are referenced again and again.
    entered: u64,
}

impl<'tx> Cursor<'tx> {
    pub(crate) fn new(bucket: Bucket<'tx>) -> Cursor<'tx> {
        Cursor { bucket, path: Vec::new(), direction: Direction::Forward, entered: 0 }
    }

    pub fn first(&mut self) -> Result<Option<Entry<'tx>>> {
        self.restart(Direction::Forward)?;
        self.descend(Direction::Forward)?;
        self.settle(Direction::Forward)
    }

    pub fn last(&mut self) -> Result<Option<Entry<'tx>>> {
        self.restart(Direction::Backward)?;
        self.descend(Direction::Backward)?;
        self.settle(Direction::Backward)
    }

    /// The first key that is not below `key`.
    pub fn seek(&mut self, key: &[u8]) -> Result<Option<Entry<'tx>>> {
        self.restart(Direction::Forward)?;
        while let Some((page, index)) = self.path.last_mut() {
            if page.kind == Kind::Leaf {
                let (found, _) = page.lower_bound(key)?;
                *index = found;
                if found < page.count {
                    return self.current();
                }
                // Every key of this leaf is below; its last element stands for "before the next leaf".
                *index = page.count.saturating_sub(1);
                return self.next();
            }
            *index = page.child_index(key)?;
            let child = page.child(*index);
            self.enter(child, Direction::Forward)?;
        }
        Ok(None)
    }

    /// The key after the present one.
    // Not an iterator: it can fail, and it can be repositioned.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Entry<'tx>>> {
        self.step(Direction::Forward)
    }

    /// The key before the present one.
    pub fn prev(&mut self) -> Result<Option<Entry<'tx>>> {
        self.step(Direction::Backward)
    }

    /// Pages entered since it was positioned.
    pub(crate) fn entered(&self) -> u64 {
        self.entered
    }

    /// The key the cursor is at.
    pub fn current(&self) -> Result<Option<Entry<'tx>>> {
        match self.path.last() {
            Some((page, index)) if *index < page.count => Ok(Some(Entry::new(page.leaf(*index)?))),
            _ => Ok(None),
        }
    }

    fn restart(&mut self, direction: Direction) -> Result<()> {
        self.path.clear();
        self.direction = direction;
        self.entered = 0;
        let root = self.bucket.root_page()?;
        self.path.push((root, Cursor::edge(&root, direction)));
        Ok(())
    }

    /// The element that a walk in this direction meets first.
    fn edge(page: &Page<'_>, direction: Direction) -> usize {
        match direction {
            Direction::Forward => 0,
            Direction::Backward => page.count.saturating_sub(1),
        }
    }

    fn enter(&mut self, child: u64, direction: Direction) -> Result<()> {
        let page = self.bucket.tx.pages().page(child)?;
        self.entered += 1;
        if self.path.len() >= DEPTH_MAX || self.entered > self.bucket.tx.pages().high_water {
            return Err(Error::Corrupt { page: child, what: "tree repeats itself" });
        }
        self.path.push((page, Cursor::edge(&page, direction)));
        Ok(())
    }

    fn descend(&mut self, direction: Direction) -> Result<()> {
        while let Some((page, index)) = self.path.last()
            && page.kind == Kind::Branch
        {
            let child = page.child(*index);
            self.enter(child, direction)?;
        }
        Ok(())
    }

    /// The present key, or when the leaf is empty the next one in this direction.
    fn settle(&mut self, direction: Direction) -> Result<Option<Entry<'tx>>> {
        match self.current()? {
            Some(entry) => Ok(Some(entry)),
            None => self.step(direction),
        }
    }

    fn step(&mut self, direction: Direction) -> Result<Option<Entry<'tx>>> {
        if self.direction != direction {
            self.direction = direction;
            self.entered = 0;
        }
        while let Some((page, index)) = self.path.last_mut() {
            let moved = match direction {
                Direction::Forward => Some(*index + 1).filter(|index| *index < page.count),
                Direction::Backward => index.checked_sub(1),
            };
            match moved {
                Some(to) => {
                    *index = to;
                    self.descend(direction)?;
                    if let Some(entry) = self.current()? {
                        return Ok(Some(entry));
                    }
                }
                None => {
                    self.path.pop();
                }
            }
        }
        Ok(None)
    }
}
