//! A node that is another process agrees, over real P2P.

use seam_bitcoin_core::Core;

use crate::support::{Bitcoind, DEADLINE, Wallet, hash_of, mine, options, until};

#[test]
fn a_peer_follows_our_blocks_and_we_follow_its() {
    let (ours, theirs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let peer = Bitcoind::start(theirs.path());
    let connect = format!("-connect={}", peer.p2p);
    let core = Core::start(&options(ours.path(), &["-noconnect", &connect])).unwrap();
    until("a connection", || (core.status().unwrap().peers_outbound == 1).then_some(()));

    let script = Wallet::new().segwit_script();
    for _ in 0..5 {
        let block = mine(&core, &script);
        let expected = hash_of(&block).to_string();
        until("the peer's tip", || (peer.call(&["getbestblockhash"]) == expected).then_some(()));
    }

    let tip = core.status().unwrap().tip;
    peer.call(&["generatetodescriptor", "1", "raw(51)"]);
    let next = core.wait_for_tip(tip.hash, DEADLINE).unwrap().unwrap();
    assert_eq!(next.height, 6);
    assert_eq!(next.hash.to_string(), peer.call(&["getbestblockhash"]));
    core.stop().unwrap();
    peer.stop();
}
