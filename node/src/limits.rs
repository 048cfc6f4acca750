//! Who may connect: connections in all and of one address, ban scores as bcoin-stratum has them.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

use crate::clock::Clock;
use crate::config::Limits;
use crate::metrics::Metrics;

/// What each address did; shared by every listener and link.
pub struct Addresses {
    table: Mutex<HashMap<IpAddr, Record>>,
    connections: AtomicUsize,
    limits: Limits,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Addresses {
    /// An empty table under `limits`.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Mutex::new(HashMap::new()),
            connections: AtomicUsize::new(0),
            limits,
            clock,
            metrics,
        }
    }

    /// Counts a new connection of `address`, or says why there is no place for it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        let now = self.clock.monotonic_millis();
        let key = group(address);
        let mut table = self.table.lock();
        let refusal = if table.get(&key).is_some_and(|record| record.banned_until > now) {
            Some(Refusal::Banned)
        } else if self.connections.load(Ordering::Relaxed) >= self.limits.connections {
            Some(Refusal::Full)
        } else if table.get(&key).is_some_and(|r| r.connections >= self.limits.per_address) {
            Some(Refusal::AddressFull)
        } else {
            None
        };
        if let Some(refusal) = refusal {
            if let Some(limit) = refusal.limit() {
                self.metrics.limit_hit(limit);
            }
            return Err(refusal);
        }
        make_room(&mut table, now);
        table.entry(key).or_default().connections += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Ok(Place { addresses: Arc::clone(self), address: key })
    }

    /// Adds to an address's ban score; true when that bans it.
    pub fn offend(&self, address: IpAddr, offence: Offence) -> bool {
        if offence.score == 0 {
            return false;
        }
        self.metrics
            .ban_score
            .get_or_create(&[("offence", offence.kind)])
            .inc_by(u64::from(offence.score));
        let now = self.clock.monotonic_millis();
        let mut table = self.table.lock();
        make_room(&mut table, now);
        let record = table.entry(group(address)).or_default();
        record.score = record.score_at(now) + f64::from(offence.score);
        record.scored_at = now;
        if record.score < f64::from(self.limits.ban_score) {
            return false;
        }
        record.score = 0.0;
        record.banned_until = now + self.limits.ban_seconds * 1_000;
        self.metrics.bans.inc();
        tracing::warn!(%address, seconds = self.limits.ban_seconds, "address banned");
        true
    }

    /// Whether an address is banned now.
    #[must_use]
    pub fn is_banned(&self, address: IpAddr) -> bool {
        let now = self.clock.monotonic_millis();
        self.table.lock().get(&group(address)).is_some_and(|record| record.banned_until > now)
    }

    /// Addresses that are banned now.
    #[must_use]
    pub fn banned(&self) -> usize {
        let now = self.clock.monotonic_millis();
        self.table.lock().values().filter(|record| record.banned_until > now).count()
    }

    /// Connections that hold a place now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn release(&self, address: IpAddr) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
        let now = self.clock.monotonic_millis();
        let mut table = self.table.lock();
        if let Some(record) = table.get_mut(&address) {
            record.connections -= 1;
            if record.is_idle(now) {
                table.remove(&address);
            }
        }
    }
}

/// A connection's place among those that are counted; given back when dropped.
pub struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.addresses.release(self.address);
    }
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The address is banned.
    Banned,
    /// `limits.connections` is reached.
    Full,
    /// `limits.per_address` is reached.
    AddressFull,
}

impl Refusal {
    /// The limit's name in metrics.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::Banned => None,
            Self::Full => Some("connections"),
            Self::AddressFull => Some("connections_per_address"),
        }
    }
}

/// Something that an address did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The label in metrics.
    pub kind: &'static str,
    /// What it adds to the ban score.
    pub score: u32,
}

/// What offences cost; 1,000 within a few minutes is a ban.
pub mod score {
    use super::Offence;

    /// None.
    pub const NONE: Offence = Offence { kind: "share", score: 0 };
    /// A line that is no message, or too long.
    pub const MALFORMED: Offence = Offence { kind: "malformed", score: 100 };
    /// A message with parameters that do not fit its method.
    pub const INVALID_PARAMS: Offence = Offence { kind: "malformed", score: 10 };
    /// A method that does not exist.
    pub const UNKNOWN_METHOD: Offence = Offence { kind: "method", score: 10 };
    /// A share above its target.
    pub const LOW_DIFFICULTY: Offence = Offence { kind: "share", score: 5 };
    /// A share that was sent before.
    pub const DUPLICATE: Offence = Offence { kind: "share", score: 5 };
    /// A share of the wrong lengths, or with version bits outside the mask.
    pub const INVALID_SHARE: Offence = Offence { kind: "share", score: 5 };
    /// A wrong administrator password.
    pub const ADMIN_LOGIN: Offence = Offence { kind: "method", score: 200 };
    /// An administrator's call without being one.
    pub const NOT_ADMIN: Offence = Offence { kind: "method", score: 100 };
    /// A connection that is dropped before it says anything sensible.
    pub const FLOOD: Offence = Offence { kind: "flood", score: 1 };
}

#[derive(Default)]
struct Record {
    connections: usize,
    score: f64,
    scored_at: u64,
    banned_until: u64,
}

impl Record {
    fn score_at(&self, now: u64) -> f64 {
        let halvings = (now - self.scored_at) as f64 / SCORE_HALVES_MILLIS;
        self.score * (-halvings).exp2()
    }

    fn is_idle(&self, now: u64) -> bool {
        self.connections == 0 && self.banned_until <= now && self.score_at(now) < 1.0
    }
}

/// A whole /64 is one customer; otherwise an IPv6 miner had 2^64 addresses to be banned one by one.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

fn make_room(table: &mut HashMap<IpAddr, Record>, now: u64) {
    if table.len() < MAX_ADDRESSES {
        return;
    }
    table.retain(|_, record| !record.is_idle(now));
    if table.len() >= MAX_ADDRESSES {
        // Only bans and scores are left: forgetting those costs less than memory without bound.
        table.retain(|_, record| record.connections > 0);
    }
}

/// Addresses remembered at most, unless they are connected.
const MAX_ADDRESSES: usize = 65_536;

/// An offence weighs half after a minute.
const SCORE_HALVES_MILLIS: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(limits: Limits) -> (Arc<Addresses>, Clock) {
        let clock = Clock::manual(1_000_000);
        (Arc::new(Addresses::new(limits, clock.clone(), Arc::new(Metrics::new()))), clock)
    }

    #[test]
    fn a_place_is_given_back() {
        let (addresses, _) = addresses(Limits { per_address: 2, ..Limits::default() });
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let a = addresses.admit(one).unwrap();
        let _b = addresses.admit(one).unwrap();
        assert_eq!(addresses.admit(one).err(), Some(Refusal::AddressFull));
        assert!(addresses.admit("10.0.0.2".parse().unwrap()).is_ok());
        drop(a);
        assert!(addresses.admit(one).is_ok());
    }

    #[test]
    fn all_connections_are_bounded() {
        let (addresses, _) = addresses(Limits { connections: 1, ..Limits::default() });
        let _a = addresses.admit("10.0.0.1".parse().unwrap()).unwrap();
        assert_eq!(addresses.admit("10.0.0.2".parse().unwrap()).err(), Some(Refusal::Full));
    }

    #[test]
    fn a_score_bans_and_a_ban_ends() {
        let (addresses, clock) = addresses(Limits::default());
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..9 {
            assert!(!addresses.offend(one, score::MALFORMED));
        }
        assert!(addresses.offend(one, score::MALFORMED));
        assert_eq!(addresses.admit(one).err(), Some(Refusal::Banned));
        clock.advance(599_000);
        assert!(addresses.is_banned(one));
        clock.advance(2_000);
        assert!(addresses.admit(one).is_ok());
    }

    #[test]
    fn a_score_decays() {
        let (addresses, clock) = addresses(Limits::default());
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..100 {
            for _ in 0..4 {
                assert!(!addresses.offend(one, score::MALFORMED));
            }
            clock.advance(60_000);
        }
    }

    #[test]
    fn a_v6_network_is_one_address() {
        let (addresses, _) = addresses(Limits { per_address: 1, ..Limits::default() });
        let _a = addresses.admit("2001:db8::1".parse().unwrap()).unwrap();
        assert!(addresses.admit("2001:db8::2".parse().unwrap()).is_err());
        assert!(addresses.admit("2001:db8:0:1::1".parse().unwrap()).is_ok());
    }
}
