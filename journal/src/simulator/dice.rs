//! All chance of a run: one generator, made from the run's seed.

/// Where every choice of a run comes from.
#[derive(Debug)]
pub(super) struct Dice(fastrand::Rng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True in so many of a thousand cases.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.0.u64(0..1_000) < permille
    }

    /// Any of the numbers, both ends included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.u64(least..=most)
    }

    /// Any place in a list of so many.
    pub fn index(&mut self, count: usize) -> usize {
        self.0.usize(0..count)
    }

    /// A fresh id.
    pub fn id(&mut self) -> [u8; 16] {
        self.0.u128(..).to_be_bytes()
    }
}
