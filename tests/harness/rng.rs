//! Chance that can be repeated.

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough for tests.
#[derive(Debug, Clone)]
pub struct Rng(u64);

/// The seed of a test: that of `MILLSTREAM_SEED`, or one of its own each time, told if the test fails.
#[derive(Debug)]
pub struct Seed(pub u64);

impl Rng {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One below `end`, or 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.any() % end.max(1)
    }

    /// 0 to below 1.
    pub fn share(&mut self) -> f64 {
        (self.any() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Whether something happens that does so with this probability.
    pub fn chance(&mut self, probability: f64) -> bool {
        self.share() < probability
    }
}

impl Seed {
    /// See the type.
    ///
    /// # Panics
    /// When `MILLSTREAM_SEED` is no number.
    pub fn of_run() -> Self {
        use std::hash::{BuildHasher as _, RandomState};
        let given = std::env::var("MILLSTREAM_SEED");
        let seed = given.map(|seed| seed.parse().expect("MILLSTREAM_SEED is a number"));
        Self(seed.unwrap_or_else(|_| RandomState::new().hash_one(0)))
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the seed was {0}: run it again with MILLSTREAM_SEED={0}", self.0);
        }
    }
}
