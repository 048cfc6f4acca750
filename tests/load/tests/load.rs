//! The load generator against a pool whose behaviour is known.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod pool;

use std::collections::HashSet;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pool::{Manner, Pool};
use seam_load::miner::Miner;
use seam_load::{Load, Options, Rate, Report};
use seam_stratum::Difficulty;

const DEADLINE: Duration = Duration::from_secs(20);

fn options(pool: &Pool) -> Options {
    Options {
        sessions: 20,
        ramp: 0.1,
        rate: Rate::PerSecond(500.0),
        secs: 1.0,
        drain: 5.0,
        difficulty: Some(Difficulty::new(1e-9).unwrap()),
        ..Options::new(pool.address.clone())
    }
}

fn run(options: Options) -> Report {
    Load::spawn(options).unwrap().join().unwrap()
}

/// The lines of an accounting file behind its head, split at the commas.
fn entries(path: &Path) -> Vec<Vec<String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some(seam_load::account::HEADER));
    lines.map(|line| line.split(',').map(str::to_owned).collect()).collect()
}

#[test]
fn every_share_it_sends_is_real_and_accounted_for() {
    let pool = Pool::start(Manner::Correct);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("account.csv");
    let report = run(Options {
        users: 3,
        version_rolling: true,
        accounting: Some(file.clone()),
        ..options(&pool)
    });
    assert_eq!(report.submitted, 500, "{report}");
    assert_eq!(report.accepted, 500, "{report}");
    assert_eq!(report.rejections() + report.unanswered + report.skipped + report.drops, 0);
    assert_eq!(report.ready, 20);
    assert_eq!(report.submit.count, 500);
    assert_eq!(report.timeline.iter().map(|second| second.accepted).sum::<u64>(), 500);

    let ledger = pool.ledger.lock().unwrap();
    assert_eq!(ledger.len(), 3);
    let entries = entries(&file);
    assert_eq!(entries.len(), 500);
    for entry in &entries {
        let mut hash: Vec<u8> = (0..64)
            .step_by(2)
            .map(|at| u8::from_str_radix(&entry[0][at..at + 2], 16).unwrap())
            .collect();
        hash.reverse();
        assert!(ledger[&entry[1]].contains(&hash[..]));
        assert_eq!(entry[3], "4", "work at 1e-9");
        assert_eq!(entry[4], "true");
    }
    let hashes: HashSet<&String> = entries.iter().map(|entry| &entry[0]).collect();
    assert_eq!(hashes.len(), ledger.values().map(HashSet::len).sum::<usize>());
}

#[test]
fn duplicates_are_sent_on_request_and_counted_as_rejected() {
    let pool = Pool::start(Manner::Correct);
    let report = run(Options { duplicate_percent: 10.0, ..options(&pool) });
    assert_eq!(report.accepted, 500, "{report}");
    assert_eq!(report.rejected.get("22 duplicate"), Some(&50), "{report}");
}

#[test]
fn latency_counts_from_when_a_share_was_due() {
    let pool = Pool::start(Manner::Late(50));
    // Each session takes 50 ms a share and gets one every 40 ms: it falls behind.
    let report = run(Options { sessions: 1, rate: Rate::PerSecond(25.0), ..options(&pool) });
    assert_eq!(report.accepted, 25, "{report}");
    assert!(report.submit.p50 > 100.0, "{report}");
    assert!(report.submit.max > 200.0, "{report}");
    assert!(report.silence.max >= 49.0 && report.silence.max < report.submit.max, "{report}");
}

#[test]
fn answers_nobody_asked_for_are_seen() {
    let pool = Pool::start(Manner::AnswersTwice);
    let report = run(options(&pool));
    assert_eq!(report.accepted, 500, "{report}");
    assert!(report.unexpected_answers >= 490, "{report}");
}

#[test]
fn silence_is_bounded_and_reported() {
    let pool = Pool::start(Manner::Silent);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("account.csv");
    let report =
        run(Options { secs: 0.2, drain: 0.3, accounting: Some(file.clone()), ..options(&pool) });
    assert_eq!(report.accepted, 0, "{report}");
    assert_eq!(report.unanswered, report.submitted, "{report}");
    assert!(report.silence.count == 20 && report.silence.max >= 300.0, "{report}");
    assert!(entries(&file).iter().all(|entry| entry[4] == "none"));
    assert_eq!(entries(&file).len() as u64, report.submitted);
}

#[test]
fn dropped_sessions_come_back_and_resume() {
    let pool = Pool::start(Manner::DropsAt(10));
    let report = run(Options { resume: true, reconnect_ms: 10, ..options(&pool) });
    assert!(report.drops >= 20, "{report}");
    assert!(report.unanswered >= report.drops, "{report}");
    assert!(report.resumed > 0 && report.not_resumed == 0, "{report}");
    assert_eq!(report.accepted + report.unanswered, report.submitted, "{report}");
}

#[test]
fn storm_reconnects_without_counting_as_drops() {
    let pool = Pool::start(Manner::Correct);
    let report =
        run(Options { resume: true, storm_every: 0.3, storm_percent: 50.0, ..options(&pool) });
    assert_eq!(report.drops, 0, "{report}");
    assert!(report.resumed >= 10 && report.not_resumed == 0, "{report}");
    assert_eq!(report.accepted + report.unanswered, report.submitted, "{report}");
}

#[test]
fn full_window_saturates_and_loses_nothing() {
    let pool = Pool::start(Manner::Correct);
    let report = run(Options { rate: Rate::Max, secs: 0.5, ..options(&pool) });
    assert!(report.accepted > 500, "{report}");
    assert_eq!(report.accepted, report.submitted, "{report}");
    assert_eq!(pool.submits.load(Ordering::Relaxed), report.submitted);
}

#[test]
fn new_tip_is_timed_over_all_sessions() {
    let pool = Pool::start(Manner::Correct);
    let load = Load::spawn(Options {
        rate: Rate::PerSecond(0.0),
        secs: 60.0,
        slow_percent: 10.0,
        ..options(&pool)
    })
    .unwrap();
    load.wait_until("all sessions", DEADLINE, |live| live.is_working() && live.ready() == 20)
        .unwrap();
    pool.new_tip();
    let mut miner = Miner::connect(&*pool.address, DEADLINE).unwrap();
    miner.join(None, "late", "x").unwrap();
    // Whoever joins now joined after the tip: the others have been sent it.
    let report = load.stop().unwrap();
    assert_eq!(report.tips, 2, "{report}");
    assert_eq!(report.tip_spread.count, 1, "{report}");
    assert_eq!(report.job_spread.count, 1, "{report}");
    assert_eq!(report.slow_dropped + report.drops, 0, "{report}");
}

#[test]
fn hopeless_difficulty_is_an_error_not_a_hang() {
    let pool = Pool::start(Manner::Correct);
    let result = Load::spawn(Options {
        difficulty: Some(Difficulty::new(1e6).unwrap()),
        ready_timeout: 0.2,
        secs: 0.2,
        ..options(&pool)
    })
    .unwrap()
    .join();
    assert!(result.unwrap_err().to_string().contains("too difficult"));
}

#[test]
fn nobody_listening_ends_with_connect_failures() {
    // A port that was free a moment ago.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let report =
        run(Options { sessions: 3, ready_timeout: 0.3, secs: 0.1, ..Options::new(address) });
    assert_eq!(report.ready, 0);
    assert!(report.connect_failures >= 3, "{report}");
}

#[test]
fn single_miner_finds_submits_and_resumes() {
    let pool = Pool::start(Manner::Correct);
    let mut miner = Miner::connect(&*pool.address, DEADLINE).unwrap();
    assert!(miner.configure(0x1fff_e000).unwrap().code().is_none());
    miner.join(None, "alice", "x,d=1e-8").unwrap();
    let share = miner.find_share().unwrap();
    assert!(miner.submit("alice", &share).unwrap().is_true());
    assert_eq!(miner.submit("alice", &share).unwrap().code(), Some(22));
    let low = miner.find_low_share().unwrap();
    assert_eq!(miner.submit("alice", &low).unwrap().code(), Some(23));
    assert_eq!(miner.submit("bob", &low).unwrap().code(), Some(24));

    let subscribed = miner.subscribed.clone().unwrap();
    let mut again = Miner::connect(&*pool.address, DEADLINE).unwrap();
    again.subscribe(subscribed.sid.as_deref()).unwrap();
    assert_eq!(again.subscribed.unwrap().extranonce1, subscribed.extranonce1);
}
