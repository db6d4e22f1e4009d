// SPDX-License-Identifier: GPL-2.0

//! Random numbers: the same ones for the same seed, as libFuzzer wants.

/// A generator (xorshift64*).
pub struct Random(u64);

impl Random {
    /// The generator that libFuzzer's seed of one mutation stands for.
    pub fn new(seed: u32) -> Self {
        // Any state but 0 will do.
        Self(u64::from(seed) << 20 | 0x9_e377)
    }

    /// Any word.
    pub fn word(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `limit`; 0 if that is 0.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.word() >> 16) as usize % limit.max(1)
    }

    /// Whether something happens that happens once in `times`.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of several; there must be one.
    pub fn one<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len())]
    }

    /// A word of a kind that finds mistakes: small, close to a power of two, close to `old`, or any.
    pub fn telling(&mut self, old: u64) -> u64 {
        let shift = self.below(64);
        match self.below(8) {
            0 => old.wrapping_add(1),
            1 => old.wrapping_sub(1),
            2 => old ^ 1 << shift,
            3 => self.below(64) as u64,
            4 => 1 << shift,
            5 => (1 << shift) - 1,
            6 => u64::MAX << shift,
            _ => self.word(),
        }
    }
}
