//! Rounds: the credit between two of our blocks, and what became of those blocks.
//!
//! Each counted share is in exactly one place: in the current round or in one closed round whose
//! block is not orphaned. When a block is orphaned its credit is added to the current round, which
//! then *holds* it. Should the block come back into the best chain, its credit is taken back from
//! wherever it is by then, be that the current round or a closed one, unless the block that holds
//! it is mature: then it has been paid with that block, and the one that came back has no shares.

use std::collections::VecDeque;
use std::sync::Arc;

use bitcoin::BlockHash;
use serde::{Deserialize, Serialize};

use super::command::{BlockFound, Share, Verdict};
use super::credit::{Credit, Detail, Table};
use super::outcome::Refusal;

/// Closed rounds that are remembered. Older ones live in their dumps only.
pub const MAX_ROUNDS: usize = 10_000;

/// Bytes of the credit per user of settled rounds that are remembered, newest first; rounds that
/// are not settled are never forgotten for it. Older ones keep their totals.
pub const DETAIL_BYTES: usize = 64 << 20;

/// What is known of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Status {
    /// Found; no chain has been asked yet.
    Pending,
    /// In the best chain.
    Confirmed,
    /// In the best chain, its coinbase can be spent. Final.
    Mature,
    /// Not in the best chain; its credit returned to the round that was current.
    Orphaned,
    /// Orphaned for good.
    Abandoned,
}

impl Status {
    /// Whether it never changes again.
    pub fn is_settled(self) -> bool {
        matches!(self, Self::Mature | Self::Abandoned)
    }

    /// Whether the block is out of the best chain.
    pub fn is_orphaned(self) -> bool {
        matches!(self, Self::Orphaned | Self::Abandoned)
    }

    /// `pending`, `confirmed`, `mature` or `orphaned`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Confirmed => "confirmed",
            Self::Mature => "mature",
            Self::Orphaned | Self::Abandoned => "orphaned",
        }
    }
}

/// A closed round.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Round {
    /// Rounds are numbered from 0 in the order in which they were closed.
    pub number: u64,
    /// The block that closed it.
    pub block: BlockFound,
    /// What became of the block.
    pub status: Status,
    /// When its first share arrived, in Unix seconds.
    pub started: Option<u32>,
    /// When its newest share arrived, in Unix seconds.
    pub last: Option<u32>,
    /// Users that have credit.
    pub users: u32,
    /// The credit of all. For an orphaned block, what it was before it returned to the current
    /// round.
    pub total: Credit,
    /// The credit of each, unless it is too old to be remembered ([`DETAIL_BYTES`]).
    pub detail: Option<Detail>,
    /// The round that was current when the block was orphaned.
    pub held_by: Option<u64>,
    /// The round with which its shares were paid, if the block came back too late to have them.
    pub paid_with: Option<u64>,
}

/// The round that shares are counted in.
#[derive(Clone, Debug, Default)]
pub struct Current {
    /// The number that it will have when it is closed.
    pub number: u64,
    /// When its first share arrived, in Unix seconds.
    pub started: Option<u32>,
    /// When its newest share arrived, in Unix seconds.
    pub last: Option<u32>,
    /// The credit of each user.
    pub table: Table,
}

/// The current round and the closed ones.
#[derive(Clone, Debug, Default)]
pub struct Rounds {
    pub(super) current: Current,
    pub(super) closed: VecDeque<Arc<Round>>,
}

impl Rounds {
    /// The round that shares are counted in.
    pub fn current(&self) -> &Current {
        &self.current
    }

    /// Closed rounds, the newest first. For a page, `skip` and `take`.
    pub fn closed(&self) -> impl DoubleEndedIterator<Item = &Arc<Round>> + ExactSizeIterator {
        self.closed.iter().rev()
    }

    /// The round that a block closed.
    pub fn by_hash(&self, hash: &BlockHash) -> Option<&Arc<Round>> {
        self.closed().find(|round| round.block.hash == *hash)
    }

    /// The rounds that our blocks of a height closed, the newest first: two of our miners may solve
    /// blocks at the same height, of which one at most stays in the chain.
    pub fn at_height(&self, height: u32) -> impl Iterator<Item = &Arc<Round>> {
        self.closed().filter(move |round| round.block.height == height)
    }

    /// The round of that number.
    pub fn by_number(&self, number: u64) -> Option<&Arc<Round>> {
        self.closed.get(self.position(number)?)
    }

    /// Rounds whose block's status is not final: what has to be followed, oldest first.
    pub fn unsettled(&self) -> impl Iterator<Item = &Arc<Round>> {
        self.closed.iter().filter(|round| !round.status.is_settled())
    }

    pub(super) fn count(&mut self, share: &Share) {
        let current = &mut self.current;
        current.table.add(share.user, Credit { shares: 1, work: u128::from(share.work) });
        current.started.get_or_insert(share.time);
        current.last = current.last.max(Some(share.time));
    }

    /// Closes the current round, unless the block has closed one before. Says which round it was
    /// and whether it is new.
    pub(super) fn close(&mut self, block: BlockFound) -> (u64, bool) {
        if let Some(round) = self.by_hash(&block.hash) {
            return (round.number, false);
        }
        let next = Current { number: self.current.number + 1, ..Current::default() };
        let Current { number, started, last, table } = std::mem::replace(&mut self.current, next);
        self.closed.push_back(Arc::new(Round {
            number,
            block,
            status: Status::Pending,
            started,
            last,
            users: table.users(),
            total: table.total(),
            detail: Some(table.pack()),
            held_by: None,
            paid_with: None,
        }));
        self.forget();
        (number, true)
    }

    pub(super) fn settle(&mut self, hash: &BlockHash, verdict: Verdict) -> Result<(), Refusal> {
        let number = self.by_hash(hash).ok_or(Refusal::NoSuchBlock)?.number;
        let status = match verdict {
            Verdict::Confirmed => Status::Confirmed,
            Verdict::Mature => Status::Mature,
            Verdict::Orphaned => Status::Orphaned,
            Verdict::Abandoned => Status::Abandoned,
        };
        let before = self.change(number).ok_or(Refusal::NoSuchBlock)?.status;
        if before == status {
            return Ok(());
        }
        if before.is_settled() {
            return Err(Refusal::Settled);
        }
        match (before.is_orphaned(), status.is_orphaned()) {
            (false, true) => self.give_back(number),
            (true, false) => self.reinstate(number),
            _ => {}
        }
        if let Some(round) = self.change(number) {
            round.status = status;
        }
        if status.is_settled() {
            self.forget();
        }
        Ok(())
    }

    /// Returns an orphan's credit to the current round.
    fn give_back(&mut self, number: u64) {
        let current = self.current.number;
        let Some(round) = self.change(number) else { return };
        round.held_by = Some(current);
        if let Some(detail) = round.detail.clone() {
            self.current.table.merge(&detail);
        }
    }

    /// Takes the credit of a block that came back from where it is now.
    fn reinstate(&mut self, number: u64) {
        let holders = self.holders(number);
        let Some(round) = self.change(number) else { return };
        round.held_by = None;
        let detail = round.detail.clone().unwrap_or_default();
        let holders = match holders {
            Ok(holders) => holders,
            Err(paid_with) => {
                round.paid_with = Some(paid_with);
                round.detail = Some(Detail::default());
                (round.users, round.total) = (0, Credit::default());
                return;
            }
        };
        for holder in holders {
            if holder == self.current.number {
                self.current.table.take(&detail);
            } else if let Some(round) = self.change(holder)
                && let Some(own) = &round.detail
            {
                let table = own.without(&detail);
                (round.users, round.total) = (table.users(), table.total());
                round.detail = Some(table.pack());
            }
        }
    }

    /// The rounds whose credit includes that of an orphan: the one that holds it, and, if that was
    /// orphaned too, those that hold that one's in turn. The error is the round with which it has
    /// been paid.
    fn holders(&self, number: u64) -> Result<Vec<u64>, u64> {
        let mut holders = Vec::new();
        let mut at = number;
        loop {
            let round = self.by_number(at).ok_or(at)?;
            if at != number {
                if let Some(paid_with) = round.paid_with {
                    return Err(paid_with);
                }
                match round.status {
                    Status::Mature => return Err(at),
                    Status::Pending | Status::Confirmed => {
                        holders.push(at);
                        return Ok(holders);
                    }
                    Status::Orphaned | Status::Abandoned => holders.push(at),
                }
            }
            at = round.held_by.filter(|&holder| holder > at).ok_or(at)?;
            if at == self.current.number {
                holders.push(at);
                return Ok(holders);
            }
        }
    }

    /// Keeps the bounds.
    fn forget(&mut self) {
        while self.closed.len() > MAX_ROUNDS {
            self.closed.pop_front();
        }
        let mut kept = 0;
        for round in self.closed.iter_mut().rev() {
            let Some(detail) = &round.detail else { continue };
            if round.status.is_settled() {
                kept += detail.size();
                if kept > DETAIL_BYTES {
                    Arc::make_mut(round).detail = None;
                }
            }
        }
    }

    fn change(&mut self, number: u64) -> Option<&mut Round> {
        let position = self.position(number)?;
        self.closed.get_mut(position).map(Arc::make_mut)
    }

    fn position(&self, number: u64) -> Option<usize> {
        let first = self.closed.front()?.number;
        usize::try_from(number.checked_sub(first)?).ok()
    }
}
