//! Ten thousand miners on one node.

use std::fs;
use std::time::Duration;

use seam_integration::{Chain, Cluster, until_within};
use seam_load::{Load, Options, Rate};

/// Sessions. Node and test each have as many sockets; a process may open 20,000 files.
const SESSIONS: u32 = 10_000;

/// What an idle session may take of the node's memory, in bytes.
const MEMORY: u64 = 8_000;

/// Any address of the chain.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// New tips that all of them have to hear of.
const TIPS: u64 = 5;

/// For everyone to log in, or to hear of a tip, with a debug build on two busy cores.
const PATIENCE: Duration = Duration::from_secs(120);

#[test]
fn ten_thousand_sessions_hear_of_every_tip_in_8_kb_each() {
    let options = ["--rpc", "--authorization", "open", "--set", "jobs.refresh_seconds=55"];
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &options);
    let rpc = cluster.rpc("node-0");
    let new_tip = || rpc.call("generatetoaddress", &["1", ADDRESS]);
    new_tip();
    let pid = cluster.pid("node-0");
    let empty = resident(pid);

    let load = Load::spawn(Options {
        sessions: SESSIONS,
        ramp: 20.0,
        rate: Rate::PerSecond(0.0),
        // Until it is stopped.
        secs: 600.0,
        ready_timeout: PATIENCE.as_secs_f64(),
        ..Options::new(&cluster.nodes()[0].stratum)
    })
    .unwrap();
    let all = u64::from(SESSIONS);
    load.wait_until("all sessions", PATIENCE, |live| live.ready() == all).unwrap();
    // What the handshakes left in buffers counts: it is not given back while the sessions live.
    let idle = resident(pid);
    for tip in 1..=TIPS {
        let sent = cluster.metric("node-0", "seam_notify_sent_total");
        let before = load.live().notified();
        new_tip();
        load.wait_until(&format!("everyone to hear of tip {tip}"), PATIENCE, |live| {
            live.notified() >= before + all
        })
        .unwrap();
        until_within(PATIENCE, "the node to have counted them", || {
            (cluster.metric("node-0", "seam_notify_sent_total") >= sent + all as f64).then_some(())
        });
    }
    let after = resident(pid);
    let report = load.stop().unwrap();
    println!("idle {idle} B, after {TIPS} tips {after} B, empty {empty} B: per session {} B", {
        (after.max(idle) - empty) / all
    });
    println!("{report}");
    assert_eq!((report.ready, report.drops, report.bad_lines), (SESSIONS, 0, 0), "{report}");
    assert_eq!(report.tips_missed, 0, "{report}");
    assert_eq!(report.tip_spread.count, TIPS, "{report}");
    for memory in [idle, after] {
        let each = memory.saturating_sub(empty) / all;
        assert!(each <= MEMORY, "{each} bytes a session");
    }
    cluster.stop();
}

/// Resident memory of a process that is its own, in bytes.
fn resident(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1_024
}
