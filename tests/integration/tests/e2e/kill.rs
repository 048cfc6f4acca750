//! A node that is alone with its chain and killed: no block of its miners is missing afterwards.

use std::time::Duration;

use seam_integration::{Chain, Client, Cluster, until};

/// More blocks than the node keeps before it has Core write its chain.
const MANY: u64 = 150;

#[test]
fn block_survives_a_kill_right_behind_it() {
    let mut cluster = Cluster::start(Chain::Regtest, 1, 0, &["--rpc"]);
    cluster.add_user("al", "secret");
    let url = cluster.nodes()[0].stratum.clone();
    let mut found = Vec::new();
    for kill in 0..6_u64 {
        for _ in 0..kill % 3 + 1 {
            found.push(mine_block(&url));
        }
        cluster.kill("node-0");
        cluster.restart("node-0");
        cluster.wait_ready("node-0");
        assert_all_there(&cluster, &found);
    }
    // Nobody had to mine them anew, and the next one builds on them.
    found.push(mine_block(&url));
    assert_all_there(&cluster, &found);
    assert_eq!(cluster.rpc("node-0").height(), found.len() as u64);
    assert_eq!(cluster.rpc("node-0").call("verifychain", &["4", "0"]), true);
    cluster.terminate("node-0", Duration::from_secs(20));
}

#[test]
fn long_chain_survives_a_kill_and_few_blocks_are_kept_for_it() {
    let mut cluster = Cluster::start(Chain::Regtest, 1, 0, &["--rpc"]);
    cluster.add_user("al", "secret");
    let url = cluster.nodes()[0].stratum.clone();
    let counts = cluster.mine(&url, "al", "secret,d=1e-9", &["--blocks", &MANY.to_string()]);
    assert_eq!(counts["blocks"].as_u64(), Some(MANY), "{counts}");
    until("Core to have written its chain", || {
        (cluster.metric("node-0", "seam_kept_blocks") < 100.0).then_some(())
    });
    let rpc = cluster.rpc("node-0");
    let found: Vec<String> = (1..=rpc.height()).map(|height| rpc.hash_at(height)).collect();
    cluster.kill("node-0");
    cluster.restart("node-0");
    cluster.wait_ready("node-0");
    assert_all_there(&cluster, &found);
    // What a clean stop wrote needs nobody to keep it.
    cluster.terminate("node-0", Duration::from_secs(20));
    cluster.restart("node-0");
    cluster.wait_ready("node-0");
    until("blocks to be let go", || {
        (cluster.metric("node-0", "seam_kept_blocks") <= 5.0).then_some(())
    });
    assert_all_there(&cluster, &found);
}

/// Mines a block and returns its hash as soon as the miner was told `true`.
fn mine_block(url: &str) -> String {
    let mut client = Client::log_in(url, "al", "secret,d=1e-9");
    loop {
        let share = client.find(true);
        assert!(client.submit("al", &share).is_true());
        if share.is_block {
            return share.hash.iter().rev().map(|byte| format!("{byte:02x}")).collect();
        }
    }
}

/// Chain and ledger have these blocks, at these heights, from 1 on.
fn assert_all_there(cluster: &Cluster, found: &[String]) {
    let rpc = cluster.rpc("node-0");
    for (height, hash) in (1..).zip(found) {
        assert_eq!(&rpc.hash_at(height), hash, "height {height} of {}", found.len());
    }
    until("rounds of all blocks", || {
        let rounds = cluster.ctl(&["rounds"]);
        let past = rounds["past"].as_array().unwrap();
        for round in past {
            assert_ne!(round["status"], "orphaned", "{round}");
        }
        let known = |hash: &String| past.iter().any(|round| round["hash"] == hash.as_str());
        found.iter().all(known).then_some(())
    });
}
