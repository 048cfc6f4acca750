//! Tickets of sessions whose connection went: a miner that comes back with its sid goes on where it
//! was, also when the node that had it is gone.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use seam_stratum::Extranonce1;

/// The newest ones, for a while.
#[derive(Debug, Default)]
pub(crate) struct Parked {
    tickets: HashMap<Extranonce1, (Instant, Box<[u8]>)>,
    /// In the order of parking; one that was taken since is skipped.
    order: VecDeque<(Extranonce1, Instant)>,
}

impl Parked {
    /// Keeps a sealed ticket; beyond `most` of them the oldest is forgotten.
    pub(crate) fn keep(
        &mut self,
        number: Extranonce1,
        ticket: Box<[u8]>,
        now: Instant,
        most: usize,
    ) {
        if most == 0 {
            return;
        }
        while self.order.len() >= most {
            self.drop_oldest();
        }
        self.tickets.insert(number, (now, ticket));
        self.order.push_back((number, now));
    }

    /// Gives the ticket up to the session that came back.
    pub(crate) fn take(&mut self, number: Extranonce1) -> Option<Box<[u8]>> {
        self.tickets.remove(&number).map(|(_, ticket)| ticket)
    }

    /// Forgets those that were parked longer ago than `patience`.
    pub(crate) fn sweep(&mut self, now: Instant, patience: Duration) {
        while self.order.front().is_some_and(|(_, at)| now.duration_since(*at) > patience) {
            self.drop_oldest();
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.tickets.len()
    }

    fn drop_oldest(&mut self) {
        let Some((number, at)) = self.order.pop_front() else { return };
        if self.tickets.get(&number).is_some_and(|(parked, _)| *parked == at) {
            self.tickets.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(byte: u8) -> Box<[u8]> {
        Box::new([byte])
    }

    #[test]
    fn oldest_goes_first_and_none_outlives_its_time() {
        let (mut parked, start) = (Parked::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        for number in 0..5 {
            parked.keep(Extranonce1(number), ticket(number as u8), at(number.into()), 3);
        }
        assert_eq!(parked.len(), 3);
        assert_eq!(parked.take(Extranonce1(1)), None);
        assert_eq!(parked.take(Extranonce1(2)), Some(ticket(2)));
        // Parked again, it is the newest.
        parked.keep(Extranonce1(2), ticket(7), at(5), 3);
        parked.sweep(at(14), Duration::from_secs(10));
        assert_eq!(parked.take(Extranonce1(3)), None);
        assert_eq!(parked.take(Extranonce1(4)), Some(ticket(4)));
        assert_eq!(parked.take(Extranonce1(2)), Some(ticket(7)));
        assert_eq!(parked.len(), 0);
    }
}
