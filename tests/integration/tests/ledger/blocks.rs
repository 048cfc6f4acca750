//! A solved block waits for nobody, and outlives whoever found it.

use std::time::{Duration, Instant};
use std::{fs, thread};

use seam_integration::{
    Agreement, Chain, Client, Cluster, Coin, Dice, Share, Wallet, assert_sound, until, until_within,
};
use serde_json::Value;

/// New work as soon as a transaction is there, and every second.
const OPTIONS: [&str; 9] = [
    "--rpc",
    "--authorization",
    "open",
    "--set",
    "jobs.fee_check_seconds=1",
    "--set",
    "jobs.fee_threshold=1",
    "--set",
    "jobs.refresh_seconds=1",
];

/// A coinbase may be spent in the block that is so many above it.
const MATURITY: u64 = 100;

/// Beyond regtest's own difficulty (every share is a block), far below devnet's.
const PASSWORD: &str = "x,d=1e-9";

#[test]
fn share_on_a_dead_nodes_job_is_credited_by_a_survivor() {
    let mut cluster = Cluster::start(Chain::Devnet, 3, 1, &OPTIONS);
    let mut client = Client::log_in(&cluster.proxies()[0].stratum, "al.rig", PASSWORD);
    let share = client.find(true);
    assert!(!share.is_block);
    let next_job = share.parameters[0].clone();
    client.wait_other_work(&next_job); // By now the peers have the job before it.
    let home = home(&cluster);
    cluster.kill(&home);
    let answer = client.submit("al.rig", &share);
    assert!(answer.is_true(), "{answer:?}");
    until("the credit", || (credit(&cluster, &home, "al") == 1).then_some(()));
    // Once is enough.
    assert_eq!(client.submit("al.rig", &share).code(), 22);
    assert_eq!(credit(&cluster, &home, "al"), 1);
    cluster.restart(&home);
    cluster.wait_ready(&home);
    Agreement::default().settle(&cluster);
    cluster.stop();
}

#[test]
fn block_on_a_dead_nodes_job_is_assembled_and_submitted_by_a_survivor() {
    let mut cluster = Cluster::start(Chain::Regtest, 3, 1, &OPTIONS);
    let blocks = (MATURITY + 2).to_string();
    let url = cluster.nodes()[0].stratum.clone();
    let counts = cluster.mine(&url, "al.rig", PASSWORD, &["--blocks", &blocks]);
    assert_eq!(counts["blocks"].as_u64(), Some(MATURITY + 2), "{counts}");
    same_tip(&cluster);

    let rpc = cluster.rpc("node-0");
    let height = rpc.height();
    let wallet = Wallet::default();
    let mature = rpc.block(&rpc.hash_at(height + 1 - MATURITY));
    let funding = wallet.take(&Coin::of_coinbase(&mature));
    let sent = [
        funding.clone(),
        wallet.spend_v0(&Coin::of(&funding, 0)),
        wallet.spend_taproot(&Coin::of(&funding, 1)),
    ];
    sent.iter().for_each(|transaction| rpc.send(transaction));

    let mut client = Client::log_in(&cluster.proxies()[0].stratum, "bo.rig", PASSWORD);
    let share = until("work with the transactions in it", || {
        let job = client.newest_job();
        if job[4].as_array()?.len() >= 2 {
            return Some(client.find(true));
        }
        let id = job[0].as_str()?.to_owned();
        client.wait_other_work(&id);
        None
    });
    assert!(share.is_block);
    let job = share.parameters[0].clone();
    client.wait_other_work(&job); // By now the peers have the job before it.
    let home = home(&cluster);
    cluster.kill(&home);
    let answer = client.submit("bo.rig", &share);
    assert!(answer.is_true(), "{answer:?}");

    let survivor = survivor(&cluster, &home);
    let rpc = cluster.rpc(&survivor);
    assert_eq!(rpc.height(), height + 1);
    assert_eq!(rpc.hash_at(height + 1), share.display());
    let block = rpc.block(&share.display());
    assert_sound(&block, height + 1);
    for transaction in &sent {
        // With its witness: all of it is compared.
        assert!(block.txdata.contains(transaction), "{transaction:?}");
    }
    let round = round_of(&cluster, &survivor, &share);
    assert_eq!(round["users"]["bo"]["shares"], 1, "{round}");
    cluster.restart(&home);
    cluster.wait_ready(&home);
    Agreement::default().settle(&cluster);
    same_tip(&cluster);
    cluster.stop();
}

#[test]
fn block_of_a_node_that_dies_at_once_is_in_the_chain_and_its_round_in_the_ledger() {
    const TIMES: usize = 6;
    let mut cluster = Cluster::start(Chain::Regtest, 3, 0, &OPTIONS);
    for time in 0..TIMES {
        let finder = cluster.nodes()[time % 3].clone();
        let mut client = Client::log_in(&finder.stratum, "al", PASSWORD);
        let share = block(&mut client);
        let answer = client.submit("al", &share);
        cluster.kill(&finder.name);
        assert!(answer.is_true(), "{answer:?}");
        let survivor = survivor(&cluster, &finder.name);
        let rpc = cluster.rpc(&survivor);
        until("the block in a survivor's chain", || {
            (rpc.call("getbestblockhash", &[]) == share.display().as_str()).then_some(())
        });
        let round = round_of(&cluster, &survivor, &share);
        assert_eq!(round["users"]["al"]["shares"], 1, "{round}");
        cluster.restart(&finder.name);
        cluster.wait_ready(&finder.name);
        same_tip(&cluster);
    }
    let rounds = Agreement::default().settle(&cluster);
    assert_eq!(rounds["past"].as_array().unwrap().len(), TIMES, "{rounds}");
    cluster.stop();
}

#[test]
fn block_in_the_chain_has_its_round_whenever_its_finder_is_killed() {
    const TIMES: usize = 12;
    /// What lies between a share on the wire and the end of everything that is done with its block.
    const WITHIN: Duration = Duration::from_millis(8);
    let mut dice = Dice::new();
    let mut cluster = Cluster::start(Chain::Regtest, 3, 0, &OPTIONS);
    for time in 0..TIMES {
        let finder = cluster.nodes()[time % 3].clone();
        let mut client = Client::log_in(&finder.stratum, "al", PASSWORD);
        let share = block(&mut client);
        client.ask_submit("al", &share);
        thread::sleep(dice.moment(WITHIN)); // The moment is what is tried here.
        cluster.kill(&finder.name);
        cluster.restart(&finder.name);
        cluster.wait_ready(&finder.name);
        same_tip(&cluster);
    }
    let mut agreement = Agreement::default();
    let rpc = cluster.rpc("node-0");
    let chain: Vec<String> = (1..=rpc.height()).map(|height| rpc.hash_at(height)).collect();
    eprintln!("{} of {TIMES} blocks got out", chain.len());
    // The record may still be on its way.
    until_within(Duration::from_secs(20), "a round for every block of the chain", || {
        let rounds = agreement.settle(&cluster);
        let has = |hash: &String| {
            let mut past = rounds["past"].as_array().unwrap().iter();
            past.any(|round| round["hash"] == hash.as_str() && round["status"] != "orphaned")
        };
        chain.iter().all(has).then_some(())
    });
    cluster.stop();
}

/// As if the finder had died between Core's judgement and the record: the note alone is left, and no peer was told.
#[test]
fn note_of_a_block_closes_its_round_after_the_restart_of_its_finder() {
    let mut cluster = Cluster::start(Chain::Regtest, 3, 0, &OPTIONS);
    let mut client = Client::log_in(&cluster.nodes()[0].stratum, "al", PASSWORD);
    let share = block(&mut client);
    cluster.kill("node-1");
    cluster.kill("node-2");
    client.ask_submit("al", &share);
    let outbox = cluster.member("node-0").data_dir.join("outbox");
    let record = outbox.join(format!("1-{}.block", share.display()));
    until("the block's record", || record.exists().then_some(()));
    until("the block in the chain", || (cluster.rpc("node-0").height() == 1).then_some(()));
    // Core keeps what it has; of our own files only the note shall be left.
    cluster.terminate("node-0", Duration::from_secs(20));
    fs::rename(&record, record.with_extension("solved")).unwrap();
    for name in ["node-0", "node-1", "node-2"] {
        cluster.restart(name);
    }
    for name in ["node-0", "node-1", "node-2"] {
        cluster.wait_ready(name);
    }
    same_tip(&cluster);
    assert_eq!(cluster.rpc("node-1").height(), 1);
    let round = round_of(&cluster, "node-1", &share);
    assert_eq!(round["users"]["al"]["shares"], 1, "{round}");
    until("the note to be gone", || fs::read_dir(&outbox).unwrap().next().is_none().then_some(()));
    Agreement::default().settle(&cluster);
    cluster.stop();
}

#[test]
fn block_without_a_quorum_is_submitted_at_once_and_recorded_when_the_quorum_is_back() {
    /// Core takes a millisecond or two; a debug build on a busy machine some more. Waiting for a quorum takes seconds.
    const AT_ONCE: Duration = Duration::from_millis(500);
    let mut cluster = Cluster::start(Chain::Regtest, 3, 0, &OPTIONS);
    let nodes: Vec<String> = cluster.nodes().iter().map(|node| node.name.clone()).collect();
    for silent in [true, false] {
        for finder in &nodes {
            let stratum = cluster.member(finder).stratum.clone();
            let user = if silent { "al" } else { "bo" };
            let mut client = Client::log_in(&stratum, user, PASSWORD);
            let share = block(&mut client);
            let others: Vec<String> =
                nodes.iter().filter(|name| *name != finder).cloned().collect();
            for other in &others {
                if silent { cluster.freeze(other) } else { cluster.kill(other) }
            }
            let rpc = cluster.rpc(finder);
            let height = rpc.height();
            let sent = Instant::now();
            client.ask_submit(user, &share);
            until_within(Duration::from_secs(4), "the block in the finder's chain", || {
                (rpc.height() > height).then_some(())
            });
            let took = sent.elapsed();
            eprintln!("{finder} alone: its block was in its chain after {took:?}");
            assert!(took < AT_ONCE, "{took:?}");
            assert_eq!(rpc.call("getbestblockhash", &[]), share.display().as_str());
            for other in &others {
                if silent {
                    cluster.thaw(other);
                } else {
                    cluster.restart(other);
                }
            }
            for other in &others {
                cluster.wait_ready(other);
            }
            let round = round_of(&cluster, &others[0], &share);
            assert_eq!(round["users"][user]["shares"], 1, "{round}");
            Agreement::default().settle(&cluster);
            same_tip(&cluster);
        }
    }
    let rounds = Agreement::default().settle(&cluster);
    assert_eq!(rounds["past"].as_array().unwrap().len(), 2 * nodes.len(), "{rounds}");
    cluster.stop();
}

/// A share that is a block.
fn block(client: &mut Client) -> Share {
    let share = client.find(true);
    assert!(share.is_block, "shares of this difficulty are blocks of regtest");
    share
}

/// The node that serves the only session there is.
fn home(cluster: &Cluster) -> String {
    until("the session's node", || {
        let has_it = |name: &str| Some(cluster.get(name, "/v1/status")?["sessions"] == 1);
        let mut nodes = cluster.nodes().iter();
        nodes.find(|node| has_it(&node.name) == Some(true)).map(|node| node.name.clone())
    })
}

fn survivor(cluster: &Cluster, dead: &str) -> String {
    cluster.nodes().iter().find(|node| node.name != dead).unwrap().name.clone()
}

/// A user's shares in the current round, as a survivor sees it.
fn credit(cluster: &Cluster, dead: &str, user: &str) -> u64 {
    let rounds = cluster.get(&survivor(cluster, dead), "/v1/rounds").unwrap();
    rounds["current"]["users"][user]["shares"].as_u64().unwrap_or(0)
}

/// The round that a share's block closed.
fn round_of(cluster: &Cluster, node: &str, share: &Share) -> Value {
    until("the block's round", || {
        let rounds = cluster.get(node, "/v1/rounds")?;
        let mut past = rounds["past"].as_array()?.iter();
        past.find(|round| round["hash"] == share.display().as_str()).cloned()
    })
}

/// Waits until all nodes have the same tip.
fn same_tip(cluster: &Cluster) {
    let tip = |name: &str| cluster.rpc(name).call("getbestblockhash", &[]);
    until("one tip", || {
        let first = tip("node-0");
        cluster.nodes().iter().all(|node| tip(&node.name) == first).then_some(())
    });
}
