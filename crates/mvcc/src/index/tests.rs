//! The tree against a sorted map.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use bytes::Bytes;
use proptest::prelude::*;

use super::{KeyIndex, Lease, Modification, Node, Summary};
use crate::key_range::KeyRange;
use crate::revision::{RecordKey, Revision, RevisionPair};

type Model = BTreeMap<Vec<u8>, Vec<Modification>>;

fn revision(main: u64) -> Revision {
    Revision::new(main).unwrap()
}

fn push(index: &mut KeyIndex, model: &mut Model, key: &[u8], main: u64, delete: bool) {
    let at = RevisionPair::new(revision(main), 0);
    let versions = model.entry(key.to_vec()).or_default();
    let modification = match versions.last().filter(|last| !last.is_tombstone()) {
        Some(_) if delete => Modification::tombstone(at),
        Some(last) => Modification::put(at, last.create_revision, last.version + 1, Lease::None),
        None => Modification::put(at, at.main, 1, Lease::None),
    };
    versions.push(modification);
    index.push(key, modification);
}

fn garbage_of(versions: &[Modification], compact: Revision) -> usize {
    let old = versions.iter().filter(|one| one.main() <= compact).count();
    let dropped = |last: &Modification| last.is_tombstone() && last.main() < compact;
    match old.checked_sub(1) {
        Some(newest) if dropped(&versions[newest]) => old,
        Some(newest) => newest,
        None => 0,
    }
}

/// Height, order, separators and summaries.
fn check(index: &KeyIndex) {
    fn walk(node: &Node, low: &[u8], high: Option<&[u8]>) -> (usize, Summary) {
        match node {
            Node::Leaf(leaf) => {
                let keys: Vec<_> = (0..leaf.keys.len()).map(|at| leaf.keys.get(at)).collect();
                assert_eq!(keys.len(), leaf.entries.len());
                assert!(keys.is_sorted_by(|one, next| one < next));
                assert!(keys.iter().all(|key| *key >= low && high.is_none_or(|high| *key < high)));
                (0, node.summary())
            }
            Node::Branch(branch) => {
                assert_eq!(branch.separators.len() + 1, branch.children.len());
                let mut heights = Vec::new();
                for (at, child) in branch.children.iter().enumerate() {
                    let low = if at == 0 { low } else { branch.separators.get(at - 1) };
                    let end = at == branch.separators.len();
                    let high = if end { high } else { Some(branch.separators.get(at)) };
                    let (height, real) = walk(&child.node, low, high);
                    assert_eq!((child.summary.live, child.summary.dirty), (real.live, real.dirty));
                    assert!(child.summary.newest >= real.newest);
                    heights.push(height);
                }
                assert!(heights.iter().all(|height| *height == heights[0]));
                (heights[0] + 1, node.summary())
            }
        }
    }
    let (_, real) = walk(&index.root, b"", None);
    assert_eq!((index.summary.live, index.summary.dirty), (real.live, real.dirty));
}

fn check_against(index: &KeyIndex, model: &Model, newest: u64, span: (u16, u16)) {
    check(index);
    let (start, end) = (key(span.0), key(span.1));
    for range in [
        KeyRange::all(),
        KeyRange::From(Bytes::from(start.clone())),
        KeyRange::One(Bytes::from(start.clone())),
        KeyRange::Span { start: Bytes::from(start), end: Bytes::from(end) },
    ] {
        let expected: Vec<_> = model.iter().filter(|(key, _)| range.contains(key)).collect();
        let mut walked = Vec::new();
        index.walk(&range, &mut |key, entry| {
            let mut versions: Vec<_> = entry.iter().copied().collect();
            versions.reverse();
            walked.push((key.to_vec(), versions));
            ControlFlow::Continue(())
        });
        assert!(walked.iter().map(|(key, versions)| (key, versions)).eq(expected.iter().copied()));
        for at in [newest, newest / 2, newest / 3] {
            let live = |versions: &[Modification]| {
                let seen = versions.iter().rev().find(|one| one.main().get() <= at);
                seen.is_some_and(|one| !one.is_tombstone())
            };
            let count = expected.iter().filter(|(_, versions)| live(versions)).count();
            assert_eq!(index.count(&range, revision(at)), count);
        }
    }
    for key in model.keys().step_by(17) {
        assert!(index.get(key).is_some());
    }
    assert!(index.get(b"k00001x").is_none());
}

fn key(at: u16) -> Vec<u8> {
    format!("k{at:05}").into_bytes()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_tree_is_a_sorted_map(
        writes in prop::collection::vec((0..3000_u16, prop::bool::weighted(0.2)), 1..4000),
        ascending in 0..2500_u16,
        snapshot_at in 0..4000_usize,
        compactions in prop::collection::vec((0..7000_u64, 1..300_usize), 0..3),
        span in (0..3000_u16, 0..3000_u16),
    ) {
        let (mut index, mut model) = (KeyIndex::default(), Model::new());
        let mut newest = 1;
        for at in 0..ascending {
            newest += 1;
            push(&mut index, &mut model, &key(at), newest, false);
        }
        let mut held = None;
        for (at, (name, delete)) in writes.iter().enumerate() {
            if at == snapshot_at {
                held = Some((index.clone(), model.clone(), newest));
            }
            newest += 1;
            push(&mut index, &mut model, &key(*name), newest, *delete);
        }
        check_against(&index, &model, newest, span);
        for (compact, budget) in compactions {
            let compact = revision(compact);
            let garbage = index.garbage(compact);
            prop_assert!(garbage.is_sorted());
            let mut expected: Vec<RecordKey> = Vec::new();
            model.retain(|_, versions| {
                expected.extend(versions.drain(..garbage_of(versions, compact)).map(|one| one.record_key()));
                !versions.is_empty()
            });
            expected.sort_unstable();
            prop_assert_eq!(garbage, expected);
            let before = index.clone();
            let mut from = Some(Vec::new());
            while let Some(start) = from {
                from = index.compact_slice(compact, &start, budget);
                prop_assert!(from.as_ref().is_none_or(|next| *next > start));
                check(&index);
            }
            check_against(&index, &model, newest, span);
            check(&before);
        }
        if let Some((index, model, newest)) = held {
            check_against(&index, &model, newest, span);
        }
    }
}

#[test]
fn everything_deleted_and_compacted_leaves_an_empty_leaf() {
    let (mut index, mut model) = (KeyIndex::default(), Model::new());
    for at in 0..5000 {
        push(&mut index, &mut model, &key(at), u64::from(at) + 2, false);
    }
    for at in 0..5000 {
        push(&mut index, &mut model, &key(at), u64::from(at) + 5002, true);
    }
    assert_eq!(index.live_count(), 0);
    assert_eq!(index.compact_slice(revision(20_000), b"", usize::MAX), None);
    assert!(matches!(&*index.root, Node::Leaf(leaf) if leaf.entries.is_empty()));
    check(&index);
}

#[test]
fn a_key_costs_less_than_150_bytes() {
    // Far fewer than a million, but the shape of the tree is the same; names come in no order.
    let mut index = KeyIndex::default();
    let (count, mut name) = (40_000_usize, 0_u64);
    for at in 0..count {
        name = name.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let key = format!("/registry/pods/namespace/{name:016x}");
        assert_eq!(key.len(), 41);
        let at = RevisionPair::new(revision(at as u64 + 2), 0);
        index.push(key.as_bytes(), Modification::put(at, at.main, 1, Lease::None));
    }
    let bytes = index.root.heap_bytes() / count;
    assert!(bytes < 135, "{bytes} bytes per key");
}

#[test]
fn long_keys_split_leaves_early() {
    let mut index = KeyIndex::default();
    for at in 0..100_u64 {
        let mut key = vec![b'x'; 5000];
        key.extend_from_slice(&at.to_be_bytes());
        let at = RevisionPair::new(revision(at + 2), 0);
        index.push(&key, Modification::put(at, at.main, 1, Lease::None));
    }
    check(&index);
    assert_eq!(index.count(&KeyRange::all(), Revision::MAX), 100);
    assert!(matches!(&*index.root, Node::Branch(_)));
}
