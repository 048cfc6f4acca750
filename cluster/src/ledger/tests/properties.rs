//! Whatever commands come, in whatever order.

use std::collections::HashSet;

use proptest::prelude::*;

use super::*;
use crate::ledger::testing::{block, hash};

fn command() -> impl Strategy<Value = Command> {
    let share =
        (0..4u32, 0..8u32, 0..1_000u64, 0..60u64).prop_map(|(session, user, work, number)| Share {
            session,
            user: UserId(user),
            work,
            // The job's time belongs to the proof.
            job_time: NOW + (number as u32 * 37) % 900,
            ..share(number)
        });
    let name = (0..8u8).prop_map(|number| format!("user-{number}"));
    let verdict = prop::sample::select(vec![
        Verdict::Confirmed,
        Verdict::Mature,
        Verdict::Orphaned,
        Verdict::Orphaned,
        Verdict::Abandoned,
    ]);
    prop_oneof![
        6 => (0..900u32, prop::collection::vec(share, 0..20))
            .prop_map(|(late, batch)| Command::Shares { time: NOW + late, batch }),
        2 => name.prop_map(|name| Command::EnsureUser { name }),
        1 => (0..8u32, any::<bool>()).prop_map(|(user, disabled)| Command::SetUserDisabled {
            user: UserId(user),
            disabled,
        }),
        2 => (0..6u32, 0..12u8)
            .prop_map(|(height, number)| Command::BlockFound(Box::new(block(height, number)))),
        4 => (0..12u8, verdict)
            .prop_map(|(number, verdict)| Command::BlockStatus { hash: hash(number), verdict }),
        1 => Just(Command::GrantLease { kind: LeaseKind::Job, holder: "n".into() }),
        1 => any::<[u8; 32]>()
            .prop_map(|key| Command::RotateTicketKey { key: Secret(key), time: NOW }),
        1 => ("[a-c]", "[0-9]?").prop_map(|(key, value)| Command::Setting { key, value }),
    ]
}

fn commands() -> impl Strategy<Value = Vec<Command>> {
    prop::collection::vec(command(), 0..60)
}

fn bytes(state: &State) -> Vec<u8> {
    let mut bytes = Vec::new();
    state.write_to(&mut bytes).unwrap();
    bytes
}

fn restored(bytes: &[u8]) -> State {
    State::read_from(&mut &*bytes).unwrap()
}

proptest! {
    #[test]
    fn equal_commands_make_equal_bytes_and_hashes(commands in commands()) {
        let (mut one, mut other) = (Ledger::new(), Ledger::new());
        for command in commands {
            let decoded = Command::decode(&command.encode()).unwrap();
            prop_assert_eq!(&decoded, &command);
            // Looking at a state, or copying it, must not change what it becomes.
            let _ = (other.state.digest(), other.state.clone());
            prop_assert_eq!(one.apply(command), other.apply(decoded));
        }
        prop_assert_eq!(bytes(&one.state), bytes(&other.state));
        prop_assert_eq!(one.state.digest(), other.state.digest());
    }

    #[test]
    fn restart_from_a_snapshot_anywhere_changes_nothing(
        commands in commands(), at in 0..60usize,
    ) {
        let (mut one, mut other) = (Ledger::new(), Ledger::new());
        for (index, command) in commands.into_iter().enumerate() {
            if index == at {
                other.state = restored(&bytes(&other.state));
            }
            prop_assert_eq!(one.apply(command.clone()), other.apply(command));
        }
        prop_assert_eq!(bytes(&one.state), bytes(&other.state));
    }

    #[test]
    fn clone_keeps_what_it_was_while_the_original_goes_on(
        commands in commands(), at in 0..60usize,
    ) {
        let mut ledger = Ledger::new();
        let mut kept = None;
        for (index, command) in commands.into_iter().enumerate() {
            if index == at {
                kept = Some((ledger.state.clone(), bytes(&ledger.state)));
            }
            ledger.apply(command);
        }
        if let Some((clone, before)) = kept {
            prop_assert_eq!(bytes(&clone), before);
        }
    }

    #[test]
    fn each_hash_is_credited_once_and_each_share_is_in_one_round(commands in commands()) {
        let mut ledger = Ledger::new();
        let (mut credited, mut work) = (HashSet::new(), 0);
        for command in commands {
            let outcome = ledger.apply(command.clone());
            if let (Command::Shares { batch, .. }, Outcome::Shares(outcomes)) = (command, outcome) {
                prop_assert_eq!(batch.len(), outcomes.len());
                for (share, outcome) in batch.iter().zip(outcomes) {
                    let before = credited.contains(&share.hash16);
                    match outcome {
                        ShareOutcome::Counted => {
                            prop_assert!(credited.insert(share.hash16));
                            work += u128::from(share.work);
                        }
                        ShareOutcome::Replayed | ShareOutcome::Duplicate => prop_assert!(before),
                        ShareOutcome::Expired | ShareOutcome::UnknownUser => {}
                    }
                }
            }
            let rounds = ledger.state.rounds();
            let mut sum = rounds.current().table.total();
            for round in rounds.closed().filter(|round| !round.status.is_orphaned()) {
                sum += round.total;
            }
            prop_assert_eq!(sum, Credit { shares: credited.len() as u64, work });
            prop_assert_eq!(sum, ledger.state.counted());
        }
    }

    #[test]
    fn any_damage_to_a_snapshot_is_noticed(
        commands in commands(), place: prop::sample::Index, bit in 0..8u8,
    ) {
        let mut ledger = Ledger::new();
        for command in commands {
            ledger.apply(command);
        }
        let good = bytes(&ledger.state);
        let mut bad = good.clone();
        bad[place.index(good.len())] ^= 1 << bit;
        prop_assert!(State::read_from(&mut &*bad).is_err());
        prop_assert!(State::read_from(&mut &good[..place.index(good.len())]).is_err());
    }

    #[test]
    fn no_bytes_break_the_decoders(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Command::decode(&bytes);
        let mut versioned = vec![1];
        versioned.extend_from_slice(&bytes);
        let _ = Command::decode(&versioned);
        let _ = State::read_from(&mut &*bytes);
    }
}
