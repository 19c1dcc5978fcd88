//! Events as bytes on the wire.

use bytes::{BufMut, Bytes, BytesMut};

use super::store_view::StoreView;
use super::watcher::WatchId;
use crate::{Change, ChangeKind, MvccError, Revision};

/// `mvccpb.Event`: 1 type, 2 kv, 3 prev_kv; all but the type are length-delimited.
const TYPE_TAG: u8 = 0x08;
const TYPE_DELETE: u8 = 1;
const KV_TAG: u8 = 0x12;
const PREV_KV_TAG: u8 = 0x1a;
/// Field 11 of `etcdserverpb.WatchResponse`, length-delimited.
const EVENTS_TAG: u8 = 0x5a;

/// One encoded `mvccpb.Event` in both forms. `prev_kv` is the last field, so the form without it is what
/// stands before it.
#[derive(Clone, Debug)]
pub(super) struct EncodedEvent {
    bytes: Bytes,
    /// Length in bytes of the form without `prev_kv`. Invariant: `<= bytes.len()`.
    short_len: usize,
}

impl EncodedEvent {
    /// `previous` is the record of `prev_kv`, if anybody wants it and there is one.
    pub(super) fn encode(change: &Change, previous: Option<&[u8]>) -> EncodedEvent {
        let type_len = match change.kind {
            ChangeKind::Put { .. } => 0, // the default, absent on the wire
            ChangeKind::Delete => 2,
        };
        let short_len = type_len + field_len(change.kv.len());
        let len = short_len + previous.map_or(0, |previous| field_len(previous.len()));
        let mut buf = BytesMut::with_capacity(len);
        if type_len > 0 {
            buf.put_slice(&[TYPE_TAG, TYPE_DELETE]);
        }
        put_field(&mut buf, KV_TAG, &change.kv);
        if let Some(previous) = previous {
            put_field(&mut buf, PREV_KV_TAG, previous);
        }
        assert_eq!(buf.len(), len, "an event's length was counted wrong");
        EncodedEvent { bytes: buf.freeze(), short_len }
    }

    /// What one watcher is sent.
    pub(super) fn form(&self, prev_kv: bool) -> Bytes {
        if prev_kv { self.bytes.clone() } else { self.bytes.slice(..self.short_len) }
    }

    pub(super) fn form_len(&self, prev_kv: bool) -> usize {
        if prev_kv { self.bytes.len() } else { self.short_len }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// The record for an event's `prev_kv`, if somebody wants it and the event may have one.
pub(super) fn previous_of<V: StoreView + ?Sized>(
    view: &V,
    change: &Change,
    wanted: bool,
) -> Result<Option<Bytes>, MvccError> {
    match (change.kind, change.previous) {
        // Also where the same transaction deleted the key first.
        (ChangeKind::Put { created: true }, _) | (_, None) => Ok(None),
        (ChangeKind::Put { created: false } | ChangeKind::Delete, Some(at)) => {
            if wanted {
                view.record(at)
            } else {
                Ok(None)
            }
        }
    }
}

/// What one watcher is told at once: whole revisions, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventBatch {
    pub watch_id: WatchId,
    /// For the response's header.
    pub revision: Revision,
    /// Encoded `mvccpb.Event`s, shared with all other streams. Never empty.
    pub events: Vec<Bytes>,
    /// The watcher asked for big responses to be split: see [`fragments`].
    pub fragment: bool,
}

impl EventBatch {
    /// Bytes that [`EventBatch::put_events`] writes for these events.
    #[must_use]
    pub fn encoded_len(events: &[Bytes]) -> usize {
        events.iter().map(|event| field_len(event.len())).sum()
    }

    /// Writes the events as field 11 of `etcdserverpb.WatchResponse`. It is the last field of that message,
    /// so this may follow the encoded rest.
    pub fn put_events(events: &[Bytes], buf: &mut impl BufMut) {
        for event in events {
            put_field(buf, EVENTS_TAG, event);
        }
    }
}

/// Splits the events of one response into pieces that stay below `limit_bytes` with `overhead_bytes` for
/// the other fields; a piece of one event may pass it, as events cannot be split. All pieces but the last
/// are sent with `fragment` set. One piece when the whole is below the limit.
///
/// Compat: etcd `server/etcdserver/api/v3rpc/watch.go` 3.7, where the limit is max-request-bytes + 512 KiB.
pub fn fragments(events: &[Bytes], overhead_bytes: usize, limit_bytes: usize) -> Vec<&[Bytes]> {
    let mut pieces = Vec::new();
    let (mut start, mut len) = (0, overhead_bytes);
    for (i, event) in events.iter().enumerate() {
        let event_len = field_len(event.len());
        if i > start && len + event_len >= limit_bytes {
            pieces.push(&events[start..i]);
            (start, len) = (i, overhead_bytes);
        }
        len += event_len;
    }
    pieces.push(&events[start..]);
    pieces
}

/// Bytes of a length-delimited field whose tag is one byte.
fn field_len(len: usize) -> usize {
    1 + varint_len(len) + len
}

fn varint_len(value: usize) -> usize {
    let bits = usize::BITS - (value | 1).leading_zeros();
    bits.div_ceil(7) as usize
}

fn put_field(buf: &mut impl BufMut, tag: u8, bytes: &[u8]) {
    buf.put_u8(tag);
    let mut len = bytes.len();
    while len >= 0x80 {
        buf.put_u8((len as u8 & 0x7f) | 0x80);
        len >>= 7;
    }
    buf.put_u8(len as u8);
    buf.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RevisionPair;

    fn change(kind: ChangeKind, kv: &'static [u8]) -> Change {
        let revision = RevisionPair::new(Revision::FIRST, 0);
        Change { revision, key: Bytes::new(), kv: Bytes::from_static(kv), kind, previous: None }
    }

    #[test]
    fn both_forms_have_the_bytes_of_protobuf() {
        let put = EncodedEvent::encode(&change(ChangeKind::Put { created: false }, b"kv"), Some(b"old"));
        assert_eq!(put.form(false).as_ref(), b"\x12\x02kv");
        assert_eq!(put.form(true).as_ref(), b"\x12\x02kv\x1a\x03old");
        let delete = EncodedEvent::encode(&change(ChangeKind::Delete, b"kv"), None);
        assert_eq!(delete.form(false).as_ref(), b"\x08\x01\x12\x02kv");
        assert_eq!(delete.form(true), delete.form(false));
    }

    #[test]
    fn lengths_are_varints() {
        for (value, len) in [(0, 1), (127, 1), (128, 2), (16383, 2), (16384, 3), (1 << 21, 4)] {
            assert_eq!(varint_len(value), len, "{value}");
        }
        let event = Bytes::from(vec![7; 300]);
        let mut buf = Vec::new();
        EventBatch::put_events(std::slice::from_ref(&event), &mut buf);
        assert_eq!(buf[..3], [0x5a, 0xac, 0x02]);
        assert_eq!(buf.len(), EventBatch::encoded_len(&[event]));
    }

    #[test]
    fn fragments_stay_below_the_limit_and_keep_every_event() {
        let events: Vec<Bytes> = [10, 10, 10, 100, 10].iter().map(|len| Bytes::from(vec![0; *len])).collect();
        let lens = |limit| fragments(&events, 4, limit).iter().map(|piece| piece.len()).collect::<Vec<_>>();
        assert_eq!(lens(1000), [5]);
        assert_eq!(lens(41), [3, 1, 1], "4 + 3 * 12 = 40 is below 41");
        assert_eq!(lens(40), [2, 1, 1, 1]);
        assert_eq!(lens(1), [1, 1, 1, 1, 1], "an event is never split");
    }
}
