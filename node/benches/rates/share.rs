//! A share from its line to its verdict and answer, beside the SHA-256 work it cannot do without.

use std::hint::black_box;
use std::time::Instant;

use seam_stratum::job::{JobParams, Payout, VERSION_ROLLING_MASK};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{Call, Difficulty, Extranonce1, Incoming, Job, JobId, Template, write};
use sha2::compress256;
use sha2::digest::generic_array::GenericArray;

use crate::table::{Row, Table};

const LINE: &[u8] = br#"{"params": ["alice.rig1", "3000009", "0000000000000001", "6553f100", "12345678", "00002000"], "id": 4, "method": "mining.submit"}"#;

/// Levels of the merkle tree, and the transactions of such a block.
const BRANCHES: [(usize, &str); 5] = [
    (0, "empty block"),
    (4, "9-16 transactions"),
    (8, "129-256"),
    (11, "1,025-2,048"),
    (13, "4,097-8,192"),
];

/// Measurements of each, taken in turn, and shares in each.
const ROUNDS: usize = 200;
const SHARES: u32 = 2_000;

pub(crate) fn measure(table: &mut Table) {
    let rules = Rules {
        version_mask: VERSION_ROLLING_MASK,
        max_ntime: u32::MAX,
        target: Difficulty::ONE.target(),
    };
    for (branch, on) in BRANCHES {
        let job = job(branch);
        let count = compressions(&job);
        let mut bare = Row::micros("share", format!("{count} bare SHA-256 compressions"), on);
        let mut whole = Row::micros("share", "line to verdict and answer", on);
        let mut parsed = Row::micros("share", "  of it: line to numbers", on);
        let mut answer = Vec::with_capacity(256);
        for _ in 0..ROUNDS {
            each(&mut bare, || bare_work(count));
            each(&mut whole, || parse_to_verdict(&job, &rules, &mut answer));
            each(&mut parsed, || Incoming::parse(black_box(LINE)).is_ok());
        }
        whole.times_of(&bare);
        table.add([bare, whole, parsed]);
    }
}

fn each<T>(row: &mut Row, work: impl FnMut() -> T) {
    let mut work = work;
    let begin = Instant::now();
    for _ in 0..SHARES {
        black_box(work());
    }
    row.push(begin.elapsed() / SHARES);
}

fn bare_work(count: usize) -> [u32; 8] {
    let block = GenericArray::from([7u8; 64]);
    let mut state = [1u32; 8];
    for _ in 0..count {
        compress256(&mut state, std::slice::from_ref(black_box(&block)));
    }
    state
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
