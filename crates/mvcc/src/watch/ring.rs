//! The last encoded events, found by their position.

use std::collections::VecDeque;

use super::event::EncodedEvent;

/// A bounded run of events at consecutive positions. Old ones leave when either bound is passed; who still
/// refers to them reads history instead.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<EncodedEvent>,
    /// Position of `events[0]`.
    first: u64,
    /// Bytes of all events.
    len_bytes: usize,
    len_max: usize,
    bytes_max: usize,
}

impl Ring {
    pub(super) fn new(len_max: usize, bytes_max: usize) -> Ring {
        Ring { events: VecDeque::new(), first: 0, len_bytes: 0, len_max, bytes_max }
    }

    /// Position of the next event.
    pub(super) fn next(&self) -> u64 {
        self.first + self.events.len() as u64
    }

    /// Lets go of all events: nobody refers to any.
    pub(super) fn clear(&mut self) {
        self.first = self.next();
        self.events.clear();
        self.len_bytes = 0;
        if self.events.capacity() > 1024 {
            self.events.shrink_to(256);
        }
    }

    /// Takes in new events, and drops old ones until the bounds hold; even new ones, if they alone pass them.
    pub(super) fn append(&mut self, events: &mut Vec<EncodedEvent>) {
        for event in events.drain(..) {
            self.len_bytes += event.len();
            self.events.push_back(event);
        }
        while self.events.len() > self.len_max || self.len_bytes > self.bytes_max {
            let Some(event) = self.events.pop_front() else { break };
            self.len_bytes -= event.len();
            self.first += 1;
        }
    }

    /// The event at a position; none when it has left.
    ///
    /// # Panics
    /// When the position was never filled.
    pub(super) fn get(&self, sequence: u64) -> Option<&EncodedEvent> {
        assert!(sequence < self.next(), "event {sequence} is past the ring's end {}", self.next());
        let offset = sequence.checked_sub(self.first)?;
        self.events.get(usize::try_from(offset).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{Change, ChangeKind, RevisionPair};

    fn event(len: usize) -> EncodedEvent {
        let kv = Bytes::from(vec![0; len - 2]);
        let (revision, kind) = (RevisionPair::default(), ChangeKind::Put { created: true });
        EncodedEvent::encode(&Change { revision, key: Bytes::new(), kv, kind, previous: None }, None)
    }

    #[test]
    fn both_bounds_hold_and_positions_stay() {
        let mut ring = Ring::new(3, 100);
        ring.append(&mut vec![event(10), event(20), event(30), event(40)]);
        assert!(ring.get(0).is_none());
        assert_eq!(ring.get(3).unwrap().len(), 40);
        ring.append(&mut vec![event(50)]);
        assert!(ring.get(2).is_none(), "30 + 40 + 50 is too much");
        assert_eq!((ring.get(3).unwrap().len(), ring.get(4).unwrap().len()), (40, 50));
        ring.append(&mut vec![event(101)]);
        assert!(ring.get(5).is_none(), "alone too large");
        ring.append(&mut vec![event(5)]);
        ring.clear();
        assert!(ring.get(6).is_none());
        ring.append(&mut vec![event(7)]);
        assert_eq!(ring.get(7).unwrap().len(), 7);
    }
}
