//! Messages under way. They may be lost, doubled, delayed and overtaken.

use std::collections::BTreeSet;

use raft::{Message, NodeId};

use crate::rng::Rng;

/// Messages under way beyond which old ones are lost, as full queues lose them.
const UNDER_WAY_MAX: usize = 600;

#[derive(Debug, Default)]
pub struct Network {
    under_way: Vec<Envelope>,
    /// Directed links that deliver nothing.
    cut: BTreeSet<(NodeId, NodeId)>,
}

/// The link is that of the last hop: a forwarded request bears its first sender's name.
#[derive(Clone, Debug)]
pub struct Envelope {
    pub sender: NodeId,
    pub message: Message,
}

impl Network {
    /// Returns a message that had to make room.
    pub fn send(&mut self, sender: NodeId, message: Message, rng: &mut Rng) -> Option<Envelope> {
        self.under_way.push(Envelope { sender, message });
        (self.under_way.len() > UNDER_WAY_MAX).then(|| {
            let at = rng.index(self.under_way.len() / 2);
            self.under_way.remove(at)
        })
    }

    pub fn len(&self) -> usize {
        self.under_way.len()
    }

    pub fn is_empty(&self) -> bool {
        self.under_way.is_empty()
    }

    /// Takes the oldest message, or any.
    pub fn take(&mut self, rng: &mut Rng, reordering: u64) -> Option<Envelope> {
        if self.under_way.is_empty() {
            return None;
        }
        let at = if rng.chance(reordering) { rng.index(self.under_way.len()) } else { 0 };
        Some(self.under_way.remove(at))
    }

    pub fn put_back(&mut self, envelope: Envelope) {
        self.under_way.push(envelope);
    }

    pub fn is_cut(&self, from: NodeId, to: NodeId) -> bool {
        self.cut.contains(&(from, to))
    }

    /// Cuts the members into two groups, or one link, or one direction of a link.
    pub fn partition(&mut self, members: u64, rng: &mut Rng) {
        if rng.chance(300) {
            let (from, to) = (1 + rng.below(members), 1 + rng.below(members));
            self.cut.insert((from, to));
            if rng.chance(500) {
                self.cut.insert((to, from));
            }
            return;
        }
        let side = rng.draw();
        let is_left = |id: NodeId| side >> id & 1 == 1;
        for from in 1..=members {
            for to in 1..=members {
                if is_left(from) != is_left(to) {
                    self.cut.insert((from, to));
                }
            }
        }
    }

    pub fn heal(&mut self) {
        self.cut.clear();
    }
}
