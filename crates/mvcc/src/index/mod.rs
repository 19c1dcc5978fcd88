//! The key index: every key's revisions since the last compaction, in memory, in key order.
//!
//! A persistent B+tree: [`KeyIndex::clone`] is one reference count, and the clone never changes. The writer
//! copies only the nodes on the way to what it changes, and only once per published clone. Each branch knows
//! how many keys live below each child and how new they are, so ranges are counted without being walked.

mod entry;
mod node;
mod packed_keys;
#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use entry::{KeyEntry, Lease, Modification};
use node::{Bounds, Branch, Child, Leaf, Node, Summary};
use packed_keys::PackedKeys;

use crate::key_range::KeyRange;
use crate::revision::{RecordKey, Revision};

#[derive(Clone)]
pub struct KeyIndex {
    root: Arc<Node>,
    summary: Summary,
}

impl Default for KeyIndex {
    fn default() -> KeyIndex {
        KeyIndex { root: Arc::new(Node::Leaf(Leaf::default())), summary: Summary::default() }
    }
}

impl KeyIndex {
    /// Keys that exist at the latest revision.
    pub fn live_count(&self) -> usize {
        self.summary.live
    }

    pub fn get(&self, key: &[u8]) -> Option<&KeyEntry> {
        self.root.get(key)
    }

    /// Adds the key's newest modification. Panics when it is not newer than all that the key has.
    pub fn push(&mut self, key: &[u8], modification: Modification) {
        let (old, new, split) = self.root.push(key, modification);
        if let Some(split) = split {
            let left = std::mem::replace(&mut self.root, split.right);
            let children = [left, self.root.clone()].map(|node| Child { summary: node.summary(), node });
            let mut separators = PackedKeys::default();
            separators.push(&split.separator);
            self.root = Arc::new(Node::Branch(Branch { separators, children: children.to_vec() }));
        }
        self.summary = self.summary.exchange(old, new);
    }

    /// Visits the entries of the range in key order, keys that no longer exist included.
    pub fn walk<'a>(
        &'a self,
        range: &KeyRange,
        visit: &mut impl FnMut(&'a [u8], &'a KeyEntry) -> ControlFlow<()>,
    ) {
        let bounds = match range {
            KeyRange::One(_) => return self.walk_one(range.start(), visit),
            KeyRange::From(start) => Bounds { start, end: None },
            KeyRange::Span { start, end } if start < end => Bounds { start, end: Some(end) },
            KeyRange::Span { .. } => return,
        };
        let _: ControlFlow<()> = self.root.walk(bounds, visit);
    }

    fn walk_one<'a>(&'a self, key: &[u8], visit: &mut impl FnMut(&'a [u8], &'a KeyEntry) -> ControlFlow<()>) {
        // The visitor's key must come from the tree, so that it lives as long.
        let mut only = |found: &'a [u8], entry: &'a KeyEntry| {
            if found == key {
                let _: ControlFlow<()> = visit(found, entry);
            }
            ControlFlow::Break(())
        };
        let _: ControlFlow<()> = self.root.walk(Bounds { start: key, end: None }, &mut only);
    }

    /// How many keys of the range existed at a revision.
    pub fn count(&self, range: &KeyRange, at: Revision) -> usize {
        match range {
            KeyRange::One(key) => usize::from(self.get(key).is_some_and(|entry| entry.live_at(at).is_some())),
            KeyRange::From(start) => self.root.count(Bounds { start, end: None }, at),
            KeyRange::Span { start, end } if start < end => {
                self.root.count(Bounds { start, end: Some(end) }, at)
            }
            KeyRange::Span { .. } => 0,
        }
    }

    /// The records that a compaction drops, in revision order.
    pub fn garbage(&self, compact: Revision) -> Vec<RecordKey> {
        let mut records = Vec::new();
        self.root.walk_dirty(&mut |entry| {
            entry.garbage(compact, &mut |dropped| records.push(dropped.record_key()));
        });
        records.sort_unstable();
        records
    }

    /// Forgets what a compaction drops, from the keys at or behind `from`, in about `budget` entries.
    /// Returns the key to go on from; `None` when the end is reached.
    pub fn compact_slice(&mut self, compact: Revision, from: &[u8], mut budget: usize) -> Option<Vec<u8>> {
        let resume = self.root.compact(compact, from, &mut budget);
        self.collapse_root();
        self.summary = self.root.summary();
        resume
    }

    fn collapse_root(&mut self) {
        loop {
            self.root = match &*self.root {
                Node::Branch(branch) if branch.children.is_empty() => Arc::new(Node::Leaf(Leaf::default())),
                Node::Branch(branch) if branch.children.len() == 1 => branch.children[0].node.clone(),
                _ => return,
            };
        }
    }
}
