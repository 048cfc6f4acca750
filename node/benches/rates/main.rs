//! Where the node is fast, beside what it is compared with, in one run: templates in process against
//! `getblocktemplate`, a new tip on its way to a miner, a share on its way to its verdict.
//!
//! `cargo bench -p seam-node` prints the table; `docs/benchmarks.md` says what each row is.

#![allow(missing_docs)]
// A benchmark that cannot do its work ends.
#![allow(clippy::unwrap_used)]

mod chain;
mod rpc;
mod share;
#[allow(dead_code)] // It has what the tests of the crate need, too.
#[path = "../../bitcoin-core/tests/core/support.rs"]
mod support;
mod table;
mod tip;

use std::fs;
use std::time::Instant;

use seam_bitcoin_core::Core;

use crate::chain::Both;
use crate::rpc::Rpc;
use crate::support::{Bitcoind, Wallet, options};
use crate::table::Table;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let mut table = Table::default();
    share::measure(&mut table);

    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    // Regtest checks mempool and block index after every block, which no other chain does.
    for dir in &dirs {
        let conf = "[regtest]\ncheckmempool=0\ncheckblockindex=0\n";
        fs::write(dir.path().join("bitcoin.conf"), conf).unwrap();
    }
    let bitcoind = Bitcoind::start(dirs[1].path());
    let rpc = Rpc::new(bitcoind.rpc_port(), dirs[1].path());
    let begin = Instant::now();
    // Only what the benchmark submits may change the mempools.
    let core = Core::start(&options(dirs[0].path(), &[])).unwrap();
    println!(
        "Bitcoin Core in process, regtest: ready after {:.0} ms",
        begin.elapsed().as_secs_f64() * 1e3
    );

    let wallet = Wallet::new();
    let both = Both { core: &core, rpc: &rpc, wallet: &wallet };
    let first = both.begin();
    both.measure(&mut table, "empty mempool");
    tip::measure(&both, &mut table, "empty mempool");
    both.fill_mempool(&first);
    both.measure(&mut table, "2,000 transactions");
    tip::measure(&both, &mut table, "2,000 transactions");

    table.print();
    core.stop().unwrap();
    bitcoind.stop();
}
