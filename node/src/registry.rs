//! Which session holds which extranonce1, and what is kept of those whose connection went.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwapOption;
use parking_lot::Mutex;
use seam_stratum::{Extranonce1, SidKey};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::session::{Event, Inbox, Ticket};

/// Every extranonce1 in use on this node, and those that may come back.
pub struct Registry {
    shards: [Mutex<Shard>; SHARDS],
    numbers: Mutex<Numbers>,
    /// Told when numbers run low.
    wanted: Notify,
    sid_key: ArcSwapOption<SidKey>,
    next_hold: AtomicU64,
    parked_max: usize,
    parked_millis: u64,
    clock: Clock,
}

/// A session's hold of its extranonce1.
pub struct Claim {
    /// The number.
    pub extranonce1: Extranonce1,
    /// To be given back with [`Registry::release`].
    pub hold: u64,
    /// What was left of the session that had it before.
    pub ticket: Option<Ticket>,
}

impl Registry {
    /// An empty registry that keeps at most `parked_max` sessions for `parked_seconds`.
    #[must_use]
    pub fn new(parked_max: usize, parked_seconds: u64, clock: Clock) -> Self {
        Self {
            shards: std::array::from_fn(|_| Mutex::default()),
            numbers: Mutex::default(),
            wanted: Notify::new(),
            sid_key: ArcSwapOption::empty(),
            next_hold: AtomicU64::new(1),
            parked_max: parked_max.div_ceil(SHARDS),
            parked_millis: parked_seconds * 1_000,
            clock,
        }
    }

    /// The key of sids, once the node belongs to a cluster.
    #[must_use]
    pub fn sid_key(&self) -> Option<Arc<SidKey>> {
        self.sid_key.load_full()
    }

    /// Sets it.
    pub fn set_sid_key(&self, key: SidKey) {
        self.sid_key.store(Some(Arc::new(key)));
    }

    /// Holds the wanted number, whoever had it, or a fresh one. None if there is none to give.
    pub fn claim(
        &self,
        wanted: Option<Extranonce1>,
        inbox: &Arc<dyn Inbox>,
        token: u64,
    ) -> Option<Claim> {
        let hold = self.next_hold.fetch_add(1, Ordering::Relaxed);
        let holder = Holder { hold, inbox: Arc::clone(inbox), token };
        let Some(extranonce1) = wanted else {
            return self.claim_fresh(holder);
        };
        let entry = Entry { holder: Some(holder), ticket: None, parked_at: 0 };
        let before = self.shard(extranonce1).lock().entries.insert(extranonce1.0, entry);
        let ticket = before.and_then(|before| {
            if let Some(older) = before.holder {
                older.inbox.post(older.token, Event::TakenOver);
            }
            before.ticket.map(|ticket| *ticket)
        });
        Some(Claim { extranonce1, hold, ticket })
    }

    /// Keeps what a resume would need, while the session lives.
    pub fn remember(&self, extranonce1: Extranonce1, hold: u64, ticket: Ticket) {
        let mut shard = self.shard(extranonce1).lock();
        if let Some(entry) = shard.entries.get_mut(&extranonce1.0)
            && entry.is_held_by(hold)
        {
            entry.ticket = Some(Box::new(ticket));
        }
    }

    /// The session ended; what is `parked` waits for a resume. Does nothing if another session
    /// took the number over.
    pub fn release(&self, extranonce1: Extranonce1, hold: u64, parked: Option<Ticket>) {
        let now = self.clock.monotonic_millis();
        let mut shard = self.shard(extranonce1).lock();
        let Some(entry) = shard.entries.get_mut(&extranonce1.0) else { return };
        if !entry.is_held_by(hold) {
            return;
        }
        match parked {
            Some(ticket) if self.parked_max > 0 => {
                *entry = Entry { holder: None, ticket: Some(Box::new(ticket)), parked_at: now };
                shard.parked.push_back((extranonce1.0, now));
                let parked = shard.parked.len();
                shard.forget(parked.saturating_sub(self.parked_max), 0);
            }
            _ => {
                shard.entries.remove(&extranonce1.0);
            }
        }
    }

    /// Forgets sessions that were parked for too long. To be called now and then.
    pub fn sweep(&self) {
        let horizon = self.clock.monotonic_millis().saturating_sub(self.parked_millis);
        for shard in &self.shards {
            shard.lock().forget(0, horizon);
        }
    }

    /// Sessions that are parked now.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().parked.len()).sum()
    }

    /// Adds leased numbers.
    pub fn add_numbers(&self, range: Range<u64>) {
        self.numbers.lock().ranges.push_back(range);
    }

    /// Returns when more numbers should be leased.
    pub async fn numbers_wanted(&self) {
        while self.numbers.lock().left() > LOW_NUMBERS {
            self.wanted.notified().await;
        }
    }

    /// Whether there are numbers to give.
    #[must_use]
    pub fn has_numbers(&self) -> bool {
        self.numbers.lock().left() > 0
    }

    fn claim_fresh(&self, holder: Holder) -> Option<Claim> {
        loop {
            let number = {
                let mut numbers = self.numbers.lock();
                let number = numbers.draw();
                if numbers.left() <= LOW_NUMBERS {
                    self.wanted.notify_one();
                }
                Extranonce1(number?)
            };
            let mut shard = self.shard(number).lock();
            // The counter wraps after 2^32 sessions: who is still there keeps its number.
            if shard.entries.contains_key(&number.0) {
                continue;
            }
            let hold = holder.hold;
            let entry = Entry { holder: Some(holder), ticket: None, parked_at: 0 };
            shard.entries.insert(number.0, entry);
            return Some(Claim { extranonce1: number, hold, ticket: None });
        }
    }

    fn shard(&self, extranonce1: Extranonce1) -> &Mutex<Shard> {
        &self.shards[extranonce1.0 as usize % SHARDS]
    }
}

#[derive(Default)]
struct Shard {
    entries: HashMap<u32, Entry>,
    /// In the order of parking; one that was resumed since is skipped.
    parked: VecDeque<(u32, u64)>,
}

impl Shard {
    /// Forgets the `many` that were parked first, and those parked before `horizon`.
    fn forget(&mut self, many: usize, horizon: u64) {
        let mut many = many;
        while let Some((number, at)) = self.parked.front().copied() {
            if many == 0 && at >= horizon {
                break;
            }
            many = many.saturating_sub(1);
            self.parked.pop_front();
            let same = |entry: &Entry| entry.holder.is_none() && entry.parked_at == at;
            if self.entries.get(&number).is_some_and(same) {
                self.entries.remove(&number);
            }
        }
    }
}

struct Entry {
    holder: Option<Holder>,
    ticket: Option<Box<Ticket>>,
    parked_at: u64,
}

impl Entry {
    fn is_held_by(&self, hold: u64) -> bool {
        self.holder.as_ref().is_some_and(|holder| holder.hold == hold)
    }
}

struct Holder {
    hold: u64,
    inbox: Arc<dyn Inbox>,
    token: u64,
}

/// Numbers that were leased and not given out.
#[derive(Default)]
struct Numbers {
    ranges: VecDeque<Range<u64>>,
}

impl Numbers {
    fn draw(&mut self) -> Option<u32> {
        while let Some(range) = self.ranges.front_mut() {
            if let Some(number) = range.next() {
                return u32::try_from(number).ok();
            }
            self.ranges.pop_front();
        }
        None
    }

    fn left(&self) -> u64 {
        self.ranges.iter().map(|range| range.end.saturating_sub(range.start)).sum()
    }
}

/// So that a thousand miners that join at once do not wait for each other.
const SHARDS: usize = 16;

/// Half a lease: the next one is there before a herd has used it up.
const LOW_NUMBERS: u64 = 2_048;
