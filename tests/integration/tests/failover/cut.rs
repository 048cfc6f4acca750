//! A node's network is cut under load: no packet comes from it or gets to it.

use std::time::Duration;

use seam_integration::Island;

use crate::mining::{Promise, Scene, sessions};

/// What it may take to notice silence.
const NOTICE: Duration = Duration::from_millis(1_500);

#[test]
fn follower_without_network_is_left_like_a_silent_one() {
    cut(Duration::from_secs(1) + NOTICE, |scene| scene.cluster.follower());
}

#[test]
fn leader_without_network_is_left_like_a_silent_one() {
    cut(Duration::from_secs(3) + NOTICE, |scene| scene.cluster.leader());
}

fn cut(gap: Duration, choose: fn(&Scene) -> String) {
    let Some(island) = Island::enter() else { return };
    let mut scene = Scene::start(&[]);
    for node in ["node-0", "node-1", "node-2"] {
        scene.cluster.terminate(node, Duration::from_secs(40));
        scene.cluster.restart_as(node, Some(&island.group(node)), &[]);
        scene.cluster.wait_ready(node);
    }
    let victim = choose(&scene);
    let mut mining = scene.mine(sessions(), |_| {});
    mining.note(&format!("{victim} is cut off"));
    island.cut(&victim);
    mining.work(8.0);
    // It had shares that nobody else knows of, and now hears that it lost its place.
    mining.note(&format!("{victim} is back"));
    island.heal(&victim);
    mining.work(8.0);
    mining.judge(&mut scene, Promise::gap(gap));
    scene.cluster.wait_ready(&victim);
    scene.cluster.stop();
}
