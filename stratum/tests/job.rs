//! Jobs against the `bitcoin` crate: what we build, other code reads as a valid block.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bitcoin::consensus::{deserialize, serialize};
use bitcoin::hashes::Hash;
use bitcoin::{
    Amount, Block, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness,
    WitnessMerkleNode, absolute, transaction,
};
use proptest::prelude::*;
use seam_stratum::client::{FromServer, Work};
use seam_stratum::job::{
    JobData, JobError, JobParams, MAX_TAG_LEN, Payout, PayoutOutput, VERSION_ROLLING_MASK,
    display_hash, header_hash,
};
use seam_stratum::{Extranonce1, Job, JobId, Nonce2, Template, merkle};

/// A transaction of its own for every `seed`, with a witness.
fn transaction(seed: u8) -> Transaction {
    Transaction {
        version: transaction::Version::TWO,
        lock_time: absolute::LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::new(bitcoin::Txid::from_byte_array([seed; 32]), 1),
            script_sig: ScriptBuf::new(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[seed; 64]]),
        }],
        output: vec![TxOut { value: Amount::from_sat(1000), script_pubkey: ScriptBuf::new() }],
    }
}

/// The commitment output of BIP 141 over these transactions, with a zero reserved value.
fn commitment(transactions: &[Transaction]) -> Vec<u8> {
    let leaves = std::iter::once(bitcoin::Wtxid::all_zeros())
        .chain(transactions.iter().map(Transaction::compute_wtxid))
        .map(|wtxid| WitnessMerkleNode::from_byte_array(wtxid.to_byte_array()));
    let root = bitcoin::merkle_tree::calculate_root(leaves).unwrap();
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed], &commitment.to_byte_array()[..]].concat()
}

fn template(height: u32, transactions: &[Transaction]) -> Template {
    let txids: Vec<[u8; 32]> =
        transactions.iter().map(|tx| tx.compute_txid().to_byte_array()).collect();
    Template {
        height,
        version: 0x2000_0000,
        prev_hash: std::array::from_fn(|index| index as u8),
        nbits: 0x207f_ffff,
        ntime: 1_700_000_000,
        min_ntime: 1_699_990_000,
        coinbase_value: 5_000_000_000,
        witness_commitment: Some(commitment(transactions)),
        merkle_branch: merkle::branch(&txids),
        transaction_count: transactions.len() as u32,
    }
}

fn params<'a>(payout: &'a Payout, tag: &'a [u8], nonce2_len: u8) -> JobParams<'a> {
    JobParams {
        id: JobId::new(3, 9).unwrap(),
        payout,
        tag,
        nonce2_len,
        version_mask: VERSION_ROLLING_MASK,
        clean: true,
        created_at: 1_700_000_001,
    }
}

fn p2wpkh() -> Vec<u8> {
    [&[0, 20][..], &[0x11; 20]].concat()
}

#[test]
fn one_proof_fits_one_job_only() {
    let payout = Payout { script: p2wpkh(), fixed: Vec::new() };
    let template = template(200, &[]);
    let first = params(&payout, b"/seam/", 8);
    let second = JobParams { id: JobId::new(3, 10).unwrap(), ..first.clone() };
    let header = |params| {
        let job = Job::assemble(&template, params).unwrap();
        job.header(Extranonce1(1), Nonce2::from_counter(1, 8), job.version, template.ntime, 1)
    };
    assert_ne!(header(&first), header(&second));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn block_is_valid_for_other_code(
        height in prop_oneof![1u32..40, 100u32..1_000_000, 0x7f_ff00u32..0x80_0100, Just(0x7fff_ffff)],
        count in 0u8..20,
        tag in proptest::collection::vec(any::<u8>(), 0..=MAX_TAG_LEN),
        nonce2_len in 2u8..=8,
        counter: u64,
        en1: u32,
        bits: u32,
    ) {
        let transactions: Vec<Transaction> = (0..count).map(transaction).collect();
        let payout = Payout {
            script: p2wpkh(),
            fixed: vec![PayoutOutput { value: 7, script: vec![0x51] }],
        };
        let template = template(height, &transactions);
        let job = Job::assemble(&template, &params(&payout, &tag, nonce2_len)).unwrap();
        let (en1, nonce2) = (Extranonce1(en1), Nonce2::from_counter(counter, nonce2_len));
        let version = job.rolled_version(bits, VERSION_ROLLING_MASK);
        let header = job.header(en1, nonce2, version, template.ntime + 1, 77);
        let raw: Vec<Vec<u8>> = transactions.iter().map(serialize).collect();
        let block: Block = deserialize(&job.block_bytes(&header, en1, nonce2, &raw)).unwrap();

        prop_assert!(block.check_merkle_root());
        prop_assert!(block.check_witness_commitment());
        prop_assert_eq!(block.txdata.len(), usize::from(count) + 1);
        prop_assert_eq!(block.header.prev_blockhash.to_byte_array(), template.prev_hash);
        prop_assert_eq!(block.header.version.to_consensus() as u32,
            0x2000_0000 | (bits & VERSION_ROLLING_MASK));
        prop_assert_eq!(block.header.time, template.ntime + 1);
        prop_assert_eq!(block.header.nonce, 77);
        prop_assert_eq!(block.block_hash().to_string(), display_hash(&header_hash(&header)));

        let coinbase = &block.txdata[0];
        prop_assert!(coinbase.is_coinbase());
        prop_assert_eq!(coinbase.compute_txid().to_byte_array(), job.coinbase_txid(en1, nonce2));
        let script = coinbase.input[0].script_sig.as_bytes();
        prop_assert!((2..=100).contains(&script.len()));
        let pushed = bitcoin::script::Builder::new().push_int(i64::from(height)).into_script();
        prop_assert!(script.starts_with(pushed.as_bytes()));
        if height > 16 {
            prop_assert_eq!(block.bip34_block_height().unwrap(), u64::from(height));
        }
        let end = [&en1.to_bytes()[..], nonce2.as_bytes()].concat();
        prop_assert!(script.ends_with(&end));
        prop_assert_eq!(coinbase.input[0].script_sig.count_sigops(), 0);
        prop_assert_eq!(coinbase.output[0].value.to_sat(), 5_000_000_000 - 7);
        prop_assert_eq!(coinbase.output[0].script_pubkey.as_bytes(), &p2wpkh()[..]);
        prop_assert_eq!(coinbase.output[1].value.to_sat(), 7);
        prop_assert_eq!(coinbase.lock_time.to_consensus_u32(), height - 1);
        prop_assert!(coinbase.is_lock_time_enabled());
    }

    #[test]
    fn miner_reading_the_notify_hashes_the_same_header(
        count in 0u8..9, nonce2_len in 2u8..=8, counter: u64, en1: u32, nonce: u32, clean: bool,
    ) {
        let transactions: Vec<Transaction> = (0..count).map(transaction).collect();
        let payout = Payout::to_script(p2wpkh());
        let template = template(500_000, &transactions);
        let job = Job::assemble(&template, &params(&payout, b"/seam/", nonce2_len)).unwrap();
        let line = job.notify_line(clean);
        let Ok(FromServer::Notify(notify)) = FromServer::parse(line.trim_ascii_end()) else {
            panic!("{}", String::from_utf8_lossy(&line));
        };
        prop_assert_eq!(notify.clean, clean);
        prop_assert_eq!(JobId::parse(&notify.job_id), Some(job.id));

        let (en1, nonce2) = (Extranonce1(en1), Nonce2::from_counter(counter, nonce2_len));
        let work = Work::new(*notify);
        let mut hasher = work.header(&en1.to_bytes(), nonce2.as_bytes(), 0x2000, work.ntime);
        let ours = job.header(en1, nonce2, job.rolled_version(0x2000, 0x2000), job.ntime, nonce);
        prop_assert_eq!(hasher.hash(nonce), header_hash(&ours));
    }
}

proptest! {
    #[test]
    fn any_bytes_from_a_peer_are_a_job_that_works_or_refused(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        flip in 1u8..,
    ) {
        let payout = Payout::to_script(p2wpkh());
        let job = Job::assemble(&template(7, &[]), &params(&payout, b"tag", 8)).unwrap();
        let mut wire = postcard::to_stdvec(&job).unwrap();
        let index = at.index(wire.len());
        wire[index] ^= flip;
        for bytes in [&wire, &noise] {
            if let Ok(job) = postcard::from_bytes::<Job>(bytes) {
                let nonce2 = Nonce2::from_counter(1, job.nonce2_len);
                let header = job.header(Extranonce1(1), nonce2, job.version, job.ntime, 0);
                let _ = job.block_bytes(&header, Extranonce1(1), nonce2, &[[0u8; 4]; 0]);
                let _ = job.notify_line(true);
            }
        }
    }
}

#[test]
fn notify_has_the_form_miners_expect() {
    let payout = Payout::to_script(p2wpkh());
    let template = Template { version: 0x3fff_e004, ..template(100, &[]) };
    let job = Job::assemble(&template, &params(&payout, b"", 8)).unwrap();
    let line: serde_json::Value = serde_json::from_slice(&job.notify_line(true)).unwrap();
    let params = line["params"].as_array().unwrap();
    assert_eq!(line["method"], "mining.notify");
    assert!(line["id"].is_null());
    assert_eq!(params.len(), 9);
    assert_eq!(params[0], "3000009");
    assert_eq!(params[1], "03020100070605040b0a09080f0e0d0c13121110171615141b1a19181f1e1d1c");
    assert_eq!(params[4], serde_json::json!([]));
    assert_eq!(params[5], "20000004", "bits of the rolling mask are clear");
    assert_eq!(params[6], "207fffff");
    assert_eq!(params[7], "6553f100");
    assert_eq!(params[8], true);
}

#[test]
fn block_without_commitment_has_a_coinbase_without_witness() {
    let payout = Payout::to_script(p2wpkh());
    let template = Template { witness_commitment: None, ..template(100, &[]) };
    let job = Job::assemble(&template, &params(&payout, b"", 4)).unwrap();
    let nonce2 = Nonce2::from_counter(1, 4);
    let plain = job.coinbase_tx(Extranonce1(1), nonce2, false);
    assert_eq!(job.coinbase_tx(Extranonce1(1), nonce2, true), plain);
    assert_eq!(deserialize::<Transaction>(&plain).unwrap().output.len(), 1);
}

#[test]
fn job_from_a_peer_equals_the_one_assembled() {
    let payout = Payout::to_script(p2wpkh());
    let transactions: Vec<Transaction> = (0..100).map(transaction).collect();
    let job = Job::assemble(&template(7, &transactions), &params(&payout, b"tag", 8)).unwrap();
    let wire = postcard::to_stdvec(&job).unwrap();
    assert!(wire.len() < 2048, "{}", wire.len());
    let copy: Job = postcard::from_bytes(&wire).unwrap();
    assert_eq!(copy, job);
    let nonce2 = Nonce2::from_counter(5, 8);
    assert_eq!(
        copy.coinbase_txid(Extranonce1(1), nonce2),
        job.coinbase_txid(Extranonce1(1), nonce2)
    );
}

#[test]
fn job_from_a_peer_that_cannot_be_is_refused() {
    let payout = Payout::to_script(p2wpkh());
    let good = JobData::from(Job::assemble(&template(7, &[]), &params(&payout, b"", 8)).unwrap());
    let wrong: [fn(&mut JobData); 5] = [
        |job| job.nbits = 0,
        |job| job.nonce2_len = 9,
        |job| job.coinbase1.clear(),
        |job| job.coinbase2 = vec![0; 1 << 20],
        |job| job.merkle_branch = vec![[0; 32]; 17],
    ];
    for change in wrong {
        let mut data = good.clone();
        change(&mut data);
        assert!(postcard::from_bytes::<Job>(&postcard::to_stdvec(&data).unwrap()).is_err());
    }
    assert!(postcard::from_bytes::<Job>(&postcard::to_stdvec(&good).unwrap()).is_ok());
}

#[test]
fn impossible_parameters_are_errors() {
    let payout = Payout::to_script(p2wpkh());
    let assemble = |template: &Template, payout: &Payout, tag: &[u8], nonce2_len| {
        Job::assemble(template, &params(payout, tag, nonce2_len)).unwrap_err()
    };
    let good = template(7, &[]);
    assert_eq!(assemble(&good, &payout, &[0; 76], 8), JobError::TagLen(76));
    assert_eq!(assemble(&good, &payout, b"", 1), JobError::Nonce2Len(1));
    assert_eq!(assemble(&good, &payout, b"", 9), JobError::Nonce2Len(9));
    let greedy = Payout {
        script: p2wpkh(),
        fixed: vec![PayoutOutput { value: 5_000_000_001, script: p2wpkh() }],
    };
    assert_eq!(assemble(&good, &greedy, b"", 8), JobError::Payout(5_000_000_000));
    let no_target = Template { nbits: 0, ..good };
    assert_eq!(assemble(&no_target, &payout, b"", 8), JobError::Nbits(0));
}
