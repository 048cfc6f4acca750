//! The jobs whose shares are judged here: our own and those of our peers.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use bytes::Bytes;
use parking_lot::RwLock;
use seam_stratum::JobId;
use seam_stratum::job::Job;
use tokio::sync::watch;

/// Jobs by id; the newest of our own is what miners work on.
pub struct Jobs {
    held: RwLock<HashMap<JobId, Arc<Entry>>>,
    current: watch::Sender<Option<Arc<Entry>>>,
    tip_height: AtomicU32,
    refresh_wanted: AtomicBool,
}

/// A job with what its block needs.
pub struct Entry {
    /// The job.
    pub job: Job,
    /// The block's transactions, without coinbase.
    pub contents: Box<dyn Contents>,
    /// `mining.notify` with `clean_jobs` false and true.
    lines: [Bytes; 2],
    tip: u64,
}

/// The transactions of a job's block.
pub trait Contents: Send + Sync {
    /// All of them, serialised, in the order of the block; none as long as one is missing.
    fn transactions(&self) -> Option<Vec<Bytes>>;

    /// Their txids.
    fn txids(&self) -> Vec<[u8; 32]>;
}

impl Entry {
    /// A job ready to be sent.
    #[must_use]
    pub fn new(job: Job, contents: Box<dyn Contents>) -> Self {
        let lines = [false, true].map(|clean| Bytes::from(job.notify_line(clean)));
        let tip = fingerprint(&job.prev_hash);
        Self { job, contents, lines, tip }
    }

    /// Its id.
    #[must_use]
    pub fn id(&self) -> JobId {
        self.job.id
    }

    /// A fingerprint of the block it builds on.
    #[must_use]
    pub fn tip(&self) -> u64 {
        self.tip
    }

    /// Its `mining.notify`, shared by all sessions.
    #[must_use]
    pub fn line(&self, clean: bool) -> &Bytes {
        &self.lines[usize::from(clean)]
    }

    /// Its transactions' ids.
    #[must_use]
    pub fn txids(&self) -> Vec<[u8; 32]> {
        self.contents.txids()
    }
}

impl Jobs {
    /// No job yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            held: RwLock::default(),
            current: watch::Sender::new(None),
            tip_height: AtomicU32::new(0),
            refresh_wanted: AtomicBool::new(false),
        }
    }

    /// The job of that id, stale or not.
    #[must_use]
    pub fn find(&self, id: JobId) -> Option<Arc<Entry>> {
        self.held.read().get(&id).cloned()
    }

    /// What miners work on.
    #[must_use]
    pub fn current(&self) -> Option<Arc<Entry>> {
        self.current.borrow().clone()
    }

    /// Changes with each new job of our own.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Entry>>> {
        self.current.subscribe()
    }

    /// Makes a job of our own the current one.
    pub fn publish(&self, entry: Arc<Entry>, now_seconds: u32) {
        self.hold(Arc::clone(&entry), now_seconds);
        self.refresh_wanted.store(false, Ordering::Relaxed);
        self.current.send_replace(Some(entry));
    }

    /// Adds a job: a peer's, or ours.
    pub fn hold(&self, entry: Arc<Entry>, now_seconds: u32) {
        let mut held = self.held.write();
        held.insert(entry.id(), entry);
        self.forget(&mut held, now_seconds);
    }

    /// Core's tip has this height now.
    pub fn set_tip_height(&self, height: u32, now_seconds: u32) {
        self.tip_height.store(height, Ordering::Release);
        self.forget(&mut self.held.write(), now_seconds);
    }

    /// Whether a block of this job would come too late.
    #[must_use]
    pub fn is_stale(&self, entry: &Entry) -> bool {
        entry.job.height <= self.tip_height.load(Ordering::Acquire)
    }

    /// Jobs that are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.read().len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Jobs whose shares are still accepted.
    #[must_use]
    pub fn live(&self) -> usize {
        self.held.read().values().filter(|entry| !self.is_stale(entry)).count()
    }

    /// A miner asked for a difficulty and would get it with the next job.
    pub fn want_refresh(&self) {
        self.refresh_wanted.store(true, Ordering::Relaxed);
    }

    /// Whether [`Jobs::want_refresh`] was called since the newest job.
    #[must_use]
    pub fn is_refresh_wanted(&self) -> bool {
        self.refresh_wanted.load(Ordering::Relaxed)
    }

    /// Drops what nobody can use any more: too old for the ledger, or two blocks behind. One block
    /// behind is kept: its blocks compete for the tip.
    fn forget(&self, held: &mut HashMap<JobId, Arc<Entry>>, now_seconds: u32) {
        let tip = self.tip_height.load(Ordering::Acquire);
        let horizon = u64::from(now_seconds).saturating_sub(JOB_LIFETIME_SECONDS);
        held.retain(|_, entry| entry.job.height >= tip && entry.job.created_at >= horizon);
        while held.len() > MAX_JOBS {
            let Some(oldest) =
                held.values().min_by_key(|entry| entry.job.created_at).map(|entry| entry.id())
            else {
                break;
            };
            held.remove(&oldest);
        }
    }
}

impl Default for Jobs {
    fn default() -> Self {
        Self::new()
    }
}

fn fingerprint(hash: &[u8; 32]) -> u64 {
    let mut first = [0; 8];
    first.copy_from_slice(&hash[..8]);
    u64::from_le_bytes(first)
}

/// A job every five seconds for ten minutes, of five nodes.
const MAX_JOBS: usize = 600;

/// The ledger refuses older ones; the same as its own `JOB_LIFETIME`.
const JOB_LIFETIME_SECONDS: u64 = 600;
