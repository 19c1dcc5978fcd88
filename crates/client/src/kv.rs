//! Keys and values.

use proto::etcdserverpb::*;

use crate::call::{calls, clean};
use crate::{Client, Error};

calls! {
    range(RangeRequest) -> RangeResponse: "/etcdserverpb.KV/Range", Harmless;
    put(PutRequest) -> PutResponse: "/etcdserverpb.KV/Put", OnlyUnsent;
    delete_range(DeleteRangeRequest) -> DeleteRangeResponse: "/etcdserverpb.KV/DeleteRange", OnlyUnsent;
    txn(TxnRequest) -> TxnResponse: "/etcdserverpb.KV/Txn", OnlyUnsent;
    compact(CompactionRequest) -> CompactionResponse: "/etcdserverpb.KV/Compact", OnlyUnsent;
}

impl Client {
    /// A range in pieces (3.7 and later), put together again: the answer is that of [`Client::range`],
    /// but the member never holds it whole.
    pub async fn range_stream(&self, request: RangeRequest) -> Result<RangeResponse, Error> {
        let deadline = self.deadline();
        self.within(deadline, async {
            let mut pieces = self
                .server_streaming::<_, RangeStreamResponse>("/etcdserverpb.KV/RangeStream", request)
                .await?;
            let mut whole = RangeResponse::default();
            while let Some(piece) = pieces.message().await.map_err(clean)? {
                let Some(piece) = piece.range_response else { continue };
                // The last piece brings header, count and more; those before bring keys alone.
                whole.kvs.extend(piece.kvs);
                whole.header = piece.header.or(whole.header);
                whole.count = whole.count.max(piece.count);
                whole.more |= piece.more;
            }
            Ok(whole)
        })
        .await
    }
}

/// The end of the range of all keys with this prefix: the prefix with its last byte below 0xff
/// counted up and the rest cut off. A prefix without such a byte has no end: `\0`, all keys from it.
pub fn prefix_end(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if last < 0xff {
            end.push(last + 1);
            return end;
        }
    }
    vec![0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_ends() {
        assert_eq!(prefix_end(b"foo"), b"fop");
        assert_eq!(prefix_end(b"a\xff\xff"), b"b");
        assert_eq!(prefix_end(b"\xff"), b"\0");
        assert_eq!(prefix_end(b""), b"\0");
    }
}
