//! What the ledger promises.

mod exactly_once;
mod formats;
mod orphans;
mod properties;

use super::testing::{Ledger, NOW, share};
use super::*;

#[test]
fn cluster_is_formed_once() {
    let mut ledger = Ledger::new();
    let init = |cluster| Command::Init {
        cluster: [cluster; 16],
        sid_key: Secret([cluster; 32]),
        ticket_key: Secret([3; 32]),
        time: NOW,
    };
    assert_eq!(ledger.state.identity().cluster(), None);
    assert_eq!(ledger.apply(init(1)), Outcome::Done);
    assert_eq!(ledger.apply(init(2)), Outcome::Refused(Refusal::AlreadyFormed));
    let identity = ledger.state.identity();
    assert_eq!(identity.cluster(), Some([1; 16]));
    assert_eq!(identity.sid_key(), Some(Secret([1; 32])));
    assert_eq!(format!("{:?}", identity.sid_key()), "Some(Secret(…))");
}

#[test]
fn last_ticket_keys_are_kept_and_their_ids_never_return() {
    let mut ledger = Ledger::new();
    for id in 1..=5u8 {
        let rotate = Command::RotateTicketKey { key: Secret([id; 32]), time: NOW };
        assert_eq!(ledger.apply(rotate), Outcome::TicketKey(id.into()));
    }
    let keys = ledger.state.identity().ticket_keys();
    assert_eq!(keys.iter().map(|key| key.id).collect::<Vec<_>>(), [3, 4, 5]);
}

#[test]
fn user_is_created_once_and_found_by_name() {
    let mut ledger = Ledger::new();
    let user = NewUser { name: "alice".into(), verifier: Verifier::Legacy(Box::new([1; 32])) };
    assert_eq!(ledger.apply(Command::AddUser(user.clone())), Outcome::User(UserId(0)));
    let again = ledger.apply(Command::AddUser(user.clone()));
    assert_eq!(again, Outcome::Refused(Refusal::UserExists));
    assert_eq!(ledger.user("alice"), UserId(0));
    assert_eq!(ledger.user("bob"), UserId(1));
    let (id, found) = ledger.state.users().by_name("alice").unwrap();
    assert_eq!((id, &found.verifier), (UserId(0), &user.verifier));
    assert_eq!(ledger.state.users().id("Alice"), None);
    assert_eq!(ledger.state.users().len(), 2);
}

#[test]
fn rehash_does_not_undo_a_password_change() {
    let mut ledger = Ledger::new();
    let user = ledger.user("alice");
    let legacy = Verifier::Legacy(Box::new([1; 32]));
    let phc = |tail: &str| Verifier::Argon2id(format!("$argon2id${tail}").into());
    let mut set =
        |expected, verifier| ledger.apply(Command::SetPassword { user, expected, verifier });
    assert_eq!(set(None, legacy.clone()), Outcome::Done);
    assert_eq!(set(None, phc("new")), Outcome::Done);
    let rehash = set(Some(legacy.clone()), phc("rehash of old"));
    assert_eq!(rehash, Outcome::Refused(Refusal::Changed));
    assert_eq!(set(Some(phc("new")), phc("rehash of new")), Outcome::Done);
    let bad = set(None, Verifier::Argon2id("plain".into()));
    assert_eq!(bad, Outcome::Refused(Refusal::BadVerifier));
}

#[test]
fn raft_id_is_never_used_again() {
    let mut ledger = Ledger::new();
    let join = |name: &str, disk| Command::AllocateNodeId {
        name: name.into(),
        token: [disk; 16],
        address: format!("{name}:7333"),
    };
    assert_eq!(ledger.apply(join("a", 1)), Outcome::NodeId(1));
    assert_eq!(ledger.apply(join("b", 2)), Outcome::NodeId(2));
    assert_eq!(ledger.apply(join("b", 2)), Outcome::NodeId(2), "asking again is harmless");
    let other_disk = ledger.apply(join("b", 3));
    assert_eq!(other_disk, Outcome::Refused(Refusal::MemberExists { id: 2 }));
    assert_eq!(ledger.apply(Command::RemoveMember { name: "b".into() }), Outcome::Done);
    assert_eq!(ledger.apply(join("b", 3)), Outcome::NodeId(3));
    assert_eq!(ledger.state.members().by_id(3).unwrap().0, "b");
    assert_eq!(ledger.state.members().by_id(2), None);
}

#[test]
fn leases_are_given_once() {
    let mut ledger = Ledger::new();
    let mut grant = |kind| ledger.apply(Command::GrantLease { kind, holder: "node-0".into() });
    assert_eq!(grant(LeaseKind::Job), Outcome::Lease(1));
    assert_eq!(grant(LeaseKind::Extranonce1), Outcome::Lease(0));
    assert_eq!(grant(LeaseKind::Job), Outcome::Lease(2));
    for number in 1..EXTRANONCE1_RANGES {
        assert_eq!(grant(LeaseKind::Extranonce1), Outcome::Lease(number));
    }
    assert_eq!(grant(LeaseKind::Extranonce1), Outcome::Lease(0), "wraps after 2^32 sessions");
    assert_eq!(ledger.state.leases().recent().count(), MAX_GRANTS);
}

#[test]
fn block_closes_its_round_once_and_two_at_a_height_are_both_kept() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    ledger.share(alice, 5);
    assert_eq!(ledger.block(7, 1), Outcome::Block { round: 0, new: true });
    ledger.share(alice, 5);
    assert_eq!(ledger.block(7, 1), Outcome::Block { round: 0, new: false });
    assert_eq!(ledger.current(alice), 1, "recording a block again closes nothing");
    assert_eq!(ledger.block(7, 2), Outcome::Block { round: 1, new: true });
    let rounds = ledger.state.rounds();
    assert_eq!(rounds.at_height(7).map(|round| round.number).collect::<Vec<_>>(), [1, 0]);
    assert_eq!(rounds.unsettled().count(), 2);
    assert_eq!(rounds.current().number, 2);
    let round = rounds.by_number(0).unwrap();
    assert_eq!((round.users, round.total), (1, Credit { shares: 1, work: 5 }));
    assert_eq!((round.started, round.last), (Some(NOW), Some(NOW)));
}

#[test]
fn share_that_solves_a_block_is_in_its_round_once() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    let solving = Share { user: alice, ..share(9) };
    let mut block = testing::block(7, 1);
    block.share = Some(solving);
    ledger.apply(Command::BlockFound(Box::new(block.clone())));
    ledger.apply(Command::BlockFound(Box::new(block)));
    let late = ledger.apply(Command::Shares { time: NOW, batch: vec![solving] });
    assert_eq!(late, Outcome::Shares(vec![ShareOutcome::Replayed]));
    assert_eq!((ledger.closed(1), ledger.current(alice)), (1, 0));
}

#[test]
fn rounds_and_their_details_are_bounded() {
    let mut ledger = Ledger::new();
    let alice = ledger.user("alice");
    for number in 0..MAX_ROUNDS as u32 + 10 {
        ledger.share(alice, 1);
        let mut block = testing::block(number, 0);
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        block.hash = bitcoin::hashes::Hash::from_byte_array(bytes);
        ledger.apply(Command::BlockFound(Box::new(block)));
    }
    let rounds = ledger.state.rounds();
    assert_eq!(rounds.closed().len(), MAX_ROUNDS);
    assert!(rounds.by_number(9).is_none());
    assert_eq!(rounds.by_number(10).unwrap().block.height, 10);
    let page: Vec<_> = rounds.closed().skip(5).take(2).map(|round| round.number).collect();
    assert_eq!(page, [10_004, 10_003]);
}

#[test]
fn setting_is_removed_by_an_empty_value() {
    let mut ledger = Ledger::new();
    let set = |key: &str, value: &str| Command::Setting { key: key.into(), value: value.into() };
    assert_eq!(ledger.apply(set("fee", "2")), Outcome::Done);
    assert_eq!(ledger.state.setting("fee"), Some("2"));
    assert_eq!(ledger.apply(set("fee", "")), Outcome::Done);
    assert_eq!(ledger.state.setting("fee"), None);
    let refused = ledger.apply(set("", "x"));
    assert_eq!(refused, Outcome::Refused(Refusal::Empty { what: "setting".into() }));
}

#[test]
fn what_breaks_a_limit_is_refused_before_the_log_and_changes_nothing() {
    let mut ledger = Ledger::new();
    let long = "x".repeat(MAX_TEXT + 1);
    let user = NewUser { name: "a".into(), verifier: Verifier::None };
    let too_much = [
        Command::Shares { time: NOW, batch: vec![share(1); MAX_BATCH + 1] },
        Command::ImportUsers(vec![user; MAX_IMPORT + 1]),
        Command::EnsureUser { name: "x".repeat(MAX_NAME + 1) },
        Command::EnsureUser { name: " a".into() },
        Command::EnsureUser { name: "a\nb".into() },
        Command::Setting { key: long.clone(), value: "x".into() },
        Command::AllocateNodeId { name: long, token: [0; 16], address: String::new() },
    ];
    for command in too_much {
        let refusal = ledger.state.admit(&command).unwrap_err();
        assert_eq!(ledger.apply(command), Outcome::Refused(refusal));
    }
    assert!(ledger.state.users().is_empty());
    ledger.state.applied = 0;
    assert_eq!(ledger.state.digest(), State::new().digest());
}
