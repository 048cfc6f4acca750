//! Who may connect: connections in all and of one address, and addresses that are kept out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use seam_stratum::guest::{Bounds, Guests};

use crate::config::Limits;
use crate::metrics::Metrics;

/// What each address does, at this proxy. Offences against the pool's rules are counted where the
/// rules are, on the nodes; a node that bans an address tells its proxies.
#[derive(Debug)]
pub struct Addresses {
    guests: Mutex<Guests>,
    ban_seconds: u64,
    /// Where their clock begins.
    started: Instant,
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

impl Addresses {
    /// An empty table under `limits`.
    pub fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        let Limits { connections, per_address, ban_score, ban_seconds, .. } = limits;
        let guests = Guests::new(Bounds { connections, per_address, ban_score, ban_seconds });
        Self { guests: Mutex::new(guests), ban_seconds, started: Instant::now(), metrics }
    }

    /// Counts a new connection of `address`; `None` if there is no place for it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Option<Place> {
        match self.guests.lock().admit(address, self.now()) {
            Ok(()) => Some(Place { addresses: Arc::clone(self), address }),
            Err(refusal) => {
                if let Some(limit) = refusal.limit() {
                    self.metrics.limit_hit(limit);
                }
                None
            }
        }
    }

    /// Adds to an address's score, and bans it at the limit.
    pub fn offend(&self, address: IpAddr, score: u32) {
        if self.guests.lock().offend(address, score, self.now()) {
            self.metrics.bans.inc();
            tracing::warn!(%address, seconds = self.ban_seconds, "address banned");
        }
    }

    /// Keeps an address out, as a node said.
    pub fn ban(&self, address: IpAddr, time: Duration) {
        self.guests.lock().ban(address, time.as_millis() as u64, self.now());
        self.metrics.bans.inc();
        tracing::warn!(%address, seconds = time.as_secs(), "address banned by a node");
    }

    /// Connections that hold a place now.
    pub fn connections(&self) -> usize {
        self.guests.lock().connections()
    }

    /// Addresses that are kept out now.
    pub fn banned(&self) -> usize {
        self.guests.lock().banned(self.now())
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.addresses.now();
        self.addresses.guests.lock().release(self.address, now);
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
