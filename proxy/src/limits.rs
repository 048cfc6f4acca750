//! Who may connect: connections in all and of one address, and addresses that are kept out.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::config::Limits;
use crate::metrics::Metrics;

/// What each address does, at this proxy. Offences against the pool's rules are counted where the
/// rules are, on the nodes; a node that bans an address tells its proxies.
#[derive(Debug)]
pub struct Addresses {
    table: Mutex<HashMap<IpAddr, Record>>,
    connections: AtomicUsize,
    limits: Limits,
    metrics: Arc<Metrics>,
}

/// A connection's place among those that are counted; given back when dropped.
#[derive(Debug)]
pub struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

/// What an offence against the connection itself costs.
pub mod score {
    /// A line longer than allowed.
    pub const LINE: u32 = 100;
    /// A PROXY header that is none, from a network that must send one.
    pub const HEADER: u32 = 0;
}

#[derive(Debug, Default)]
struct Record {
    connections: usize,
    score: f64,
    scored: Option<Instant>,
    banned_until: Option<Instant>,
}

/// Addresses remembered at most, unless they are connected.
const MAX_ADDRESSES: usize = 65_536;

/// An offence weighs half after a minute.
const SCORE_HALVES: Duration = Duration::from_secs(60);

impl Addresses {
    /// An empty table under `limits`.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            table: Mutex::new(HashMap::new()),
            connections: AtomicUsize::new(0),
            limits,
            metrics,
        }
    }

    /// Counts a new connection of `address`; `None` if there is no place for it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        let now = Instant::now();
        let address = group(address);
        let mut table = self.table.lock();
        let record = table.get(&address);
        let refusal = if record.is_some_and(|record| record.is_banned(now)) {
            Some("banned")
        } else if self.connections.load(Ordering::Relaxed) >= self.limits.connections {
            Some("connections")
        } else if record.is_some_and(|record| record.connections >= self.limits.per_address) {
            Some("connections_per_address")
        } else {
            None
        };
        if let Some(limit) = refusal {
            if limit != "banned" {
                self.metrics.limit_hit(limit);
            }
            return None;
        }
        make_room(&mut table, now);
        table.entry(address).or_default().connections += 1;
        self.connections.fetch_add(1, Ordering::Relaxed);
        Some(Place { addresses: Arc::clone(self), address })
    }

    /// Adds to an address's score, and bans it at the limit.
    pub fn offend(&self, address: IpAddr, score: u32) {
        let now = Instant::now();
        let mut table = self.table.lock();
        make_room(&mut table, now);
        let record = table.entry(group(address)).or_default();
        record.score = record.score_at(now) + f64::from(score);
        record.scored = Some(now);
        if record.score >= f64::from(self.limits.ban_score) {
            record.score = 0.0;
            record.ban(now, Duration::from_secs(self.limits.ban_seconds));
            self.metrics.bans.inc();
            tracing::warn!(%address, seconds = self.limits.ban_seconds, "address banned");
        }
    }

    /// Keeps an address out, as a node said.
    pub fn ban(&self, address: IpAddr, time: Duration) {
        let now = Instant::now();
        let mut table = self.table.lock();
        make_room(&mut table, now);
        table.entry(group(address)).or_default().ban(now, time);
        self.metrics.bans.inc();
        tracing::warn!(%address, seconds = time.as_secs(), "address banned by a node");
    }

    /// Connections that hold a place now.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Addresses that are kept out now.
    pub fn banned(&self) -> usize {
        let now = Instant::now();
        self.table.lock().values().filter(|record| record.is_banned(now)).count()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.addresses.connections.fetch_sub(1, Ordering::Relaxed);
        let mut table = self.addresses.table.lock();
        if let Some(record) = table.get_mut(&self.address) {
            record.connections -= 1;
            if record.is_idle(Instant::now()) {
                table.remove(&self.address);
            }
        }
    }
}

impl Record {
    fn ban(&mut self, now: Instant, time: Duration) {
        self.banned_until = self.banned_until.max(Some(now + time));
    }

    fn is_banned(&self, now: Instant) -> bool {
        self.banned_until.is_some_and(|until| until > now)
    }

    fn score_at(&self, now: Instant) -> f64 {
        let Some(scored) = self.scored else { return 0.0 };
        let halvings = (now - scored).as_secs_f64() / SCORE_HALVES.as_secs_f64();
        self.score * (-halvings).exp2()
    }

    fn is_idle(&self, now: Instant) -> bool {
        self.connections == 0 && !self.is_banned(now) && self.score_at(now) < 1.0
    }
}

/// A whole /64 is one customer; otherwise an IPv6 miner had 2^64 addresses to be banned one by one.
fn group(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & !u128::from(u64::MAX))),
        v4 => v4,
    }
}

fn make_room(table: &mut HashMap<IpAddr, Record>, now: Instant) {
    if table.len() < MAX_ADDRESSES {
        return;
    }
    table.retain(|_, record| !record.is_idle(now));
    if table.len() >= MAX_ADDRESSES {
        // Only bans and scores are left: forgetting those costs less than memory without bound.
        table.retain(|_, record| record.connections > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(limits: Limits) -> Arc<Addresses> {
        Arc::new(Addresses::new(limits, Arc::new(Metrics::new())))
    }

    #[test]
    fn place_is_given_back() {
        let addresses = addresses(Limits { per_address: 2, ..Limits::default() });
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let a = addresses.admit(one).unwrap();
        let _b = addresses.admit(one).unwrap();
        assert!(addresses.admit(one).is_none());
        let _c = addresses.admit("10.0.0.2".parse().unwrap()).unwrap();
        drop(a);
        assert!(addresses.admit(one).is_some());
    }

    #[test]
    fn all_connections_are_bounded() {
        let addresses = addresses(Limits { connections: 1, ..Limits::default() });
        let _a = addresses.admit("10.0.0.1".parse().unwrap()).unwrap();
        assert!(addresses.admit("10.0.0.2".parse().unwrap()).is_none());
        assert_eq!(addresses.connections(), 1);
    }

    #[test]
    fn banned_address_stays_out_and_others_come_in() {
        let addresses = addresses(Limits::default());
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        for _ in 0..10 {
            addresses.offend(one, 101);
        }
        assert!(addresses.admit(one).is_none());
        assert_eq!(addresses.banned(), 1);
        addresses.ban("10.0.0.3".parse().unwrap(), Duration::from_secs(9));
        assert!(addresses.admit("10.0.0.3".parse().unwrap()).is_none());
        assert!(addresses.admit("10.0.0.2".parse().unwrap()).is_some());
    }
}
