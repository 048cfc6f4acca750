//! Nodes hand their sessions over: a drain, and a rolling restart, under load.

use std::time::{Duration, Instant};

use seam_integration::{until, until_within};

use crate::mining::{Promise, Scene, sessions, sessions_of, setting};

/// A node that got SIGTERM hands over, gives up the leadership and closes Bitcoin Core.
const STOP: Duration = Duration::from_secs(40);

#[test]
fn drain_of_a_node_is_unseen_and_done_in_ten_seconds() {
    let mut scene = Scene::start(&[]);
    let node = scene.cluster.leader();
    let count = setting("SEAM_FAILOVER_DRAIN_SESSIONS", 2_000) as u32;
    let mut mining = scene.mine(count, |_| {});
    // All sessions of the three nodes together are what the promise counts.
    mining.note(&format!("{node} drains"));
    let began = Instant::now();
    scene.cluster.ctl(&["drain", &node]);
    let took = began.elapsed();
    mining.note(&format!("{node} is drained"));
    mining.work(2.0);
    mining.note(&format!("{node} may serve again"));
    scene.cluster.ctl(&["undrain", &node]);
    // They come home at their own pace.
    until("the sessions to be home", || {
        (sessions_of(&scene.cluster, &node)? > u64::from(count) / 5).then_some(())
    });
    mining.work(1.0);
    mining.judge(&mut scene, Promise::gap(Duration::from_millis(250)));
    assert!(took <= Duration::from_secs(10), "the drain took {took:?}");
    eprintln!("drained in {took:.1?}");
    scene.cluster.stop();
}

#[test]
fn rolling_restart_of_all_nodes_loses_nothing() {
    let mut scene = Scene::start(&[]);
    let mut mining = scene.mine(sessions(), |_| {});
    for node in ["node-0", "node-1", "node-2"] {
        mining.note(&format!("{node} is told to stop"));
        scene.cluster.terminate(node, STOP);
        mining.note(&format!("{node} has stopped"));
        scene.cluster.restart(node);
        scene.cluster.wait_ready(node);
        mining.note(&format!("{node} is ready"));
        until_within(Duration::from_secs(60), "a cluster that can lose one more", || {
            (scene.cluster.ctl(&["status"])["can_lose_one"] == true).then_some(())
        });
        // A rollout waits ten seconds here: time enough to hear of the others' jobs.
        mining.work(3.0);
    }
    // Starting a Bitcoin Core takes a processor of two for a while: the sums are what is promised.
    mining.judge(&mut scene, Promise::gap(Duration::from_secs(1)));
    scene.cluster.stop();
}
