//! Seeded changes to valid inputs.

const INTERESTING: &[u64] =
    &[0, 1, 7, 8, 0x7f, 0x80, 0xff, 0xffff, 0x7fff_ffff, 0xffff_ffff, i64::MAX as u64, u64::MAX];

/// SplitMix64: the same seed gives the same inputs everywhere.
pub struct Mutator(u64);

impl Mutator {
    pub fn new(seed: u64) -> Mutator {
        Mutator(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`, which is not zero.
    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % end as u64).expect("a remainder of a usize fits one")
    }

    /// One of the seeds with one to eight changes.
    pub fn bend(&mut self, seeds: &[Vec<u8>]) -> Vec<u8> {
        let mut input = seeds[self.below(seeds.len())].clone();
        for _ in 0..=self.below(8) {
            self.change(&mut input, seeds);
        }
        input
    }

    fn change(&mut self, input: &mut Vec<u8>, seeds: &[Vec<u8>]) {
        if input.is_empty() {
            input.push(self.next() as u8);
            return;
        }
        let at = self.below(input.len());
        match self.below(8) {
            0 => input[at] ^= 1 << self.below(8),
            1 => input[at] = self.next() as u8,
            2 => input.truncate(at),
            3 => {
                // A number or a length field, of any width.
                let value = INTERESTING[self.below(INTERESTING.len())].to_le_bytes();
                let width = [1, 2, 4, 8][self.below(4)].min(input.len() - at);
                input[at..at + width].copy_from_slice(&value[..width]);
            }
            4 => input[at] = input[at].wrapping_add(if self.below(2) == 0 { 1 } else { 255 }),
            5 => {
                let end = at + self.below((input.len() - at).min(64));
                input.drain(at..end);
            }
            6 => {
                let end = at + self.below((input.len() - at).min(64));
                let piece = input[at..end].to_vec();
                input.splice(at..at, piece);
            }
            _ => {
                let other = &seeds[self.below(seeds.len())];
                if !other.is_empty() {
                    let from = self.below(other.len());
                    let to = from + self.below((other.len() - from).min(256));
                    input.splice(at..at, other[from..to].iter().copied());
                }
            }
        }
    }
}
