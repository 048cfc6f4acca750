//! A Bitcoin node that is not ours agrees with every block, and hears of it early.

use std::fs;

use seam_integration::{Bitcoind, Chain, Cluster, until};

/// A peer asks for early announcements (BIP 152 high bandwidth) once it got a few blocks from us.
const WARM_UP: usize = 3;
const BLOCKS: usize = 20;

#[test]
fn bitcoind_follows_every_block_and_is_told_before_the_finder_connects_it() {
    let options = ["--rpc", "--core-option=-debug=net", "--core-option=-logtimemicros=1"];
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &options);
    cluster.add_user("al", "secret");
    let node = &cluster.nodes()[0];
    let peer = Bitcoind::start(Chain::Regtest, &[&node.p2p], &[]);
    let rpc = cluster.rpc("node-0");
    until("the peer to be connected", || {
        (peer.rpc.call("getconnectioncount", &[]).as_u64()? > 0).then_some(())
    });

    let mut hashes = Vec::new();
    for height in 1..=BLOCKS as u64 {
        cluster.mine(&node.stratum, "al", "secret,d=1e-9", &["--blocks", "1"]);
        let hash = rpc.hash_at(height);
        until("the peer to follow", || {
            (peer.rpc.call("getbestblockhash", &[]) == hash.as_str()).then_some(())
        });
        hashes.push(hash);
    }

    // The finder's own log has both in the order in which they happened.
    let log_file = node.data_dir.join("bitcoin/regtest/debug.log");
    let log = fs::read_to_string(&log_file).unwrap();
    let place = |what: &str, hash: &str| {
        log.lines().position(|line| line.contains(what) && line.contains(hash))
    };
    let mut early = 0;
    for hash in &hashes[WARM_UP..] {
        let announced = place("NewPoWValidBlock sending header-and-ids", hash);
        let connected = place("UpdateTip: new best=", hash).expect("every block is connected");
        early += usize::from(announced.is_some_and(|announced| announced < connected));
    }
    assert_eq!(early, BLOCKS - WARM_UP, "blocks that went out before they were connected");
    drop(peer);
    cluster.stop();
}
