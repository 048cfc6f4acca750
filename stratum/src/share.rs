//! Judging a share: the one place where a submit becomes a hash.

use serde::{Deserialize, Serialize};

use crate::difficulty::Target;
use crate::job::{Job, Nonce2, header_hash};
use crate::reject::Reject;
use crate::sid::Extranonce1;

/// The numbers of a submit, with the session's extranonce1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Share {
    /// The session's.
    pub extranonce1: Extranonce1,
    /// The miner's.
    pub nonce2: Nonce2,
    /// Seconds since 1970.
    pub ntime: u32,
    /// The header nonce.
    pub nonce: u32,
    /// The version bits of BIP 310: 0 where the submit had five parameters.
    pub version_bits: u32,
}

/// What a share has to keep to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// The mask the session negotiated; 0 without version rolling.
    pub version_mask: u32,
    /// The latest ntime, see [`Job::max_ntime`].
    pub max_ntime: u32,
    /// The target of the difficulty this job was sent to the session with.
    pub target: Target,
}

/// What a share turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// The header that was hashed.
    pub header: [u8; 80],
    /// Its hash, in the order SHA-256 gives it. What the ledger knows a share by.
    pub hash: [u8; 32],
    /// Whether the hash meets the share target. Where not, the answer is
    /// [`Reject::HighHash`], but see `solves_block`.
    pub meets_target: bool,
    /// Whether the hash meets the network target. Such a block is submitted whatever else is
    /// wrong with the share.
    pub solves_block: bool,
}

/// Hashes a share once, and compares. Whether job, user and session fit, and whether the share
/// was seen before, is the caller's to know.
///
/// # Errors
/// Code 20 for a nonce2 of the wrong length, ntime outside `job.min_ntime ..= rules.max_ntime`, and
/// version bits outside the mask: nothing that could be a valid block.
pub fn verify(job: &Job, share: &Share, rules: &Rules) -> Result<Verdict, Reject> {
    if share.nonce2.len() != job.nonce2_len {
        return Err(Reject::NONCE2_LENGTH);
    }
    if share.version_bits & !rules.version_mask != 0 {
        return Err(Reject::VERSION_BITS);
    }
    if share.ntime < job.min_ntime {
        return Err(Reject::TIME_TOO_OLD);
    }
    if share.ntime > rules.max_ntime {
        return Err(Reject::TIME_TOO_NEW);
    }
    let version = job.rolled_version(share.version_bits, rules.version_mask);
    let header = job.header(share.extranonce1, share.nonce2, version, share.ntime, share.nonce);
    let hash = header_hash(&header);
    Ok(Verdict {
        header,
        hash,
        meets_target: rules.target.is_met_by(&hash),
        solves_block: job.network_target().is_met_by(&hash),
    })
}
