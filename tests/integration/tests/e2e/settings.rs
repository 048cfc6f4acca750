//! What settings promise: who may mine, when there is new work.

use std::fs;

use bitcoin::hashes::{Hash, sha256d};
use seam_integration::{Chain, Client, Cluster, Coin, Wallet, until};
use serde_json::{Value, json};

/// An address of the chain, one of another, and none.
const REGTEST: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const MAINNET: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
/// Where `dev up` has its blocks pay to: anyone can spend that.
const ANYONE: &str = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
const TYPO: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081";

#[test]
fn in_address_mode_a_valid_address_is_the_user() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &["--authorization", "address"]);
    let url = &cluster.nodes()[0].stratum;
    let mut client = Client::log_in(url, &format!("{REGTEST}.rig"), "x,d=1e-9");
    let share = client.find(true);
    assert!(client.submit(&format!("{REGTEST}.rig"), &share).is_true());
    for refused in [MAINNET, TYPO, "al"] {
        assert!(!logs_in(url, refused), "{refused}");
    }
    let rounds = cluster.ctl(&["rounds"]);
    let credited = |round: &Value| !round["users"][REGTEST].is_null();
    let past = rounds["past"].as_array().unwrap().iter();
    assert!(past.chain([&rounds["current"]]).any(credited), "{rounds}");
    cluster.stop();
}

#[test]
fn in_open_mode_any_name_is_a_user() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &["--authorization", "open"]);
    let url = &cluster.nodes()[0].stratum;
    assert!(logs_in(url, "whoever.rig"));
    assert!(!logs_in(url, ""), "a user has a name");
    cluster.stop();
}

#[test]
fn users_file_of_bcoin_stratum_is_imported_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("users.json");
    let digits = hex::encode(sha256d::Hash::hash(b"secret").to_byte_array());
    fs::write(&file, format!("{{\"username\":\"old\",\"password\":\"{digits}\"}}\n")).unwrap();
    let setting = format!("pool.users_file={}", file.display());
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &["--set", &setting]);
    let url = &cluster.nodes()[0].stratum;
    until("the import", || {
        let users = cluster.ctl(&["user", "list"]);
        users["users"].as_array()?.iter().any(|user| user["name"] == "old").then_some(())
    });
    drop(Client::log_in(url, "old", "secret"));
    let mut client = Client::connect(url);
    client.subscribe(None);
    assert!(!client.call("mining.authorize", json!(["old", "wrong"])).is_true());
    cluster.stop();
}

#[test]
fn work_is_sent_anew_for_fees_above_the_threshold_and_not_below() {
    let options = [
        "--rpc",
        "--set",
        "jobs.fee_check_seconds=1",
        "--set",
        "jobs.fee_threshold=5000",
        "--set",
        "jobs.refresh_seconds=55",
    ];
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &options);
    cluster.add_user("al", "secret");
    let rpc = cluster.rpc("node-0");
    rpc.call("generatetoaddress", &["102", ANYONE]);
    until("the node to have seen the newest block", || {
        (cluster.metric("node-0", "seam_chain_height") == 102.0).then_some(())
    });
    let mut client = Client::log_in(&cluster.nodes()[0].stratum, "al", "secret,d=1e-9");
    let fee_jobs = || cluster.metric("node-0", "seam_jobs_total{reason=\"fees\"}");
    assert_eq!(fee_jobs(), 0.0);
    let looks = || cluster.metric("node-0", "seam_template_seconds_count{kind=\"full\"}");

    // 2,000 satoshi of fees, then two times as much: below the threshold.
    let wallet = Wallet::default();
    let funding = wallet.take(&Coin::of_coinbase(&rpc.block(&rpc.hash_at(1))));
    rpc.send(&funding);
    rpc.send(&wallet.spend_v0(&Coin::of(&funding, 0)));
    let before = looks();
    until("two more looks at the fees", || (looks() >= before + 2.0).then_some(()));
    assert_eq!(fee_jobs(), 0.0);

    // And above.
    rpc.send(&wallet.spend_taproot(&Coin::of(&funding, 1)));
    until("work for the fees", || (fee_jobs() >= 1.0).then_some(()));
    // A miner that was there before is told, too: the coinbase has two siblings now.
    while client.newest_job()[4].as_array().unwrap().len() < 2 {
        let old = client.newest_job()[0].as_str().unwrap().to_owned();
        client.wait_other_work(&old);
    }
    assert_eq!(client.newest_job()[8], false, "nobody has to drop what he works on");
    cluster.stop();
}

#[test]
fn work_is_sent_again_when_nothing_changes() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &["--set", "jobs.refresh_seconds=1"]);
    cluster.add_user("al", "secret");
    let mut client = Client::log_in(&cluster.nodes()[0].stratum, "al", "secret,d=1");
    client.wait_work();
    for _ in 0..3 {
        let old = client.newest_job()[0].as_str().unwrap().to_owned();
        client.wait_other_work(&old);
        assert_eq!(client.newest_job()[8], false);
    }
    cluster.stop();
}

fn logs_in(url: &str, user: &str) -> bool {
    let mut client = Client::connect(url);
    client.subscribe(None);
    client.call("mining.authorize", json!([user, "x"])).is_true()
}
