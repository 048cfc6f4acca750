//! A node that is another process agrees, over real P2P.

use std::fs;

use seam_bitcoin_core::Core;

use crate::support::{Bitcoind, DEADLINE, Wallet, hash_of, mine, options, until};

#[test]
fn a_peer_follows_our_blocks_and_we_follow_its() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let peer = Bitcoind::start(theirs.path());
    let connect = format!("-connect={}", peer.p2p);
    let core = Core::start(&options(ours.path(), &["-noconnect", &connect, "-debug=net"])).unwrap();
    until("a connection", || (core.status().unwrap().peers_outbound == 1).then_some(()));

    let script = Wallet::new().segwit_script();
    for _ in 0..5 {
        let block = mine(&core, &script);
        let expected = hash_of(&block).to_string();
        until("the peer's tip", || (peer.call(&["getbestblockhash"]) == expected).then_some(()));
    }

    // Once the peer has got blocks from us it wants to have them at once, and does: before Core has
    // looked into the block.
    let last = core.status().unwrap().tip.hash;
    let log = fs::read_to_string(ours.path().join("regtest/debug.log")).unwrap();
    let sent = log.find(&format!("sending header-and-ids {last}")).expect("the block was sent");
    let connected = log.find(&format!("UpdateTip: new best={last}")).expect("it was connected");
    assert!(sent < connected, "the peer had to wait");

    let tip = core.status().unwrap().tip;
    peer.call(&["generatetodescriptor", "1", "raw(51)"]);
    let next = core.wait_for_tip(tip.hash, DEADLINE).unwrap().unwrap();
    assert_eq!(next.height, 6);
    assert_eq!(next.hash.to_string(), peer.call(&["getbestblockhash"]));
    core.stop().unwrap();
    peer.stop();
}

#[test]
fn a_stop_during_block_download_leaves_a_sound_chain() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let peer = Bitcoind::start(theirs.path());
    peer.call(&["generatetodescriptor", "2000", "raw(51)"]);
    let connect = format!("-connect={}", peer.p2p);
    let core = Core::start(&options(ours.path(), &["-noconnect", &connect])).unwrap();
    let genesis = core.block_hash_at(0).unwrap().unwrap();
    core.wait_for_tip(genesis, DEADLINE).unwrap().unwrap();
    let status = core.status().unwrap();
    assert!(status.headers_height > status.tip.height, "the download was over already");
    core.stop().unwrap();

    let again = Bitcoind::start(ours.path());
    assert!(again.call(&["getblockcount"]).parse::<u32>().unwrap() >= status.tip.height);
    assert_eq!(again.call(&["verifychain", "4", "0"]), "true");
    again.stop();
    peer.stop();
}
