//! A node dies (SIGKILL) under load.

use std::time::Duration;

use crate::mining::{Promise, Scene, sessions};

#[test]
fn killed_follower_costs_its_miners_a_second_at_most() {
    let scene = Scene::start(&[]);
    let victim = scene.cluster.follower();
    killed(scene, &victim, Duration::from_secs(1));
}

#[test]
fn killed_leader_costs_its_miners_three_seconds_at_most() {
    let scene = Scene::start(&[]);
    let victim = scene.cluster.leader();
    killed(scene, &victim, Duration::from_secs(3));
}

fn killed(mut scene: Scene, victim: &str, gap: Duration) {
    let mut mining = scene.mine(sessions(), |_| {});
    mining.note(&format!("{victim} is killed"));
    scene.cluster.kill(victim);
    mining.work(6.0);
    mining.judge(&mut scene, Promise::gap(gap));
    // Back again, it is as good as the others.
    scene.cluster.restart(victim);
    scene.cluster.wait_ready(victim);
    scene.cluster.stop();
}
