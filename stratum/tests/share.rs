//! Shares judged: each rule by itself.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use seam_stratum::job::{JobParams, Payout, VERSION_ROLLING_MASK, header_hash};
use seam_stratum::share::{Rules, Share, verify};
use seam_stratum::{Difficulty, Extranonce1, Job, JobId, Nonce2, Reject, Target, Template};

fn job(nbits: u32) -> Job {
    let template = Template {
        height: 200,
        version: 0x2000_0000,
        prev_hash: [9; 32],
        nbits,
        ntime: 1_700_000_000,
        min_ntime: 1_699_999_000,
        coinbase_value: 1,
        witness_commitment: None,
        merkle_branch: vec![[1; 32], [2; 32]],
        transaction_count: 3,
    };
    let payout = Payout::to_script(vec![0x51]);
    let params = JobParams {
        id: JobId(1),
        payout: &payout,
        tag: b"/seam/",
        nonce2_len: 4,
        version_mask: VERSION_ROLLING_MASK,
        clean: true,
        created_at: 0,
    };
    Job::assemble(&template, &params).unwrap()
}

fn share() -> Share {
    Share {
        extranonce1: Extranonce1(7),
        nonce2: Nonce2::from_counter(1, 4),
        ntime: 1_700_000_000,
        nonce: 1,
        version_bits: 0,
    }
}

const RULES: Rules =
    Rules { version_mask: 0x1fff_e000, max_ntime: 1_700_007_200, target: Target::MAX };

#[test]
fn good_share_returns_the_header_it_hashed() {
    let (job, share) = (job(0x1d00_ffff), share());
    let verdict = verify(&job, &share, &RULES).unwrap();
    assert!(verdict.meets_target && !verdict.solves_block);
    assert_eq!(
        verdict.header,
        job.header(share.extranonce1, share.nonce2, job.version, share.ntime, share.nonce)
    );
    assert_eq!(verdict.hash, header_hash(&verdict.header));
}

#[test]
fn share_target_decides_at_its_edge() {
    let job = job(0x1d00_ffff);
    let hash = verify(&job, &share(), &RULES).unwrap().hash;
    let mut edge = hash;
    edge.reverse();
    let at = |target| verify(&job, &share(), &Rules { target, ..RULES }).unwrap().meets_target;
    assert!(at(Target::from_be_bytes(&edge)));
    edge[31] = edge[31].checked_sub(1).unwrap();
    assert!(!at(Target::from_be_bytes(&edge)));
}

#[test]
fn block_is_seen_even_below_the_share_difficulty() {
    let job = job(0x207f_ffff);
    let rules = Rules { target: Difficulty::new(1e30).unwrap().target(), ..RULES };
    let solved = (0..64)
        .map(|nonce| verify(&job, &Share { nonce, ..share() }, &rules).unwrap())
        .find(|verdict| verdict.solves_block)
        .unwrap();
    assert!(!solved.meets_target);
}

#[test]
fn wrong_nonce2_length_is_refused() {
    for len in [0, 3, 5, 8] {
        let share = Share { nonce2: Nonce2::from_counter(1, len), ..share() };
        assert_eq!(verify(&job(0x1d00_ffff), &share, &RULES), Err(Reject::NONCE2_LENGTH));
    }
}

#[test]
fn ntime_window_includes_both_its_ends() {
    let job = job(0x1d00_ffff);
    let at = |ntime| verify(&job, &Share { ntime, ..share() }, &RULES).map(|_| ());
    assert_eq!(at(1_699_998_999), Err(Reject::TIME_TOO_OLD));
    assert_eq!(at(1_699_999_000), Ok(()));
    assert_eq!(at(1_700_007_200), Ok(()));
    assert_eq!(at(1_700_007_201), Err(Reject::TIME_TOO_NEW));
    assert_eq!(Job::max_ntime(1_700_000_000), 1_700_007_200);
    assert_eq!(Job::max_ntime(u64::MAX), u32::MAX);
}

#[test]
fn version_bits_stay_within_the_sessions_mask() {
    let job = job(0x1d00_ffff);
    let at = |version_bits, version_mask| {
        verify(&job, &Share { version_bits, ..share() }, &Rules { version_mask, ..RULES })
            .map(|verdict| u32::from_le_bytes(verdict.header[..4].try_into().unwrap()))
    };
    assert_eq!(at(0, 0), Ok(0x2000_0000));
    assert_eq!(at(0x2000, 0), Err(Reject::VERSION_BITS));
    assert_eq!(at(0x1fff_e000, 0x1fff_e000), Ok(0x3fff_e000));
    assert_eq!(at(0x2000_0000, 0x1fff_e000), Err(Reject::VERSION_BITS));
    assert_eq!(at(0x4000, 0x2000), Err(Reject::VERSION_BITS));
}

#[test]
fn every_number_of_a_share_changes_its_hash() {
    let job = job(0x1d00_ffff);
    let base = share();
    let variants = [
        base,
        Share { extranonce1: Extranonce1(8), ..base },
        Share { nonce2: Nonce2::from_counter(2, 4), ..base },
        Share { ntime: base.ntime + 1, ..base },
        Share { nonce: 2, ..base },
        Share { version_bits: 0x2000, ..base },
    ];
    let hashes: std::collections::HashSet<_> =
        variants.iter().map(|share| verify(&job, share, &RULES).unwrap().hash).collect();
    assert_eq!(hashes.len(), variants.len());
}
