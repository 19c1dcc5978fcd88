//! `RangeStream`: one answer in chunks, all read at one revision.

use crate::error::MvccError;
use crate::key_range::Key;
use crate::range::{RangeQuery, RangeResult, ReadAt, Want};
use crate::revision::Revision;
use crate::view::View;

/// Keys in the first chunk. Source: etcd 3.7 `etcdserver/v3_server.go`.
const FIRST_CHUNK_LEN: usize = 10;

/// Between two chunks it holds nothing but a position: each chunk is read from whatever view is present
/// then, so a slow client pins no state, and may instead find its revision compacted.
pub struct RangeStream {
    query: RangeQuery,
    /// Size that chunks approach, in bytes of `kvs`.
    chunk_size_bytes: usize,
    chunk_len: usize,
    /// Keys that the client's limit still allows.
    left: usize,
    sent: usize,
    /// The store's revision when the stream began: the last chunk's header.
    revision: Option<Revision>,
    state: State,
}

#[derive(PartialEq, Eq)]
enum State {
    Running,
    Finished,
}

pub struct StreamChunk {
    /// Its `count`, `more` and `revision` are not the stream's: see `last`.
    pub result: RangeResult,
    /// What only the last chunk carries.
    pub last: Option<LastChunk>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastChunk {
    pub revision: Revision,
    pub count: usize,
    pub more: bool,
}

impl RangeStream {
    /// `query` has no filters and no sort (the edge refuses them). etcd's chunk size is its request limit.
    pub fn new(query: RangeQuery, chunk_size_bytes: usize) -> RangeStream {
        let left = query.limit.unwrap_or(usize::MAX);
        let chunk_len = FIRST_CHUNK_LEN.min(left);
        let (sent, revision) = (0, None);
        RangeStream { query, chunk_size_bytes, chunk_len, left, sent, revision, state: State::Running }
    }

    /// The next chunk; `None` behind the last. Only the last may be empty.
    pub fn next_chunk(&mut self, view: &View) -> Result<Option<StreamChunk>, MvccError> {
        if self.state == State::Finished {
            return Ok(None);
        }
        self.query.limit = Some(self.chunk_len);
        let result = view.range(&self.query)?;
        let revision = *self.revision.get_or_insert(result.revision);
        if self.query.want == Want::Count {
            self.state = State::Finished;
            let last = LastChunk { revision, count: result.count, more: false };
            return Ok(Some(StreamChunk { result, last: Some(last) }));
        }
        if self.query.at == ReadAt::Latest {
            self.query.at = ReadAt::Revision(revision);
        }
        let len = result.records.len();
        let total = self.sent + result.count;
        self.sent += len;
        self.left -= len;
        let next_key = result.last_key().filter(|_| result.more && self.left > 0);
        let last = match next_key {
            Some(last_key) => {
                self.go_on_behind(&last_key, result.kvs_len());
                None
            }
            None => {
                self.state = State::Finished;
                Some(LastChunk { revision, count: total, more: result.more })
            }
        };
        Ok(Some(StreamChunk { result, last }))
    }

    fn go_on_behind(&mut self, last_key: &Key, size_bytes: usize) {
        let next_key = [&last_key[..], b"\0"].concat();
        self.query.keys = self.query.keys.starting_at(next_key.into());
        if size_bytes < self.chunk_size_bytes / 2 {
            self.chunk_len = self.chunk_len.saturating_mul(2);
        } else if size_bytes > self.chunk_size_bytes.saturating_mul(2) {
            self.chunk_len = (self.chunk_len / 2).max(1);
        }
        self.chunk_len = self.chunk_len.min(self.left);
    }
}
