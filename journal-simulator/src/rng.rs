//! All randomness of a run: one generator, seeded with the run's seed.

/// The source of every choice of a run.
#[derive(Debug)]
pub(super) struct Rng(fastrand::Rng);

impl Rng {
    pub fn new(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// True with a probability of `permille` in a thousand.
    pub fn chance(&mut self, permille: u64) -> bool {
        permille > 0 && self.0.u64(0..1_000) < permille
    }

    /// A number between `least` and `most`, both included.
    pub fn between(&mut self, least: u64, most: u64) -> u64 {
        self.0.u64(least..=most)
    }

    /// An index of a list with `count` elements.
    pub fn index(&mut self, count: usize) -> usize {
        self.0.usize(0..count)
    }

    /// A fresh id.
    pub fn id(&mut self) -> [u8; 16] {
        self.0.u128(..).to_be_bytes()
    }
}
