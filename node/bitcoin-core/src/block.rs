//! Blocks as Core sees them: tips, verdicts, places in the chain.

use crate::error::Error;
use crate::ffi::{RawBlock, RawTip, RawVerdict};
use crate::hash::BlockHash;

/// The last block of the active chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tip {
    /// Its hash.
    pub hash: BlockHash,
    /// Its height; the genesis block has 0.
    pub height: u32,
    /// The time in its header.
    pub time: u32,
    /// The median time of the eleven blocks up to it (BIP 113).
    pub median_time_past: u32,
}

/// What became of a submitted block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockOutcome {
    /// Core checked it completely and connected it.
    Accepted,
    /// Core had it already.
    Duplicate,
    /// Core stored it but did not connect it, so its contents are not checked: another block of the
    /// same or more work was first.
    Inconclusive,
    /// It is invalid.
    Rejected {
        /// Core's reason, as in BIP 22, and details where there are any.
        reason: String,
    },
}

/// The verdict on a block that was looked at, not submitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BlockCheck {
    /// It is valid on the present tip.
    Valid,
    /// It builds on another block than the present tip, so it cannot be checked.
    NotOnTip,
    /// It is not.
    Invalid {
        /// Core's reason, as in BIP 22, and details where there are any.
        reason: String,
    },
}

/// A block that Core has heard of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// The hash of the block before it; zeroes for the genesis block.
    pub previous: BlockHash,
    /// Its height.
    pub height: u32,
    /// The time in its header.
    pub time: u32,
    /// The median time of the eleven blocks up to it (BIP 113).
    pub median_time_past: u32,
    /// How many blocks of the active chain there are from it on, itself included; 0 for a block
    /// that is not in the active chain: stale, reorganized out, or not connected yet.
    pub confirmations: u32,
    /// Core has the whole block, not only its header.
    pub has_data: bool,
    /// Core found it, or a block before it, invalid.
    pub is_invalid: bool,
}

impl Block {
    /// Whether the block is part of the chain with the most work.
    pub fn in_active_chain(&self) -> bool {
        self.confirmations > 0
    }
}

impl From<RawTip> for Tip {
    fn from(raw: RawTip) -> Self {
        Self {
            hash: BlockHash(raw.hash),
            height: raw.height.unsigned_abs(),
            time: seconds(raw.time),
            median_time_past: seconds(raw.median_time_past),
        }
    }
}

impl From<RawBlock> for Block {
    fn from(raw: RawBlock) -> Self {
        Self {
            previous: BlockHash(raw.previous),
            height: raw.height.unsigned_abs(),
            time: seconds(raw.time),
            median_time_past: seconds(raw.median_time_past),
            confirmations: raw.confirmations.unsigned_abs(),
            has_data: raw.has_data != 0,
            is_invalid: raw.failed != 0,
        }
    }
}

impl BlockOutcome {
    pub(crate) fn new(verdict: RawVerdict) -> Result<Self, Error> {
        match verdict.result {
            0 => Ok(Self::Accepted),
            1 => Ok(Self::Duplicate),
            2 => Ok(Self::Inconclusive),
            3 => Ok(Self::Rejected { reason: verdict.reason }),
            other => Err(Error::Failed(format!("unknown verdict {other}"))),
        }
    }
}

impl BlockCheck {
    pub(crate) fn new(verdict: Result<bool, Error>) -> Result<Self, Error> {
        match verdict {
            Ok(true) => Ok(Self::Valid),
            Ok(false) => Ok(Self::NotOnTip),
            Err(Error::Rejected(reason)) => Ok(Self::Invalid { reason }),
            Err(error) => Err(error),
        }
    }
}

/// A header has 32 bits for the time; Core computes with more.
pub(crate) fn seconds(time: i64) -> u32 {
    u32::try_from(time.max(0)).unwrap_or(u32::MAX)
}
