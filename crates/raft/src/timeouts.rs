//! Election timeouts: the only randomness in raft, and passed in.

/// Source of election timeouts. A lockstep run against another implementation brings one that replays.
pub trait ElectionTimeouts: Send {
    /// A value in `election_ticks..2 * election_ticks`, drawn whenever the role or the term changes.
    fn draw(&mut self, election_ticks: u32) -> u32;
}

/// SplitMix64: two multiplications, good enough to keep members apart.
#[derive(Clone, Debug)]
pub struct SeededTimeouts {
    state: u64,
}

impl SeededTimeouts {
    pub fn new(seed: u64) -> SeededTimeouts {
        SeededTimeouts { state: seed }
    }
}

impl ElectionTimeouts for SeededTimeouts {
    fn draw(&mut self, election_ticks: u32) -> u32 {
        self.state = self.state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        // The remainder is below `election_ticks`, so it fits.
        election_ticks + (mixed % u64::from(election_ticks)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_cover_the_range_and_repeat_by_seed() {
        let draws = |seed| {
            let mut timeouts = SeededTimeouts::new(seed);
            (0..1000).map(|_| timeouts.draw(10)).collect::<Vec<_>>()
        };
        assert_eq!(draws(7), draws(7));
        assert_ne!(draws(7), draws(8));
        let values: std::collections::BTreeSet<u32> = draws(7).into_iter().collect();
        assert_eq!(values, (10..20).collect());
    }
}
