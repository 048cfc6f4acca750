//! Chance that can be had again: the seed is printed, and taken from `SEAM_SEED`.

use std::env;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Numbers that follow from a seed (SplitMix64).
pub struct Dice(u64);

impl Dice {
    /// From `SEAM_SEED`, or from the clock.
    #[allow(clippy::new_without_default)] // No seed is a default.
    pub fn new() -> Self {
        let given = env::var("SEAM_SEED").ok().map(|seed| seed.parse().unwrap());
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let seed: u64 = given.unwrap_or(clock);
        eprintln!("SEAM_SEED={seed}");
        Self(seed)
    }

    /// Anything.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[(self.number() % from.len() as u64) as usize]
    }

    /// Any time below `most`.
    pub fn moment(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.number() % most.as_micros() as u64)
    }

    /// Puts them into any order.
    pub fn shuffle<T>(&mut self, all: &mut [T]) {
        for end in (1..all.len()).rev() {
            all.swap(end, (self.number() % (end as u64 + 1)) as usize);
        }
    }
}
