//! Counters that the node's `/metrics` renders.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A monotonic counter.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds one.
    pub fn increment(&self) {
        self.add(1);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A value that goes up and down.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    /// The value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of [`Histogram`]'s buckets, in microseconds.
pub const BUCKETS_US: [u64; 16] = [
    250, 500, 1_000, 2_000, 3_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000,
    1_000_000, 2_000_000, 5_000_000, 10_000_000,
];

/// Durations in fixed buckets.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS_US.len()],
    count: AtomicU64,
    sum_us: AtomicU64,
}

impl Histogram {
    /// Records a duration.
    pub fn record(&self, duration: Duration) {
        self.record_many(duration, 1);
    }

    /// Records the same duration `times` times.
    pub fn record_many(&self, duration: Duration, times: u64) {
        let us = duration.as_micros() as u64;
        if let Some(bucket) = BUCKETS_US.iter().position(|bound| us <= *bound) {
            self.buckets[bucket].fetch_add(times, Ordering::Relaxed);
        }
        self.count.fetch_add(times, Ordering::Relaxed);
        self.sum_us.fetch_add(us.saturating_mul(times), Ordering::Relaxed);
    }

    /// For each of [`BUCKETS_US`], how many were at most that long.
    pub fn cumulative(&self) -> [u64; BUCKETS_US.len()] {
        let mut sum = 0;
        std::array::from_fn(|i| {
            sum += self.buckets[i].load(Ordering::Relaxed);
            sum
        })
    }

    /// How many were recorded.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Their sum in microseconds.
    pub fn sum_us(&self) -> u64 {
        self.sum_us.load(Ordering::Relaxed)
    }
}

/// What the cluster counts.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Shares that `submit` took.
    pub shares_submitted: Counter,
    /// Shares that `submit` refused because the queue was full.
    pub shares_refused_full: Counter,
    /// Shares answered with an outcome of the ledger.
    pub shares_answered: Counter,
    /// Shares given up on after their deadline.
    pub shares_unavailable: Counter,
    /// Shares waiting for their batch.
    pub shares_queued: Gauge,
    /// Batches proposed, retries not counted.
    pub batches: Counter,
    /// Batches that had to be proposed again.
    pub batch_retries: Counter,
    /// From a batch's first proposal to its outcome.
    pub commit_time: Histogram,
    /// One append to the log until it is synced to disk.
    pub sync_time: Histogram,
    /// Syncs of the log.
    pub syncs: Counter,
    /// Entries applied to the ledger.
    pub entries_applied: Counter,
    /// Snapshots built.
    pub snapshots_built: Counter,
    /// Snapshots received and installed.
    pub snapshots_installed: Counter,
    /// Bytes of the newest snapshot.
    pub snapshot_bytes: Gauge,
    /// Bytes the log takes on disk.
    pub log_bytes: Gauge,
    /// Connections to the cluster port that were refused: certificate, role, cluster id, limit.
    pub connections_refused: Counter,
    /// Connections made to peers.
    pub connections_opened: Counter,
    /// Requests to peers that failed: unreachable, silent, refused.
    pub peer_errors: Counter,
    /// Bytes sent to peers.
    pub peer_bytes_sent: Counter,
    /// Jobs dropped because a peer was slow and a newer one came.
    pub jobs_superseded: Counter,
    /// Jobs sent to peers.
    pub jobs_sent: Counter,
    /// Password checks run (not answered from the cache).
    pub password_checks: Counter,
}
