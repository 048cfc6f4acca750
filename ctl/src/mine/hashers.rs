//! The threads that search for nonces.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use seam_stratum::client::Work;
use seam_stratum::{Nonce2, Target};
use tokio::sync::mpsc;

/// Hashes between two looks at whether there is newer work: a few milliseconds.
const SLICE: u32 = 1 << 14;

/// What to search, for all threads.
pub(crate) struct Assignment {
    /// Distinguishes this assignment from all others of the run.
    pub(crate) generation: u64,
    /// The pool's work.
    pub(crate) work: Work,
    /// The session's extranonce1.
    pub(crate) extranonce1: Vec<u8>,
    /// Bytes of nonce2.
    pub(crate) nonce2_len: u8,
    /// Version bits that may be rolled.
    pub(crate) version_mask: u32,
    /// What a share has to meet.
    pub(crate) target: Target,
    /// What a block has to meet.
    pub(crate) network_target: Target,
}

/// A share.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    /// The assignment it was found for.
    pub(crate) generation: u64,
    /// The miner's part of the extranonce.
    pub(crate) nonce2: Nonce2,
    /// Header time.
    pub(crate) ntime: u32,
    /// Header nonce.
    pub(crate) nonce: u32,
    /// Rolled version bits.
    pub(crate) version_bits: u32,
    /// Whether it meets the network's target.
    pub(crate) is_block: bool,
    /// Its hash, in the order SHA-256 gives it.
    pub(crate) hash: [u8; 32],
}

/// The running threads. Dropping it ends them.
pub(crate) struct Hashers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    assignment: Mutex<Option<Arc<Assignment>>>,
    /// Rung when the assignment changes.
    changed: Condvar,
    /// The generation of the assignment, for a look without the lock; 0 is none.
    generation: AtomicU64,
    /// Counts up for the whole run, never back: no two headers of a run are the same, whatever
    /// jobs come again after a reconnect.
    next_nonce2: AtomicU64,
    hashes: AtomicU64,
    stop: AtomicBool,
}

impl Hashers {
    /// Starts `count` threads that send what they find; they wait while nobody takes it. Together they do at
    /// most `limit` hashes a second.
    pub(crate) fn start(count: u16, limit: Option<u64>, found: &mpsc::Sender<Found>) -> Self {
        let shared = Arc::new(Shared {
            assignment: Mutex::new(None),
            changed: Condvar::new(),
            generation: AtomicU64::new(0),
            next_nonce2: AtomicU64::new(1),
            hashes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let limit = limit.map(|limit| limit as f64 / f64::from(count));
        let threads = (0..count)
            .map(|_| {
                let (shared, found) = (Arc::clone(&shared), found.clone());
                thread::spawn(move || shared.search(&found, limit))
            })
            .collect();
        Self { shared, threads }
    }

    /// Gives all threads new work, or none.
    pub(crate) fn assign(&self, assignment: Option<Arc<Assignment>>) {
        let generation = assignment.as_ref().map_or(0, |assignment| assignment.generation);
        let mut current = self.shared.lock();
        *current = assignment;
        self.shared.generation.store(generation, Ordering::Release);
        self.shared.changed.notify_all();
    }

    /// Hashes done so far.
    pub(crate) fn hashes(&self) -> u64 {
        self.shared.hashes.load(Ordering::Relaxed)
    }

    /// Ends the threads. The receiver of what they find has to be closed by then, or one may wait for it.
    pub(crate) fn join(mut self) {
        self.shared.stop();
        for thread in self.threads.drain(..) {
            // A thread that panicked has said so.
            let _ = thread.join();
        }
    }
}

impl Drop for Hashers {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Assignment>>> {
        self.assignment.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        let _held = self.lock();
        self.stop.store(true, Ordering::Release);
        self.generation.store(0, Ordering::Release);
        self.changed.notify_all();
    }

    /// The assignment, once there is one; none when it is time to end.
    fn wait(&self) -> Option<Arc<Assignment>> {
        let mut current = self.lock();
        loop {
            if self.stop.load(Ordering::Acquire) {
                return None;
            }
            if let Some(assignment) = &*current {
                return Some(Arc::clone(assignment));
            }
            current = self.changed.wait(current).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn search(&self, found: &mpsc::Sender<Found>, limit: Option<f64>) {
        while let Some(assignment) = self.wait() {
            let counter = self.next_nonce2.fetch_add(1, Ordering::Relaxed);
            if !self.search_nonces(&assignment, counter, found, limit) {
                return;
            }
        }
    }

    /// All nonces of one header, until there is newer work; false when nobody takes what is found.
    fn search_nonces(
        &self,
        assignment: &Assignment,
        counter: u64,
        found: &mpsc::Sender<Found>,
        limit: Option<f64>,
    ) -> bool {
        let nonce2 = Nonce2::from_counter(counter, assignment.nonce2_len);
        let version_bits = spread(counter, assignment.version_mask);
        let ntime = assignment.work.ntime;
        let mut header =
            assignment.work.header(&assignment.extranonce1, nonce2.as_bytes(), version_bits, ntime);
        let mut nonce = 0u32;
        loop {
            let slice = limit.map_or(SLICE, |limit| SLICE.min((limit / 50.0) as u32 + 1));
            let (started, last) = (Instant::now(), nonce.saturating_add(slice - 1));
            let first = nonce;
            while nonce <= last {
                let hash = header.hash(nonce);
                if assignment.target.is_met_by(&hash) {
                    let share = Found {
                        generation: assignment.generation,
                        nonce2,
                        ntime,
                        nonce,
                        version_bits,
                        is_block: assignment.network_target.is_met_by(&hash),
                        hash,
                    };
                    if found.blocking_send(share).is_err() {
                        return false;
                    }
                    if self.generation.load(Ordering::Acquire) != assignment.generation {
                        break;
                    }
                }
                let Some(next) = nonce.checked_add(1) else { break };
                nonce = next;
            }
            self.hashes.fetch_add(u64::from(nonce - first), Ordering::Relaxed);
            if self.generation.load(Ordering::Acquire) != assignment.generation || nonce == u32::MAX
            {
                return true;
            }
            if let Some(limit) = limit {
                let span = Duration::from_secs_f64(f64::from(slice) / limit);
                thread::sleep(span.saturating_sub(started.elapsed()));
            }
        }
    }
}

/// Puts the low bits of `counter` where `mask` has ones: each header rolls the version, as
/// hardware does.
fn spread(counter: u64, mask: u32) -> u32 {
    let mut bits = 0;
    let mut rest = counter;
    for position in 0..32 {
        if mask & (1 << position) != 0 {
            bits |= ((rest & 1) as u32) << position;
            rest >>= 1;
        }
    }
    bits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rolled_bits_stay_within_the_mask() {
        for mask in [0x1fff_e000, 0, 1 << 31, 0x0000_6000] {
            for counter in [0, 1, 7, 0xffff, u64::MAX] {
                assert_eq!(spread(counter, mask) & !mask, 0);
            }
        }
        assert_eq!(spread(1, 0x1fff_e000), 1 << 13);
        assert_eq!(spread(0b101, 0x1fff_e000), 0b101 << 13);
    }
}
