//! What the ledger costs at the size that it promises: 1,000,000 users, a round of 100,000, and
//! 1,500,000 share hashes.
//!
//! ```sh
//! cargo run --release -p seam-cluster --example ledger_scale
//! ```
//!
//! Fails if it takes 1 GB or more, or if writing the snapshot and restarting from it take 10 s or
//! more together. The line that begins with `BENCH` is for `make bench`.

use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::time::Instant;

use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use seam_cluster::durable::Staged;
use seam_cluster::ledger::{
    BlockFound, Command, MAX_IMPORT, NewUser, Share, State, UserId, Verdict, Verifier,
};

const USERS: u32 = 1_000_000;
const MINERS: u32 = 100_000;
const HASHES: u64 = 1_500_000;
const BLOCKS: u32 = 10;
const NOW: u32 = 1_700_000_000;
/// Resident at most, in MB.
const MEMORY: u64 = 1_000;
/// For a snapshot and a restart, in seconds.
const PATIENCE: f64 = 10.0;

fn main() {
    let mut state = State::new();
    let mut index = 0;
    let mut apply = |state: &mut State, command: &Command| {
        index += 1;
        state.apply(index, command)
    };

    let start = Instant::now();
    for first in (0..USERS).step_by(MAX_IMPORT) {
        let users = (first..first + MAX_IMPORT as u32).map(user).collect();
        apply(&mut state, &Command::ImportUsers(users));
    }
    report("1,000,000 users imported", start);

    let start = Instant::now();
    let mut number = 0;
    for block in 0..BLOCKS {
        for batch in 0..MINERS / 1_000 {
            let batch = (0..1_000).map(|place| {
                number += 1;
                share(number, (batch * 1_000 + place) * 10, 0)
            });
            let batch = batch.collect();
            apply(&mut state, &Command::Shares { time: NOW, batch });
        }
        let found = Command::BlockFound(Box::new(found(block)));
        apply(&mut state, &found);
    }
    report("10 rounds of 100,000 users", start);

    for size in [100, 1_000] {
        let batches: Vec<_> = (0..HASHES / 2 / size)
            .map(|batch| {
                let batch = (0..size).map(|place| {
                    number += 1;
                    let minute = ((batch * size + place) / 80_000) as u32;
                    share(number, (number % u64::from(MINERS)) as u32 * 10, 600 + minute * 60)
                });
                Command::Shares { time: NOW + 1_200, batch: batch.collect() }.encode()
            })
            .collect();
        let bytes: usize = batches.iter().map(Vec::len).sum();
        let shares = batches.len() as u64 * size;
        let start = Instant::now();
        let decoded: Vec<_> = batches.iter().map(|bytes| Command::decode(bytes)).collect();
        let decode = start.elapsed();
        for command in decoded {
            apply(&mut state, &command.expect("it was just encoded"));
        }
        println!(
            "batches of {size}: {:.1} bytes, decode {} ns, decode and apply {} ns a share",
            bytes as f64 / shares as f64,
            decode.as_nanos() / u128::from(shares),
            start.elapsed().as_nanos() / u128::from(shares),
        );
    }
    let resident = resident();
    println!("share hashes: {}, resident: {resident} MB", state.seen().len());

    let start = Instant::now();
    let clone = state.clone();
    report("clone", start);
    let shares = (0..1_000).map(|place| share(number + place + 1, place as u32 * 1_000, 1_100));
    let after = Command::Shares { time: NOW + 1_200, batch: shares.collect() };
    let start = Instant::now();
    apply(&mut state, &after);
    report("first batch of 1,000 after it", start);
    let start = Instant::now();
    apply(&mut state, &Command::EnsureUser { name: "new".into() });
    report("first new user after it", start);

    let path = std::env::temp_dir().join(format!("seam-ledger-scale-{}", std::process::id()));
    let start = Instant::now();
    let mut writer = BufWriter::with_capacity(1 << 20, Staged::create(&path).expect("create"));
    clone.write_to(&mut writer).expect("write");
    writer.flush().expect("flush");
    writer.into_inner().expect("flushed").commit().expect("commit");
    let written = report("snapshot written and synced", start);
    let snapshot = fs::metadata(&path).expect("metadata").len() >> 20;
    println!("snapshot: {snapshot} MB");

    let start = Instant::now();
    state.digest();
    report("ledger hash, after shares", start);
    let start = Instant::now();
    apply(&mut state, &Command::BlockStatus { hash: hash(0), verdict: Verdict::Orphaned });
    report("orphan of 100,000 users", start);
    let digest = clone.digest();
    drop((clone, state));

    let start = Instant::now();
    let mut reader = BufReader::with_capacity(1 << 20, File::open(&path).expect("open"));
    let restored = State::read_from(&mut reader).expect("read");
    let restart = report("restart from it", start);
    assert_eq!(restored.digest(), digest);
    fs::remove_file(&path).expect("remove");
    let peak = status("VmHWM:") >> 10;
    println!("peak resident: {peak} MB");
    println!(
        "BENCH {{\"name\": \"ledger_scale\", \"users\": {USERS}, \"round_users\": {MINERS}, \
         \"share_hashes\": {HASHES}, \"resident_mb\": {resident}, \"peak_mb\": {peak}, \
         \"snapshot_mb\": {snapshot}, \"snapshot_s\": {written:.3}, \"restart_s\": {restart:.3}}}"
    );
    // The peak holds the old state's clone beside the state, and then the restored one.
    assert!(resident < MEMORY && peak < MEMORY, "{resident} MB, at most {peak} MB");
    assert!(written + restart < PATIENCE, "{written:.1} s and {restart:.1} s");
}

fn user(number: u32) -> NewUser {
    let phc = format!(
        "$argon2id$v=19$m=19456,t=2,p=1${number:022}$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    );
    NewUser { name: format!("user-{number:07}"), verifier: Verifier::Argon2id(phc.into()) }
}

fn share(number: u64, user: u32, late: u32) -> Share {
    let mixed = (u128::from(number) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    Share {
        session: user ^ 0x5eed_0000,
        user: UserId(user),
        work: 4_295_032_833 * (1 + number % 1_000),
        hash16: mixed.to_le_bytes(),
        job_time: NOW + late,
        time: NOW + late + 5,
    }
}

fn found(number: u32) -> BlockFound {
    BlockFound {
        height: number,
        hash: hash(number),
        previous: hash(number + 1_000),
        ts: NOW,
        time: NOW,
        txid: Txid::all_zeros(),
        address: String::new(),
        reward: 312_500_000,
        network: "main".into(),
        node: "node-0".into(),
        job: 1,
        session: 1,
        user: UserId(0),
        share: None,
    }
}

fn hash(number: u32) -> BlockHash {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_le_bytes());
    BlockHash::from_byte_array(bytes)
}

/// Prints how long something took, and returns the seconds.
fn report(what: &str, start: Instant) -> f64 {
    let took = start.elapsed().as_secs_f64();
    println!("{what}: {:.1} ms, resident {} MB", took * 1e3, resident());
    took
}

fn resident() -> u64 {
    status("VmRSS:") >> 10
}

/// A line of the kernel's account of this process, in KiB.
fn status(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let found = status.lines().find_map(|text| text.strip_prefix(line));
    found.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}
