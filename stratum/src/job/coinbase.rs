//! The coinbase transaction, split where the extranonces go.

use super::{JobError, JobParams, MAX_TAG_LEN, NONCE2_LEN, Template};
use crate::sid::Extranonce1;

/// Bytes before the scriptSig: version, input count, null outpoint, length; and one of script.
pub(super) const MIN_COINBASE1: usize = 4 + 1 + 36 + 1 + 1;

/// The version of the coinbase transaction.
const TX_VERSION: u32 = 2;

/// Enables the lock time, which makes coinbases of different heights different (BIP 54).
const SEQUENCE: u32 = 0xffff_fffe;

/// Bytes of a job id in the coinbase.
const JOB_ID_LEN: u8 = 8;

/// The serialised transaction (without witness) before and behind extranonce1 ‖ nonce2.
pub(super) fn split(
    template: &Template,
    params: &JobParams<'_>,
) -> Result<(Vec<u8>, Vec<u8>), JobError> {
    if !NONCE2_LEN.contains(&params.nonce2_len) {
        return Err(JobError::Nonce2Len(params.nonce2_len));
    }
    if params.tag.len() > MAX_TAG_LEN {
        return Err(JobError::TagLen(params.tag.len()));
    }
    let extranonce_len = Extranonce1::LEN as u8 + params.nonce2_len;

    let mut script = Vec::with_capacity(100);
    push_height(&mut script, template.height);
    if !params.tag.is_empty() {
        script.push(params.tag.len() as u8);
        script.extend_from_slice(params.tag);
    }
    // Makes every job's headers its own: with equal coinbases, one proof could be handed in under
    // two jobs of the same template.
    script.push(JOB_ID_LEN);
    script.extend_from_slice(&params.id.0.to_be_bytes());
    // As a push, so that no extranonce is ever counted as a signature operation.
    script.push(extranonce_len);

    let mut coinbase1 = Vec::with_capacity(MIN_COINBASE1 + script.len());
    coinbase1.extend_from_slice(&TX_VERSION.to_le_bytes());
    coinbase1.push(1);
    coinbase1.extend_from_slice(&[0; 32]);
    coinbase1.extend_from_slice(&u32::MAX.to_le_bytes());
    coinbase1.push(script.len() as u8 + extranonce_len); // at most 100: one byte
    coinbase1.extend_from_slice(&script);

    let mut coinbase2 = Vec::with_capacity(128);
    coinbase2.extend_from_slice(&SEQUENCE.to_le_bytes());
    push_outputs(&mut coinbase2, template, params)?;
    coinbase2.extend_from_slice(&template.height.saturating_sub(1).to_le_bytes());
    Ok((coinbase1, coinbase2))
}

/// Adds marker, flag and the witness reserved value (32 zero bytes, BIP 141) to a serialised
/// coinbase transaction.
pub(super) fn with_witness(plain: &[u8]) -> Vec<u8> {
    let (version, rest) = plain.split_at(4);
    let (body, lock_time) = rest.split_at(rest.len() - 4);
    [version, &[0, 1], body, &[1, 32], &[0; 32], lock_time].concat()
}

/// Bitcoin's variable-length integer.
pub(super) fn push_compact_size(out: &mut Vec<u8>, value: u64) {
    match value {
        0..=0xfc => out.push(value as u8),
        0xfd..=0xffff => {
            out.push(0xfd);
            out.extend_from_slice(&(value as u16).to_le_bytes());
        }
        0x1_0000..=0xffff_ffff => {
            out.push(0xfe);
            out.extend_from_slice(&(value as u32).to_le_bytes());
        }
        _ => {
            out.push(0xff);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

fn push_outputs(
    out: &mut Vec<u8>,
    template: &Template,
    params: &JobParams<'_>,
) -> Result<(), JobError> {
    let payout = params.payout;
    let rest = payout
        .fixed
        .iter()
        .try_fold(template.coinbase_value, |rest, output| rest.checked_sub(output.value))
        .ok_or(JobError::Payout(template.coinbase_value))?;

    let commitment = template.witness_commitment.as_deref();
    let count = 1 + payout.fixed.len() + usize::from(commitment.is_some());
    push_compact_size(out, count as u64);
    push_output(out, rest, &payout.script);
    for output in &payout.fixed {
        push_output(out, output.value, &output.script);
    }
    if let Some(script) = commitment {
        push_output(out, 0, script);
    }
    Ok(())
}

fn push_output(out: &mut Vec<u8>, value: u64, script: &[u8]) {
    out.extend_from_slice(&value.to_le_bytes());
    push_compact_size(out, script.len() as u64);
    out.extend_from_slice(script);
}

/// The height as `CScript() << height` of Bitcoin Core writes it (BIP 34): `OP_0`, `OP_1` to
/// `OP_16`, then a minimal push of the little-endian number.
fn push_height(script: &mut Vec<u8>, height: u32) {
    match height {
        0 => script.push(0x00),
        1..=16 => script.push(0x50 + height as u8),
        _ => {
            let bytes = height.to_le_bytes();
            let len = 4 - height.leading_zeros() as usize / 8;
            // A set top bit would mean a negative number.
            let sign = bytes[len - 1] & 0x80 != 0;
            script.push((len + usize::from(sign)) as u8);
            script.extend_from_slice(&bytes[..len]);
            if sign {
                script.push(0);
            }
        }
    }
}
