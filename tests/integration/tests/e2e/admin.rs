//! What an operator does with `seamctl`.

use std::fs;
use std::time::Duration;

use bitcoin::hashes::{Hash, sha256d};
use seam_integration::{Chain, Client, Cluster, run, until};
use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn user_can_mine_from_the_moment_the_command_is_done_until_disabled() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    let url = &cluster.nodes()[0].stratum;
    cluster.add_user("al", "secret");
    drop(Client::log_in(url, "al.rig", "secret"));
    assert_eq!(cluster.try_ctl(&["user", "add", "al", "--password", "x"]).status.code(), Some(1));
    let users = cluster.ctl(&["user", "list"]);
    assert_eq!(users["users"][0]["name"], "al", "{users}");

    cluster.ctl(&["user", "disable", "al"]);
    let mut client = Client::connect(url);
    client.subscribe(None);
    assert!(!client.call("mining.authorize", json!(["al", "secret"])).is_true());
    cluster.ctl(&["user", "enable", "al"]);
    drop(Client::log_in(url, "al", "secret"));
    assert_eq!(cluster.try_ctl(&["user", "disable", "nobody"]).status.code(), Some(1));
    cluster.stop();
}

#[test]
fn new_password_counts_on_every_node_and_the_old_one_on_none() {
    let cluster = Cluster::start(Chain::Regtest, 3, 0, &[]);
    cluster.add_user("al", "lost");
    let mut logged_in = Client::log_in(&cluster.nodes()[1].stratum, "al", "lost");
    cluster.ctl(&["user", "password", "al", "--password", "found"]);
    for node in cluster.nodes() {
        drop(Client::log_in(&node.stratum, "al", "found"));
        let mut client = Client::connect(&node.stratum);
        client.subscribe(None);
        assert!(!client.call("mining.authorize", json!(["al", "lost"])).is_true());
    }
    assert!(logged_in.call("mining.authorize", json!(["al", "found"])).is_true());
    let nobody = ["user", "password", "nobody", "--password", "x"];
    assert_eq!(cluster.try_ctl(&nobody).status.code(), Some(1));
    cluster.stop();
}

#[test]
fn users_of_bcoin_stratum_are_imported_with_their_passwords() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    let file = cluster.dir().join("users.json");
    let digits = hex::encode(sha256d::Hash::hash(b"secret").to_byte_array());
    fs::write(&file, format!("{{\"username\":\"old\",\"password\":\"{digits}\"}}\n")).unwrap();
    let done = cluster.ctl(&["user", "import", file.to_str().unwrap()]);
    assert_eq!(done["imported"], 1, "{done}");
    drop(Client::log_in(&cluster.nodes()[0].stratum, "old", "secret"));

    let exported = cluster.dir().join("exported.json");
    let output = cluster.try_ctl(&["user", "export", "-o", exported.to_str().unwrap()]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = fs::read_to_string(exported).unwrap();
    let line: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    assert_eq!(line["username"], "old");
    cluster.stop();
}

#[test]
fn exit_codes_tell_refused_misused_and_unreachable_apart() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    let admin = &cluster.nodes()[0].admin;
    let token = cluster.dir().join("wrong.token");
    fs::write(&token, "wrong\n").unwrap();
    let token = token.to_str().unwrap();
    let code = |words: &[&str]| run("seamctl", words, PATIENCE).status.code();
    let add = ["user", "add", "eve", "--password", "x"];
    assert_eq!(code(&[&["--admin", admin, "--token-file", token][..], &add].concat()), Some(1));
    assert_eq!(code(&[&["--admin", admin][..], &add].concat()), Some(1), "without a token");
    assert_eq!(code(&["status"]), Some(2), "of which cluster?");
    assert_eq!(code(&["--admin", admin, "payouts", "--height", "1", "--fee", "101"]), Some(2));
    assert_eq!(code(&["--admin", "127.0.0.1:1", "status"]), Some(3));
    assert_eq!(code(&["--admin", admin, "status"]), Some(0));
    // One that answers is enough.
    let both = format!("127.0.0.1:1,{admin}");
    assert_eq!(code(&["--admin", &both, "blocks"]), Some(0));
    cluster.stop();
}

#[test]
fn round_is_paid_out_to_the_last_satoshi() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    let url = &cluster.nodes()[0].stratum;
    for (user, blocks) in [("al", "1"), ("bob", "2")] {
        cluster.add_user(user, "x");
        cluster.mine(url, user, "x,d=1e-9", &["--blocks", blocks]);
    }
    let blocks = until("three blocks", || {
        let blocks = cluster.ctl(&["blocks"]);
        (blocks["blocks"].as_array()?.len() == 3).then_some(blocks)
    });
    assert_eq!(blocks["blocks"][0]["height"], 3, "newest first");

    let payouts = cluster.ctl(&["payouts", "--height", "1", "--fee", "1.5"]);
    let number = |value: &Value| value.as_u64().unwrap();
    let paid: u64 =
        payouts["users"].as_array().unwrap().iter().map(|part| number(&part["amount"])).sum();
    assert_eq!(paid + number(&payouts["fee"]), number(&payouts["reward"]), "{payouts}");
    assert_eq!(number(&payouts["fee"]), number(&payouts["reward"]) * 15 / 1000);

    let round = cluster.ctl(&["rounds", "--height", "1"]);
    assert!(round["users"]["al"]["shares"].as_u64().unwrap() >= 1, "{round}");
    let rounds = cluster.ctl(&["rounds"]);
    assert!(rounds["current"]["work"].is_string() && rounds["past"].is_array(), "{rounds}");
    assert_eq!(cluster.try_ctl(&["rounds", "--height", "99"]).status.code(), Some(1));

    // Every block left its file, in bcoin-stratum's format.
    let dump = until("the dump", || {
        let dir = fs::read_dir(cluster.nodes()[0].data_dir.join("shares")).ok()?;
        let mut files: Vec<_> = dir.filter_map(|entry| Some(entry.ok()?.path())).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        files.sort();
        (files.len() == 3).then(|| fs::read_to_string(&files[0]).unwrap())
    });
    let dump: Value = serde_json::from_str(&dump).unwrap();
    assert_eq!((&dump["height"], &dump["network"]), (&json!(1), &json!("regtest")), "{dump}");
    assert!(dump["shares"]["al"].is_number(), "{dump}");
    cluster.stop();
}

#[test]
fn backup_restored_into_a_new_cluster_is_the_same_ledger() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    cluster.add_user("al", "secret");
    cluster.mine(&cluster.nodes()[0].stratum, "al", "secret,d=1e-9", &["--blocks", "2"]);
    let file = cluster.dir().join("ledger.backup");
    let file = file.to_str().unwrap();
    cluster.ctl(&["backup", file]);
    // A cluster that is in use is no place to restore into.
    assert_eq!(cluster.try_ctl(&["restore", file]).status.code(), Some(1));
    cluster.stop();
}

#[test]
fn drain_hands_over_every_session_and_undrain_takes_new_ones() {
    let mut cluster = Cluster::start(Chain::Regtest, 1, 0, &[]);
    cluster.add_user("al", "secret");
    let url = &cluster.nodes()[0].stratum.clone();
    let mut client = Client::log_in(url, "al", "secret");
    client.wait_work();
    let drained = cluster.ctl(&["drain", "node-0"]);
    assert_eq!(drained["drained"], true, "{drained}");
    let told = std::iter::from_fn(|| client.line()).any(|l| l["method"] == "client.reconnect");
    assert!(told, "a miner is told where to go before it is hung up on");
    assert!(!cluster.is_ready("node-0"), "nobody is sent to a node that drains");
    cluster.ctl(&["undrain", "node-0"]);
    cluster.wait_ready("node-0");
    drop(Client::log_in(url, "al", "secret"));
    cluster.stop();
}
