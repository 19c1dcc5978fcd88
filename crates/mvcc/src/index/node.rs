//! The nodes of the persistent tree. A node that an older root still shares is copied before it changes;
//! one that nobody shares is changed in place.

use std::ops::ControlFlow;
use std::sync::Arc;

use crate::index::entry::{KeyEntry, Modification};
use crate::index::packed_keys::PackedKeys;
use crate::revision::Revision;

/// A copied leaf costs a `memcpy` of its keys and entries, a search log2 of this.
pub const LEAF_LEN_MAX: usize = 64;
/// A copied branch costs a reference count per child.
pub const BRANCH_LEN_MAX: usize = 32;
/// Leaves of long keys split earlier, so that a copy stays small.
const LEAF_KEY_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone)]
pub enum Node {
    Leaf(Leaf),
    Branch(Branch),
}

#[derive(Clone, Default)]
pub struct Leaf {
    pub keys: PackedKeys,
    pub entries: Vec<KeyEntry>,
}

#[derive(Clone)]
pub struct Branch {
    /// One less than `children`: all keys in child `i + 1` are at or behind separator `i`.
    pub separators: PackedKeys,
    pub children: Vec<Child>,
}

#[derive(Clone)]
pub struct Child {
    pub node: Arc<Node>,
    pub summary: Summary,
}

/// What is known of a subtree without entering it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// Keys that exist at the latest revision.
    pub live: usize,
    /// Keys for which [`KeyEntry::may_hold_garbage`].
    pub dirty: usize,
    /// No modification is newer. A compaction may leave it higher than needed.
    pub newest: Revision,
}

/// The part of the key space that a walk wants.
#[derive(Clone, Copy)]
pub struct Bounds<'r> {
    pub start: &'r [u8],
    /// Exclusive.
    pub end: Option<&'r [u8]>,
}

/// A node grew too large and gave up its right half.
pub struct Split {
    pub separator: Vec<u8>,
    pub right: Arc<Node>,
}

impl Summary {
    fn of_entry(entry: &KeyEntry) -> Summary {
        Summary {
            live: usize::from(entry.is_live()),
            dirty: usize::from(entry.may_hold_garbage()),
            newest: entry.latest().main(),
        }
    }

    fn plus(self, other: Summary) -> Summary {
        Summary {
            live: self.live + other.live,
            dirty: self.dirty + other.dirty,
            newest: self.newest.max(other.newest),
        }
    }

    /// `self` with one part of it exchanged.
    pub fn exchange(self, old: Summary, new: Summary) -> Summary {
        Summary {
            live: self.live - old.live + new.live,
            dirty: self.dirty - old.dirty + new.dirty,
            newest: self.newest.max(new.newest),
        }
    }
}

impl Node {
    pub fn summary(&self) -> Summary {
        match self {
            Node::Leaf(leaf) => {
                leaf.entries.iter().map(Summary::of_entry).fold(Summary::default(), Summary::plus)
            }
            Node::Branch(branch) => {
                branch.children.iter().map(|child| child.summary).fold(Summary::default(), Summary::plus)
            }
        }
    }

    pub fn get(&self, key: &[u8]) -> Option<&KeyEntry> {
        let mut node = self;
        loop {
            match node {
                Node::Leaf(leaf) => return leaf.keys.search(key).ok().map(|at| &leaf.entries[at]),
                Node::Branch(branch) => node = &branch.children[branch.child_of(key)].node,
            }
        }
    }

    /// Adds a modification. Returns how the summary changed (old part, new part) and the half that no
    /// longer fits.
    pub fn push(
        self: &mut Arc<Node>,
        key: &[u8],
        modification: Modification,
    ) -> (Summary, Summary, Option<Split>) {
        match Arc::make_mut(self) {
            Node::Leaf(leaf) => leaf.push(key, modification),
            Node::Branch(branch) => branch.push(key, modification),
        }
    }

    pub fn walk<'a>(
        &'a self,
        bounds: Bounds<'_>,
        visit: &mut impl FnMut(&'a [u8], &'a KeyEntry) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        match self {
            Node::Leaf(leaf) => {
                for at in leaf.indices(bounds) {
                    visit(leaf.keys.get(at), &leaf.entries[at])?;
                }
            }
            Node::Branch(branch) => {
                for at in branch.indices(bounds) {
                    branch.children[at].node.walk(bounds, visit)?;
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// How many keys existed at a revision. Subtrees inside the bounds without a newer modification are
    /// counted by their summary.
    pub fn count(&self, bounds: Bounds<'_>, at: Revision) -> usize {
        match self {
            Node::Leaf(leaf) => {
                leaf.entries[leaf.indices(bounds)].iter().filter(|entry| entry.live_at(at).is_some()).count()
            }
            Node::Branch(branch) => {
                let indices = branch.indices(bounds);
                let (first, last) = (indices.start, indices.end.saturating_sub(1));
                indices
                    .map(|index| {
                        let child = &branch.children[index];
                        // Only the outermost children can reach over the bounds.
                        let inside = (index != first || bounds.start.is_empty())
                            && (index != last || bounds.end.is_none());
                        if inside && child.summary.newest <= at {
                            child.summary.live
                        } else {
                            child.node.count(bounds, at)
                        }
                    })
                    .sum()
            }
        }
    }

    /// Visits every entry that may hold garbage.
    pub fn walk_dirty(&self, visit: &mut impl FnMut(&KeyEntry)) {
        match self {
            Node::Leaf(leaf) => {
                leaf.entries.iter().filter(|entry| entry.may_hold_garbage()).for_each(visit);
            }
            Node::Branch(branch) => {
                let dirty = branch.children.iter().filter(|child| child.summary.dirty > 0);
                dirty.for_each(|child| child.node.walk_dirty(visit));
            }
        }
    }

    /// Drops garbage from the keys at or behind `from`, until about `budget` entries were looked at.
    /// Returns where to go on.
    pub fn compact(
        self: &mut Arc<Node>,
        compact: Revision,
        from: &[u8],
        budget: &mut usize,
    ) -> Option<Vec<u8>> {
        if let Node::Leaf(leaf) = &**self {
            *budget = budget.saturating_sub(leaf.entries.len());
            if !leaf.entries.iter().any(|entry| entry.has_garbage(compact)) {
                return None; // stays shared
            }
        }
        match Arc::make_mut(self) {
            Node::Leaf(leaf) => {
                leaf.compact(compact);
                None
            }
            Node::Branch(branch) => branch.compact(compact, from, budget),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Node::Leaf(leaf) => leaf.entries.is_empty(),
            Node::Branch(branch) => branch.children.is_empty(),
        }
    }

    /// Heap bytes of the subtree, history of the keys not counted.
    #[cfg(test)]
    pub fn heap_bytes(&self) -> usize {
        size_of::<Node>()
            + 16
            + match self {
                Node::Leaf(leaf) => leaf.keys.heap_bytes() + leaf.entries.capacity() * size_of::<KeyEntry>(),
                Node::Branch(branch) => {
                    branch.separators.heap_bytes()
                        + branch.children.capacity() * size_of::<Child>()
                        + branch.children.iter().map(|child| child.node.heap_bytes()).sum::<usize>()
                }
            }
    }
}

impl Leaf {
    fn indices(&self, bounds: Bounds<'_>) -> std::ops::Range<usize> {
        let start = if bounds.start.is_empty() { 0 } else { self.keys.count_below(bounds.start) };
        let end = bounds.end.map_or(self.keys.len(), |end| self.keys.count_below(end));
        start..end.max(start)
    }

    fn push(&mut self, key: &[u8], modification: Modification) -> (Summary, Summary, Option<Split>) {
        match self.keys.search(key) {
            Ok(at) => {
                let entry = &mut self.entries[at];
                let old = Summary::of_entry(entry);
                entry.push(modification);
                (old, Summary::of_entry(entry), None)
            }
            Err(at) => {
                let entry = KeyEntry::new(modification);
                let new = Summary::of_entry(&entry);
                self.keys.insert(at, key);
                if self.entries.len() == self.entries.capacity() {
                    self.entries.reserve_exact(1 + self.entries.len() / 8);
                }
                self.entries.insert(at, entry);
                (Summary::default(), new, self.split(at))
            }
        }
    }

    fn split(&mut self, inserted: usize) -> Option<Split> {
        let len = self.entries.len();
        let too_long = self.keys.bytes_len() > LEAF_KEY_BYTES_MAX && len > 1;
        if len <= LEAF_LEN_MAX && !too_long {
            return None;
        }
        // Keys that come in ascending order (a restore, names with a counter) leave full leaves behind.
        let at = if inserted + 1 == len { len - 1 } else { len / 2 };
        let right = Leaf { keys: self.keys.split_off(at), entries: self.entries.split_off(at) };
        self.entries.shrink_to_fit();
        Some(Split { separator: right.keys.get(0).to_vec(), right: Arc::new(Node::Leaf(right)) })
    }

    fn compact(&mut self, compact: Revision) {
        for at in (0..self.entries.len()).rev() {
            if !self.entries[at].has_garbage(compact) {
                continue;
            }
            match self.entries[at].compacted(compact) {
                Some(entry) => self.entries[at] = entry,
                None => {
                    self.entries.remove(at);
                    self.keys.remove(at);
                }
            }
        }
    }
}

impl Branch {
    fn child_of(&self, key: &[u8]) -> usize {
        match self.separators.search(key) {
            Ok(at) => at + 1,
            Err(at) => at,
        }
    }

    /// The children that may hold keys within the bounds.
    fn indices(&self, bounds: Bounds<'_>) -> std::ops::Range<usize> {
        let first = if bounds.start.is_empty() { 0 } else { self.child_of(bounds.start) };
        // A separator equal to the exclusive end keeps the child behind it out.
        let last = bounds.end.map_or(self.children.len() - 1, |end| self.separators.count_below(end));
        first..(last + 1).max(first)
    }

    fn push(&mut self, key: &[u8], modification: Modification) -> (Summary, Summary, Option<Split>) {
        let at = self.child_of(key);
        let child = &mut self.children[at];
        let (old, new, split) = child.node.push(key, modification);
        match split {
            None => {
                child.summary = child.summary.exchange(old, new);
                (old, new, None)
            }
            Some(split) => {
                child.summary = child.node.summary();
                self.separators.insert(at, &split.separator);
                let summary = split.right.summary();
                self.children.insert(at + 1, Child { node: split.right, summary });
                (old, new, self.split(at + 1))
            }
        }
    }

    fn split(&mut self, inserted: usize) -> Option<Split> {
        let len = self.children.len();
        if len <= BRANCH_LEN_MAX {
            return None;
        }
        let at = if inserted + 1 == len { len - 2 } else { len / 2 };
        let children = self.children.split_off(at);
        let separators = self.separators.split_off(at);
        // The key between the halves moves up.
        let separator = self.separators.get(at - 1).to_vec();
        self.separators.remove(at - 1);
        Some(Split { separator, right: Arc::new(Node::Branch(Branch { separators, children })) })
    }

    fn compact(&mut self, compact: Revision, from: &[u8], budget: &mut usize) -> Option<Vec<u8>> {
        let first = if from.is_empty() { 0 } else { self.child_of(from) };
        let mut resume = None;
        let mut at = first;
        while at < self.children.len() && resume.is_none() {
            if self.children[at].summary.dirty > 0 {
                if *budget == 0 && at > first {
                    resume = Some(self.separators.get(at - 1).to_vec());
                    break;
                }
                let child = &mut self.children[at];
                resume = child.node.compact(compact, if at == first { from } else { b"" }, budget);
                child.summary = child.node.summary();
                if child.node.is_empty() {
                    self.remove(at);
                    continue;
                }
            }
            at += 1;
        }
        let behind = (at + 1).min(self.children.len());
        self.merge_small(first.saturating_sub(1)..behind);
        resume
    }

    fn remove(&mut self, at: usize) {
        self.children.remove(at);
        if self.separators.len() > 0 {
            self.separators.remove(at.saturating_sub(1));
        }
    }

    /// Joins neighbours that fit into one node with room to spare.
    fn merge_small(&mut self, indices: std::ops::Range<usize>) {
        for at in indices.rev() {
            if at + 1 < self.children.len() && fit(&self.children[at].node, &self.children[at + 1].node) {
                let separator = self.separators.get(at).to_vec();
                let right = self.children.remove(at + 1);
                self.separators.remove(at);
                let left = &mut self.children[at];
                Arc::make_mut(&mut left.node).append(&separator, &right.node);
                left.summary = left.node.summary();
            }
        }
    }
}

/// Three quarters of the bound: joined nodes do not split at once again.
fn fit(left: &Node, right: &Node) -> bool {
    match (left, right) {
        (Node::Leaf(left), Node::Leaf(right)) => {
            left.entries.len() + right.entries.len() <= LEAF_LEN_MAX / 4 * 3
                && left.keys.bytes_len() + right.keys.bytes_len() <= LEAF_KEY_BYTES_MAX / 4 * 3
        }
        (Node::Branch(left), Node::Branch(right)) => {
            left.children.len() + right.children.len() <= BRANCH_LEN_MAX / 4 * 3
        }
        (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => false,
    }
}

impl Node {
    fn append(&mut self, separator: &[u8], right: &Node) {
        match (self, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                left.keys.append(&right.keys);
                left.entries.extend_from_slice(&right.entries);
            }
            (Node::Branch(left), Node::Branch(right)) => {
                left.separators.push(separator);
                left.separators.append(&right.separators);
                left.children.extend_from_slice(&right.children);
            }
            (Node::Leaf(_), Node::Branch(_)) | (Node::Branch(_), Node::Leaf(_)) => {
                unreachable!("siblings have one height")
            }
        }
    }
}
