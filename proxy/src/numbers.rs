//! Extranonce1 values for new sessions, from ranges that the ledger leased to this proxy.

use std::collections::VecDeque;
use std::ops::Range;

/// Numbers that were never given to a miner.
///
/// A session's number decides which node owns it. To keep a node from getting more than its share
/// the proxy passes over the numbers of full nodes and puts them aside for later: so every new
/// session is on its own node from the start, and any proxy can find it there again.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    ranges: VecDeque<Range<u64>>,
    aside: VecDeque<u32>,
}

/// A further range is asked for when fewer numbers than this are left.
pub(crate) const LOW: u64 = 2_048;

/// Numbers put aside at most; beyond them the oldest are forgotten.
const MAX_ASIDE: usize = 4_096;

/// Numbers looked at for one session before a full node is taken after all.
const TRIES: usize = 64;

impl Numbers {
    /// Adds a leased range of `count` numbers from `first`.
    pub(crate) fn add(&mut self, first: u32, count: u32) {
        let first = u64::from(first);
        let end = (first + u64::from(count)).min(1 << 32);
        if first < end {
            self.ranges.push_back(first..end);
        }
    }

    /// How many are left, without those put aside.
    pub(crate) fn left(&self) -> u64 {
        self.ranges.iter().map(|range| range.end - range.start).sum()
    }

    /// The next number that `fits`, or the first one found if none of many does; `None` when there
    /// are no more.
    pub(crate) fn draw(&mut self, mut fits: impl FnMut(u32) -> bool) -> Option<u32> {
        for _ in 0..self.aside.len().min(TRIES) {
            let number = self.aside.pop_front()?;
            if fits(number) {
                return Some(number);
            }
            self.aside.push_back(number);
        }
        for _ in 0..TRIES {
            let Some(number) = self.next() else { break };
            if fits(number) {
                return Some(number);
            }
            if self.aside.len() == MAX_ASIDE {
                self.aside.pop_front();
            }
            self.aside.push_back(number);
        }
        self.aside.pop_back()
    }

    fn next(&mut self) -> Option<u32> {
        let range = self.ranges.front_mut()?;
        let number = range.next();
        if range.is_empty() {
            self.ranges.pop_front();
        }
        // A range ends at 2^32 at most.
        number.and_then(|number| u32::try_from(number).ok())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_number_is_given_twice() {
        let mut numbers = Numbers::default();
        numbers.add(u32::MAX - 99, 4096);
        numbers.add(0, 100);
        assert_eq!(numbers.left(), 200);
        let mut seen = HashSet::new();
        while let Some(number) = numbers.draw(|number| number % 3 != 0 || seen.len() > 120) {
            assert!(seen.insert(number));
        }
        assert_eq!(seen.len(), 200);
    }

    #[test]
    fn numbers_put_aside_come_first_when_they_fit() {
        let mut numbers = Numbers::default();
        numbers.add(0, 100);
        assert_eq!(numbers.draw(|number| number == 5), Some(5));
        assert_eq!(numbers.draw(|_| true), Some(0));
    }

    #[test]
    fn without_a_fit_any_number_is_better_than_none() {
        let mut numbers = Numbers::default();
        assert_eq!(numbers.draw(|_| true), None);
        numbers.add(7, 1);
        assert_eq!(numbers.draw(|_| false), Some(7));
        assert_eq!(numbers.draw(|_| true), None);
    }
}
