//! Ids of requests, unique in the cluster for as long as a request can live.

use std::sync::atomic::{AtomicU64, Ordering};

use membership::MemberId;

/// Draws ids laid out as etcd's `pkg/idutil`: two bytes of the member id, five of the clock in
/// milliseconds at start, one to count; the count runs over into the clock.
pub struct RequestIds {
    prefix: u64,
    suffix: AtomicU64,
}

const SUFFIX_BITS: u32 = 48;

impl RequestIds {
    /// `unix_millis` keeps ids of two runs of one member apart.
    pub fn new(member: MemberId, unix_millis: u64) -> RequestIds {
        let suffix = (unix_millis << 8) & suffix_mask();
        RequestIds { prefix: member.0 << SUFFIX_BITS, suffix: AtomicU64::new(suffix) }
    }

    pub fn next(&self) -> u64 {
        let suffix = self.suffix.fetch_add(1, Ordering::Relaxed) + 1;
        self.prefix | (suffix & suffix_mask())
    }
}

const fn suffix_mask() -> u64 {
    u64::MAX >> (64 - SUFFIX_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_start_with_the_member_and_count_up() {
        let ids = RequestIds::new(MemberId(0x1234_5678), 0x0100_0000_0002);
        assert_eq!(ids.next(), 0x5678_0000_0000_0201);
        assert_eq!(ids.next(), 0x5678_0000_0000_0202);
    }
}
