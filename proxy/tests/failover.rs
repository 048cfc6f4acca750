//! Sessions outlive their node: killed, silent, draining, back again.

mod support;

use std::time::{Duration, Instant};

use support::{Cluster, FakeNode, Miner, metric, ready_proxy, until};

/// A proxy before three nodes, and so many miners at work.
async fn at_work(miners: usize) -> (Cluster, seam_proxy::Proxy, Vec<Miner>) {
    let cluster = Cluster::start(3).await;
    let proxy = ready_proxy(&cluster, 3).await;
    let mut working = Vec::new();
    for _ in 0..miners {
        working.push(Miner::working(proxy.plain().expect("listens")).await);
    }
    (cluster, proxy, working)
}

fn node_of<'a>(cluster: &'a Cluster, miner: &Miner) -> &'a FakeNode {
    cluster.node_of(&miner.extranonce1).expect("some node has it")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pipelined_submits_of_one_id_are_answered_once_and_in_order_across_a_kill() {
    let (cluster, proxy, mut miners) = at_work(1).await;
    let mut miner = miners.remove(0);
    let old = node_of(&cluster, &miner);
    // cpuminer: id 4 for every submit, and no waiting. Half of the burst is answered, a part is
    // counted but not answered, the rest arrives around the node's death.
    for nonce in 0..50 {
        miner.submit(4, nonce).await;
    }
    for _ in 0..50 {
        assert_eq!(miner.answer().await["result"], true);
    }
    old.mute(true);
    for nonce in 50..100 {
        miner.submit(4, nonce).await;
    }
    until("the node has them", || old.owed() == 50).await;
    old.count_owed();
    // One that is refused in the middle tells that the order holds.
    miner.submit(4, 7).await;
    until("the node has it", || old.owed() == 51).await;
    let killed = Instant::now();
    old.kill().await;
    for nonce in 100..150 {
        miner.submit(4, nonce).await;
    }
    for nonce in 50..150 {
        let answer = miner.answer().await;
        assert_eq!((&answer["id"], &answer["result"]), (&4.into(), &true.into()), "{nonce}");
        if nonce == 99 {
            // The replay of a share that was counted is answered as the ledger says.
            assert_eq!(miner.answer().await["id"], 4);
        }
    }
    assert!(killed.elapsed() < Duration::from_secs(1), "{:?}", killed.elapsed());
    assert_eq!(cluster.counted(), 150);
    assert_ne!(node_of(&cluster, &miner).name(), old.name());
    assert_eq!(metric(&proxy, "seam_proxy_moves_total{reason=\"lost_node\",result=\"lost\"}"), 0.0);
    assert_eq!(
        metric(&proxy, "seam_proxy_moves_total{reason=\"lost_node\",result=\"moved\"}"),
        1.0
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_node_s_miners_stay_connected_and_see_one_more_job_that_is_not_clean() {
    let (cluster, proxy, mut miners) = at_work(30).await;
    let victim = &cluster.nodes()[0];
    let concerned: Vec<bool> =
        miners.iter().map(|miner| node_of(&cluster, miner).name() == victim.name()).collect();
    assert!(concerned.iter().any(|concerned| *concerned));
    victim.kill().await;
    for (miner, concerned) in miners.iter_mut().zip(concerned) {
        assert_eq!(miner.job().await[8], true, "the first job");
        if concerned {
            let line = miner.line().await.expect("connected");
            assert_eq!(line["method"], "mining.notify");
            assert_eq!(line["params"][8], false, "{line}");
        }
        miner.send("{\"id\":9,\"method\":\"mining.ping\"}").await;
        assert_eq!(miner.line().await.expect("connected")["id"], 9, "nothing else came");
    }
    assert_eq!(proxy.hub().session_count(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_node_is_left_within_a_second_and_a_half() {
    let (cluster, _proxy, mut miners) = at_work(1).await;
    let mut miner = miners.remove(0);
    let old = node_of(&cluster, &miner);
    old.freeze(true);
    let frozen = Instant::now();
    miner.mine(1).await;
    assert!(frozen.elapsed() < Duration::from_millis(1900), "{:?}", frozen.elapsed());
    assert_eq!(cluster.counted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_moves_sessions_between_requests_and_replays_nothing() {
    let (cluster, proxy, mut miners) = at_work(40).await;
    let old = &cluster.nodes()[1];
    let before = old.sessions();
    assert!(before > 0);
    old.mute(true);
    let mut nonce = 0;
    for miner in &mut miners {
        nonce += 1;
        miner.submit(nonce, nonce).await;
    }
    until("the draining node has its submits", || old.owed() == before).await;
    old.set(true, true);
    // The sessions wait for their answers, however long the pace allows.
    until("they wait", || metric(&proxy, "seam_proxy_sessions_held") == 0.0).await;
    assert_eq!(old.sessions(), before);
    old.mute(false);
    until("they have moved", || old.sessions() == 0).await;
    let mut nonce = 0;
    for miner in &mut miners {
        nonce += 1;
        assert_eq!(miner.answer().await["id"], nonce);
        miner.mine(1000 + nonce).await;
    }
    assert!(cluster.nodes().iter().all(|node| !node.log().iter().any(|l| l.starts_with("replay"))));
    let moved = metric(&proxy, "seam_proxy_moves_total{reason=\"drain\",result=\"moved\"}");
    assert_eq!(moved, before as f64);
    assert_eq!(cluster.counted(), 80);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn drain_takes_requests_along_that_are_not_answered_in_time() {
    let cluster = Cluster::start(2).await;
    let mut config = support::config(&cluster);
    config.moves.settle_ms = 100;
    let proxy = support::proxy(config);
    until("ready", || proxy.hub().ready_nodes() == 2).await;
    let mut miner = Miner::working(proxy.plain().expect("listens")).await;
    let old = node_of(&cluster, &miner);
    old.mute(true);
    miner.submit(4, 1).await;
    until("the node has it", || old.owed() == 1).await;
    old.set(true, true);
    assert_eq!(miner.answer().await["result"], true);
    assert_ne!(node_of(&cluster, &miner).name(), old.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_quorum_is_left_unless_all_are() {
    let (cluster, proxy, mut miners) = at_work(1).await;
    let mut miner = miners.remove(0);
    for node in cluster.nodes() {
        node.set(false, false);
    }
    until("no node is ready", || proxy.hub().ready_nodes() == 0).await;
    // All are as good as any: it stays, and is answered.
    miner.mine(1).await;
    let old = node_of(&cluster, &miner);
    for node in cluster.nodes() {
        node.set(node.name() != old.name(), false);
    }
    old.mute(true);
    miner.mine(2).await;
    assert_ne!(node_of(&cluster, &miner).name(), old.name());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_came_back_gets_its_own_sessions_back() {
    let (cluster, proxy, mut miners) = at_work(30).await;
    let homes: Vec<String> =
        miners.iter().map(|miner| node_of(&cluster, miner).name().to_owned()).collect();
    let node = &cluster.nodes()[2];
    node.kill().await;
    until("two are left", || proxy.hub().ready_nodes() == 2).await;
    node.restart();
    until("all are home", || {
        let at = |(miner, home): (&Miner, &String)| {
            cluster.node_of(&miner.extranonce1).is_some_and(|node| node.name() == home)
        };
        miners.iter().zip(&homes).all(at)
    })
    .await;
    for (nonce, miner) in miners.iter_mut().enumerate() {
        miner.mine(nonce as u64).await;
    }
    assert_eq!(cluster.counted(), 30);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn miners_are_held_while_no_node_is_there() {
    let (cluster, proxy, mut miners) = at_work(3).await;
    for node in cluster.nodes() {
        node.kill().await;
    }
    until("none is left", || proxy.hub().ready_nodes() == 0).await;
    for (nonce, miner) in miners.iter_mut().enumerate() {
        miner.submit(4, nonce as u64).await;
    }
    let mut late = Miner::connect(proxy.plain().expect("listens")).await;
    late.send("{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}").await;
    cluster.nodes()[1].restart();
    for miner in &mut miners {
        assert_eq!(miner.answer().await["result"], true);
    }
    assert_eq!(late.answer().await["id"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn held_miners_are_told_and_closed_in_the_end() {
    let cluster = Cluster::start(1).await;
    let mut config = support::config(&cluster);
    config.moves.hold_seconds = 1;
    let proxy = support::proxy(config);
    until("ready", || proxy.hub().ready_nodes() == 1).await;
    let mut miner = Miner::working(proxy.plain().expect("listens")).await;
    miner.job().await;
    cluster.nodes()[0].kill().await;
    let line = miner.line().await.expect("a message");
    assert_eq!(line["method"], "client.show_message", "{line}");
    assert!(miner.is_closed().await);
    until("it is gone", || proxy.hub().session_count() == 0).await;
    assert_eq!(metric(&proxy, "seam_proxy_sessions_closed_total{reason=\"no_node\"}"), 1.0);
}
