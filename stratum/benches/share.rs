//! A share from its line to its verdict, beside the SHA-256 work it cannot do without.

use std::hint::black_box;

use bitcoin::hashes::{Hash, sha256d};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use seam_stratum::job::{JobParams, Payout, VERSION_ROLLING_MASK};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{Call, Difficulty, Extranonce1, Incoming, Job, JobId, Template, write};
use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

const LINE: &[u8] = br#"{"params": ["alice.rig1", "3000009", "0000000000000001", "6553f100", "12345678", "00002000"], "id": 4, "method": "mining.submit"}"#;

fn job(branch: usize) -> Job {
    let template = Template {
        height: 900_000,
        version: 0x2000_0000,
        prev_hash: [9; 32],
        nbits: 0x1702_3a04,
        ntime: 1_700_000_000,
        min_ntime: 1_699_999_000,
        coinbase_value: 312_500_000,
        witness_commitment: Some(vec![0x6a; 38]),
        merkle_branch: vec![[3; 32]; branch],
        transaction_count: 0,
    };
    let payout = Payout::to_script(vec![0x51; 22]);
    let params = JobParams {
        id: JobId(0x300_0009),
        payout: &payout,
        tag: b"/seam/",
        nonce2_len: 8,
        version_mask: VERSION_ROLLING_MASK,
        clean: true,
        created_at: 0,
    };
    Job::assemble(&template, &params).expect("a valid template")
}

fn parse_to_verdict(job: &Job, rules: &Rules, answer: &mut Vec<u8>) -> [u8; 32] {
    let Ok(Incoming::Request(request)) = Incoming::parse(black_box(LINE)) else {
        panic!("the line is a request");
    };
    let Call::Submit(submit) = request.call else { panic!("the request is a submit") };
    assert_eq!(submit.job, job.id);
    let share = Share {
        extranonce1: Extranonce1(7),
        nonce2: submit.nonce2,
        ntime: submit.ntime,
        nonce: submit.nonce,
        version_bits: submit.version_bits.unwrap_or(0),
    };
    let verdict = verify(job, &share, rules).expect("a well-formed share");
    answer.clear();
    write::result_bool(answer, request.id, verdict.meets_target);
    verdict.hash
}

/// The compressions a share needs: the coinbase behind its midstate and the second round, three for each
/// level of the tree, three for the header.
fn compressions(job: &Job) -> usize {
    let coinbase = job.coinbase1.len() + 4 + 8 + job.coinbase2.len();
    let blocks = (coinbase + 9).div_ceil(64) - job.coinbase1.len() / 64;
    blocks + 1 + 3 * job.merkle_branch.len() + 3
}

fn share(c: &mut Criterion) {
    let rules = Rules {
        version_mask: VERSION_ROLLING_MASK,
        max_ntime: u32::MAX,
        target: Difficulty::ONE.target(),
    };
    for branch in [0, 11] {
        let job = job(branch);
        let mut group = c.benchmark_group(format!("share, merkle branch of {branch}"));
        group.throughput(Throughput::Elements(1));
        let count = compressions(&job);
        group.bench_function(format!("bare: {count} compressions"), |b| {
            let block = GenericArray::from([7u8; 64]);
            b.iter(|| {
                let mut state = [1u32; 8];
                for _ in 0..count {
                    compress256(&mut state, std::slice::from_ref(black_box(&block)));
                }
                state
            });
        });
        let mut answer = Vec::with_capacity(256);
        group.bench_function("line to verdict and answer", |b| {
            b.iter(|| parse_to_verdict(&job, &rules, &mut answer));
        });
        let coinbase = [&job.coinbase1[..], &[0; 12], &job.coinbase2].concat();
        group.bench_function("the same hashes by bitcoin_hashes", |b| {
            b.iter(|| {
                let mut root = sha256d::Hash::hash(black_box(&coinbase)).to_byte_array();
                for sibling in &job.merkle_branch {
                    root = sha256d::Hash::hash(&[root, *sibling].concat()).to_byte_array();
                }
                sha256d::Hash::hash(&[&root[..], &[0; 48]].concat())
            });
        });
        group.finish();
    }
}

criterion_group!(benches, share);
criterion_main!(benches);
