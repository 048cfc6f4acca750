//! Jobs: from a block template to the coinbase, header and block of every session.

mod coinbase;
mod id;

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize};

pub use self::id::{JobId, Nonce2};
use crate::difficulty::Target;
use crate::merkle;
use crate::sha256::{self, Engine};
use crate::sid::Extranonce1;
use crate::write;

/// Seconds a share's ntime may be ahead of the clock of the node that checks it: Bitcoin Core's
/// limit for blocks (`MAX_FUTURE_BLOCK_TIME`).
pub const MAX_NTIME_AHEAD_SECS: u32 = 7200;

/// The version bits miners may roll, by BIP 320 and by the habit of all pools.
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_e000;

/// The shortest and the longest nonce2 a job may ask for, in bytes.
pub const NONCE2_LEN: std::ops::RangeInclusive<u8> = 2..=8;

/// The longest coinbase tag, in bytes: with a tag of this length the scriptSig stays within the
/// 100 bytes of consensus, whatever the height and the nonce2 length.
pub const MAX_TAG_LEN: usize = 71;

/// The longest merkle branch: Bitcoin blocks hold fewer than 2^16 transactions.
const MAX_BRANCH: usize = 16;

/// The most bytes a job's coinbase may take from a peer.
const MAX_COINBASE: usize = 64 * 1024;

/// What Bitcoin Core wants the next block to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Height of the block.
    pub height: u32,
    /// Block version as Core proposes it; rolled bits are cleared by [`Job::assemble`].
    pub version: u32,
    /// Hash of the previous block, in the order inside headers.
    pub prev_hash: [u8; 32],
    /// Compact target.
    pub nbits: u32,
    /// Proposed time, seconds since 1970.
    pub ntime: u32,
    /// Earliest valid time (median time past + 1), seconds since 1970.
    pub min_ntime: u32,
    /// Subsidy and fees, satoshi.
    pub coinbase_value: u64,
    /// scriptPubKey of the witness commitment output (BIP 141), where the chain wants one.
    pub witness_commitment: Option<Vec<u8>>,
    /// Merkle branch of the coinbase. [`merkle::branch`] makes it from txids.
    pub merkle_branch: Vec<[u8; 32]>,
    /// Transactions besides the coinbase.
    pub transaction_count: u32,
}

/// The ids of one transaction of a block, both in the order SHA-256 gives them. A job's list of
/// them is kept apart from the job: a peer needs it only when the job solves a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct TxIds {
    /// Hash without witness.
    pub txid: [u8; 32],
    /// Hash with witness (BIP 141).
    pub wtxid: [u8; 32],
}

/// Who the coinbase pays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    /// scriptPubKey that takes everything the others leave. It is the first output.
    pub script: Vec<u8>,
    /// Further outputs with amounts of their own.
    pub fixed: Vec<PayoutOutput>,
}

impl Payout {
    /// All of it to one scriptPubKey.
    pub fn to_script(script: Vec<u8>) -> Self {
        Self { script, fixed: Vec::new() }
    }
}

/// One output with a fixed amount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PayoutOutput {
    /// Satoshi.
    pub value: u64,
    /// scriptPubKey.
    pub script: Vec<u8>,
}

/// What a node decides about a job, beside the template.
#[derive(Debug, Clone)]
pub struct JobParams<'a> {
    /// Unique in the cluster.
    pub id: JobId,
    /// Who is paid.
    pub payout: &'a Payout,
    /// Text for the coinbase, at most [`MAX_TAG_LEN`] bytes.
    pub tag: &'a [u8],
    /// Bytes of nonce2, within [`NONCE2_LEN`].
    pub nonce2_len: u8,
    /// Bits that some session may roll: they are cleared in the job's version.
    pub version_mask: u32,
    /// Whether the previous block changed, so that older work is worth nothing.
    pub clean: bool,
    /// Seconds since 1970 by the node's clock.
    pub created_at: u64,
}

/// Why no job can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JobError {
    /// The compact target is none.
    #[error("nbits {0:08x} is no target")]
    Nbits(u32),
    /// The nonce2 length is outside [`NONCE2_LEN`].
    #[error("nonce2 of {0} bytes, expected 2 to 8")]
    Nonce2Len(u8),
    /// The tag is longer than [`MAX_TAG_LEN`].
    #[error("coinbase tag of {0} bytes, expected at most {MAX_TAG_LEN}")]
    TagLen(usize),
    /// Fixed outputs pay more than the block is worth.
    #[error("payout outputs exceed the coinbase value of {0} satoshi")]
    Payout(u64),
    /// The coinbase has a size or the branch a length that no block has.
    #[error("coinbase or merkle branch out of bounds")]
    Bounds,
}

/// The data of a job: all that is needed to verify its shares and, with the transactions, to
/// build its block. A few kilobytes.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobData {
    /// Unique in the cluster.
    pub id: JobId,
    /// Height of the block.
    pub height: u32,
    /// Header version, all rollable bits clear.
    pub version: u32,
    /// Hash of the previous block, in the order inside headers.
    pub prev_hash: [u8; 32],
    /// Compact target of the network.
    pub nbits: u32,
    /// Time proposed to miners, seconds since 1970.
    pub ntime: u32,
    /// Earliest time a share may have, seconds since 1970.
    pub min_ntime: u32,
    /// Whether the previous block changed with this job.
    pub clean: bool,
    /// Bytes of nonce2.
    pub nonce2_len: u8,
    /// Whether the block carries a witness commitment, so that its coinbase needs a witness.
    pub witness: bool,
    /// Seconds since 1970 by the clock of the node that made it.
    pub created_at: u64,
    /// Subsidy and fees, satoshi.
    pub coinbase_value: u64,
    /// Transactions besides the coinbase.
    pub transaction_count: u32,
    /// The coinbase transaction (without witness) before the extranonces.
    pub coinbase1: Vec<u8>,
    /// The coinbase transaction behind the extranonces.
    pub coinbase2: Vec<u8>,
    /// Merkle branch of the coinbase.
    pub merkle_branch: Vec<[u8; 32]>,
}

/// A job, ready to verify shares. It reads as its [`JobData`] and cannot be changed; one that
/// was deserialised has been checked like one that was assembled.
#[derive(Clone, Serialize, Deserialize)]
#[serde(try_from = "JobData", into = "JobData")]
pub struct Job {
    data: JobData,
    network_target: Target,
    /// SHA-256 over `coinbase1`.
    prefix: Engine,
}

impl Job {
    /// Builds the job of a template.
    ///
    /// The coinbase has the height (BIP 34), the tag, the job id and the extranonces, each as a push,
    /// in its scriptSig; `payout`, then the witness commitment, as outputs; lock time height − 1 with a
    /// non-final sequence, so that no two coinbases are equal (BIP 54).
    pub fn assemble(template: &Template, params: &JobParams<'_>) -> Result<Self, JobError> {
        let (coinbase1, coinbase2) = coinbase::split(template, params)?;
        Self::try_from(JobData {
            id: params.id,
            height: template.height,
            version: template.version & !params.version_mask,
            prev_hash: template.prev_hash,
            nbits: template.nbits,
            ntime: template.ntime.max(template.min_ntime),
            min_ntime: template.min_ntime,
            clean: params.clean,
            nonce2_len: params.nonce2_len,
            witness: template.witness_commitment.is_some(),
            created_at: params.created_at,
            coinbase_value: template.coinbase_value,
            transaction_count: template.transaction_count,
            coinbase1,
            coinbase2,
            merkle_branch: template.merkle_branch.clone(),
        })
    }

    /// The target of the network: a hash that meets it is a block.
    pub fn network_target(&self) -> Target {
        self.network_target
    }

    /// The latest ntime a share may have when the clock shows `now_secs` (since 1970).
    pub fn max_ntime(now_secs: u64) -> u32 {
        u32::try_from(now_secs.saturating_add(u64::from(MAX_NTIME_AHEAD_SECS))).unwrap_or(u32::MAX)
    }

    /// The `mining.notify` line of this job, with its line end. `clean` is what goes out as
    /// `clean_jobs`: usually `self.clean`, but false where the job is only sent again.
    pub fn notify_line(&self, clean: bool) -> Vec<u8> {
        let mut line = Vec::with_capacity(
            256 + 2 * (self.coinbase1.len() + self.coinbase2.len()) + 67 * self.merkle_branch.len(),
        );
        write::notify(&mut line, self, clean);
        line
    }

    /// The coinbase transaction of one share: serialised without witness (as its txid hashes it)
    /// or with (as the block carries it). Without a witness commitment both are the same.
    pub fn coinbase_tx(&self, en1: Extranonce1, nonce2: Nonce2, with_witness: bool) -> Vec<u8> {
        let plain =
            [&self.coinbase1[..], &en1.to_bytes(), nonce2.as_bytes(), &self.coinbase2].concat();
        if with_witness && self.witness { coinbase::with_witness(&plain) } else { plain }
    }

    /// The txid of the coinbase of one share.
    pub fn coinbase_txid(&self, en1: Extranonce1, nonce2: Nonce2) -> [u8; 32] {
        let mut engine = self.prefix.clone();
        engine.update(&en1.to_bytes());
        engine.update(nonce2.as_bytes());
        engine.update(&self.coinbase2);
        engine.finish_double()
    }

    /// The header of one share. `version` is whole, see [`Job::rolled_version`].
    pub fn header(
        &self,
        en1: Extranonce1,
        nonce2: Nonce2,
        version: u32,
        ntime: u32,
        nonce: u32,
    ) -> [u8; 80] {
        let root = merkle::root(self.coinbase_txid(en1, nonce2), &self.merkle_branch);
        header_bytes(version, &self.prev_hash, &root, ntime, self.nbits, nonce)
    }

    /// The header version with a miner's `bits`: those outside `mask` come from the job.
    pub fn rolled_version(&self, bits: u32, mask: u32) -> u32 {
        (self.version & !mask) | (bits & mask)
    }

    /// The whole block: `header`, the coinbase with its witness, and `transactions`, each
    /// serialised as Core gives them, in template order, without a coinbase.
    pub fn block_bytes<T: AsRef<[u8]>>(
        &self,
        header: &[u8; 80],
        en1: Extranonce1,
        nonce2: Nonce2,
        transactions: &[T],
    ) -> Vec<u8> {
        let coinbase = self.coinbase_tx(en1, nonce2, true);
        let size: usize = transactions.iter().map(|tx| tx.as_ref().len()).sum();
        let mut block = Vec::with_capacity(80 + 9 + coinbase.len() + size);
        block.extend_from_slice(header);
        coinbase::push_compact_size(&mut block, transactions.len() as u64 + 1);
        block.extend_from_slice(&coinbase);
        for transaction in transactions {
            block.extend_from_slice(transaction.as_ref());
        }
        block
    }
}

impl Deref for Job {
    type Target = JobData;

    fn deref(&self) -> &JobData {
        &self.data
    }
}

impl TryFrom<JobData> for Job {
    type Error = JobError;

    fn try_from(data: JobData) -> Result<Self, JobError> {
        let network_target = Target::from_nbits(data.nbits).ok_or(JobError::Nbits(data.nbits))?;
        if !NONCE2_LEN.contains(&data.nonce2_len) {
            return Err(JobError::Nonce2Len(data.nonce2_len));
        }
        if data.coinbase1.len() + data.coinbase2.len() > MAX_COINBASE
            || data.coinbase1.len() < coinbase::MIN_COINBASE1
            || data.merkle_branch.len() > MAX_BRANCH
        {
            return Err(JobError::Bounds);
        }
        let mut prefix = Engine::new();
        prefix.update(&data.coinbase1);
        Ok(Self { data, network_target, prefix })
    }
}

impl From<Job> for JobData {
    fn from(job: Job) -> Self {
        job.data
    }
}

impl PartialEq for Job {
    fn eq(&self, other: &Self) -> bool {
        self.data == other.data
    }
}

impl Eq for Job {}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("id", &self.id)
            .field("height", &self.height)
            .field("transactions", &self.transaction_count)
            .finish_non_exhaustive()
    }
}

/// The 80 bytes of a block header from its fields. Hashes are in the order inside headers.
pub fn header_bytes(
    version: u32,
    prev_hash: &[u8; 32],
    merkle_root: &[u8; 32],
    ntime: u32,
    nbits: u32,
    nonce: u32,
) -> [u8; 80] {
    let mut header = [0; 80];
    header[..4].copy_from_slice(&version.to_le_bytes());
    header[4..36].copy_from_slice(prev_hash);
    header[36..68].copy_from_slice(merkle_root);
    header[68..72].copy_from_slice(&ntime.to_le_bytes());
    header[72..76].copy_from_slice(&nbits.to_le_bytes());
    header[76..].copy_from_slice(&nonce.to_le_bytes());
    header
}

/// The double SHA-256 of a header: the block hash, in the order SHA-256 gives it.
pub fn header_hash(header: &[u8; 80]) -> [u8; 32] {
    sha256::header_hash(header)
}

/// A hash as people read it: reversed, in hexadecimal.
pub fn display_hash(hash: &[u8; 32]) -> String {
    let mut reversed = *hash;
    reversed.reverse();
    hex::encode(reversed)
}
