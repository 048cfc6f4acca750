//! Sids, routing, `mining.configure`, fan-out: what a session is to a miner.

mod support;

use std::time::Duration;

use seam_cluster::link::frame::ByNode;
use serde_json::json;
use support::{Cluster, Miner, config, metric, proxy, ready_proxy, until};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn configure_is_answered_before_any_node_is_there_and_handed_on() {
    let cluster = Cluster::start(1).await;
    cluster.nodes()[0].set(false, false);
    let proxy = proxy(config(&cluster));
    let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
    miner
        .send(
            "{\"id\":\"c\",\"method\":\"mining.configure\",\"params\":[[\"version-rolling\",\
             \"minimum-difficulty\",\"x\"],{\"version-rolling.mask\":\"00ffffff\",\
             \"minimum-difficulty.value\":2}]}",
        )
        .await;
    let answer = miner.line().await.expect("connected");
    assert_eq!(answer["id"], "c");
    assert_eq!(answer["result"]["version-rolling.mask"], "00ffe000");
    assert_eq!(answer["result"]["x"], false);
    cluster.nodes()[0].set(true, false);
    miner.subscribe(None).await;
    miner.send("{\"id\":7,\"method\":\"mining.ping\"}").await;
    // The node of these tests says the mask that it was told.
    assert_eq!(miner.answer().await["result"], "00ffe000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authorize_may_come_first_and_everything_in_one_packet() {
    let cluster = Cluster::start(2).await;
    let proxy = ready_proxy(&cluster, 2).await;
    let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
    miner
        .send_bytes(
            b"\r\n{\"id\":1,\"method\":\"mining.authorize\",\"params\":[\"u\",\"x\"]}\r\n\
              {\"id\":2,\"method\":\"mining.suggest_difficulty\",\"params\":[1]}\n\
              {\"id\":3,\"method\":\"mining.subscribe\",\"params\":[]}\n\
              {\"id\":4,\"method\":\"mining.extranonce.subscribe\",\"params\":[]}\n",
        )
        .await;
    for id in 1..=4 {
        assert_eq!(miner.answer().await["id"], id);
    }
    miner.job().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_may_come_byte_by_byte() {
    let cluster = Cluster::start(1).await;
    let proxy = ready_proxy(&cluster, 1).await;
    let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
    let lines = format!(
        "{}\n{}\n{}\n",
        "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}",
        "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"u\",\"x\"]}",
        Miner::submit_line(3, 3)
    );
    for byte in lines.as_bytes() {
        miner.send_bytes(&[*byte]).await;
        tokio::task::yield_now().await;
    }
    for id in 1..=3 {
        assert_eq!(miner.answer().await["id"], id);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_proxy_takes_a_sid_to_the_same_node() {
    let cluster = Cluster::start(3).await;
    let (one, other) = (ready_proxy(&cluster, 3).await, ready_proxy(&cluster, 3).await);
    for _ in 0..20 {
        let first = Miner::working(one.plain().expect("listens")).await;
        let node = cluster.node_of(&first.extranonce1).expect("a node").name();
        let (sid, extranonce1) = (first.sid.clone(), first.extranonce1.clone());
        drop(first);
        until("it is gone", || cluster.node_of(&extranonce1).is_none()).await;
        let mut again = Miner::connect(other.plain().expect("listens")).await;
        again.subscribe(Some(&sid)).await;
        assert_eq!((&again.sid, &again.extranonce1), (&sid, &extranonce1));
        assert_eq!(cluster.node_of(&extranonce1).expect("a node").name(), node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn half_open_connection_is_taken_over_with_its_ticket() {
    let cluster = Cluster::start(2).await;
    let proxy = ready_proxy(&cluster, 2).await;
    let mut old = Miner::working(proxy.plain().expect("listens")).await;
    old.job().await;
    let mut new = Miner::connect(proxy.plain().expect("listens")).await;
    new.subscribe(Some(&old.sid)).await;
    assert_eq!(new.extranonce1, old.extranonce1);
    assert!(old.is_closed().await);
    let node = cluster.node_of(&new.extranonce1).expect("a node");
    let opened = node.log().into_iter().rfind(|line| line.starts_with("open")).expect("opened");
    assert!(opened.contains("moved=false resume=true ticket=subscribed authorized"), "{opened}");
    // It is a new connection: it logs in again, and then gets work.
    new.authorize().await;
    assert_eq!(new.job().await[8], true);
    assert_eq!(metric(&proxy, "seam_proxy_sessions_closed_total{reason=\"taken_over\"}"), 1.0);
    // What crossed the link is counted, in both directions.
    for direction in ["in", "out"] {
        let line = format!(
            "seam_proxy_link_bytes_total{{node=\"{}\",direction=\"{direction}\"}}",
            node.name()
        );
        until("bytes are counted", || {
            proxy.metrics().contains(&line) && metric(&proxy, &line) > 100.0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ticket_is_kept_for_a_miner_that_comes_back_when_its_node_is_gone() {
    let cluster = Cluster::start(2).await;
    let proxy = ready_proxy(&cluster, 2).await;
    let old = Miner::working(proxy.plain().expect("listens")).await;
    let (sid, extranonce1) = (old.sid.clone(), old.extranonce1.clone());
    let home = cluster.node_of(&extranonce1).expect("a node");
    drop(old);
    until("the session is over", || proxy.hub().session_count() == 0).await;
    home.kill().await;
    until("one node is left", || proxy.hub().ready_nodes() == 1).await;
    let mut new = Miner::connect(proxy.plain().expect("listens")).await;
    new.subscribe(Some(&sid)).await;
    assert_eq!(new.extranonce1, extranonce1);
    let node = cluster.node_of(&extranonce1).expect("another node");
    assert_ne!(node.name(), home.name());
    let opened = node.log().into_iter().rfind(|line| line.starts_with("open")).expect("opened");
    assert!(opened.contains("moved=false resume=true ticket=subscribed authorized"), "{opened}");
    until("it is not kept twice", || metric(&proxy, "seam_queue_depth{queue=\"parked\"}") == 0.0)
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sid_that_is_not_ours_gets_a_fresh_session() {
    let cluster = Cluster::start(2).await;
    let proxy = ready_proxy(&cluster, 2).await;
    let honest = Miner::working(proxy.plain().expect("listens")).await;
    let other_cluster =
        seam_stratum::Sid::mint(&seam_stratum::SidKey([8; 32]), seam_stratum::Extranonce1(0));
    let mut forged = honest.sid.clone();
    let last = if forged.ends_with('0') { '1' } else { '0' };
    forged.pop();
    forged.push(last);
    for sid in [&forged, &other_cluster.to_string(), &honest.extranonce1, "", "deadbeef", "\u{fc}"]
    {
        let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
        miner.subscribe(Some(sid)).await;
        assert_ne!(miner.extranonce1, honest.extranonce1, "{sid}");
    }
    assert_eq!(metric(&proxy, "seam_proxy_sessions_closed_total{reason=\"taken_over\"}"), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sid_is_honoured_that_came_before_any_node_was_there() {
    let cluster = Cluster::start(2).await;
    let one = ready_proxy(&cluster, 2).await;
    let first = Miner::working(one.plain().expect("listens")).await;
    for node in cluster.nodes() {
        node.set(false, false);
    }
    let other = proxy(config(&cluster));
    let mut again = Miner::connect(other.plain().expect("listens")).await;
    let subscribe =
        json!({ "id": 1, "method": "mining.subscribe", "params": ["again", first.sid] });
    again.send(&subscribe.to_string()).await;
    until("it waits", || metric(&other, "seam_proxy_sessions_held") == 1.0).await;
    for node in cluster.nodes() {
        node.set(true, false);
    }
    assert_eq!(again.answer().await["result"][1], first.extranonce1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_sessions_are_spread_within_the_bound() {
    let cluster = Cluster::start(3).await;
    let proxy = ready_proxy(&cluster, 3).await;
    let mut miners = Vec::new();
    for _ in 0..60 {
        let mut miner = Miner::connect(proxy.plain().expect("listens")).await;
        miner.subscribe(None).await;
        miners.push(miner);
    }
    for node in cluster.nodes() {
        // 1.25 times the mean of 20.
        assert!((1..=25).contains(&node.sessions()), "{}: {}", node.name(), node.sessions());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn job_crosses_once_and_reaches_all_that_want_it() {
    let cluster = Cluster::start(1).await;
    let proxy = ready_proxy(&cluster, 1).await;
    let mut idle = Miner::connect(proxy.plain().expect("listens")).await;
    idle.subscribe(None).await;
    let mut miners = Vec::new();
    for _ in 0..300 {
        miners.push(Miner::working(proxy.plain().expect("listens")).await);
    }
    for miner in &mut miners {
        assert_eq!(miner.job().await[0], "1");
    }
    cluster.nodes()[0].job("2");
    for miner in &mut miners {
        assert_eq!(miner.job().await[0], "2");
    }
    idle.send("{\"id\":7,\"method\":\"mining.ping\"}").await;
    assert_eq!(idle.line().await.expect("connected")["id"], 7, "no job before the login");
    assert_eq!(metric(&proxy, "seam_notify_sent_total"), 300.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_may_end_a_session_or_ban_its_address() {
    let cluster = Cluster::start(1).await;
    let proxy = ready_proxy(&cluster, 1).await;
    let address = proxy.plain().expect("listens");
    let (mut one, mut two) = (Miner::working(address).await, Miner::working(address).await);
    cluster.nodes()[0].end(&one.extranonce1, ByNode::Ended);
    one.job().await;
    assert!(one.is_closed().await);
    cluster.nodes()[0].end(&two.extranonce1, ByNode::Banned { seconds: 600 });
    two.job().await;
    assert!(two.is_closed().await);
    assert!(Miner::connect(address).await.is_closed().await);
    assert_eq!(metric(&proxy, "seam_bans_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_that_a_node_refuses_is_tried_again() {
    let cluster = Cluster::start(1).await;
    let proxy = ready_proxy(&cluster, 1).await;
    let mut miner = Miner::working(proxy.plain().expect("listens")).await;
    miner.job().await;
    cluster.nodes()[0].end(&miner.extranonce1, ByNode::Refused);
    assert_eq!(miner.job().await[8], false);
    miner.mine(5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn stopping_proxy_names_the_public_endpoint_and_leaves_nobody_waiting() {
    let cluster = Cluster::start(1).await;
    let mut config = config(&cluster);
    config.stratum.public = "pool.example.org:3333".into();
    let proxy = proxy(config);
    until("ready", || proxy.hub().ready_nodes() == 1).await;
    let address = proxy.plain().expect("listens");
    let mut miners = Vec::new();
    for _ in 0..10 {
        let mut miner = Miner::working(address).await;
        miner.job().await;
        miners.push(miner);
    }
    let stop = tokio::spawn(proxy.stop());
    for miner in &mut miners {
        let line = miner.line().await.expect("a last line");
        assert_eq!(line["method"], "client.reconnect", "{line}");
        assert_eq!(line["params"], json!(["pool.example.org", 3333, 0]));
        assert!(miner.is_closed().await);
    }
    drop(miners);
    let stopped = tokio::time::timeout(Duration::from_secs(5), stop).await;
    stopped.expect("in time").expect("no panic");
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    until("the node has none", || cluster.nodes()[0].sessions() == 0).await;
}
