//! Share hashes that were counted, for as long as their job may live: what makes credit exact.
//!
//! Hashes are kept in buckets of one minute of `job_time`. A share whose job is older than the
//! *horizon* is refused, and a bucket that lies wholly before it is dropped, so that no share can be
//! counted again once its hash is forgotten. The horizon never moves back.

use std::collections::BTreeMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::{Arc, OnceLock};

use hashbrown::HashMap;

use super::command::Share;
use super::digest::{self, Digest};
use super::outcome::ShareOutcome;

/// How long a job's shares are taken, in seconds.
pub const JOB_LIFETIME: u32 = 600;

/// How far the `job_time` of a share may be ahead of the time of its batch and still move the
/// horizon, in seconds: a node whose clock runs ahead must not make the other nodes' jobs expire.
pub const MAX_LEAD: u32 = 60;

/// Hashes that are remembered at most: about 25,000 shares a second for [`JOB_LIFETIME`]. Beyond,
/// the oldest bucket is dropped and the horizon moves past it, so that memory is bounded and credit
/// still exact.
pub const MAX_SEEN: usize = 16 << 20;

const BUCKET_SECONDS: u32 = 60;

/// The hashes of one minute, and the session of each.
#[derive(Clone, Debug)]
pub(super) struct Bucket {
    /// By the first byte of the hash. A map that grows, or that is copied since a snapshot holds it
    /// too, makes all shares wait for so long: a 256th of the time, 256 times.
    parts: Box<[Arc<Part>; 256]>,
    len: usize,
    digest: OnceLock<Digest>,
}

type Part = HashMap<[u8; 16], u32, BuildHasherDefault<Suffix>>;

/// The hashes of shares that were counted. Cheap to clone: what does not change afterwards is
/// shared.
#[derive(Clone, Debug)]
pub struct Seen {
    buckets: BTreeMap<u32, Arc<Bucket>>,
    len: usize,
    horizon: u32,
    /// [`MAX_SEEN`], but for tests.
    limit: usize,
}

impl Seen {
    pub(super) fn new(limit: usize) -> Self {
        Self { buckets: BTreeMap::new(), len: 0, horizon: 0, limit }
    }

    /// How many hashes are remembered.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Shares of jobs that were made before are refused. Unix seconds.
    pub fn horizon(&self) -> u32 {
        self.horizon
    }

    /// What the share is, if it is not to be counted.
    pub(super) fn check(&self, share: &Share) -> Option<ShareOutcome> {
        if share.job_time < self.horizon {
            return Some(ShareOutcome::Expired);
        }
        let bucket = self.buckets.get(&(share.job_time / BUCKET_SECONDS))?;
        bucket.session_of(&share.hash16).map(|session| {
            if session == share.session { ShareOutcome::Replayed } else { ShareOutcome::Duplicate }
        })
    }

    /// Remembers a share that [`Seen::check`] let through.
    pub(super) fn insert(&mut self, share: &Share) {
        let bucket = self.buckets.entry(share.job_time / BUCKET_SECONDS).or_default();
        let bucket = Arc::make_mut(bucket);
        if bucket.insert(share.hash16, share.session) {
            self.len += 1;
        }
    }

    /// Moves the horizon to what the shares of a batch call for, and forgets what lies before it.
    pub(super) fn advance(&mut self, newest_job_time: u32, batch_time: u32) {
        let newest = newest_job_time.min(batch_time.saturating_add(MAX_LEAD));
        self.horizon = self.horizon.max(newest.saturating_sub(JOB_LIFETIME));
        while let Some((&minute, _)) = self.buckets.first_key_value() {
            let expired = minute < self.horizon / BUCKET_SECONDS;
            if !expired && self.len <= self.limit {
                break;
            }
            if let Some(bucket) = self.buckets.remove(&minute) {
                self.len -= bucket.len;
            }
            if !expired {
                self.horizon = minute.saturating_add(1).saturating_mul(BUCKET_SECONDS);
            }
        }
    }

    pub(super) fn buckets(&self) -> impl Iterator<Item = (u32, &Arc<Bucket>)> {
        self.buckets.iter().map(|(&minute, bucket)| (minute, bucket))
    }

    pub(super) fn restored(horizon: u32) -> Self {
        Self { horizon, ..Self::new(MAX_SEEN) }
    }

    /// Adds the bucket of the next section of a snapshot.
    pub(super) fn restore(&mut self, minute: u32, bytes: &[u8]) -> Result<(), &'static str> {
        let in_order = self.buckets.last_key_value().is_none_or(|(&last, _)| last < minute);
        if !in_order || minute < self.horizon / BUCKET_SECONDS {
            return Err("a bucket of share hashes is out of order");
        }
        let (rows, []) = bytes.as_chunks::<ROW>() else {
            return Err("a bucket of share hashes is cut off");
        };
        let mut bucket = Bucket::default();
        let mut last = None;
        for row in rows {
            let (hash, session) = row.split_at(16);
            let hash: [u8; 16] = hash.try_into().map_err(|_| "a share hash is cut off")?;
            let session = session.try_into().map_err(|_| "a session is cut off")?;
            if last.is_some_and(|last| last >= hash) {
                return Err("share hashes are out of order");
            }
            last = Some(hash);
            bucket.insert(hash, u32::from_le_bytes(session));
        }
        self.len += rows.len();
        self.buckets.insert(minute, Arc::new(bucket));
        if self.len > self.limit { Err("there are too many share hashes") } else { Ok(()) }
    }
}

/// A hash and its session, little-endian.
const ROW: usize = 20;

impl Bucket {
    fn session_of(&self, hash: &[u8; 16]) -> Option<u32> {
        self.parts[usize::from(hash[0])].get(hash).copied()
    }

    /// Whether it is new.
    fn insert(&mut self, hash: [u8; 16], session: u32) -> bool {
        self.digest.take();
        let part = Arc::make_mut(&mut self.parts[usize::from(hash[0])]);
        let is_new = part.insert(hash, session).is_none();
        self.len += usize::from(is_new);
        is_new
    }

    /// Its rows, sorted by hash.
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len * ROW);
        let mut rows = Vec::new();
        for part in self.parts.iter() {
            rows.clear();
            rows.extend(part.iter().map(|(hash, session)| (*hash, *session)));
            rows.sort_unstable();
            for (hash, session) in &rows {
                bytes.extend_from_slice(hash);
                bytes.extend_from_slice(&session.to_le_bytes());
            }
        }
        bytes
    }

    pub(super) fn digest(&self) -> Digest {
        *self.digest.get_or_init(|| digest::of(&self.encode()))
    }
}

impl Default for Bucket {
    fn default() -> Self {
        let parts = Box::new(std::array::from_fn(|_| Arc::default()));
        Self { parts, len: 0, digest: OnceLock::new() }
    }
}

/// Takes the last eight bytes of the share's hash as its hash: they are random, and choosing them
/// costs as much as solving shares. The first is the same for all of a part.
#[derive(Clone, Copy, Debug, Default)]
struct Suffix(u64);

impl Hasher for Suffix {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(last) = bytes.last_chunk() {
            self.0 = u64::from_le_bytes(*last);
        }
    }

    /// The length of a slice comes before its bytes.
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}
