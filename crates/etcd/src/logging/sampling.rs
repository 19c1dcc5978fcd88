//! Limits floods of one message, as zap does: per second the first hundred, then every hundredth.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::Level;
use super::line::Record;

/// Messages are told apart by hash, so two may share a counter; the table never grows.
const COUNTERS: usize = 4096;
const FIRST: u64 = 100;
const THEREAFTER: u64 = 100;

pub struct Sampler {
    start: Instant,
    /// High 32 bits: the second of the count; low 32 bits: how many were seen in it.
    counters: Box<[AtomicU64]>,
}

impl Default for Sampler {
    fn default() -> Sampler {
        Sampler { start: Instant::now(), counters: (0..COUNTERS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl Sampler {
    /// Records that end the process always pass.
    pub fn admits(&self, record: &Record<'_>) -> bool {
        if record.level > Level::Error {
            return true;
        }
        let mut hasher = DefaultHasher::new();
        (record.level.as_str(), record.message).hash(&mut hasher);
        let slot = (hasher.finish() % COUNTERS as u64) as usize;
        self.admits_at(slot, self.start.elapsed().as_secs())
    }

    fn admits_at(&self, slot: usize, second: u64) -> bool {
        let second = second & u64::from(u32::MAX);
        let count = |value: u64| {
            let seen = if value >> 32 == second { value & u64::from(u32::MAX) } else { 0 };
            (second << 32) | (seen + 1).min(u64::from(u32::MAX))
        };
        let counter = &self.counters[slot];
        let before = counter.load(Ordering::Relaxed);
        // Lost races only admit a record too many.
        let _ = counter.compare_exchange(before, count(before), Ordering::Relaxed, Ordering::Relaxed);
        let seen = count(before) & u64::from(u32::MAX);
        seen <= FIRST || (seen - FIRST).is_multiple_of(THEREAFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_thinned_until_the_next_second() {
        let sampler = Sampler::default();
        let admitted = (0..1000).filter(|_| sampler.admits_at(0, 7)).count();
        assert_eq!(admitted, 109);
        assert!(sampler.admits_at(0, 8));
        assert!(sampler.admits_at(1, 7));
    }
}
