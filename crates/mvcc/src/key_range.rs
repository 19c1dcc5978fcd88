//! Which keys a request means.

use bytes::Bytes;

pub type Key = Bytes;

/// A set of neighbouring keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyRange {
    One(Key),
    /// This key and all behind it.
    From(Key),
    /// `start <= key < end`; empty when `end <= start`.
    Span {
        start: Key,
        end: Key,
    },
}

impl KeyRange {
    /// Every key there can be.
    pub fn all() -> KeyRange {
        KeyRange::From(Bytes::new())
    }

    pub fn from_wire(key: Key, range_end: Key) -> KeyRange {
        match range_end.as_ref() {
            b"" => KeyRange::One(key),
            b"\0" => KeyRange::From(key),
            // Compat: `end <= start` is an empty range, not an error.
            _ => KeyRange::Span { start: key, end: range_end },
        }
    }

    pub fn contains(&self, key: &[u8]) -> bool {
        match self {
            KeyRange::One(one) => key == one,
            KeyRange::From(start) => key >= &start[..],
            KeyRange::Span { start, end } => key >= &start[..] && key < &end[..],
        }
    }

    pub fn start(&self) -> &Key {
        match self {
            KeyRange::One(key) | KeyRange::From(key) => key,
            KeyRange::Span { start, .. } => start,
        }
    }

    pub fn is_empty(&self) -> bool {
        matches!(self, KeyRange::Span { start, end } if end <= start)
    }

    /// The same end, from another start: where a page or a chunk goes on.
    pub fn starting_at(&self, start: Key) -> KeyRange {
        match self {
            // Nothing is behind a single key.
            KeyRange::One(one) => KeyRange::Span { start, end: one.clone() },
            KeyRange::From(_) => KeyRange::From(start),
            KeyRange::Span { end, .. } => KeyRange::Span { start, end: end.clone() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(key: &'static str, end: &'static str) -> KeyRange {
        KeyRange::from_wire(Bytes::from_static(key.as_bytes()), Bytes::from_static(end.as_bytes()))
    }

    #[test]
    fn wire_forms() {
        assert!(range("a", "").contains(b"a") && !range("a", "").contains(b"a\0"));
        assert!(range("a", "\0").contains(b"zz") && !range("b", "\0").contains(b"a"));
        assert!(range("\0", "\0").contains(b"\0") && range("\0", "\0").contains(b"\xff"));
        assert!(range("a", "c").contains(b"b\xff") && !range("a", "c").contains(b"c"));
        assert!(range("c", "a").is_empty() && range("a", "a").is_empty() && !range("a", "").is_empty());
        assert!(!range("c", "a").contains(b"b"));
    }
}
