//! The log's level by module, at run time.

use std::fs;

use seam_integration::{Chain, Client, Cluster, until};
use serde_json::json;

use crate::http::send;

#[test]
fn one_module_is_turned_up_and_down_while_the_node_runs() {
    let cluster = Cluster::start(Chain::Regtest, 1, 0, &["--set", "log.format=\"json\""]);
    let node = &cluster.nodes()[0];
    let url = format!("http://{}/v1/log", node.admin);
    let log = || fs::read_to_string(cluster.dir().join("node-0/log")).unwrap();
    let set = |filter: &str, token: Option<&str>| {
        let body = json!({"filter": filter}).to_string();
        send("POST", &url, token, Some(("application/json", body.as_bytes()))).status
    };
    // A refused login is told at `debug` by this module only.
    let refused = |user: &str| {
        let mut client = Client::connect(&node.stratum);
        client.subscribe(None);
        assert!(!client.call("mining.authorize", json!([user, "x"])).is_true());
    };
    let tells = |user: &str| {
        let text = log();
        text.lines().any(|line| line.contains("login refused") && line.contains(user))
    };

    refused("before");
    assert_eq!(set("info,seam_node::session=debug", None), 401);
    assert_eq!(set("info,seam_node::session=loud", Some(cluster.token())), 400);
    assert_eq!(set("info,seam_node::session=debug", Some(cluster.token())), 200);
    refused("while");
    until("the module to be heard", || tells("while").then_some(()));
    assert!(!tells("before"), "said at info, too");

    let debug_of_others = log().lines().any(|line| {
        line.contains("\"level\":\"DEBUG\"") && !line.contains("\"target\":\"seam_node::session")
    });
    assert!(!debug_of_others, "other modules stay as they were");

    assert_eq!(set("info", Some(cluster.token())), 200);
    refused("after");
    // The second change is logged behind the login, which makes the absence of its line certain.
    assert_eq!(set("warn,seam=info", Some(cluster.token())), 200);
    until("the change to be logged", || log().contains("warn,seam=info").then_some(()));
    assert!(!tells("after"));
    cluster.stop();
}

#[test]
fn one_module_of_a_proxy_is_turned_up_and_down_while_it_runs() {
    let cluster = Cluster::start(Chain::Regtest, 1, 1, &["--set-proxy", "log.format=\"json\""]);
    let proxy = &cluster.proxies()[0];
    let url = format!("http://{}/v1/log", proxy.admin);
    let set = |filter: &str, token: Option<&str>| {
        let body = json!({"filter": filter}).to_string();
        send("POST", &url, token, Some(("application/json", body.as_bytes()))).status
    };
    // The end of a session is told at `debug` by this module only.
    let come_and_go = || {
        let mut client = Client::connect(&proxy.stratum);
        client.subscribe(None);
        let before = ended(&cluster);
        drop(client);
        until("the session's end", || (ended(&cluster) > before).then_some(()));
    };
    let told =
        || cluster.log("proxy-0").lines().filter(|line| line.contains("session ended")).count();

    come_and_go();
    assert_eq!(set("info,seam_proxy::session=debug", None), 401);
    assert_eq!(set("info,seam_proxy::session=loud", Some(cluster.token())), 400);
    assert_eq!(set("info,seam_proxy::session=debug", Some(cluster.token())), 200);
    come_and_go();
    until("the module to be heard", || (told() == 1).then_some(()));
    let debug_of_others = cluster.log("proxy-0").lines().any(|line| {
        line.contains("\"level\":\"DEBUG\"") && !line.contains("\"target\":\"seam_proxy::session")
    });
    assert!(!debug_of_others, "other modules stay as they were");

    assert_eq!(set("info", Some(cluster.token())), 200);
    come_and_go();
    assert_eq!(set("warn,seam=info,seam_cluster=info", Some(cluster.token())), 200);
    until("the change to be logged", || {
        cluster.log("proxy-0").contains("warn,seam=info").then_some(())
    });
    assert_eq!(told(), 1);
    cluster.stop();
}

/// Sessions of the proxy that have ended because their miner left.
fn ended(cluster: &Cluster) -> f64 {
    cluster.metric("proxy-0", "seam_proxy_sessions_closed_total{reason=\"miner\"}")
}
