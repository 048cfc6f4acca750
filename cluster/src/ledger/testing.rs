//! A ledger and its commands, for tests in this crate.

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};

use super::*;

pub(crate) const NOW: u32 = 1_700_000_000;

/// A ledger that numbers its commands itself.
pub(crate) struct Ledger {
    pub(crate) state: State,
    shares: u64,
}

impl Ledger {
    pub(crate) fn new() -> Self {
        Self { state: State::new(), shares: 0 }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Outcome {
        let index = self.state.applied() + 1;
        self.state.apply(index, &command)
    }

    pub(crate) fn user(&mut self, name: &str) -> UserId {
        match self.apply(Command::EnsureUser { name: name.into() }) {
            Outcome::User(id) => id,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn share(&mut self, user: UserId, work: u64) {
        self.shares += 1;
        let share = Share { user, work, ..share(self.shares) };
        let outcome = self.apply(Command::Shares { time: NOW, batch: vec![share] });
        assert_eq!(outcome, Outcome::Shares(vec![ShareOutcome::Counted]));
    }

    pub(crate) fn block(&mut self, height: u32, number: u8) -> Outcome {
        self.apply(Command::BlockFound(Box::new(block(height, number))))
    }

    pub(crate) fn settle(&mut self, number: u8, verdict: Verdict) -> Outcome {
        self.apply(Command::BlockStatus { hash: hash(number), verdict })
    }

    pub(crate) fn orphan(&mut self, number: u8) {
        assert_eq!(self.settle(number, Verdict::Orphaned), Outcome::Done);
    }

    pub(crate) fn confirm(&mut self, number: u8) {
        assert_eq!(self.settle(number, Verdict::Confirmed), Outcome::Done);
    }

    /// Shares of a user in the current round.
    pub(crate) fn current(&self, user: UserId) -> u64 {
        self.state.rounds().current().table.of(user).shares
    }

    /// Shares in the round that a block closed.
    pub(crate) fn closed(&self, number: u8) -> u64 {
        self.state.rounds().by_hash(&hash(number)).unwrap().total.shares
    }
}

pub(crate) fn share(number: u64) -> Share {
    let mut hash16 = [0; 16];
    hash16[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    hash16[8..].copy_from_slice(&number.to_le_bytes());
    Share { session: 1, user: UserId(0), work: 1, hash16, job_time: NOW, time: NOW }
}

pub(crate) fn hash(number: u8) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[0] = number;
    BlockHash::from_byte_array(bytes)
}

pub(crate) fn block(height: u32, number: u8) -> BlockFound {
    BlockFound {
        height,
        hash: hash(number),
        previous: hash(0),
        ts: NOW,
        time: NOW + 1,
        txid: Txid::from_byte_array(hash(number).to_byte_array()),
        address: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".into(),
        reward: 5_000_000_000,
        network: "regtest".into(),
        node: "node-0".into(),
        job: 1 << 24,
        session: 1,
        user: UserId(0),
        share: None,
    }
}
