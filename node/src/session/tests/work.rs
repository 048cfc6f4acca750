//! Difficulty and jobs: what goes out before what, and what a share is judged by.

use seam_cluster::ledger::ShareOutcome;

use super::{Miner, code, method};
use crate::config::Authorization;
use crate::testing::{HARD, Wanted, World};

#[test]
fn nothing_but_answers_goes_out_before_login_and_then_difficulty_before_work() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    assert!(miner.work().is_empty());
    let answers = miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(answers.len(), 1);
    assert!(miner.work().is_empty());
    miner.say(r#"{"id":2,"method":"mining.authorize","params":["alice","secret"]}"#);
    let work = miner.work();
    assert_eq!(
        work.iter().map(method).collect::<Vec<_>>(),
        ["mining.set_difficulty", "mining.notify"]
    );
    assert_eq!(work[1]["params"][8], true);
    assert!(miner.work().is_empty(), "once");
}

#[test]
fn login_may_come_before_subscribe() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    let answers = miner.say(r#"{"id":1,"method":"mining.authorize","params":["alice","secret"]}"#);
    assert_eq!(answers[0]["result"], true);
    assert!(miner.work().is_empty());
    miner.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    assert_eq!(miner.work().len(), 2);
}

#[test]
fn clean_jobs_is_true_only_when_the_previous_block_changed() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    world.publish(2, 100, HARD);
    let work = miner.work();
    assert_eq!((work.len(), &work[0]["params"][8]), (1, &false.into()));
    world.publish(3, 101, HARD);
    assert_eq!(miner.work()[0]["params"][8], true);
    // One that missed the first job of a tip gets the next as a clean one.
    world.publish(4, 102, HARD);
    world.publish(5, 102, HARD);
    assert_eq!(miner.work()[0]["params"][8], true);
}

#[test]
fn the_notified_version_has_the_mask_clear_and_the_id_no_leading_zeros() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    miner.say(r#"{"id":2,"method":"mining.authorize","params":["alice","secret"]}"#);
    let work = miner.work();
    let params = &work[1]["params"];
    let version = u32::from_str_radix(params[5].as_str().unwrap(), 16).unwrap();
    assert_eq!(version & 0x1fff_e000, 0);
    let id = params[0].as_str().unwrap();
    assert!(!id.starts_with('0') && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
}

#[test]
fn a_suggested_difficulty_holds_from_the_next_job_on() {
    let world = World::new();
    let first = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let answers = miner.say(r#"{"id":3,"method":"mining.suggest_difficulty","params":[1e-8]}"#);
    assert_eq!(answers.len(), 1, "no set_difficulty before the next notify: {answers:?}");
    assert!(world.pool.jobs.is_refresh_wanted());
    let second = world.publish(2, 100, HARD);
    let work = miner.work();
    assert_eq!(work[0]["params"][0], 1e-8);
    assert_eq!(method(&work[1]), "mining.notify");
    // A share of the first job is judged by the first difficulty, though it comes later.
    let nonce = miner.grind(&first, 0, Wanted::Good);
    assert!(miner.say(&miner.submit_line(4, &first, nonce)).is_empty());
    assert_eq!(world.ledger.submitted.lock().len(), 1);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    miner.hear();
    let low = miner.grind_at(&second, 1e-8, 0, Wanted::Bad);
    assert_eq!(code(&miner.say(&miner.submit_line(4, &second, low))), 23);
    let high = miner.grind_at(&second, 1e-8, 0, Wanted::Good);
    assert!(miner.say(&miner.submit_line(4, &second, high)).is_empty());
}

#[test]
fn a_difficulty_in_the_password_is_pinned_and_the_rest_is_the_password() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
    let answer =
        miner.say(r#"{"id":2,"method":"mining.authorize","params":["alice.rig","secret,d=0.5"]}"#);
    assert_eq!(answer[0]["result"], true);
    assert_eq!(miner.work()[0]["params"][0], 0.5);
    miner.say(r#"{"id":3,"method":"mining.suggest_difficulty","params":[7]}"#);
    world.clock.advance(3_600_000);
    world.publish(2, 100, HARD);
    assert_eq!(miner.work().len(), 1, "neither a wish nor silence moves a pinned difficulty");
}

#[test]
fn wishes_are_kept_within_the_limits() {
    let world = World::with(Authorization::Open, |config| {
        config.difficulty.minimum = 0.25;
        config.difficulty.start = 1.0;
        config.difficulty.maximum = 8.0;
    });
    world.publish(1, 100, HARD);
    for (wish, assigned) in [("1e-9", 0.25), ("0.5", 0.5), ("1e12", 8.0)] {
        let mut miner = Miner::new(&world);
        miner.say(r#"{"id":1,"method":"mining.subscribe","params":[]}"#);
        miner.say(&format!(r#"{{"id":2,"method":"mining.suggest_difficulty","params":[{wish}]}}"#));
        miner.say(r#"{"id":3,"method":"mining.authorize","params":["x","x"]}"#);
        assert_eq!(miner.work()[0]["params"][0].as_f64(), Some(assigned));
    }
}

#[test]
fn a_minimum_difficulty_is_a_floor() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    let answer = miner.say(
        r#"{"id":1,"method":"mining.configure","params":[["minimum-difficulty","version-rolling","x"],{"minimum-difficulty.value":2048,"version-rolling.mask":"1fffe000"}]}"#,
    );
    assert_eq!(answer[0]["result"]["minimum-difficulty"], true);
    assert_eq!(answer[0]["result"]["version-rolling.mask"], "1fffe000");
    assert_eq!(answer[0]["result"]["x"], false);
    miner.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    miner.say(r#"{"id":3,"method":"mining.authorize","params":["alice","secret"]}"#);
    assert_eq!(miner.work()[0]["params"][0].as_f64(), Some(2048.0));
}

#[test]
fn vardiff_follows_a_miner_both_ways() {
    let world = World::with(Authorization::Registered, |config| config.difficulty.start = 1e-9);
    let mut job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let mut from = 0;
    for second in 0..120 {
        world.clock.advance(1_000);
        let (nonce, _) = miner.good_share(4, &job, from);
        from = nonce + 1;
        world.ledger.commit(Ok(ShareOutcome::Counted));
        miner.hear();
        if second == 60 {
            break;
        }
    }
    job = world.publish(2, 100, HARD);
    let work = miner.work();
    let raised = work[0]["params"][0].as_f64().unwrap();
    assert!(raised > 5e-9 && raised < 2e-8, "one share a second, ten seconds wanted: {raised}");
    // Then it goes quiet.
    for counter in 3..9 {
        world.clock.advance(60_000);
        job = world.publish(counter, 100, HARD);
        miner.work();
    }
    let lowered = miner.session.ticket().unwrap().difficulty.value();
    assert!(lowered < raised, "{lowered}");
    drop(job);
}

#[test]
fn version_bits_count_only_once_granted() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let extranonce1 = miner.session.extranonce1().unwrap();
    let bits = 0x0000_2000;
    let nonce =
        crate::testing::grind(&job.job, extranonce1, crate::testing::START, bits, 0, Wanted::Good);
    let line = format!(
        r#"{{"id":4,"method":"mining.submit","params":["alice","{}","0000000000000000","{:08x}","{nonce:08x}","{bits:08x}"]}}"#,
        job.id(),
        job.job.ntime
    );
    assert_eq!(code(&miner.say(&line)), 20);
    miner.say(r#"{"id":5,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff","version-rolling.min-bit-count":2}]}"#);
    assert!(miner.say(&line).is_empty());
    assert_eq!(world.ledger.submitted.lock().len(), 1);
}

#[test]
fn multi_version_tells_the_mask_with_the_work() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut miner = Miner::new(&world);
    assert_eq!(miner.say(r#"{"id":1,"method":"mining.multi_version","params":[1]}"#).len(), 1);
    miner.say(r#"{"id":2,"method":"mining.subscribe","params":[]}"#);
    miner.say(r#"{"id":3,"method":"mining.authorize","params":["alice","secret"]}"#);
    let work = miner.work();
    assert_eq!(method(&work[0]), "mining.set_version_mask");
    assert_eq!(work.len(), 3);
}
