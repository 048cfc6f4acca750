//! Who may connect: connections in all and of one address, and what offences cost.

use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use seam_stratum::guest::{Bounds, Guests, Refusal};

use crate::clock::Clock;
use crate::config::Limits;
use crate::metrics::Metrics;

/// What each address did; shared by every listener and link.
pub struct Addresses {
    guests: Mutex<Guests>,
    ban_seconds: u64,
    clock: Clock,
    metrics: Arc<Metrics>,
}

impl Addresses {
    /// An empty table under `limits`.
    #[must_use]
    pub fn new(limits: Limits, clock: Clock, metrics: Arc<Metrics>) -> Self {
        let Limits { connections, per_address, ban_score, ban_seconds, .. } = limits;
        let guests = Guests::new(Bounds { connections, per_address, ban_score, ban_seconds });
        Self { guests: Mutex::new(guests), ban_seconds, clock, metrics }
    }

    /// Counts a new connection of `address`, or says why there is no place for it.
    pub fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Place, Refusal> {
        self.guests.lock().admit(address, self.clock.monotonic_millis()).inspect_err(
            |refusal| {
                if let Some(limit) = refusal.limit() {
                    self.metrics.limit_hit(limit);
                }
            },
        )?;
        Ok(Place { addresses: Arc::clone(self), address })
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
        let bans = self.guests.lock().offend(address, offence.score, now);
        if bans {
            self.metrics.bans.inc();
            tracing::warn!(%address, seconds = self.ban_seconds, "address banned");
        }
        bans
    }

    /// Whether an address is banned now.
    #[must_use]
    pub fn is_banned(&self, address: IpAddr) -> bool {
        self.guests.lock().is_banned(address, self.clock.monotonic_millis())
    }

    /// Addresses that are banned now.
    #[must_use]
    pub fn banned(&self) -> usize {
        self.guests.lock().banned(self.clock.monotonic_millis())
    }

    /// Connections that hold a place now.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.guests.lock().connections()
    }
}

/// A connection's place among those that are counted; given back when dropped.
pub struct Place {
    addresses: Arc<Addresses>,
    address: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let now = self.addresses.clock.monotonic_millis();
        self.addresses.guests.lock().release(self.address, now);
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offences_ban_until_the_clock_says_otherwise() {
        let clock = Clock::manual(1_000_000);
        let metrics = Arc::new(Metrics::new());
        let limits = Limits::default();
        let addresses = Arc::new(Addresses::new(limits, clock.clone(), Arc::clone(&metrics)));
        let one: IpAddr = "10.0.0.1".parse().unwrap();
        let place = addresses.admit(one).unwrap();
        for _ in 0..9 {
            assert!(!addresses.offend(one, score::MALFORMED));
        }
        assert!(addresses.offend(one, score::MALFORMED));
        assert_eq!(addresses.admit(one).err(), Some(Refusal::Banned));
        assert_eq!((addresses.banned(), metrics.bans.get()), (1, 1));
        drop(place);
        assert_eq!(addresses.connections(), 0);
        clock.advance(599_000);
        assert!(addresses.is_banned(one));
        clock.advance(2_000);
        assert!(addresses.admit(one).is_ok());
    }

    #[test]
    fn reached_bounds_are_counted() {
        let limits = Limits { connections: 2, per_address: 1, ..Limits::default() };
        let metrics = Arc::new(Metrics::new());
        let addresses = Arc::new(Addresses::new(limits, Clock::manual(0), Arc::clone(&metrics)));
        let [one, two, three] = [1, 2, 3].map(|last| IpAddr::from([10, 0, 0, last]));
        let places = [addresses.admit(one).unwrap(), addresses.admit(two).unwrap()];
        assert_eq!(addresses.admit(three).err(), Some(Refusal::Full));
        drop(places);
        let _place = addresses.admit(one).unwrap();
        assert_eq!(addresses.admit(one).err(), Some(Refusal::AddressFull));
        for limit in ["connections", "connections_per_address"] {
            assert_eq!(metrics.limit_hits.get_or_create(&[("limit", limit)]).get(), 1, "{limit}");
        }
    }
}
