//! A node falls silent (SIGSTOP) under load, and comes to itself later.

use std::time::Duration;

use crate::mining::{Promise, Scene, sessions};

/// What it may take to notice silence.
const NOTICE: Duration = Duration::from_millis(1_500);

#[test]
fn silent_follower_is_left_a_second_and_a_half_later_than_a_dead_one() {
    let scene = Scene::start(&[]);
    let victim = scene.cluster.follower();
    silent(scene, &victim, Duration::from_secs(1) + NOTICE);
}

#[test]
fn silent_leader_is_left_a_second_and_a_half_later_than_a_dead_one() {
    let scene = Scene::start(&[]);
    let victim = scene.cluster.leader();
    silent(scene, &victim, Duration::from_secs(3) + NOTICE);
}

fn silent(mut scene: Scene, victim: &str, gap: Duration) {
    let mut mining = scene.mine(sessions(), |_| {});
    mining.note(&format!("{victim} is stopped"));
    scene.cluster.freeze(victim);
    mining.work(8.0);
    // What it had taken before, and says now, must count for nobody twice.
    mining.note(&format!("{victim} goes on"));
    scene.cluster.thaw(victim);
    mining.work(8.0);
    mining.judge(&mut scene, Promise::gap(gap));
    scene.cluster.wait_ready(victim);
    scene.cluster.stop();
}
