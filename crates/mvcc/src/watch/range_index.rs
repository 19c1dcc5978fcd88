//! Which watchers want a key: single keys in a map, ranges in an interval tree.
//!
//! Equal ranges share one node, so a hundred streams that watch the same prefixes cost one comparison each
//! and not a hundred. The tree is a treap ordered by (start, end); every node knows the greatest end below
//! it, so a search leaves out all subtrees that end too soon.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use bytes::Bytes;

use crate::KeyRange;

const NIL: u32 = u32::MAX;

/// Exclusive end of a range; `None` is the end of all keys.
type End = Option<Bytes>;

fn end_cmp(a: &End, b: &End) -> Ordering {
    match (a, b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => a.cmp(b),
    }
}

fn ends_after(end: &End, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| &end[..] > key)
}

#[derive(Debug)]
struct Node<T> {
    start: Bytes,
    end: End,
    /// Greatest end in this subtree.
    max_end: End,
    targets: Vec<T>,
    /// Heap order: no child has a greater one. Spread evenly, so the tree is balanced.
    priority: u64,
    left: u32,
    right: u32,
}

/// Targets by the keys they want.
#[derive(Debug)]
pub(super) struct RangeIndex<T> {
    keys: BTreeMap<Bytes, Vec<T>>,
    nodes: Vec<Node<T>>,
    free: Vec<u32>,
    root: u32,
    /// State of the priorities' generator; deterministic, as nothing but balance hangs on it.
    seed: u64,
}

impl<T: Copy + PartialEq> RangeIndex<T> {
    pub(super) fn new() -> RangeIndex<T> {
        RangeIndex { keys: BTreeMap::new(), nodes: Vec::new(), free: Vec::new(), root: NIL, seed: 0 }
    }

    pub(super) fn insert(&mut self, range: &KeyRange, target: T) {
        let (start, end) = match range {
            KeyRange::One(key) => {
                self.keys.entry(key.clone()).or_default().push(target);
                return;
            }
            KeyRange::From(start) => (start, None),
            KeyRange::Span { start, end } => (start, Some(end.clone())),
        };
        if let Some(node) = self.find(start, &end) {
            self.nodes[node as usize].targets.push(target);
            return;
        }
        let node = self.new_node(start.clone(), end.clone(), target);
        let (left, right) = self.split(self.root, start, &end);
        let left = self.merge(left, node);
        self.root = self.merge(left, right);
    }

    /// Takes out one target that was inserted with this range.
    pub(super) fn remove(&mut self, range: &KeyRange, target: T) {
        let (start, end) = match range {
            KeyRange::One(key) => {
                let targets = self.keys.get_mut(key).expect("a watched key is in the index");
                take(targets, target);
                if targets.is_empty() {
                    self.keys.remove(key);
                }
                return;
            }
            KeyRange::From(start) => (start, None),
            KeyRange::Span { start, end } => (start, Some(end.clone())),
        };
        let node = self.find(start, &end).expect("a watched range is in the index");
        let targets = &mut self.nodes[node as usize].targets;
        take(targets, target);
        if targets.is_empty() {
            self.root = self.without(self.root, node);
            self.nodes[node as usize].start = Bytes::new();
            self.nodes[node as usize].end = None;
            self.nodes[node as usize].max_end = None;
            self.free.push(node);
        }
    }

    /// Calls `hit` with every target that wants the key, until it returns false.
    pub(super) fn each(&self, key: &[u8], hit: &mut impl FnMut(T) -> bool) {
        if let Some(targets) = self.keys.get(key) {
            for target in targets {
                if !hit(*target) {
                    return;
                }
            }
        }
        self.stab(self.root, key, hit);
    }

    pub(super) fn any(&self, key: &[u8]) -> bool {
        let mut found = false;
        self.each(key, &mut |_| {
            found = true;
            false
        });
        found
    }

    /// False when `hit` said so.
    fn stab(&self, node: u32, key: &[u8], hit: &mut impl FnMut(T) -> bool) -> bool {
        if node == NIL {
            return true;
        }
        let Node { start, end, max_end, targets, left, right, .. } = &self.nodes[node as usize];
        if !ends_after(max_end, key) {
            return true; // nothing below reaches the key
        }
        if !self.stab(*left, key, hit) {
            return false;
        }
        if &start[..] > key {
            return true; // and so do all to the right
        }
        if ends_after(end, key) && !targets.iter().all(|target| hit(*target)) {
            return false;
        }
        self.stab(*right, key, hit)
    }

    fn find(&self, start: &Bytes, end: &End) -> Option<u32> {
        let mut at = self.root;
        while at != NIL {
            let node = &self.nodes[at as usize];
            at = match start.cmp(&node.start).then_with(|| end_cmp(end, &node.end)) {
                Ordering::Less => node.left,
                Ordering::Equal => return Some(at),
                Ordering::Greater => node.right,
            };
        }
        None
    }

    fn new_node(&mut self, start: Bytes, end: End, target: T) -> u32 {
        // splitmix64
        self.seed = self.seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut priority = self.seed;
        priority = (priority ^ (priority >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        priority = (priority ^ (priority >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        priority ^= priority >> 31;
        let max_end = end.clone();
        let node = Node { start, end, max_end, targets: vec![target], priority, left: NIL, right: NIL };
        match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                u32::try_from(self.nodes.len() - 1).expect("fewer watchers than 2^32 fit in memory")
            }
        }
    }

    /// Splits a subtree into what is before (start, end) and what is behind.
    fn split(&mut self, at: u32, start: &Bytes, end: &End) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        let node = &self.nodes[at as usize];
        if node.start.cmp(start).then_with(|| end_cmp(&node.end, end)) == Ordering::Less {
            let (left, right) = self.split(node.right, start, end);
            self.nodes[at as usize].right = left;
            self.update(at);
            (at, right)
        } else {
            let (left, right) = self.split(node.left, start, end);
            self.nodes[at as usize].left = right;
            self.update(at);
            (left, at)
        }
    }

    /// Joins two subtrees, all of the first before all of the second.
    fn merge(&mut self, a: u32, b: u32) -> u32 {
        if a == NIL {
            return b;
        }
        if b == NIL {
            return a;
        }
        if self.nodes[a as usize].priority >= self.nodes[b as usize].priority {
            let right = self.merge(self.nodes[a as usize].right, b);
            self.nodes[a as usize].right = right;
            self.update(a);
            a
        } else {
            let left = self.merge(a, self.nodes[b as usize].left);
            self.nodes[b as usize].left = left;
            self.update(b);
            b
        }
    }

    /// The subtree without one of its nodes.
    fn without(&mut self, at: u32, gone: u32) -> u32 {
        assert!(at != NIL, "range {gone} is not in the tree");
        if at == gone {
            let Node { left, right, .. } = self.nodes[at as usize];
            return self.merge(left, right);
        }
        let (node, target) = (&self.nodes[at as usize], &self.nodes[gone as usize]);
        if target.start.cmp(&node.start).then_with(|| end_cmp(&target.end, &node.end)) == Ordering::Less {
            let left = self.without(node.left, gone);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.without(node.right, gone);
            self.nodes[at as usize].right = right;
        }
        self.update(at);
        at
    }

    fn update(&mut self, at: u32) {
        let node = &self.nodes[at as usize];
        let mut max_end = &node.end;
        for child in [node.left, node.right] {
            if child != NIL && end_cmp(&self.nodes[child as usize].max_end, max_end) == Ordering::Greater {
                max_end = &self.nodes[child as usize].max_end;
            }
        }
        self.nodes[at as usize].max_end = max_end.clone();
    }
}

fn take<T: PartialEq>(targets: &mut Vec<T>, target: T) {
    let at = targets.iter().position(|other| *other == target).expect("a watcher is in the index");
    targets.swap_remove(at);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn range() -> impl Strategy<Value = KeyRange> {
        let key = prop::collection::vec(0..4u8, 0..3).prop_map(Bytes::from);
        prop_oneof![
            key.clone().prop_map(KeyRange::One),
            key.clone().prop_map(KeyRange::From),
            (key.clone(), key)
                .prop_filter("not empty", |(a, b)| a != b)
                .prop_map(|(a, b)| KeyRange::Span { start: a.clone().min(b.clone()), end: a.max(b) }),
        ]
    }

    proptest! {
        /// Against a list of all ranges, through inserts and removes.
        #[test]
        fn the_index_agrees_with_a_list(
            ops in prop::collection::vec((range(), any::<prop::sample::Index>(), 0..3u8), 1..80),
        ) {
            let mut index = RangeIndex::new();
            let mut list: Vec<(KeyRange, usize)> = Vec::new();
            for (target, (range, victim, op)) in ops.into_iter().enumerate() {
                if op == 0 && !list.is_empty() {
                    let (range, target) = list.swap_remove(victim.index(list.len()));
                    index.remove(&range, target);
                } else {
                    index.insert(&range, target);
                    list.push((range, target));
                }
                for key in [&b""[..], &[0], &[0, 0], &[1, 3], &[2], &[2, 0, 0], &[3, 3], &[9]] {
                    let mut found = Vec::new();
                    index.each(key, &mut |target| {
                        found.push(target);
                        true
                    });
                    found.sort_unstable();
                    let mut expect: Vec<usize> =
                        list.iter().filter(|(range, _)| range.contains(key)).map(|(_, t)| *t).collect();
                    expect.sort_unstable();
                    prop_assert_eq!(index.any(key), !expect.is_empty());
                    prop_assert_eq!(found, expect);
                }
            }
        }
    }

    #[test]
    fn ten_thousand_prefixes_make_a_shallow_tree() {
        fn depth(index: &RangeIndex<u32>, at: u32) -> usize {
            if at == NIL {
                return 0;
            }
            let node = &index.nodes[at as usize];
            1 + depth(index, node.left).max(depth(index, node.right))
        }
        let mut index = RangeIndex::new();
        for i in 0..10_000u32 {
            let text = |last: char| Bytes::from(format!("/registry/{i:05}{last}"));
            index.insert(&KeyRange::Span { start: text('/'), end: text('0') }, i);
        }
        assert!(depth(&index, index.root) < 50, "{}", depth(&index, index.root));
    }
}
