//! How real miners talk: their messages in their order, from their sources.

use serde_json::Value;

use super::{Miner, method};
use crate::config::Authorization;
use crate::testing::{HARD, World};

/// Says all lines, taking work wherever it comes, and tells which lines came back: `=1` an answer
/// to id 1 without error, `!1` one with, otherwise the method.
fn talk(world: &World, lines: &[&str]) -> Vec<String> {
    let mut miner = Miner::new(world);
    let mut heard = Vec::new();
    for line in lines {
        heard.extend(miner.say(line));
        heard.extend(miner.work());
    }
    heard.iter().map(name).collect()
}

fn name(line: &Value) -> String {
    match method(line) {
        "" if line["error"].is_null() => format!("={}", line["id"]),
        "" => format!("!{}", line["id"]),
        method => method.trim_start_matches("mining.").to_owned(),
    }
}

fn world() -> World {
    let world = World::with(Authorization::Open, |_| {});
    world.publish(1, 100, HARD);
    world
}

#[test]
fn cgminer_and_its_descendants() {
    // cgminer 4.11 with version rolling, bmminer of the S9 to S19.
    let heard = talk(
        &world(),
        &[
            r#"{"id": 0, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.min-bit-count": 2, "version-rolling.mask": "00c00000"}]}"#,
            r#"{"id": 1, "method": "mining.subscribe", "params": ["cgminer/4.11.1"]}"#,
            r#"{"id": 2, "method": "mining.authorize", "params": ["user.worker", "x"]}"#,
            r#"{"id": 3, "method": "mining.extranonce.subscribe", "params": []}"#,
        ],
    );
    assert_eq!(heard, ["=0", "=1", "=2", "set_difficulty", "notify", "=3"]);
}

#[test]
fn bmminer_with_multi_version() {
    let heard = talk(
        &world(),
        &[
            r#"{"id": 1, "method": "mining.subscribe", "params": ["bmminer/2.0.0"]}"#,
            r#"{"id": 2, "method": "mining.multi_version", "params": [4]}"#,
            r#"{"id": 3, "method": "mining.authorize", "params": ["user.worker", "123"]}"#,
        ],
    );
    assert_eq!(heard, ["=1", "=2", "=3", "set_version_mask", "set_difficulty", "notify"]);
}

#[test]
fn braiins_os() {
    let heard = talk(
        &world(),
        &[
            r#"{"id":0,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":16}]}"#,
            r#"{"id":1,"method":"mining.subscribe","params":["bosminer-plus-am1-s9/0.2.0","","stratum.pool","3333"]}"#,
            r#"{"id":2,"method":"mining.authorize","params":["user.worker",""]}"#,
        ],
    );
    assert_eq!(heard, ["=0", "=1", "=2", "set_difficulty", "notify"]);
}

#[test]
fn whatsminer() {
    let heard = talk(
        &world(),
        &[
            r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty","version-rolling"],{"minimum-difficulty.value":512,"version-rolling.mask":"1fffe000","version-rolling.min-bit-count":2}]}"#,
            r#"{"id":2,"method":"mining.subscribe","params":["whatsminer/v1.0"]}"#,
            r#"{"id":3,"method":"mining.authorize","params":["user.worker","123"]}"#,
        ],
    );
    assert_eq!(heard, ["=1", "=2", "=3", "set_difficulty", "notify"]);
}

#[test]
fn esp_miner_that_waits_for_nothing() {
    let world = world();
    let mut miner = Miner::new(&world);
    let mut heard = Vec::new();
    // One packet: work is given when all of it is read.
    for line in [
        r#"{"id": 1, "method": "mining.configure", "params": [["version-rolling"], {"version-rolling.mask": "ffffffff"}]}"#,
        r#"{"id": 2, "method": "mining.subscribe", "params": ["bitaxe/BM1366/v2.4.0"]}"#,
        r#"{"id": 3, "method": "mining.authorize", "params": ["bcrt1q.bitaxe", "x"]}"#,
        r#"{"id": 4, "method": "mining.suggest_difficulty", "params": [1000]}"#,
    ] {
        heard.extend(miner.say(line));
    }
    heard.extend(miner.work());
    let names: Vec<String> = heard.iter().map(name).collect();
    assert_eq!(names, ["=1", "=2", "=3", "=4", "set_difficulty", "notify"]);
    assert_eq!(heard[4]["params"][0].as_f64(), Some(1000.0));
    assert!(miner.say(r#"{"id": 5, "method": "pong", "params": []}"#).is_empty());
}

#[test]
fn cpuminer() {
    let heard = talk(
        &world(),
        &[
            r#"{"id": 1, "method": "mining.subscribe", "params": ["cpuminer/2.5.1"]}"#,
            r#"{"id": 2, "method": "mining.authorize", "params": ["user", "x,d=0.001"]}"#,
            r#"{"id": 3, "method": "mining.extranonce.subscribe", "params": []}"#,
            r#"{"id": 4, "method": "mining.submit", "params": ["user", "1", "00", "00", "00"]}"#,
            r#"{"id": 4, "method": "mining.submit", "params": ["user", "1", "00", "00", "00"]}"#,
        ],
    );
    assert_eq!(heard, ["=1", "=2", "set_difficulty", "notify", "=3", "!4", "!4"]);
}

#[test]
fn nicehash_with_text_ids() {
    let heard = talk(
        &world(),
        &[
            r#"{"id":"1","method":"mining.subscribe","params":["NiceHash/1.0.0"]}"#,
            r#"{"id":"2","method":"mining.extranonce.subscribe","params":[]}"#,
            r#"{"id":"3","method":"mining.authorize","params":["user.worker","d=65536"]}"#,
        ],
    );
    assert_eq!(heard, ["=\"1\"", "=\"2\"", "=\"3\"", "set_difficulty", "notify"]);
}

#[test]
fn bfgminer_that_comes_with_the_sid_of_a_dropped_connection() {
    let world = world();
    let mut first = Miner::new(&world);
    let answer =
        first.say(r#"{"id": 0, "method": "mining.subscribe", "params": ["bfgminer/5.5"]}"#);
    let sid = answer[0]["result"][0][0][1].as_str().unwrap().to_owned();
    first.session.close(&world.pool, crate::session::Closed::Miner);
    let resume = format!(
        r#"{{"id": 0, "method": "mining.subscribe", "params": ["bfgminer/5.5", "{sid}"]}}"#
    );
    let heard = talk(
        &world,
        &[&resume, r#"{"id": 1, "method": "mining.authorize", "params": ["user", "x"]}"#],
    );
    assert_eq!(heard, ["=0", "=1", "set_difficulty", "notify"]);
    assert!(!world.pool.is_banned("10.1.2.3".parse().unwrap()));
}
