//! A share is counted once, however it comes back.

use super::*;

fn count(ledger: &mut Ledger, time: u32, batch: &[Share]) -> Vec<ShareOutcome> {
    match ledger.apply(Command::Shares { time, batch: batch.to_vec() }) {
        Outcome::Shares(outcomes) => outcomes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn replay_by_the_same_session_is_counted_once() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    let first = share(1);
    assert_eq!(
        count(&mut ledger, NOW, &[first, first, share(2)]),
        [ShareOutcome::Counted, ShareOutcome::Replayed, ShareOutcome::Counted]
    );
    assert_eq!(count(&mut ledger, NOW, &[first]), [ShareOutcome::Replayed]);
    assert_eq!(ledger.current(alice), 2);
    assert_eq!(ledger.state.counted(), Credit { shares: 2, work: 2 });
}

#[test]
fn repeat_by_another_session_is_a_duplicate() {
    let mut ledger = Ledger::new();
    ledger.user("alice");
    let stolen = Share { session: 2, ..share(1) };
    assert_eq!(
        count(&mut ledger, NOW, &[share(1), stolen]),
        [ShareOutcome::Counted, ShareOutcome::Duplicate]
    );
}

#[test]
fn repeat_is_known_in_the_next_round_too() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    count(&mut ledger, NOW, &[share(1)]);
    ledger.block(7, 1);
    assert_eq!(count(&mut ledger, NOW, &[share(1)]), [ShareOutcome::Replayed]);
    assert_eq!(ledger.current(alice), 0);
}

#[test]
fn unknown_and_disabled_users_are_not_credited_but_a_replay_stays_true() {
    let mut ledger = Ledger::new();
    assert_eq!(count(&mut ledger, NOW, &[share(1)]), [ShareOutcome::UnknownUser]);
    let alice = ledger.user("alice");
    assert_eq!(count(&mut ledger, NOW, &[share(1)]), [ShareOutcome::Counted]);
    ledger.apply(Command::SetUserDisabled { user: alice, disabled: true });
    assert_eq!(
        count(&mut ledger, NOW, &[share(1), share(2)]),
        [ShareOutcome::Replayed, ShareOutcome::UnknownUser]
    );
}

#[test]
fn forgotten_hash_can_not_be_counted_again() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    count(&mut ledger, NOW, &[share(1)]);
    let later = NOW + JOB_LIFETIME + 60;
    count(&mut ledger, later, &[Share { job_time: later, ..share(2) }]);
    assert_eq!(ledger.state.seen().len(), 1);
    assert_eq!(ledger.state.seen().horizon(), NOW + 60);
    assert_eq!(count(&mut ledger, later, &[share(1)]), [ShareOutcome::Expired]);
    assert_eq!(ledger.current(alice), 2);
}

#[test]
fn share_of_a_job_within_its_lifetime_is_counted() {
    let mut ledger = Ledger::new();
    ledger.user("alice");
    count(&mut ledger, NOW, &[share(1)]);
    let oldest = Share { job_time: NOW - JOB_LIFETIME, ..share(2) };
    let older = Share { job_time: NOW - JOB_LIFETIME - 1, ..share(3) };
    assert_eq!(
        count(&mut ledger, NOW, &[oldest, older]),
        [ShareOutcome::Counted, ShareOutcome::Expired]
    );
}

#[test]
fn clock_that_runs_ahead_does_not_expire_the_others_jobs() {
    let mut ledger = Ledger::new();
    ledger.user("alice");
    let ahead = Share { job_time: NOW + 86_400, ..share(1) };
    assert_eq!(count(&mut ledger, NOW, &[ahead]), [ShareOutcome::Counted]);
    assert_eq!(
        count(&mut ledger, NOW, &[share(2), ahead]),
        [ShareOutcome::Counted, ShareOutcome::Replayed]
    );
}

#[test]
fn full_memory_of_hashes_forgets_the_oldest_minute_and_refuses_its_jobs() {
    let limit = 300;
    let mut seen = Seen::new(limit);
    let mut number = 0;
    for minute in 0..4 {
        for _ in 0..limit / 3 {
            number += 1;
            seen.insert(&Share { job_time: 6_000 + minute * 60, ..share(number) });
        }
        seen.advance(6_000 + minute * 60, 6_000 + minute * 60);
    }
    assert!(seen.len() <= limit);
    assert_eq!(seen.horizon(), 6_060);
    let forgotten = Share { job_time: 6_000, ..share(1) };
    assert_eq!(seen.check(&forgotten), Some(ShareOutcome::Expired));
    let kept = Share { job_time: 6_180, ..share(number) };
    assert_eq!(seen.check(&kept), Some(ShareOutcome::Replayed));
}
