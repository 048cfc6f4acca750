//! The real ledger, Raft, batches and transport on simulated hosts, disks, network and time.
//!
//! `SEAM_SEEDS=N` tells how many stories, `SEAM_SEED=S` which one alone, with its events printed.
//! Tokio wakes the waiters of a channel in random order unless it is built with `tokio_unstable`,
//! which lets turmoil seed that too. So a seed is replayed exactly, and many are told fastest, with
//!
//! ```sh
//! RUSTFLAGS="--cfg tokio_unstable" cargo test --release --target-dir target/simulation \
//!     -p seam-cluster --test simulation -- --nocapture
//! ```
#![allow(unreachable_pub, unexpected_cfgs)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/world.rs"]
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use seam_cluster::simulation::{Sabotage, sabotage};
use world::{Story, tell};

/// Stories told in a test run: unoptimized, each takes seconds.
const SEEDS: u64 = if cfg!(debug_assertions) { 20 } else { 2_000 };

#[test]
fn no_acknowledged_share_is_lost_or_counted_twice() {
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_test_writer()
        .try_init();
    if let Ok(seed) = std::env::var("SEAM_SEED") {
        let seed = seed.parse().expect("SEAM_SEED is a number");
        let story = on_its_own_thread(move || tell(seed, false));
        println!(
            "{}\n{} answers, trace {:016x}",
            story.events.join("\n"),
            story.answers,
            story.trace
        );
        assert!(story.violations.is_empty(), "seed {seed}: {:#?}", story.violations);
        return;
    }
    let seeds = std::env::var("SEAM_SEEDS").ok().and_then(|n| n.parse().ok()).unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let answers = AtomicU64::new(0);
    let started = std::time::Instant::now();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let story = on_its_own_thread(move || tell(seed, false));
            answers.fetch_add(story.answers, Ordering::Relaxed);
            assert!(
                story.violations.is_empty(),
                "seed {seed}: {:#?}\n{}\nreplay it with SEAM_SEED={seed}",
                story.violations,
                story.events.join("\n")
            );
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    println!("{seeds} seeds, {} answers, {:?}", answers.load(Ordering::Relaxed), started.elapsed());
}

#[test]
#[cfg_attr(not(tokio_unstable), ignore = "needs RUSTFLAGS='--cfg tokio_unstable'")]
fn a_seed_tells_the_same_story_twice() {
    for seed in [1, 7, 42] {
        let first = on_its_own_thread(move || tell(seed, false));
        let second = on_its_own_thread(move || tell(seed, false));
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(first.answers > 0, "seed {seed}");
    }
}

#[test]
fn acknowledging_before_the_commit_is_noticed() {
    let lost = |violation: &str| violation.contains("is not in the ledger");
    notices(Some(Sabotage::AcknowledgeBeforeCommit), false, lost);
}

#[test]
fn skipping_the_search_for_repeats_is_noticed() {
    let twice = |violation: &str| violation.contains("twice") || violation.contains("counts");
    notices(Some(Sabotage::SkipDedupe), false, twice);
}

#[test]
#[cfg_attr(debug_assertions, ignore = "takes minutes unoptimized")]
fn a_disk_that_lies_about_its_syncs_is_noticed() {
    notices(None, true, |_| true);
}

/// Tells stories in which a promise is broken until the checker sees it.
fn notices(how: Option<Sabotage>, lying_disks: bool, expected: impl Fn(&str) -> bool) {
    const ENOUGH: u64 = 200;
    for seed in 0..ENOUGH {
        let story = on_its_own_thread(move || {
            sabotage(how);
            tell(seed, lying_disks)
        });
        if let Some(violation) = story.violations.iter().find(|violation| expected(violation)) {
            println!("seed {seed}: {}", violation.lines().next().unwrap_or_default());
            return;
        }
    }
    panic!("{ENOUGH} seeds and nobody noticed");
}

/// Thread-local state of libraries begins anew with each story.
fn on_its_own_thread(story: impl FnOnce() -> Story + Send + 'static) -> Story {
    std::thread::spawn(story).join().unwrap_or_else(|_| Story {
        violations: vec!["the story panicked".into()],
        trace: 0,
        answers: 0,
        events: Vec::new(),
    })
}

/// Deterministic randomness.
pub struct Random(pub u64);

impl Random {
    /// A number below `bound`.
    pub fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        (mix(self.0) % bound.max(1) as u64) as usize
    }
}

/// SplitMix64.
pub fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
