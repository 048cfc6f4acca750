//! What a build of format 1 wrote, every later build reads.
//!
//! The fixtures were written once by `write_fixtures_of_format_1` and never change. When a format is
//! added, add fixtures of it beside them.

use std::path::PathBuf;

use super::*;
use crate::ledger::testing::block;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// One of each command of format 1, and a state that has something of everything.
fn commands_of_format_1() -> Vec<Command> {
    let user = |name: &str, verifier| NewUser { name: name.into(), verifier };
    let phc = "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$\
               AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let shares = |first: u64| Command::Shares {
        time: NOW,
        batch: (first..first + 10)
            .map(|number| Share {
                session: number as u32 % 3,
                user: UserId(number as u32 % 3),
                work: 1 << number,
                job_time: NOW - number as u32 * 20,
                ..share(number)
            })
            .collect(),
    };
    let status = |number, verdict| Command::BlockStatus { hash: testing::hash(number), verdict };
    vec![
        Command::Init {
            cluster: [7; 16],
            sid_key: Secret([8; 32]),
            ticket_key: Secret([9; 32]),
            time: NOW,
        },
        Command::AddUser(user("alice", Verifier::Argon2id(phc.into()))),
        Command::ImportUsers(vec![user("bob", Verifier::Legacy(Box::new([5; 32])))]),
        Command::EnsureUser { name: "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080".into() },
        Command::EnsureUser { name: "zoë".into() },
        shares(1),
        Command::BlockFound(Box::new(block(100, 1))),
        shares(5),
        Command::BlockFound(Box::new(block(100, 2))),
        status(1, Verdict::Confirmed),
        status(2, Verdict::Orphaned),
        shares(20),
        Command::BlockFound(Box::new(block(101, 3))),
        status(1, Verdict::Mature),
        status(3, Verdict::Abandoned),
        shares(30),
        Command::SetPassword {
            user: UserId(1),
            expected: Some(Verifier::Legacy(Box::new([5; 32]))),
            verifier: Verifier::Argon2id(phc.into()),
        },
        Command::SetUserDisabled { user: UserId(3), disabled: true },
        Command::GrantLease { kind: LeaseKind::Extranonce1, holder: "node-0".into() },
        Command::GrantLease { kind: LeaseKind::Job, holder: "node-1".into() },
        Command::AllocateNodeId {
            name: "node-0".into(),
            token: [4; 16],
            address: "node-0:7333".into(),
        },
        Command::SetMemberAddress {
            name: "node-0".into(),
            address: "node-0.seam:7333".into(),
            stratum: "pool.example:3333".into(),
        },
        Command::AllocateNodeId { name: "node-1".into(), token: [5; 16], address: "b:1".into() },
        Command::RemoveMember { name: "node-1".into() },
        Command::RotateTicketKey { key: Secret([10; 32]), time: NOW },
        Command::Setting { key: "fee".into(), value: "1.5".into() },
        Command::SetFormat(1),
    ]
}

fn state_of_format_1() -> State {
    let mut ledger = Ledger::new();
    for command in commands_of_format_1() {
        let outcome = ledger.apply(command.clone());
        assert!(!matches!(outcome, Outcome::Refused(_)), "{command:?}: {outcome:?}");
    }
    ledger.state
}

/// Each command behind its length.
fn log_of_format_1() -> Vec<u8> {
    let mut log = Vec::new();
    for command in commands_of_format_1() {
        let bytes = command.encode();
        log.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        log.extend_from_slice(&bytes);
    }
    log
}

#[test]
fn snapshot_of_format_1_is_read_and_written_alike() {
    let stored = std::fs::read(fixture("snapshot-1.bin")).unwrap();
    let state = State::read_from(&mut &*stored).unwrap();
    assert_eq!(state.digest(), state_of_format_1().digest());
    let mut written = Vec::new();
    state.write_to(&mut written).unwrap();
    assert_eq!(written, stored);
}

#[test]
fn log_of_format_1_is_read_and_means_what_it_meant() {
    let stored = std::fs::read(fixture("log-1.bin")).unwrap();
    let mut state = State::new();
    let mut rest = &*stored;
    let mut index = 0;
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (command, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        index += 1;
        state.apply(index, &Command::decode(command).unwrap());
        rest = tail;
    }
    assert_eq!(index as usize, commands_of_format_1().len());
    let snapshot = std::fs::read(fixture("snapshot-1.bin")).unwrap();
    assert_eq!(state.digest(), State::read_from(&mut &*snapshot).unwrap().digest());
    assert_eq!(log_of_format_1(), stored);
}

#[test]
fn what_a_newer_build_wrote_is_refused_by_its_number() {
    let mut command = Command::SetFormat(1).encode();
    command[0] = FORMAT + 1;
    assert_eq!(Command::decode(&command), Err(DecodeError::NewerFormat(FORMAT + 1)));
    let mut snapshot = std::fs::read(fixture("snapshot-1.bin")).unwrap();
    snapshot[8] = FORMAT + 1;
    let error = State::read_from(&mut &*snapshot).unwrap_err();
    assert!(matches!(error, SnapshotError::NewerFormat(_)), "{error}");
    let newer = State::new().admit(&Command::SetFormat(FORMAT + 1));
    assert_eq!(newer, Err(Refusal::BadFormat(FORMAT + 1)));
}

#[test]
fn agreed_format_only_grows_and_depends_on_no_build() {
    let mut ledger = Ledger::new();
    assert_eq!(ledger.state.format(), 1);
    // It is in the log: every member raised it, or stops.
    assert_eq!(ledger.apply(Command::SetFormat(FORMAT + 1)), Outcome::Done);
    assert_eq!(ledger.state.format(), FORMAT + 1);
    let older = ledger.apply(Command::SetFormat(1));
    assert_eq!(older, Outcome::Refused(Refusal::BadFormat(1)));
    assert_eq!(ledger.state.format(), FORMAT + 1);
}

#[test]
#[ignore = "writes the fixtures; for the first build of a format only"]
fn write_fixtures_of_format_1() {
    assert_eq!(FORMAT, 1);
    if fixture("snapshot-1.bin").exists() {
        return;
    }
    std::fs::create_dir_all(fixture("")).unwrap();
    let mut snapshot = Vec::new();
    state_of_format_1().write_to(&mut snapshot).unwrap();
    std::fs::write(fixture("snapshot-1.bin"), snapshot).unwrap();
    std::fs::write(fixture("log-1.bin"), log_of_format_1()).unwrap();
}
