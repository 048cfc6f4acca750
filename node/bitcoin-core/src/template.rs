//! Block templates: what a job is made of.

use std::fmt;
use std::sync::Arc;

use crate::block::seconds;
use crate::error::Error;
use crate::ffi::{self, Handle, RawTemplateOptions, TemplateParts};
use crate::hash::{BlockHash, Txid, Wtxid};

/// How to make a template (Core's `node::BlockCreateOptions`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateOptions {
    /// Take transactions from the mempool; an empty block otherwise, which is faster to make.
    pub use_mempool: bool,
    /// Weight units kept free for header, transaction count and coinbase transaction. Core takes
    /// 2,000 at the least; `None` is its `-blockreservedweight`, 8,000 by default.
    pub reserved_weight: Option<u64>,
    /// The weight of the whole block; `None` is Core's `-blockmaxweight`, the only way to set it
    /// before release 32.
    pub max_weight: Option<u64>,
    /// Signature operations kept free for the coinbase's outputs.
    pub reserved_sigops: u64,
    /// Have Core validate the finished template before it is returned. The transactions were
    /// validated when they came into the mempool; this guards against errors in Core, and takes
    /// most of the time a template of many transactions takes. Without it,
    /// [`Core::check_template`](crate::Core::check_template) does the same beside the miners' work.
    /// Before release 32 Core checks every template, whatever this says.
    pub check: bool,
}

impl Default for TemplateOptions {
    fn default() -> Self {
        Self {
            use_mempool: true,
            reserved_weight: None,
            max_weight: None,
            // Core's own default: what 100 pay-to-pubkey-hash outputs need.
            reserved_sigops: 400,
            check: true,
        }
    }
}

/// A block without coinbase and proof of work, as Core would mine it (its
/// `interfaces::BlockTemplate`). It does not change; cloning it is cheap.
#[derive(Clone)]
#[non_exhaustive]
pub struct Template {
    /// The block it builds on.
    pub previous: BlockHash,
    /// The height of the block to be mined.
    pub height: u32,
    /// The header's version, with the bits of deployments that are signalled.
    pub version: i32,
    /// The header's compact target.
    pub bits: u32,
    /// The time when the template was made, moved up to `min_time` if need be.
    pub time: u32,
    /// The smallest time the header may have (median time past + 1; more where BIP 94 applies). The
    /// largest is two hours ahead of the clocks of those who receive the block.
    pub min_time: u32,
    /// The median time of the eleven blocks before it (BIP 113).
    pub median_time_past: u32,
    /// What the coinbase may pay out: subsidy and fees, in satoshi.
    pub reward: u64,
    /// The fees of all transactions, in satoshi.
    pub fees: u64,
    /// How many transactions there are, without the coinbase.
    pub transaction_count: usize,
    /// The hashes that lead from the coinbase's txid to the merkle root, deepest first, in internal
    /// order.
    pub merkle_branch: Arc<[[u8; 32]]>,
    /// What the coinbase has to contain.
    pub coinbase: Arc<Coinbase>,
    handle: Arc<Handle>,
}

/// The parts of the coinbase transaction that Core prescribes (its `node::CoinbaseTx`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coinbase {
    /// The transaction's version.
    pub version: u32,
    /// The sequence of its only input.
    pub sequence: u32,
    /// The transaction's lock time.
    pub lock_time: u32,
    /// What the input's script begins with: the height (BIP 34). The script has to be 2 to 100
    /// bytes; up to height 16 this is one byte, so at least one has to follow.
    pub script_prefix: Vec<u8>,
    /// The only element of the input's witness (BIP 141); `None` before segwit is active.
    pub witness_reserved: Option<[u8; 32]>,
    /// Outputs to put after all others: the witness commitment.
    pub required_outputs: Vec<CoinbaseOutput>,
}

/// One output of a coinbase transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoinbaseOutput {
    /// Its value in satoshi.
    pub value: u64,
    /// Its script.
    pub script: Vec<u8>,
}

/// A transaction of a template.
#[derive(Clone, PartialEq, Eq)]
pub struct TemplateTransaction {
    /// The transaction as it stands in a block, with its witness.
    pub data: Arc<[u8]>,
    /// Its txid.
    pub txid: Txid,
    /// Its wtxid.
    pub wtxid: Wtxid,
    /// Its fee in satoshi.
    pub fee: u64,
    /// What it counts towards the block's limit of signature operations (BIP 141's cost).
    pub sigops: u64,
}

impl Template {
    /// The transactions in the order of the block, without the coinbase. They are serialized anew
    /// by every call: a job needs its header and merkle branch first, and these later. Works after
    /// Core has stopped.
    pub fn transactions(&self) -> Result<Vec<TemplateTransaction>, Error> {
        ffi::template_transactions(&self.handle)
    }

    /// The wtxids of [`Template::transactions`], without serializing any.
    pub fn wtxids(&self) -> Result<Vec<Wtxid>, Error> {
        let bytes = ffi::template_wtxids(&self.handle)?;
        let (hashes, []) = bytes.as_chunks::<32>() else {
            return Err(Error::Failed("a wtxid is cut off".to_owned()));
        };
        Ok(hashes.iter().copied().map(Wtxid).collect())
    }

    pub(crate) fn new(handle: Handle) -> Result<Self, Error> {
        let TemplateParts { fixed, merkle_branch, script_prefix, outputs } =
            ffi::template_read(&handle)?;
        let (hashes, []) = merkle_branch.as_chunks::<32>() else {
            return Err(Error::Failed("the merkle branch is cut off".to_owned()));
        };
        let coinbase = Coinbase {
            version: fixed.coinbase_version,
            sequence: fixed.coinbase_sequence,
            lock_time: fixed.coinbase_lock_time,
            script_prefix,
            witness_reserved: (fixed.has_witness_reserved != 0).then_some(fixed.witness_reserved),
            required_outputs: parse_outputs(&outputs)
                .ok_or_else(|| Error::Failed("the coinbase outputs are cut off".to_owned()))?,
        };
        Ok(Self {
            previous: BlockHash(fixed.previous),
            height: fixed.height.unsigned_abs(),
            version: fixed.version,
            bits: fixed.bits,
            time: seconds(fixed.time),
            min_time: seconds(fixed.min_time),
            median_time_past: seconds(fixed.median_time_past),
            reward: fixed.reward.unsigned_abs(),
            fees: fixed.fees.unsigned_abs(),
            transaction_count: usize::try_from(fixed.transactions).unwrap_or(usize::MAX),
            merkle_branch: hashes.into(),
            coinbase: Arc::new(coinbase),
            handle: Arc::new(handle),
        })
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template")
            .field("height", &self.height)
            .field("previous", &self.previous)
            .field("transaction_count", &self.transaction_count)
            .field("fees", &self.fees)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for TemplateTransaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateTransaction")
            .field("wtxid", &self.wtxid)
            .field("bytes", &self.data.len())
            .field("fee", &self.fee)
            .finish_non_exhaustive()
    }
}

impl From<&TemplateOptions> for RawTemplateOptions {
    fn from(options: &TemplateOptions) -> Self {
        Self {
            reserved_weight: options.reserved_weight.unwrap_or(0),
            max_weight: options.max_weight.unwrap_or(0),
            reserved_sigops: options.reserved_sigops,
            use_mempool: options.use_mempool.into(),
            check: options.check.into(),
        }
    }
}

/// Outputs as they stand in a transaction: value, length of the script, script.
fn parse_outputs(mut bytes: &[u8]) -> Option<Vec<CoinbaseOutput>> {
    let mut outputs = Vec::new();
    while !bytes.is_empty() {
        let (value, rest) = bytes.split_first_chunk::<8>()?;
        let (&length, rest) = rest.split_first()?;
        // A longer script would have a longer length; Core's commitments are 38 bytes.
        if length >= 0xfd {
            return None;
        }
        let (script, rest) = rest.split_at_checked(length.into())?;
        outputs.push(CoinbaseOutput { value: u64::from_le_bytes(*value), script: script.to_vec() });
        bytes = rest;
    }
    Some(outputs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outputs_are_read_to_the_end_or_not_at_all() {
        let mut bytes = vec![1, 0, 0, 0, 0, 0, 0, 0, 2, 0x6a, 0x00];
        let output = CoinbaseOutput { value: 1, script: vec![0x6a, 0x00] };
        assert_eq!(parse_outputs(&bytes), Some(vec![output]));
        bytes.pop();
        assert_eq!(parse_outputs(&bytes), None);
        assert_eq!(parse_outputs(&[]), Some(vec![]));
    }
}
