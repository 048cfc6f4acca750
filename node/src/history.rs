//! Samples of the last hour, so that the status page has a past when it opens.

use std::collections::VecDeque;

use parking_lot::Mutex;
use serde::Serialize;

/// `[time, sessions, hashrate, accepted, rejected]`
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Sample(pub u64, pub i64, pub f64, pub u64, pub u64);

/// The samples, oldest first.
#[derive(Default)]
pub struct History {
    samples: Mutex<VecDeque<Sample>>,
}

impl History {
    /// Adds one.
    pub fn add(&self, sample: Sample) {
        let mut samples = self.samples.lock();
        if samples.len() >= MAX_SAMPLES {
            samples.pop_front();
        }
        samples.push_back(sample);
    }

    /// All of them.
    #[must_use]
    pub fn samples(&self) -> Vec<Sample> {
        self.samples.lock().iter().copied().collect()
    }
}

/// Seconds between two samples.
pub const INTERVAL_SECONDS: u64 = 10;

/// An hour of them.
const MAX_SAMPLES: usize = 360;
