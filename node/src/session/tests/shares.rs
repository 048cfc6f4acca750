//! Shares: judged, committed, answered in their order.

use seam_cluster::Unavailable;
use seam_cluster::ledger::ShareOutcome;
use serde_json::json;

use super::{Miner, Next, code};
use crate::session::BlockFate;
use crate::testing::{EASY, HARD, START, Wanted, World};

#[test]
fn a_share_is_answered_when_it_is_committed() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let (_, answers) = miner.good_share(4, &job, 0);
    assert!(answers.is_empty(), "{answers:?}");
    let share = world.ledger.submitted.lock()[0].0;
    assert_eq!(share.user.0, 1);
    assert_eq!(share.session, miner.session.extranonce1().unwrap().0);
    let difficulty = seam_stratum::Difficulty::new(START).unwrap();
    assert_eq!(u128::from(share.work), difficulty.expected_hashes());
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(miner.hear(), [json!({"id": 4, "result": true, "error": null})]);
}

#[test]
fn answers_leave_in_the_order_of_the_submits_though_ids_repeat() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    // cpuminer: id 4 every time, and it waits for nothing.
    let (nonce, first) = miner.good_share(4, &job, 0);
    let low = miner.grind(&job, 0, Wanted::Bad);
    let rejected = miner.say(&miner.submit_line(4, &job, low));
    let (_, third) = miner.good_share(4, &job, nonce + 1);
    let pong = miner.say(r#"{"id":4,"method":"mining.ping","params":[]}"#);
    assert!(first.is_empty() && rejected.is_empty() && third.is_empty() && pong.is_empty());
    assert_eq!(miner.session.owes(), 4);
    // The second commit comes first.
    let second = world.ledger.submitted.lock().remove(1);
    second.1.complete(second.2, Ok(ShareOutcome::Counted));
    assert!(miner.hear().is_empty());
    world.ledger.commit(Ok(ShareOutcome::Counted));
    let answers = miner.hear();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[0]["result"], true);
    assert_eq!(answers[1]["error"][0], 23);
    assert_eq!(answers[2]["result"], true);
    assert_eq!(answers[3]["result"], "pong");
    assert_eq!(miner.session.owes(), 0);
}

#[test]
fn every_line_is_settled_once() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    assert_eq!(miner.session.take_settled(), 2);
    miner.good_share(4, &job, 0);
    miner.say(r#"{"id":null,"method":"pong"}"#);
    miner.say(r#"{"id":7,"result":"cgminer/4","error":null}"#);
    assert_eq!(miner.session.take_settled(), 0);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(miner.hear().len(), 1);
    assert_eq!(miner.session.take_settled(), 3);
}

#[test]
fn verdicts_have_bcoin_stratums_codes() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    for (outcome, expected) in [
        (Ok(ShareOutcome::Duplicate), 22),
        (Ok(ShareOutcome::Expired), 21),
        (Ok(ShareOutcome::UnknownUser), 24),
        (Err(Unavailable), 20),
    ] {
        let mut miner = Miner::ready(&world);
        miner.good_share(4, &job, 0);
        world.ledger.commit(outcome);
        assert_eq!(code(&miner.hear()), expected, "{outcome:?}");
    }
    let mut miner = Miner::ready(&world);
    miner.good_share(4, &job, 0);
    world.ledger.commit(Ok(ShareOutcome::Replayed));
    assert_eq!(miner.hear()[0]["result"], true);
}

#[test]
fn a_repeat_is_a_duplicate_unless_it_is_a_replay() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let (nonce, _) = miner.good_share(4, &job, 0);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    miner.hear();
    let line = miner.submit_line(5, &job, nonce);
    assert_eq!(code(&miner.say(&line)), 22);
    assert!(miner.say_bytes(line.as_bytes(), true).is_empty());
    world.ledger.commit(Ok(ShareOutcome::Replayed));
    assert_eq!(miner.hear()[0]["result"], true);
}

#[test]
fn a_share_that_was_not_counted_may_be_sent_again() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let (nonce, _) = miner.good_share(4, &job, 0);
    world.ledger.commit(Err(Unavailable));
    let answers = miner.hear();
    assert_eq!(code(&answers), 20);
    assert!(answers[0]["error"][1].as_str().unwrap().contains("no quorum"));
    assert!(miner.say(&miner.submit_line(4, &job, nonce)).is_empty());
    assert_eq!(world.ledger.submitted.lock().len(), 1);
}

#[test]
fn while_the_ledger_is_full_the_session_is_held_then_told() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    *world.ledger.is_full.lock() = true;
    miner.good_share(4, &job, 0);
    assert_eq!(miner.next, Next::Hold);
    assert!(miner.session.is_held() && miner.session.is_blocked());
    let mut out = Vec::new();
    assert_eq!(miner.session.retry(&world.pool, &mut out), Next::Hold);
    *world.ledger.is_full.lock() = false;
    assert_eq!(miner.session.retry(&world.pool, &mut out), Next::Go);
    assert_eq!(world.ledger.submitted.lock().len(), 1);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(miner.hear()[0]["result"], true);

    *world.ledger.is_full.lock() = true;
    miner.good_share(5, &job, 1_000);
    world.clock.advance(60_000);
    assert_eq!(miner.session.retry(&world.pool, &mut out), Next::Go);
    assert_eq!(code(&super::parse(&out)), 20);
}

#[test]
fn requests_that_wait_are_bounded() {
    let world = World::new();
    let job = world.publish(1, 100, HARD);
    let mut miner = Miner::ready(&world);
    let mut from = 0;
    let mut sent = 0;
    while miner.next == Next::Go {
        let (nonce, _) = miner.good_share(4, &job, from);
        from = nonce + 1;
        sent += 1;
        assert!(sent <= 10_000);
    }
    assert_eq!(miner.session.owes(), sent);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(miner.hear().len(), sent);
    assert!(!miner.session.is_held());
}

#[test]
fn a_solved_block_goes_out_at_once_and_the_answer_says_what_became_of_it() {
    let world = World::new();
    let job = world.publish(1, 100, EASY);
    let mut miner = Miner::ready(&world);
    let nonce = miner.grind(&job, 0, Wanted::Block);
    assert!(miner.say(&miner.submit_line(4, &job, nonce)).is_empty());
    assert_eq!(world.solver.solved.lock().len(), 1);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert!(miner.hear().is_empty());
    world.solver.judge(&BlockFate::Accepted);
    let answers = miner.hear();
    assert_eq!(answers, [json!({"id": 4, "result": true, "error": null, "block": "accepted"})]);
}

#[test]
fn a_block_counts_where_the_network_asks_for_less_than_the_pool() {
    let world = World::with(crate::config::Authorization::Registered, |config| {
        config.difficulty.start = 1.0;
    });
    let job = world.publish(1, 100, EASY);
    let mut miner = Miner::ready(&world);
    let nonce = miner.grind_at(&job, 1.0, 0, Wanted::Block);
    assert!(miner.say(&miner.submit_line(4, &job, nonce)).is_empty());
    assert_eq!(world.ledger.submitted.lock()[0].0.work, 2, "not the work of difficulty 1");
}

#[test]
fn stale_and_repeated_shares_that_solve_a_block_are_submitted_too() {
    let world = World::new();
    let job = world.publish(1, 100, EASY);
    let mut miner = Miner::ready(&world);
    let nonce = miner.grind(&job, 0, Wanted::Block);
    let line = miner.submit_line(4, &job, nonce);
    miner.say(&line);
    miner.say(&line);
    assert_eq!(world.solver.solved.lock().len(), 2);
    world.publish(2, 101, EASY);
    miner.say(&line);
    assert_eq!(world.solver.solved.lock().len(), 3);
    world.ledger.commit(Ok(ShareOutcome::Counted));
    world.solver.judge(&BlockFate::Stale);
    let answers = miner.hear();
    assert_eq!(answers[0]["block"], "stale");
    assert_eq!(answers[1]["error"][0], 22);
    assert_eq!((&answers[2]["error"][0], &answers[2]["block"]), (&json!(21), &json!("stale")));
}

#[test]
fn a_solver_that_dies_leaves_no_submit_unanswered() {
    let world = World::new();
    let job = world.publish(1, 100, EASY);
    let mut miner = Miner::ready(&world);
    let nonce = miner.grind(&job, 0, Wanted::Block);
    miner.say(&miner.submit_line(4, &job, nonce));
    world.solver.solved.lock().clear();
    world.ledger.commit(Ok(ShareOutcome::Counted));
    assert_eq!(miner.hear()[0]["block"], "unknown");
}

#[test]
fn a_peers_job_is_judged_like_our_own_if_the_session_was_sent_it() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let foreign = world.entry(77, 3, 100, HARD);
    world.pool.jobs.hold(foreign.clone(), world.clock.unix_seconds());
    let mut miner = Miner::ready(&world);
    let nonce = miner.grind(&foreign, 0, Wanted::Good);
    let line = miner.submit_line(4, &foreign, nonce);
    assert_eq!(code(&miner.say(&line)), 21, "it was never sent that job");

    let mut ticket = miner.session.ticket().unwrap();
    ticket.segments = [(foreign.id(), ticket.difficulty)].into_iter().collect();
    ticket.extranonce1.0 += 1_000_000;
    let mut moved = Miner::start(&world, |start| {
        start.extranonce1 = Some(ticket.extranonce1);
        start.ticket = Some(ticket.clone());
        start.moved = true;
    });
    let nonce = moved.grind(&foreign, 0, Wanted::Good);
    assert!(moved.say(&moved.submit_line(4, &foreign, nonce)).is_empty());
    assert_eq!(world.ledger.submitted.lock().len(), 1);
}
