//! The whole cluster from wherever one looks.

use std::collections::BTreeMap;
use std::time::Duration;

use seam_integration::{Chain, Client, Cluster, run, until};
use serde_json::Value;

use crate::http::get;

const SESSIONS: u64 = 12;

/// What `seamctl status --json` promises of every node.
const FIELDS: [&str; 6] = ["name", "ready", "draining", "sessions", "height", "tip"];

#[test]
fn every_node_and_proxy_knows_the_whole_cluster() {
    let mut cluster = Cluster::start(Chain::Regtest, 3, 1, &["--authorization", "open"]);
    let miners: Vec<Client> =
        (0..SESSIONS).map(|_| Client::log_in(&cluster.proxies()[0].stratum, "al", "x")).collect();

    // From each node alone, by `seamctl` with nothing but its address.
    for node in cluster.nodes() {
        let seen = until("a node to know all others", || {
            let seen = status_by_ctl(&node.admin);
            let known = nodes(&seen).iter().all(|n| FIELDS.iter().all(|field| !n[field].is_null()));
            let sessions: u64 = nodes(&seen).iter().filter_map(|n| n["sessions"].as_u64()).sum();
            (known && sessions == SESSIONS).then_some(seen)
        });
        assert_eq!(nodes(&seen).len(), 3);
        assert!(nodes(&seen).iter().all(|n| n["ready"] == true && n["draining"] == false));
        assert!(nodes(&seen).iter().all(|n| n["age"].as_f64().unwrap() < 5.0), "{seen}");
        assert!(nodes(&seen).iter().all(|n| n["hashrate"].is_number()), "{seen}");
        let ring: f64 = nodes(&seen).iter().map(|n| n["ring"].as_f64().unwrap()).sum();
        assert!((ring - 1.0).abs() < 1e-6, "{ring}");
        assert_eq!((&seen["quorum"], &seen["can_lose_one"]), (&true.into(), &true.into()));
        assert!(seen["leader"].is_string() && seen["ledger"]["index"].is_u64(), "{seen}");
        assert!(seen["ledger"]["hash"].as_str().is_some_and(|hash| hash.len() == 64), "{seen}");
        assert_eq!(seen["proxies"][0]["name"], "proxy-0");
        until("the proxy's sessions", || {
            (status_by_ctl(&node.admin)["proxies"][0]["sessions"] == SESSIONS).then_some(())
        });
    }

    // From the proxy: its own sessions on each, what the nodes told it, and the same leader and ring.
    let one = get(&format!("http://{}/v1/status", cluster.nodes()[0].admin));
    let proxy = format!("http://{}/v1/status", cluster.proxies()[0].admin);
    until("the proxy to know all nodes", || {
        let seen = get(&proxy);
        let told = nodes(&seen).iter().all(|n| n["hashrate"].is_number() && n["height"].is_u64());
        let same_ring = ring(&seen) == ring(&one);
        let sessions: u64 = nodes(&seen).iter().filter_map(|n| n["sessions"].as_u64()).sum();
        let same = same_ring && seen["leader"] == one["leader"] && seen["can_lose_one"] == true;
        (told && same && sessions == SESSIONS).then_some(())
    });

    // A node that died is not what it said last.
    let gone = cluster.nodes().iter().find(|n| n.name != one["leader"]).unwrap().name.clone();
    let left = cluster.nodes().iter().find(|n| n.name != gone).unwrap().admin.clone();
    cluster.kill(&gone);
    let url = format!("http://{left}/v1/status");
    let seen = until("its word to be old", || {
        let seen = get(&url);
        let node = nodes(&seen).iter().find(|n| n["name"] == gone)?.clone();
        (node["ready"].is_null() && node["up"] == false).then_some(node)
    });
    assert!(seen["age"].as_f64().unwrap() > 5.0, "{seen}");
    assert!(seen["sessions"].is_null() && seen["hashrate"].is_null(), "{seen}");
    assert_eq!(seen["ring"], 0.0, "{seen}");
    assert!(seen["height"].is_u64(), "its last known height");
    drop(miners);
}

/// Each node's part; nodes list members in the order they joined, proxies by name.
fn ring(status: &Value) -> BTreeMap<String, String> {
    nodes(status).iter().map(|n| (n["name"].to_string(), n["ring"].to_string())).collect()
}

fn nodes(status: &Value) -> &Vec<Value> {
    status["nodes"].as_array().unwrap()
}

fn status_by_ctl(admin: &str) -> Value {
    let output = run("seamctl", ["--json", "--admin", admin, "status"], Duration::from_secs(30));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}
