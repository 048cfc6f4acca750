//! Templates from Core in process against `getblocktemplate` from a `bitcoind` of the same build,
//! over the same mempool, in the same run. Also what starting costs, in time and memory.
//!
//! `cargo bench -p seam-bitcoin-core` prints the table.

#![allow(missing_docs)]
// A benchmark that cannot do its work ends.
#![allow(clippy::unwrap_used)]

mod rpc;
#[allow(dead_code)] // It has what the tests need, too.
#[path = "../../tests/core/support.rs"]
mod support;

use std::fs;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{serialize, serialize_hex};
use bitcoin::{Amount, Block, OutPoint};
use seam_bitcoin_core::{BlockOutcome, Core, TemplateOptions};

use crate::rpc::Rpc;
use crate::support::{Bitcoind, DEADLINE, Wallet, coinbase, options, solve, submit};

const TRANSACTIONS: usize = 2_000;
const ROUNDS: usize = 50;

/// Core's maturity of coinbase outputs, in blocks.
const MATURITY: usize = 100;

fn main() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // Regtest checks mempool and block index after every block, which no other chain does.
    for dir in &dirs {
        let conf = "[regtest]\ncheckmempool=0\ncheckblockindex=0\n";
        fs::write(dir.path().join("bitcoin.conf"), conf).unwrap();
    }
    let bitcoind = Bitcoind::start(dirs[1].path());
    let rpc = Rpc::new(bitcoind.rpc_port(), dirs[1].path());

    let memory_before = resident();
    let begin = Instant::now();
    // Only what the benchmark submits may change the mempools.
    let core = Core::start(&options(dirs[0].path(), &[])).unwrap();
    println!("Bitcoin Core in process, regtest");
    println!("  start to ready           {:>10.1} ms", milliseconds(begin.elapsed()));
    println!("  resident before, after   {:>6.1} and {:.1} MB", memory_before, resident());

    let wallet = Wallet::new();
    let both = Both { core: &core, rpc: &rpc, wallet: &wallet };
    let first = both.mine(&with_mempool());
    for _ in 0..MATURITY {
        both.mine(&with_mempool());
    }
    let empty_mempool = both.measure();
    both.fill_mempool(&first);
    let full_mempool = both.measure();

    println!("\nmedian (and 99th percentile) of {ROUNDS} rounds, each on a new tip, in µs");
    println!("{:<52}{:>20}{:>20}", "", "empty mempool", format!("{TRANSACTIONS} transactions"));
    for (empty, full) in empty_mempool.iter().zip(&full_mempool) {
        println!("{:<52}{:>20}{:>20}", empty.what, empty.cell(), full.cell());
    }
    let get_block_template = full_mempool.last().unwrap().median();
    println!("\ngetblocktemplate on a new tip, {TRANSACTIONS} transactions, takes longer by");
    for row in &full_mempool[..3] {
        println!("  {:<50}{:>10.1} ×", row.what, get_block_template / row.median());
    }
    println!("\nresident at the end        {:>8.1} MB", resident());
    core.stop().unwrap();
    bitcoind.stop();
}

fn with_mempool() -> TemplateOptions {
    TemplateOptions { check: false, ..TemplateOptions::default() }
}

fn without_mempool() -> TemplateOptions {
    TemplateOptions { use_mempool: false, ..with_mempool() }
}

/// The two that are compared, kept on the same chain with the same mempool.
struct Both<'a> {
    core: &'a Core,
    rpc: &'a Rpc,
    wallet: &'a Wallet,
}

impl Both<'_> {
    fn mine(&self, options: &TemplateOptions) -> Block {
        let template = self.core.template(options).unwrap();
        let script = self.wallet.segwit_script();
        let block = solve(&template, coinbase(&template, &script, b"seam"));
        assert_eq!(submit(self.core, &template, &block), BlockOutcome::Accepted);
        let verdict = self.rpc.call("submitblock", &format!("[\"{}\"]", serialize_hex(&block)));
        assert!(verdict.contains("\"result\":null"), "{verdict}");
        block
    }

    /// As many transactions as there are, none of which needs another.
    fn fill_mempool(&self, first: &Block) {
        let script = self.wallet.segwit_script();
        let from = OutPoint::new(first.txdata[0].compute_txid(), 0);
        let fee = Amount::from_sat(200_000);
        let value = first.txdata[0].output[0].value;
        let fan = self.wallet.spend_segwit(from, value, fee, &script, TRANSACTIONS);
        self.core.submit_transaction(&serialize(&fan), 0).unwrap();
        self.mine(&with_mempool());
        for (index, output) in (0..).zip(&fan.output) {
            let from = OutPoint::new(fan.compute_txid(), index);
            let fee = Amount::from_sat(1_000 + u64::from(index));
            let spend = self.wallet.spend_segwit(from, output.value, fee, &script, 1);
            self.core.submit_transaction(&serialize(&spend), 0).unwrap();
            let sent =
                self.rpc.call("sendrawtransaction", &format!("[\"{}\"]", serialize_hex(&spend)));
            assert!(sent.contains("\"error\":null"), "{sent}");
        }
        let template = self.core.template(&with_mempool()).unwrap();
        assert_eq!(template.transaction_count, TRANSACTIONS);
    }

    fn measure(&self) -> Vec<Row> {
        let mut rows = [
            "template",
            "template, checked by Core",
            "empty template",
            "its wtxids",
            "its transactions, serialized",
            "new tip seen after submit_solution was called",
            "  and an empty template made of it",
            "getblocktemplate, the same tip again (cached)",
            "getblocktemplate",
        ]
        .map(|what| Row { what, times: Vec::new() });
        for _ in 0..ROUNDS {
            let [seen, made] = self.new_tip();
            let mut template = None;
            let mut round = [Duration::ZERO; 9];
            // Each in its turn first on the new tip would be fairest to Core's caches; the one that
            // is compared most goes first.
            round[0] = time(|| template = Some(self.core.template(&with_mempool()).unwrap()));
            round[1] = time(|| {
                let options = TemplateOptions { check: true, ..with_mempool() };
                black_box(self.core.template(&options).unwrap());
            });
            round[2] = time(|| drop(black_box(self.core.template(&without_mempool()).unwrap())));
            let template = template.unwrap();
            round[3] = time(|| drop(black_box(template.wtxids().unwrap())));
            round[4] = time(|| drop(black_box(template.transactions().unwrap())));
            round[5] = seen;
            round[6] = made;
            let ask = || {
                let answer = self.rpc.call("getblocktemplate", "[{\"rules\":[\"segwit\"]}]");
                assert!(answer.contains("\"error\":null"), "{answer}");
            };
            round[8] = time(ask);
            round[7] = time(ask);
            for (row, time) in rows.iter_mut().zip(round) {
                row.times.push(time);
            }
        }
        rows.into()
    }

    /// Mines a block without transactions, so that the mempool stays, and returns how long another
    /// thread took to see it, and to have a template on it.
    fn new_tip(&self) -> [Duration; 2] {
        let known = self.core.status().unwrap().tip.hash;
        let template = self.core.template(&without_mempool()).unwrap();
        let script = self.wallet.segwit_script();
        let block = solve(&template, coinbase(&template, &script, b"seam"));
        let (begin, seen, made) = thread::scope(|scope| {
            let (ready, is_ready) = std::sync::mpsc::channel();
            let core = self.core;
            let waiter = scope.spawn(move || {
                ready.send(()).unwrap();
                core.wait_for_tip(known, DEADLINE).unwrap().unwrap();
                let seen = Instant::now();
                black_box(core.template(&without_mempool()).unwrap());
                (seen, Instant::now())
            });
            is_ready.recv().unwrap();
            let begin = Instant::now();
            assert_eq!(submit(self.core, &template, &block), BlockOutcome::Accepted);
            let (seen, made) = waiter.join().unwrap();
            (begin, seen, made)
        });
        let verdict = self.rpc.call("submitblock", &format!("[\"{}\"]", serialize_hex(&block)));
        assert!(verdict.contains("\"result\":null"), "{verdict}");
        [seen.saturating_duration_since(begin), made.saturating_duration_since(begin)]
    }
}

struct Row {
    what: &'static str,
    times: Vec<Duration>,
}

impl Row {
    /// In microseconds.
    fn median(&self) -> f64 {
        self.quantile(50)
    }

    fn quantile(&self, percent: usize) -> f64 {
        let mut times = self.times.clone();
        times.sort();
        times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e6
    }

    fn cell(&self) -> String {
        format!("{:.0} ({:.0})", self.median(), self.quantile(99))
    }
}

fn time(work: impl FnOnce()) -> Duration {
    let begin = Instant::now();
    work();
    begin.elapsed()
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// Resident memory of this process in megabytes.
fn resident() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let kilobytes: f64 = line.trim().strip_suffix(" kB").unwrap().parse().unwrap();
    kilobytes / 1024.0
}
