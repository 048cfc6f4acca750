//! Miners mine blocks that Bitcoin Core accepts, with transactions in them.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Block, Transaction};
use seam_integration::{Chain, Client, Cluster, Coin, Rpc, Wallet, assert_sound, until};

/// 110 blocks of devnet, so that coinbases are mature without minutes of hashing. Each pays to `OP_TRUE`.
const DEVNET_BLOCKS: &str = include_str!("../../data/devnet-blocks.hex");

/// A coinbase may be spent in the block that is so many above it.
const MATURITY: u64 = 100;

/// New work as soon as a transaction is there.
const EAGER: [&str; 6] = [
    "--set",
    "jobs.fee_check_seconds=1",
    "--set",
    "jobs.fee_threshold=1",
    "--set",
    "jobs.refresh_seconds=1",
];

#[test]
fn regtest_block_carries_segwit_and_taproot_spends() {
    let cluster = start(Chain::Regtest);
    let url = cluster.nodes()[0].stratum.clone();
    let blocks = (MATURITY + 2).to_string();
    let counts = cluster.mine(&url, "al.rig", "secret,d=1e-9", &["--blocks", &blocks]);
    assert_eq!(counts["blocks"].as_u64(), Some(MATURITY + 2));
    assert_eq!(counts["rejected"], 0, "{counts}");
    assert_eq!(cluster.rpc("node-0").height(), MATURITY + 2);
    carries_spends(&cluster, "secret,d=1e-9");
    every_block_is_sound(&cluster.rpc("node-0"));
    cluster.stop();
}

#[test]
fn devnet_block_carries_segwit_and_taproot_spends() {
    let cluster = start(Chain::Devnet);
    let rpc = cluster.rpc("node-0");
    for block in DEVNET_BLOCKS.lines() {
        assert!(rpc.call("submitblock", &[block]).as_str().is_none_or(str::is_empty));
    }
    assert_eq!(rpc.height(), DEVNET_BLOCKS.lines().count() as u64);
    carries_spends(&cluster, "secret,d=1e-5");
    every_block_is_sound(&rpc);

    // Shares are not blocks here: a session has many of the one for each of the other.
    let rounds = cluster.ctl(&["rounds"]);
    let past = &rounds["past"][0];
    assert!(past["shares"].as_u64().unwrap() > 1, "{rounds}");
    cluster.stop();
}

fn start(chain: Chain) -> Cluster {
    let options: Vec<&str> = EAGER.into_iter().chain(["--rpc"]).collect();
    let cluster = Cluster::start(chain, 1, 0, &options);
    cluster.add_user("al", "secret");
    cluster
}

/// Puts a segwit v0 and a taproot spend into the mempool, mines a block, and looks into it.
fn carries_spends(cluster: &Cluster, password: &str) {
    let rpc = cluster.rpc("node-0");
    let url = &cluster.nodes()[0].stratum;
    let height = rpc.height();
    let mature = rpc.block(&rpc.hash_at(height + 1 - MATURITY));
    let wallet = Wallet::default();
    let funding = wallet.take(&Coin::of_coinbase(&mature));
    let v0 = wallet.spend_v0(&Coin::of(&funding, 0));
    let taproot = wallet.spend_taproot(&Coin::of(&funding, 1));
    let sent = [&funding, &v0, &taproot];
    for transaction in sent {
        rpc.send(transaction);
    }
    wait_for_job_with(url, sent.len(), password);

    let counts = cluster.mine(url, "al.rig", password, &["--blocks", "1", "--threads", "2"]);
    assert_eq!(counts["blocks"], 1, "{counts}");
    let block = rpc.block(&rpc.hash_at(height + 1));
    for transaction in sent {
        assert!(block.txdata.contains(transaction), "{}", serialize_hex(transaction));
    }
    assert!(has_witness_of(&block, &v0, 2), "signature and key of the segwit v0 spend");
    assert!(has_witness_of(&block, &taproot, 1), "signature of the taproot spend");

    // 50 BTC halve every 150 blocks on regtest and 210,000 elsewhere.
    let subsidy = match cluster.chain() {
        "regtest" => 5_000_000_000 >> ((height + 1) / 150),
        _ => 5_000_000_000,
    };
    let fees: u64 = 2_000 * sent.len() as u64;
    let paid: u64 = block.txdata[0].output.iter().map(|output| output.value.to_sat()).sum();
    assert_eq!(paid, subsidy + fees, "subsidy and fees are in the coinbase");
    let blocks = cluster.ctl(&["blocks"]);
    assert_eq!(blocks["blocks"][0]["reward"].as_u64(), Some(subsidy + fees), "{blocks}");
    assert_eq!(blocks["blocks"][0]["user"], "al", "{blocks}");
}

/// Waits for work with so many transactions besides the coinbase.
fn wait_for_job_with(url: &str, transactions: usize, password: &str) {
    let mut client = Client::log_in(url, "al", password);
    let wanted = transactions.next_power_of_two().ilog2() as usize;
    until("work with the transactions in it", || {
        let job = client.newest_job();
        if job[4].as_array()?.len() >= wanted {
            return Some(());
        }
        let id = job[0].as_str()?.to_owned();
        client.wait_other_work(&id);
        None
    });
}

fn has_witness_of(block: &Block, transaction: &Transaction, items: usize) -> bool {
    let txid = transaction.compute_txid();
    let found = block.txdata.iter().find(|candidate| candidate.compute_txid() == txid);
    found.is_some_and(|found| found.input[0].witness.len() == items)
}

fn every_block_is_sound(rpc: &Rpc) {
    for height in 1..=rpc.height() {
        assert_sound(&rpc.block(&rpc.hash_at(height)), height);
    }
    assert_eq!(rpc.call("verifychain", &["4", "0"]), true);
}
