//! A list that grows at one end, shares everything behind it, and finds old elements in O(log n).
//!
//! Besides its predecessor every node knows one far ancestor (Myers, "An applicative random-access stack",
//! 1983), chosen so that the distances grow like the digits of a skew-binary number.

use std::sync::Arc;

pub struct JumpList<T> {
    newest: Option<Arc<Node<T>>>,
}

struct Node<T> {
    value: T,
    /// Nodes from here to the oldest, this one included.
    len: usize,
    older: Option<Arc<Node<T>>>,
    /// An ancestor, or `None` for the place behind the oldest.
    jump: Option<Arc<Node<T>>>,
}

impl<T> Clone for JumpList<T> {
    fn clone(&self) -> JumpList<T> {
        JumpList { newest: self.newest.clone() }
    }
}

impl<T> Default for JumpList<T> {
    fn default() -> JumpList<T> {
        JumpList { newest: None }
    }
}

impl<T> JumpList<T> {
    pub fn is_empty(&self) -> bool {
        self.newest.is_none()
    }

    pub fn newest(&self) -> Option<&T> {
        self.newest.as_ref().map(|node| &node.value)
    }

    pub fn push(&mut self, value: T) {
        let older = self.newest.take();
        let len = len_of(&older) + 1;
        let jump = older.as_ref().and_then(|older| {
            let near = older.len - len_of(&older.jump);
            match &older.jump {
                // Two jumps of equal length become one twice as long.
                Some(first) if near == first.len - len_of(&first.jump) => first.jump.clone(),
                _ => Some(older.clone()),
            }
        });
        self.newest = Some(Arc::new(Node { value, len, older, jump }));
    }

    /// Replaces the newest value; in place when nobody shares it.
    pub fn update_newest(&mut self, in_place: impl FnOnce(&mut T), copied: impl FnOnce(&T) -> T) -> bool
    where
        T: Sized,
    {
        let Some(node) = &mut self.newest else { return false };
        match Arc::get_mut(node) {
            Some(node) => in_place(&mut node.value),
            None => {
                let (older, jump) = (node.older.clone(), node.jump.clone());
                *node = Arc::new(Node { value: copied(&node.value), len: node.len, older, jump });
            }
        }
        true
    }

    /// The newest value for which `holds`. It must hold for all values older than one for which it does.
    /// Also tells whether there are older ones.
    pub fn find(&self, holds: impl Fn(&T) -> bool) -> Option<(&T, bool)> {
        let mut node = self.newest.as_ref()?;
        while !holds(&node.value) {
            node = match &node.jump {
                Some(jump) if !holds(&jump.value) => jump,
                _ => node.older.as_ref()?,
            };
        }
        Some((&node.value, node.older.is_some()))
    }

    /// From the newest to the oldest.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        std::iter::successors(self.newest.as_ref(), |node| node.older.as_ref()).map(|node| &node.value)
    }
}

fn len_of<T>(node: &Option<Arc<Node<T>>>) -> usize {
    node.as_ref().map_or(0, |node| node.len)
}

impl<T> Drop for JumpList<T> {
    /// Frees node by node: dropping a chain of a million nodes recursively would overflow the stack.
    fn drop(&mut self) {
        let mut next = self.newest.take();
        while let Some(mut node) = next.take().and_then(Arc::into_inner) {
            // The jump's target is an ancestor, so `older` still holds it: this frees nothing deep.
            drop(node.jump.take());
            next = node.older.take();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_a_vector_finds_in_few_steps() {
        let mut list = JumpList::default();
        for value in 0..5000_u32 {
            list.push(value);
            if value % 97 == 0 {
                for wanted in (0..=value).step_by(131) {
                    let steps = std::cell::Cell::new(0);
                    let found = list.find(|at| {
                        steps.set(steps.get() + 1);
                        *at <= wanted
                    });
                    assert_eq!(found, Some((&wanted, wanted > 0)));
                    assert!(steps.get() < 80, "{} steps for {wanted} of {value}", steps.get());
                }
            }
        }
        assert_eq!(list.iter().copied().collect::<Vec<_>>(), (0..5000).rev().collect::<Vec<_>>());
    }

    #[test]
    fn sharing_and_deep_drops() {
        let mut list = JumpList::default();
        for value in 0..200_000 {
            list.push(value);
        }
        let old = list.clone();
        assert!(list.update_newest(|_| unreachable!("shared"), |value| value + 1));
        assert_eq!((list.newest(), old.newest()), (Some(&200_000), Some(&199_999)));
        drop(old);
        assert!(list.update_newest(|value| *value += 1, |_| unreachable!("not shared")));
        assert_eq!(list.newest(), Some(&200_001));
    }
}
