//! The node's only source of time. Tests set it by hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Wall-clock and monotonic time; cheap to clone.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
}

impl Clock {
    /// The machine's clocks.
    #[must_use]
    pub fn system() -> Self {
        Self { source: Source::System(Instant::now()) }
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(unix_millis: u64) -> Self {
        let start = unix_millis;
        Self { source: Source::Manual(Arc::new(AtomicU64::new(unix_millis)), start) }
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub fn unix_millis(&self) -> u64 {
        match &self.source {
            Source::System(_) => SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX)),
            Source::Manual(now, _) => now.load(Ordering::Relaxed),
        }
    }

    /// Seconds since the Unix epoch, as block headers have them.
    #[must_use]
    pub fn unix_seconds(&self) -> u32 {
        u32::try_from(self.unix_millis() / 1_000).unwrap_or(u32::MAX)
    }

    /// Milliseconds since this clock was made; never goes back.
    #[must_use]
    pub fn monotonic_millis(&self) -> u64 {
        self.monotonic_nanos() / 1_000_000
    }

    /// As [`Clock::monotonic_millis`], in microseconds.
    #[must_use]
    pub fn monotonic_micros(&self) -> u64 {
        self.monotonic_nanos() / 1_000
    }

    /// As [`Clock::monotonic_millis`], in nanoseconds.
    #[must_use]
    pub fn monotonic_nanos(&self) -> u64 {
        match &self.source {
            Source::System(start) => u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            Source::Manual(now, start) => (now.load(Ordering::Relaxed) - start) * 1_000_000,
        }
    }

    /// Moves a manual clock; the machine's own takes no orders.
    pub fn advance(&self, millis: u64) {
        if let Source::Manual(now, _) = &self.source {
            now.fetch_add(millis, Ordering::Relaxed);
        }
    }
}

#[derive(Clone, Debug)]
enum Source {
    System(Instant),
    Manual(Arc<AtomicU64>, u64),
}
