//! Sessions that outlive their connection or their node.

use seam_cluster::ledger::ShareOutcome;
use serde_json::{Value, json};

use super::{Miner, Next, method};
use crate::session::{Closed, Ticket};
use crate::testing::{HARD, Wanted, World};

fn subscribe(miner: &mut Miner<'_>, sid: &str) -> (String, String) {
    let line = format!(r#"{{"id":1,"method":"mining.subscribe","params":["test/1","{sid}"]}}"#);
    let answer = miner.say(&line);
    let result = &answer[0]["result"];
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (text(&result[0][0][1]), text(&result[1]))
}

#[test]
fn a_sid_brings_extranonce_and_difficulty_back() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut first = Miner::new(&world);
    first.say(r#"{"id":9,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"1fffe000"}]}"#);
    let (sid, extranonce1) = subscribe(&mut first, "");
    assert_eq!((sid.len(), &sid[..8]), (24, &*extranonce1));
    first.say(r#"{"id":2,"method":"mining.suggest_difficulty","params":[4.0]}"#);
    first.say(r#"{"id":3,"method":"mining.authorize","params":["alice","secret"]}"#);
    first.work();
    first.session.close(&world.pool, Closed::Miner);
    assert_eq!(world.pool.registry.parked(), 1);

    let mut second = Miner::new(&world);
    assert_eq!(subscribe(&mut second, &sid), (sid.clone(), extranonce1));
    second.say(r#"{"id":3,"method":"mining.authorize","params":["alice","secret"]}"#);
    let work = second.work();
    // The miner knows nothing any more, so it is told.
    assert_eq!(method(work.last().unwrap()), "mining.notify");
    assert_eq!(second.session.ticket().unwrap().difficulty.value(), 4.0);
    assert_eq!(second.session.ticket().unwrap().version_mask, Some(0x1fff_e000));
    assert_eq!((method(&work[0]), &work[0]["params"][0]), ("mining.set_difficulty", &json!(4)));
}

#[test]
fn a_live_sid_takes_the_session_over() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let mut old = Miner::ready(&world);
    let sid = subscribe(&mut old, "").0;
    let mut new = Miner::new(&world);
    assert_eq!(subscribe(&mut new, &sid).0, sid);
    old.hear();
    assert_eq!(old.next, Next::Close(Closed::TakenOver));
    old.session.close(&world.pool, Closed::TakenOver);
    // The old one's end takes nothing from the new one.
    let mut third = Miner::new(&world);
    subscribe(&mut third, &sid);
    new.hear();
    assert_eq!(new.next, Next::Close(Closed::TakenOver));
}

#[test]
fn anything_but_a_sid_of_ours_gets_a_fresh_session() {
    let world = World::new();
    let (sid, _) = subscribe(&mut Miner::new(&world), "");
    let mut forged = sid.clone().into_bytes();
    forged[20] = if forged[20] == b'0' { b'1' } else { b'0' };
    let forged = String::from_utf8(forged).unwrap();
    for wrong in ["", &sid[..8], &forged, "zz", "0100000000000000000000000000"] {
        let (fresh, _) = subscribe(&mut Miner::new(&world), wrong);
        assert_ne!(fresh, sid);
    }
}

#[test]
fn subscribing_twice_changes_nothing() {
    let world = World::new();
    let mut miner = Miner::new(&world);
    let once = subscribe(&mut miner, "");
    assert_eq!(subscribe(&mut miner, ""), once);
}

#[test]
fn a_ticket_restores_a_session_on_another_node_without_a_word() {
    let (here, there) = (World::new(), World::new());
    let job = here.publish(1, 100, HARD);
    there.pool.jobs.hold(here.entry(5, 1, 100, HARD), there.clock.unix_seconds());
    let other = there.entry(8, 1, 100, HARD);
    there.pool.jobs.publish(other.clone(), there.clock.unix_seconds());
    let mut miner = Miner::ready(&here);
    let ticket = miner.session.take_ticket().unwrap();
    assert_eq!(Ticket::decode(&ticket.encode()), Some(ticket.clone()));
    assert!(miner.session.take_ticket().is_none(), "only when it changed");
    let (nonce, _) = miner.good_share(4, &job, 0);

    let mut moved = Miner::start(&there, |start| {
        start.extranonce1 = Some(ticket.extranonce1);
        start.ticket = Some(ticket);
        start.moved = true;
    });
    // The unanswered submit comes again, marked; then new work that is not clean.
    let line = moved.submit_line(4, &job, nonce);
    assert!(moved.say_bytes(line.as_bytes(), true).is_empty());
    there.ledger.commit(Ok(ShareOutcome::Replayed));
    assert_eq!(moved.hear()[0]["result"], true);
    let work = moved.work();
    assert_eq!(work.len(), 1, "its difficulty is known to the miner: {work:?}");
    assert_eq!(work[0]["params"][8], false);
    let nonce = moved.grind(&other, 0, Wanted::Good);
    assert!(moved.say(&moved.submit_line(5, &other, nonce)).is_empty());
    assert_eq!(there.ledger.submitted.lock().len(), 1);
}

#[test]
fn nonsense_is_no_ticket() {
    for bytes in [&b""[..], b"\0", &[0xff; 64]] {
        assert!(Ticket::decode(bytes).is_none());
    }
}

#[test]
fn parked_sessions_are_bounded_in_number_and_time() {
    let world = World::with(crate::config::Authorization::Registered, |config| {
        config.limits.parked_sessions = 16;
        config.limits.parked_seconds = 60;
    });
    for _ in 0..100 {
        let mut miner = Miner::new(&world);
        subscribe(&mut miner, "");
        miner.session.close(&world.pool, Closed::Miner);
    }
    assert!(world.pool.registry.parked() <= 16);
    world.clock.advance(61_000);
    world.pool.registry.sweep();
    assert_eq!(world.pool.registry.parked(), 0);
}

#[test]
fn an_idle_session_is_small() {
    let world = World::new();
    world.publish(1, 100, HARD);
    let miner = Miner::ready(&world);
    assert!(miner.session.memory() < 2_048, "{} bytes", miner.session.memory());
}
