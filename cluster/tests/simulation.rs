//! The real ledger, Raft, batches and transport on simulated hosts, disks, network and time.
//!
//! `SEAM_SIM_SEEDS=N` tells how many stories, `SEAM_SIM_SEED=S` which one alone, with its events
//! printed: a seed tells the same story each time, in any build. `scripts/simulate N` tells many.
#![allow(unreachable_pub)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "simulation/checker.rs"]
mod checker;
#[path = "simulation/counts.rs"]
mod counts;
#[path = "simulation/network.rs"]
mod network;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/world.rs"]
mod world;

use std::cell::RefCell;
use std::io::{Read, Seek};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use counts::Counts;
use parking_lot::Mutex;
use seam_cluster::simulation::{Sabotage, sabotage};
use world::{Disks, Story, tell};

/// Stories told in a test run: a few minutes on two cores.
const SEEDS: u64 = 2_000;
/// From so many stories on, everything of this list is to have happened in some of them.
const ENOUGH: u64 = 200;
const EVERYTHING: [&str; 22] = [
    "batches proposed again",
    "connections between nodes made",
    "crashes",
    "crashes of the whole cluster",
    "leaders elected",
    "links cut in both directions",
    "links cut in one direction",
    "links held up",
    "members removed, joined again with empty disks",
    "nodes isolated",
    "removals asked for",
    "requests between nodes that failed",
    "shares answered: another session's",
    "shares answered: counted",
    "shares answered: counted before",
    "shares answered: unavailable",
    "slow disks",
    "snapshots built",
    "snapshots installed",
    "transfers of the leadership asked for",
    "unsynced writes lost in crashes",
    "unsynced writes that survived crashes",
];

#[test]
fn no_acknowledged_share_is_lost_or_counted_twice() {
    if let Some(seed) = number("SEAM_SIM_SEED") {
        let story = told(seed, None, Disks::Honest);
        println!(
            "{}\n{}{} answers, trace {:016x}",
            story.events.join("\n"),
            story.counts,
            story.answers,
            story.trace
        );
        assert!(story.violations.is_empty(), "seed {seed}: {:#?}", story.violations);
        return;
    }
    let seeds = number("SEAM_SIM_SEEDS").unwrap_or(SEEDS);
    let next = AtomicU64::new(0);
    let failed = AtomicBool::new(false);
    let answers = AtomicU64::new(0);
    let counts = Mutex::new(Counts::default());
    let started = Instant::now();
    let work = || {
        while !failed.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let story = told(seed, None, Disks::Honest);
            answers.fetch_add(story.answers, Ordering::Relaxed);
            counts.lock().merge(&story.counts);
            failed.fetch_or(!story.violations.is_empty(), Ordering::Relaxed);
            assert!(
                story.violations.is_empty(),
                "seed {seed}: {:#?}\n{}\nreplay it with SEAM_SIM_SEED={seed}",
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
    let counts = counts.into_inner();
    let took = started.elapsed();
    println!("{counts}{seeds} stories, {} answers, {took:.1?}", answers.into_inner());
    if seeds >= ENOUGH {
        let missing = counts.missing(&EVERYTHING);
        assert!(missing.is_empty(), "never happened in {seeds} stories: {missing:?}");
    }
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    for seed in 0..20 {
        let first = told(seed, None, Disks::Honest);
        let second = told(seed, None, Disks::Honest);
        assert_eq!(first.events, second.events, "seed {seed}");
        assert_eq!(first.trace, second.trace, "seed {seed}");
        assert!(first.answers > 0, "seed {seed}");
    }
}

#[test]
fn acknowledging_before_the_commit_is_noticed() {
    let lost = |violation: &str| violation.contains("is not in the ledger");
    notices(Some(Sabotage::AcknowledgeBeforeCommit), Disks::Honest, lost);
}

#[test]
fn skipping_the_search_for_repeats_is_noticed() {
    let twice = |violation: &str| violation.contains("twice") || violation.contains("counts");
    notices(Some(Sabotage::SkipDedupe), Disks::Honest, twice);
}

#[test]
fn disks_that_lose_synced_writes_are_noticed() {
    notices(None, Disks::AllLie, |violation| violation.contains("is not in the ledger"));
}

#[test]
fn a_member_whose_disk_loses_synced_writes_is_refused_and_told_why() {
    notices(None, Disks::OneLies, |violation| {
        violation.contains("lacks log entries that it had confirmed")
            && violation.contains("seamctl member remove")
    });
}

/// Tells stories in which a promise is broken until the checker sees it.
fn notices(how: Option<Sabotage>, disks: Disks, expected: impl Fn(&str) -> bool) {
    const ENOUGH: u64 = 200;
    for seed in 0..ENOUGH {
        let story = told(seed, how, disks);
        // Raft's own assertions, in builds that have them, may be the first to notice.
        if let Some(panic) = story.violations.iter().find(|what| what.contains("panicked")) {
            println!("seed {seed}: {}", panic.lines().next().unwrap_or_default());
            continue;
        }
        if let Some(violation) = story.violations.iter().find(|violation| expected(violation)) {
            println!("seed {seed}: {}", violation.lines().next().unwrap_or_default());
            return;
        }
    }
    panic!("{ENOUGH} seeds and nobody noticed");
}

fn number(variable: &str) -> Option<u64> {
    let value = std::env::var(variable).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{variable}={value} is not a number")))
}

/// A story takes less than a second; one that hangs is to be found by its seed, too.
const PATIENCE: Duration = Duration::from_secs(120);

/// A story, told by a process of its own. Tokio numbers tasks through the whole process and ends
/// them, when a host crashes, in an order that follows from the numbers: beside other stories a seed
/// would not tell the same one.
fn told(seed: u64, how: Option<Sabotage>, disks: Disks) -> Story {
    let fails = |what: String| Story { violations: vec![what], ..Story::default() };
    let mut output = tempfile::tempfile().unwrap();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["one_story", "--exact", "--ignored", "--nocapture", "--test-threads=1"])
        .env("SEAM_SIM_STORY", format!("{seed} {} {}", name(how), disks as u8))
        .stdout(Stdio::from(output.try_clone().unwrap()))
        .spawn()
        .unwrap();
    let started = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if started.elapsed() > PATIENCE => {
                child.kill().unwrap();
                child.wait().unwrap();
                return fails(format!("the story did not end in {PATIENCE:?}"));
            }
            None => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let mut text = String::new();
    output.rewind().unwrap();
    output.read_to_string(&mut text).unwrap();
    let story = text.lines().find_map(|line| line.strip_prefix(STORY));
    match story.map(serde_json::from_str::<Story>) {
        Some(Ok(story)) => story,
        _ => fails(format!("the story panicked ({status}): {text}")),
    }
}

/// What is before a story in its process's output.
const STORY: &str = "STORY ";

fn name(how: Option<Sabotage>) -> &'static str {
    match how {
        None => "none",
        Some(Sabotage::AcknowledgeBeforeCommit) => "acknowledge",
        Some(Sabotage::SkipDedupe) => "repeat",
    }
}

thread_local! {
    /// Panics. Tokio catches those of tasks, and a task that is gone looks well.
    static PANICS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

#[test]
#[ignore = "a part of the other tests, in a process of its own"]
fn one_story() {
    let Ok(wanted) = std::env::var("SEAM_SIM_STORY") else { return };
    let words: Vec<&str> = wanted.split(' ').collect();
    let [seed, how, disks] = words[..] else { panic!("SEAM_SIM_STORY={wanted}") };
    let all = [None, Some(Sabotage::AcknowledgeBeforeCommit), Some(Sabotage::SkipDedupe)];
    sabotage(all.into_iter().find(|known| name(*known) == how).unwrap());
    let all = [Disks::Honest, Disks::OneLies, Disks::AllLie];
    let disks = all.into_iter().find(|known| (*known as u8).to_string() == disks).unwrap();
    let _ = tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .try_init();
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.with_borrow_mut(|panics| panics.push(info.to_string()));
        usual(info);
    }));
    let mut story = tell(seed.parse().unwrap(), disks);
    let panics = PANICS.take();
    story.violations.extend(panics.into_iter().map(|panic| format!("a task panicked: {panic}")));
    println!("\n{STORY}{}", serde_json::to_string(&story).unwrap());
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
