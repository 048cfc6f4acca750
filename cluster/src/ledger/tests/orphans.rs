//! Every counted share is in exactly one round that can be paid, whatever chains do.

use super::*;

/// Alice has two shares in block 1's round, Bob one in block 2's.
fn two_blocks() -> (Ledger, UserId, UserId) {
    let mut ledger = Ledger::new();
    let (alice, bob) = (ledger.user("alice"), ledger.user("bob"));
    ledger.share(alice, 10);
    ledger.share(alice, 10);
    ledger.block(7, 1);
    ledger.share(bob, 1);
    (ledger, alice, bob)
}

fn each_share_is_in_one_place(ledger: &Ledger) {
    let rounds = ledger.state.rounds();
    let mut sum = rounds.current().table.total();
    for round in rounds.closed().filter(|round| !round.status.is_orphaned()) {
        sum += round.total;
    }
    assert_eq!(sum, ledger.state.counted());
}

#[test]
fn orphans_credit_returns_to_the_current_round() {
    let (mut ledger, alice, bob) = two_blocks();
    ledger.confirm(1);
    ledger.orphan(1);
    assert_eq!((ledger.current(alice), ledger.current(bob)), (2, 1));
    let round = ledger.state.rounds().by_number(0).unwrap();
    assert_eq!((round.status, round.held_by), (Status::Orphaned, Some(1)));
    assert_eq!(round.total.shares, 2, "what it held is still told");
    ledger.orphan(1);
    assert_eq!(ledger.current(alice), 2, "saying so twice changes nothing");
    each_share_is_in_one_place(&ledger);
}

#[test]
fn block_that_comes_back_takes_its_credit_from_the_current_round() {
    let (mut ledger, alice, bob) = two_blocks();
    ledger.orphan(1);
    ledger.confirm(1);
    assert_eq!((ledger.current(alice), ledger.current(bob)), (0, 1));
    assert_eq!(ledger.state.rounds().current().table.users(), 1);
    each_share_is_in_one_place(&ledger);
    ledger.orphan(1);
    ledger.confirm(1);
    each_share_is_in_one_place(&ledger);
}

#[test]
fn block_that_comes_back_takes_its_credit_from_a_later_block() {
    let (mut ledger, ..) = two_blocks();
    ledger.orphan(1);
    ledger.block(8, 2);
    assert_eq!(ledger.closed(2), 3);
    ledger.confirm(1);
    assert_eq!((ledger.closed(1), ledger.closed(2)), (2, 1));
    assert_eq!(ledger.state.rounds().by_number(1).unwrap().users, 1);
    each_share_is_in_one_place(&ledger);
}

#[test]
fn credit_is_found_through_a_chain_of_orphans() {
    let (mut ledger, alice, bob) = two_blocks();
    ledger.orphan(1);
    ledger.block(8, 2);
    ledger.orphan(2);
    assert_eq!((ledger.current(alice), ledger.current(bob)), (2, 1));
    ledger.confirm(1);
    assert_eq!((ledger.current(alice), ledger.current(bob)), (0, 1));
    each_share_is_in_one_place(&ledger);
    ledger.confirm(2);
    assert_eq!((ledger.closed(1), ledger.closed(2)), (2, 1));
    assert_eq!(ledger.state.rounds().current().table.users(), 0);
    each_share_is_in_one_place(&ledger);
}

#[test]
fn credit_that_was_paid_with_a_mature_block_stays_there() {
    let (mut ledger, alice, _) = two_blocks();
    ledger.orphan(1);
    ledger.block(8, 2);
    ledger.settle(2, Verdict::Mature);
    ledger.confirm(1);
    assert_eq!((ledger.closed(1), ledger.closed(2)), (0, 3));
    assert_eq!(ledger.state.rounds().by_number(0).unwrap().paid_with, Some(1));
    ledger.orphan(1);
    assert_eq!(ledger.current(alice), 0);
    ledger.settle(1, Verdict::Mature);
    each_share_is_in_one_place(&ledger);
}

#[test]
fn final_status_is_final_and_no_longer_followed() {
    let (mut ledger, ..) = two_blocks();
    ledger.block(8, 2);
    assert_eq!(ledger.settle(1, Verdict::Mature), Outcome::Done);
    assert_eq!(ledger.settle(1, Verdict::Mature), Outcome::Done);
    let settled = Outcome::Refused(Refusal::Settled);
    assert_eq!(ledger.settle(1, Verdict::Orphaned), settled);
    assert_eq!(ledger.settle(2, Verdict::Abandoned), Outcome::Done);
    assert_eq!(ledger.settle(2, Verdict::Confirmed), settled);
    assert_eq!(ledger.state.rounds().unsettled().count(), 0);
    let unknown = ledger.settle(9, Verdict::Mature);
    assert_eq!(unknown, Outcome::Refused(Refusal::NoSuchBlock));
    each_share_is_in_one_place(&ledger);
}
