//! What is wrong with a line, and what it is answered.

use super::{Miner, Next, code};
use crate::config::Authorization;
use crate::session::Closed;
use crate::testing::{HARD, Wanted, World};

#[test]
fn bad_lines_are_answered_with_an_error() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let deep = format!("{}{}", "[".repeat(8_000), "]".repeat(8_000));
    let deep_params = format!(r#"{{"id":1,"method":"mining.submit","params":{deep}}}"#);
    for line in [
        &b"not json"[..],
        b"[]",
        b"{}",
        b"null",
        b"\"\"",
        b"{\"id\":1,\"method\":7,\"params\":[]}",
        b"{\"id\":1,\"method\":\"mining.submit\",\"params\":{}}",
        b"{\"id\":1,\"method\":\"mining.submit\",\"params\":[]}",
        b"{\"id\":1,\"method\":\"mining.submit\",\"params\":[1,2,3,4,5]}",
        b"{\"id\":1,\"method\":\"mining.suggest_difficulty\",\"params\":[1e999]}",
        b"{\"id\":1,\"method\":\"mining.suggest_difficulty\",\"params\":[-1]}",
        b"{\"id\":1,\"method\":\"mining.authorize\",\"params\":[]}",
        b"{\"id\":1,\"method\":\"nope\",\"params\":[]}",
        b"{\"id\":99999999999999999999999999999999999999999,\"method\":\"nope\"}",
        b"\xff\xfe\xfd",
        deep.as_bytes(),
        deep_params.as_bytes(),
    ] {
        let mut miner = Miner::new(&world);
        let answers = miner.say_bytes(line, false);
        let shown = String::from_utf8_lossy(&line[..line.len().min(80)]).into_owned();
        assert_eq!(answers.len(), 1, "{shown}");
        assert!(answers[0]["error"][0].is_u64(), "{shown}: {answers:?}");
    }
}

#[test]
fn ids_of_any_type_are_echoed() {
    let world = World::new();
    for id in ["1", "\"a\\u0062\"", "null", "1.5", "[1,{\"a\":2}]", "18446744073709551615"] {
        let mut miner = Miner::new(&world);
        let answer = miner.say(&format!(r#"{{"id":{id},"method":"mining.ping","params":[]}}"#));
        let expected: serde_json::Value = serde_json::from_str(id).unwrap();
        assert_eq!(answer[0]["id"], expected);
    }
}

#[test]
fn a_submit_needs_subscription_and_login() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let submit = r#"{"id":4,"method":"mining.submit","params":["alice","5000001","0000000000000000","6aab8100","00000000"]}"#;
    let mut miner = Miner::new(&world);
    assert_eq!(code(&miner.say(submit)), 25);
    miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(code(&miner.say(submit)), 24);
    miner.say(r#"{"id":2,"method":"mining.authorize","params":["bob","secret"]}"#);
    miner.work();
    let nonce = miner.grind(&job, 0, Wanted::Good);
    let as_alice = miner.submit_line(4, &job, nonce);
    assert_eq!(code(&miner.say(&as_alice)), 24, "bob is not alice");
    miner.say(r#"{"id":3,"method":"mining.authorize","params":["alice","secret"]}"#);
    assert!(miner.say(&as_alice).is_empty(), "several users may share a session");
}

#[test]
fn bad_shares_are_refused_and_the_session_goes_on() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let good = miner.submit_line(4, &job, miner.grind(&job, 0, Wanted::Good));
    let id = job.id().to_string();
    let time = format!("{:08x}", job.job.ntime);
    for (what, line, expected) in [
        ("short nonce2", good.replace("0000000000000000", "00000000"), 20),
        ("no job of ours", good.replace(&id, "dead"), 21),
        ("no hex job", good.replace(&id, "job-one"), 21),
        ("old time", good.replace(&time, "00000001"), 20),
        ("new time", good.replace(&time, "ffffffff"), 20),
        ("odd hex", good.replace("0000000000000000", "0"), 20),
    ] {
        assert_eq!(code(&miner.say(&line)), expected, "{what}");
        assert_eq!(miner.next, Next::Go, "{what}");
    }
    let low = miner.submit_line(4, &job, miner.grind(&job, 0, Wanted::Bad));
    assert_eq!(code(&miner.say(&low)), 23);
    assert!(miner.say(&good).is_empty());
    world.publish(2, 101, HARD);
    let late = miner.submit_line(4, &job, miner.grind(&job, 1_000, Wanted::Good));
    world.ledger.commit(Ok(seam_cluster::ledger::ShareOutcome::Counted));
    miner.hear();
    assert_eq!(code(&miner.say(&late)), 21, "its block is there");
}

#[test]
fn a_refused_login_is_answered_false_and_only_many_end_the_connection() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    for (user, password) in [("alice", "wrong"), ("mallory", "secret"), ("", ""), ("a\\u0007", "")]
    {
        let line =
            format!(r#"{{"id":1,"method":"mining.authorize","params":["{user}","{password}"]}}"#);
        let answer = miner.say(&line);
        assert_eq!(answer[0]["result"], false, "{user:?}");
        assert_eq!(answer[0]["error"][0], 24);
        assert!(!matches!(miner.next, Next::Close(_)));
    }
    let refused = r#"{"id":1,"method":"mining.authorize","params":["alice","wrong"]}"#;
    for _ in 0..6 {
        miner.say(refused);
    }
    assert_eq!(miner.next, Next::Close(Closed::Limit));
    assert!(!world.pool.is_banned(miner.session.peer()));
}

#[test]
fn a_login_that_cannot_be_checked_says_so() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    let answer = miner.say(r#"{"id":1,"method":"mining.authorize","params":["nobody-home","x"]}"#);
    assert_eq!(code(&answer), 20);
    assert!(answer[0]["error"][1].as_str().unwrap().contains("no quorum"));
}

#[test]
fn what_follows_a_login_waits_for_it() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    *world.ledger.holds_logins.lock() = true;
    assert!(
        miner.say(r#"{"id":1,"method":"mining.authorize","params":["alice","secret"]}"#).is_empty()
    );
    assert_eq!(miner.next, Next::Hold);
    assert!(miner.session.is_held());
    let done = world.ledger.held.lock().pop().unwrap();
    done(crate::session::LoginResult::Accepted(seam_cluster::ledger::UserId(1)));
    assert_eq!(miner.hear()[0]["result"], true);
    assert!(!miner.session.is_held());
}

#[test]
fn a_login_that_is_dropped_is_answered() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    *world.ledger.holds_logins.lock() = true;
    miner.say(r#"{"id":1,"method":"mining.authorize","params":["alice","secret"]}"#);
    world.ledger.held.lock().clear();
    assert_eq!(code(&miner.hear()), 20);
}

#[test]
fn users_of_a_session_are_bounded() {
    let world = World::with(Authorization::Open, |_| {});
    let mut miner = Miner::new(&world);
    let mut login = |user: u32| {
        miner.say(&format!(r#"{{"id":1,"method":"mining.authorize","params":["u{user}","x"]}}"#))
    };
    for user in 0..16 {
        assert_eq!(login(user)[0]["result"], true);
    }
    assert_eq!(code(&login(16)), 20);
    assert_eq!(login(3)[0]["result"], true, "who is here may log in again");
}

#[test]
fn only_an_administrator_adds_users() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    let add = r#"{"id":1,"method":"mining.add_user","params":["carol","pw"]}"#;
    assert_eq!(code(&miner.say(add)), 24);
    let wrong = miner.say(r#"{"id":2,"method":"mining.authorize_admin","params":["guess"]}"#);
    assert_eq!(wrong[0]["result"], false);
    let right = miner.say(r#"{"id":3,"method":"mining.authorize_admin","params":["master"]}"#);
    assert_eq!(right[0]["result"], true);
    assert_eq!(miner.say(add)[0]["result"], true);
    assert_eq!(*world.ledger.added.lock(), [("carol".to_owned(), "pw".to_owned())]);
    let again = miner.say(r#"{"id":4,"method":"mining.add_user","params":["alice","pw"]}"#);
    assert_eq!(code(&again), 20);
    assert!(again[0]["error"][1].as_str().unwrap().contains("exists"));
}

#[test]
fn guessing_the_administrators_password_bans() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    for _ in 0..5 {
        miner.say(r#"{"id":2,"method":"mining.authorize_admin","params":["guess"]}"#);
    }
    assert_eq!(miner.next, Next::Close(Closed::Banned));
    assert!(world.pool.is_banned(miner.session.peer()));
}

#[test]
fn in_address_mode_the_address_is_the_user() {
    let world = World::with(Authorization::Address, |_| {});
    let login = |user: &str| {
        let mut miner = Miner::new(&world);
        let line = format!(r#"{{"id":1,"method":"mining.authorize","params":["{user}","x"]}}"#);
        miner.say(&line)[0]["result"].clone()
    };
    assert_eq!(login("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig1"), true);
    assert_eq!(login("bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt081"), false);
    assert_eq!(login("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"), false);
    assert_eq!(login("alice"), false);
}

#[test]
fn before_the_cluster_is_formed_there_is_no_session() {
    let world = World::new();
    let world = World {
        pool: {
            let mut pool = std::sync::Arc::into_inner(world.pool).unwrap();
            pool.registry = crate::registry::Registry::new(1, 1, world.clock.clone());
            std::sync::Arc::new(pool)
        },
        ..world
    };
    let mut miner = Miner::new(&world);
    assert_eq!(code(&miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#)), 20);
    world.pool.registry.set_sid_key(seam_stratum::SidKey([1; 32]));
    assert_eq!(code(&miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#)), 20);
}
