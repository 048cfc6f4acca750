//! Stopping and dying: what was promised holds afterwards.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::thread;
use std::time::Duration;

use seam_integration::{Chain, Client, Cluster, Miner, until};

use crate::fresh::FreshNode;

/// What an operator may count on.
const STOP: Duration = Duration::from_secs(20);

/// While there is nothing to hand over yet.
const PROMPT: Duration = Duration::from_secs(5);

#[test]
fn sigterm_ends_a_node_in_time_with_code_0_and_its_chain_intact() {
    let mut cluster = Cluster::start(Chain::Regtest, 1, 0, &["--rpc"]);
    cluster.add_user("al", "secret");
    let url = cluster.nodes()[0].stratum.clone();
    // The first start was seamctl's child; the exit code of those that follow is seen.
    cluster.terminate("node-0", STOP);
    // As soon as it listens to signals, while Core starts, and when all is up.
    for wait in [0, 5, 50, 500, 2_000] {
        cluster.restart("node-0");
        let pid = cluster.pid("node-0");
        until("a handler for SIGTERM", || catches_sigterm(pid).then_some(()));
        thread::sleep(Duration::from_millis(wait)); // The moment is what is tried here.
        cluster.terminate("node-0", STOP);
    }
    // Under load.
    cluster.restart("node-0");
    cluster.wait_ready("node-0");
    let miner = Miner::start(&url, "al", "secret,d=1e-9", &[]);
    let height = cluster.rpc("node-0").height();
    until("blocks", || (cluster.rpc("node-0").height() > height + 5).then_some(()));
    cluster.terminate("node-0", STOP);
    let counts = miner.stop();
    assert_eq!(counts["rejected"], 0, "{counts}");

    cluster.restart("node-0");
    cluster.wait_ready("node-0");
    let rpc = cluster.rpc("node-0");
    assert!(rpc.height() > height + 5);
    assert_eq!(rpc.call("verifychain", &["4", "0"]), true);
    cluster.terminate("node-0", STOP);
}

#[test]
fn no_acknowledged_share_is_missing_after_twenty_kills() {
    let mut cluster = Cluster::start(Chain::Devnet, 1, 0, &["--rpc"]);
    cluster.add_user("al", "secret");
    let url = cluster.nodes()[0].stratum.clone();
    // One miner that goes through all of it.
    let miner = Miner::start(&url, "al", "secret,d=1e-7", &["--hashrate", "100000"]);
    for round in 0..20u64 {
        let before = shares(&cluster);
        until("shares to be counted", || (shares(&cluster) > before + 20).then_some(()));
        // Another moment each time.
        thread::sleep(Duration::from_millis(round * 37 % 200));
        cluster.kill("node-0");
        cluster.restart("node-0");
        cluster.wait_ready("node-0");
    }
    let before = shares(&cluster);
    until("shares after the last kill", || (shares(&cluster) > before + 20).then_some(()));
    let counts = miner.stop();
    let number = |name: &str| counts[name].as_u64().unwrap();
    let counted = shares(&cluster);
    assert!(counted >= number("accepted"), "{counted} in the ledger of {counts}");
    assert!(counted <= number("accepted") + number("unanswered"), "{counted} of {counts}");
    assert_eq!(cluster.rpc("node-0").call("verifychain", &["4", "0"]), true);
    // And it goes on as if nothing had been.
    let mut client = Client::log_in(&url, "al", "secret,d=1e-7");
    let share = client.find(true);
    assert!(client.submit("al", &share).is_true());
    cluster.terminate("node-0", STOP);
}

#[test]
fn sigterm_while_core_makes_a_new_chain_ends_it_at_once() {
    for wait in [0, 1, 3, 10, 30, 100, 300] {
        let node = FreshNode::new();
        let mut program = node.start();
        until("a handler for SIGTERM", || catches_sigterm(program.pid()).then_some(()));
        thread::sleep(Duration::from_millis(wait)); // The moment is what is tried here.
        program.terminate();
        let status = program.wait_within(PROMPT);
        assert_eq!(status.code(), Some(0), "after {wait} ms: {status}");
    }
}

#[test]
fn sigterm_before_the_first_line_of_code_leaves_nothing_behind() {
    for wait in [0, 1, 2, 4] {
        let node = FreshNode::new();
        let mut program = node.start();
        thread::sleep(Duration::from_millis(wait)); // As above.
        let was_caught = catches_sigterm(program.pid());
        program.terminate();
        let status = program.wait_within(PROMPT);
        // The loader is still at work: the kernel ends the process, which has opened nothing.
        let was_killed = status.signal() == Some(15) && !node.has_opened();
        assert!(status.success() || (!was_caught && was_killed), "after {wait} ms: {status}");
    }
}

/// Shares in the ledger, all rounds.
fn shares(cluster: &Cluster) -> u64 {
    let rounds = cluster.ctl(&["rounds"]);
    let past = rounds["past"].as_array().unwrap().iter();
    past.chain([&rounds["current"]]).map(|round| round["shares"].as_u64().unwrap()).sum()
}

/// Whether a process has a handler for SIGTERM by now; before that nothing can be asked of it.
fn catches_sigterm(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = caught.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    caught.is_some_and(|mask| mask & (1 << (15 - 1)) != 0)
}
