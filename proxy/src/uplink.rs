//! A link that is up: the node at its other end, and the sessions that it has.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use seam_cluster::link::Sender;
use seam_cluster::pulse::Pulse;

use crate::metrics::{Metrics, labels};
use crate::session::Session;

/// One connection to a node, from its greeting to its end.
#[derive(Debug)]
pub(crate) struct Uplink {
    /// The node's name.
    pub(crate) node: Arc<str>,
    pub(crate) sender: Sender,
    /// By link-local number; `None` once the link is over and its sessions have gone elsewhere.
    sessions: Mutex<Option<Sessions>>,
    /// Numbers are not used again on a link: a late frame must not reach another miner.
    next: AtomicU32,
    count: AtomicUsize,
    /// Somebody could not send, and has to be woken when there is room.
    blocked: AtomicBool,
    /// What the node said last about itself, and when.
    pulse: Mutex<Option<(Pulse, Instant)>>,
}

type Sessions = HashMap<u32, Arc<Session>, BuildHasherDefault<NumberHasher>>;

impl Uplink {
    pub(crate) fn new(node: Arc<str>, sender: Sender) -> Arc<Self> {
        Arc::new(Self {
            node,
            sender,
            sessions: Mutex::new(Some(Sessions::default())),
            next: AtomicU32::new(1),
            count: AtomicUsize::new(0),
            blocked: AtomicBool::new(false),
            pulse: Mutex::default(),
        })
    }

    /// Gives a session its number here; `None` if the link is over.
    pub(crate) fn add(&self, session: &Arc<Session>) -> Option<u32> {
        if self.sender.is_closed() {
            return None;
        }
        let mut sessions = self.sessions.lock();
        let sessions = sessions.as_mut()?;
        loop {
            // After four thousand million sessions it begins anew.
            let number = self.next.fetch_add(1, Ordering::Relaxed);
            if let Entry::Vacant(free) = sessions.entry(number) {
                free.insert(Arc::clone(session));
                self.count.store(sessions.len(), Ordering::Relaxed);
                return Some(number);
            }
        }
    }

    pub(crate) fn remove(&self, number: u32) {
        if let Some(sessions) = self.sessions.lock().as_mut() {
            sessions.remove(&number);
            self.count.store(sessions.len(), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, number: u32) -> Option<Arc<Session>> {
        self.sessions.lock().as_ref()?.get(&number).cloned()
    }

    /// All sessions, as they are now.
    pub(crate) fn sessions(&self) -> Vec<Arc<Session>> {
        self.sessions.lock().iter().flat_map(|sessions| sessions.values().cloned()).collect()
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds what crossed the link since the last call to the metrics.
    pub(crate) fn count_traffic(&self, metrics: &Metrics) {
        let (received, sent) = self.sender.take_traffic();
        for (direction, bytes) in [("in", received), ("out", sent)] {
            let label = labels([("node", &self.node), ("direction", direction)]);
            metrics.link_bytes.get_or_create(&label).inc_by(bytes);
        }
    }

    /// The node says how it is, for people.
    pub(crate) fn heard(&self, pulse: &[u8]) {
        if let Some(pulse) = Pulse::decode(pulse) {
            *self.pulse.lock() = Some((pulse, Instant::now()));
        }
    }

    /// What it said last, and how many seconds ago.
    pub(crate) fn pulse(&self) -> Option<(Pulse, f64)> {
        let pulse = self.pulse.lock().clone();
        pulse.map(|(pulse, at)| (pulse, at.elapsed().as_secs_f64()))
    }

    /// Ends the link: whoever comes later is refused, whoever was there is given back.
    pub(crate) fn close(&self) -> Vec<Arc<Session>> {
        self.sender.close();
        self.count.store(0, Ordering::Relaxed);
        self.sessions.lock().take().into_iter().flatten().map(|(_, session)| session).collect()
    }

    /// Whether lines can be sent; if not, [`Uplink::unblock`] will say when.
    pub(crate) fn has_room(&self) -> bool {
        let full = self.sender.is_full();
        if full {
            self.blocked.store(true, Ordering::Relaxed);
        }
        !full
    }

    /// Wakes who waits for room, if there is some. Called after every batch that the node sent,
    /// its heartbeats among them.
    pub(crate) fn unblock(&self) {
        if self.blocked.load(Ordering::Relaxed) && !self.sender.is_full() {
            self.blocked.store(false, Ordering::Relaxed);
            for session in self.sessions() {
                session.wake();
            }
        }
    }
}

/// Spreads numbers that we count up ourselves.
#[derive(Debug, Default)]
struct NumberHasher(u64);

impl Hasher for NumberHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u32((self.0 as u32).rotate_left(8) ^ u32::from(*byte));
        }
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
