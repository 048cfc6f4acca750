//! Throws damaged input at a parser and holds it to bounds of time and memory.
//!
//! A target is a test of the crate that the parser is in. It begins with the files of
//! `corpus/NAME` here, and goes on with mutations of them, and of every mutation that made the
//! target say something new. What it must never do: panic, take more memory or time than its
//! [`Bounds`] allow for an input, or break what it asserts itself.
//!
//! `SEAM_FUZZ_SECONDS` tells how long each target runs, and `SEAM_FUZZ_SEED` repeats a run: the
//! inputs follow from the seed alone. `make fuzz` runs all targets for long. An input that failed is
//! written to `found/`; once the parser is mended, it belongs into the corpus.
#![deny(unsafe_code)]

mod memory;
mod mutate;

use std::collections::HashSet;
use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mutate::Mutator;
use rustix::time::{ClockId, clock_gettime};

/// How long a target runs unless `SEAM_FUZZ_SECONDS` says otherwise.
const SECONDS: f64 = 2.0;
/// Inputs that are kept to be mutated again.
const MAX_POOL: usize = 4_096;
/// Processor time of one input; optimised a hundredth of it is plenty.
const TIME: Duration = Duration::from_millis(500);

/// What a parser may cost.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes of an input at most.
    pub input: usize,
    /// Bytes that may be allocated at once while an input is parsed.
    pub memory: usize,
    /// Processor time for one input.
    pub time: Duration,
}

impl Bounds {
    /// Inputs up to this length; memory of `factor` bytes a byte, and 64 KiB.
    pub fn of(input: usize, factor: usize) -> Self {
        Self { input, memory: input * factor + (64 << 10), time: TIME }
    }
}

/// Runs a target. What it returns tells new behaviour from known: return the kind of the outcome,
/// not its values. `words` are pieces that inputs are often made of.
pub fn fuzz<T: Hash>(name: &str, bounds: Bounds, words: &[&[u8]], target: impl Fn(&[u8]) -> T) {
    let seconds = variable("SEAM_FUZZ_SECONDS").unwrap_or(SECONDS);
    let seed = variable("SEAM_FUZZ_SEED").unwrap_or_else(|| {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |now| now.as_nanos() as u64)
    });
    let corpus = corpus(name);
    assert!(!corpus.is_empty(), "fuzz/corpus/{name} has no files");
    let mut pool: Vec<Vec<u8>> = Vec::new();
    let mut known = HashSet::new();
    let mut worst = Worst::default();
    let mut run = |input: &[u8]| -> bool {
        let outcome = measured(name, seed, bounds, &mut worst, input, &target);
        known.insert(outcome)
    };
    for input in corpus {
        assert!(input.len() <= bounds.input, "fuzz/corpus/{name} has files that are too long");
        run(&input);
        pool.push(input);
    }
    run(&[]);
    let mut mutator = Mutator::new(seed, words, bounds.input);
    let started = Instant::now();
    let mut inputs: u64 = 0;
    while started.elapsed().as_secs_f64() < seconds {
        // The clock is looked at now and then only.
        for _ in 0..64 {
            inputs += 1;
            let input = mutator.make(&pool);
            if run(&input) && pool.len() < MAX_POOL {
                pool.push(input);
            }
        }
    }
    println!(
        "{name}: {inputs} inputs, {} outcomes, at most {} bytes and {:?} an input, seed {seed}",
        known.len(),
        worst.memory,
        worst.time
    );
}

/// Which variant of an enum a value is, for what a target returns.
pub fn kind<T>(value: &T) -> u64 {
    hash(&std::mem::discriminant(value))
}

#[derive(Default)]
struct Worst {
    memory: usize,
    time: Duration,
}

fn measured<T: Hash>(
    name: &str,
    seed: u64,
    bounds: Bounds,
    worst: &mut Worst,
    input: &[u8],
    target: impl Fn(&[u8]) -> T,
) -> u64 {
    let started = processor_time();
    memory::begin();
    let outcome = catch_unwind(AssertUnwindSafe(|| target(input)));
    let (memory, time) = (memory::peak(), processor_time().saturating_sub(started));
    let fail = |what: String| -> ! {
        let found = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("found");
        let path = found.join(format!("{name}-{:016x}", hash(&input)));
        let kept = fs::create_dir_all(&found).and_then(|()| fs::write(&path, input));
        panic!(
            "{name}: {what}; {} bytes of input, seed {seed}, written to {} ({kept:?}): {}",
            input.len(),
            path.display(),
            input.escape_ascii().to_string().chars().take(1_000).collect::<String>()
        );
    };
    let outcome = match outcome {
        Ok(outcome) => hash(&outcome),
        Err(_) => fail("it panicked".into()),
    };
    if memory > bounds.memory {
        fail(format!("{memory} bytes of memory, {} are allowed", bounds.memory));
    }
    if time > bounds.time {
        fail(format!("{time:?} of processor time, {:?} are allowed", bounds.time));
    }
    worst.memory = worst.memory.max(memory);
    worst.time = worst.time.max(time);
    outcome
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(name);
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    // A seed is to give the same inputs everywhere.
    paths.sort();
    paths.iter().filter_map(|path| fs::read(path).ok()).collect()
}

fn variable<T: std::str::FromStr>(name: &str) -> Option<T> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

/// Of this thread: a busy machine does not make a parser slow.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a target does wrong is noticed, with the input that made it.
    fn notices(bounds: Bounds, expected: &str, target: impl Fn(&[u8])) {
        let (mut worst, input) = (Worst::default(), b"input");
        let run = || measured("notices", 1, bounds, &mut worst, input, target);
        let noticed = catch_unwind(AssertUnwindSafe(run)).unwrap_err();
        let noticed = noticed.downcast::<String>().unwrap();
        assert!(noticed.contains(expected) && noticed.contains("input"), "{noticed}");
        let path = noticed.split("written to ").nth(1).and_then(|rest| rest.split(' ').next());
        fs::remove_file(path.unwrap()).unwrap();
    }

    #[test]
    fn panics_memory_and_time_are_noticed() {
        let bounds = Bounds::of(100, 10);
        notices(bounds, "it panicked", |input| assert!(input.is_empty()));
        notices(bounds, "bytes of memory", |_| drop(vec![0_u8; 1 << 20]));
        let busy = |_: &[u8]| {
            let until = processor_time() + TIME * 2;
            while processor_time() < until {}
        };
        notices(bounds, "processor time", busy);
    }
}
