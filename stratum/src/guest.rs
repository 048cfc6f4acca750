//! Which addresses may connect: connections in all and of one address, and ban scores, as
//! bcoin-stratum has them.
//!
//! The caller brings the clock: milliseconds that never go back.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};

/// What addresses may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections in all.
    pub connections: usize,
    /// Connections of one address.
    pub per_address: usize,
    /// Score at which an address is banned.
    pub ban_score: u32,
    /// Seconds that such a ban lasts.
    pub ban_seconds: u64,
}

/// Why a connection is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The address is banned.
    Banned,
    /// There are too many connections in all.
    Full,
    /// The address has too many.
    AddressFull,
}

impl Refusal {
    /// The limit's name in metrics; a ban is none.
    #[must_use]
    pub fn limit(self) -> Option<&'static str> {
        match self {
            Self::Banned => None,
            Self::Full => Some("connections"),
            Self::AddressFull => Some("connections_per_address"),
        }
    }
}

/// What each address does.
#[derive(Debug)]
pub struct Guests {
    table: HashMap<IpAddr, Record>,
    connections: usize,
    bounds: Bounds,
}

impl Guests {
    /// Nobody yet.
    #[must_use]
    pub fn new(bounds: Bounds) -> Self {
        Self { table: HashMap::new(), connections: 0, bounds }
    }

    /// Counts a new connection of `address`, or says why there is no place for it. Each that was
    /// counted is to be [released](Self::release).
    ///
    /// # Errors
    /// The first bound that is reached.
    pub fn admit(&mut self, address: IpAddr, now: u64) -> Result<(), Refusal> {
        let address = group(address);
        let record = self.table.get(&address);
        if record.is_some_and(|record| record.banned_until > now) {
            return Err(Refusal::Banned);
        }
        if self.connections >= self.bounds.connections {
            return Err(Refusal::Full);
        }
        if record.is_some_and(|record| record.connections >= self.bounds.per_address) {
            return Err(Refusal::AddressFull);
        }
        self.record(address, now).connections += 1;
        self.connections += 1;
        Ok(())
    }

    /// A connection that was admitted has ended.
    pub fn release(&mut self, address: IpAddr, now: u64) {
        self.connections -= 1;
        let address = group(address);
        if let Some(record) = self.table.get_mut(&address) {
            record.connections -= 1;
            if record.is_idle(now) {
                self.table.remove(&address);
            }
        }
    }

    /// Adds to an address's ban score; true when that bans it.
    pub fn offend(&mut self, address: IpAddr, score: u32, now: u64) -> bool {
        let Bounds { ban_score, ban_seconds, .. } = self.bounds;
        let record = self.record(address, now);
        record.score = record.score_at(now) + f64::from(score);
        record.scored_at = now;
        if record.score < f64::from(ban_score) {
            return false;
        }
        record.score = 0.0;
        record.ban(now, ban_seconds * 1_000);
        true
    }

    /// Keeps an address out for so many milliseconds, or for as long as it already is.
    pub fn ban(&mut self, address: IpAddr, millis: u64, now: u64) {
        self.record(address, now).ban(now, millis);
    }

    /// Whether an address is banned now.
    #[must_use]
    pub fn is_banned(&self, address: IpAddr, now: u64) -> bool {
        self.table.get(&group(address)).is_some_and(|record| record.banned_until > now)
    }

    /// Addresses that are banned now.
    #[must_use]
    pub fn banned(&self, now: u64) -> usize {
        self.table.values().filter(|record| record.banned_until > now).count()
    }

    /// Connections that are admitted now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections
    }

    fn record(&mut self, address: IpAddr, now: u64) -> &mut Record {
        if self.table.len() >= MAX_ADDRESSES {
            self.table.retain(|_, record| !record.is_idle(now));
        }
        if self.table.len() >= MAX_ADDRESSES {
            // Only bans and scores are left: forgetting those costs less than memory without bound.
            self.table.retain(|_, record| record.connections > 0);
        }
        self.table.entry(group(address)).or_default()
    }
}

/// All times in milliseconds.
#[derive(Debug, Default)]
struct Record {
    connections: usize,
    score: f64,
    scored_at: u64,
    banned_until: u64,
}

impl Record {
    fn ban(&mut self, now: u64, millis: u64) {
        self.banned_until = self.banned_until.max(now.saturating_add(millis));
    }

    fn score_at(&self, now: u64) -> f64 {
        let halvings = now.saturating_sub(self.scored_at) as f64 / SCORE_HALVES_MILLIS;
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

/// Addresses remembered at most, unless they are connected.
const MAX_ADDRESSES: usize = 65_536;

/// An offence weighs half after a minute.
const SCORE_HALVES_MILLIS: f64 = 60_000.0;

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds =
        Bounds { connections: 1_000, per_address: 1_000, ban_score: 1_000, ban_seconds: 600 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn place_is_given_back() {
        let mut guests = Guests::new(Bounds { per_address: 2, ..BOUNDS });
        let one = address("10.0.0.1");
        assert_eq!(guests.admit(one, 0), Ok(()));
        assert_eq!(guests.admit(one, 0), Ok(()));
        assert_eq!(guests.admit(one, 0), Err(Refusal::AddressFull));
        assert_eq!(guests.admit(address("10.0.0.2"), 0), Ok(()));
        guests.release(one, 0);
        assert_eq!(guests.admit(one, 0), Ok(()));
    }

    #[test]
    fn all_connections_are_bounded() {
        let mut guests = Guests::new(Bounds { connections: 1, ..BOUNDS });
        assert_eq!(guests.admit(address("10.0.0.1"), 0), Ok(()));
        assert_eq!(guests.admit(address("10.0.0.2"), 0), Err(Refusal::Full));
        assert_eq!(guests.connections(), 1);
    }

    #[test]
    fn score_bans_and_a_ban_ends() {
        let mut guests = Guests::new(BOUNDS);
        let one = address("10.0.0.1");
        for _ in 0..9 {
            assert!(!guests.offend(one, 100, 0));
        }
        assert!(guests.offend(one, 100, 0));
        assert_eq!(guests.admit(one, 0), Err(Refusal::Banned));
        assert_eq!(guests.banned(599_999), 1);
        assert!(guests.is_banned(one, 599_999));
        assert_eq!(guests.admit(one, 600_000), Ok(()));
    }

    #[test]
    fn score_decays() {
        let mut guests = Guests::new(BOUNDS);
        let one = address("10.0.0.1");
        for minute in 0..100 {
            for _ in 0..4 {
                assert!(!guests.offend(one, 100, minute * 60_000));
            }
        }
    }

    #[test]
    fn shorter_ban_does_not_end_a_longer_one() {
        let mut guests = Guests::new(BOUNDS);
        let one = address("10.0.0.1");
        guests.ban(one, 9_000, 0);
        guests.ban(one, 1_000, 0);
        assert!(guests.is_banned(one, 8_999) && !guests.is_banned(one, 9_000));
        assert!(!guests.is_banned(address("10.0.0.2"), 0));
    }

    #[test]
    fn v6_network_is_one_address() {
        let mut guests = Guests::new(Bounds { per_address: 1, ..BOUNDS });
        assert_eq!(guests.admit(address("2001:db8::1"), 0), Ok(()));
        assert_eq!(guests.admit(address("2001:db8::2"), 0), Err(Refusal::AddressFull));
        assert_eq!(guests.admit(address("2001:db8:0:1::1"), 0), Ok(()));
    }

    #[test]
    fn table_is_bounded_and_forgets_no_connection() {
        let mut guests = Guests::new(BOUNDS);
        let kept = address("192.168.0.1");
        assert_eq!(guests.admit(kept, 0), Ok(()));
        for number in 0..2 * MAX_ADDRESSES as u32 {
            guests.offend(IpAddr::from(number.to_be_bytes()), 10, 0);
            assert!(guests.table.len() <= MAX_ADDRESSES);
        }
        assert_eq!(guests.table[&kept].connections, 1);
    }
}
