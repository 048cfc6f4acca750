//! Damaged input for every parser of this crate that faces a socket or a file.

use std::path::PathBuf;

use bytes::{Bytes, BytesMut};
use openraft::EntryPayload;
use openraft::raft::{TransferLeaderRequest, VoteRequest};
use raft_log::codeq::{Decode, Encode as _};
use seam_fuzz::{Bounds, fuzz, kind};
use seam_stratum::{Difficulty, Extranonce1, SidKey};

use crate::engine::{
    AppendRequest, AppendResult, Entry, Node, Proposal, SnapshotMeta, Types, Vote, restored_meta,
};
use crate::handle::NodeId;
use crate::handle::inner::LeaderStatus;
use crate::handle::propose::Forwarded;
use crate::ledger::{Command, FORMAT, Identity, Outcome, State, check_name};
use crate::link::frame::{Encode, split};
use crate::link::{
    ByNode, ByProxy, Member, NodeHello, NodeState, Opening, ProxyHello, ToNode, ToProxy,
};
use crate::member::{EnrolRequest, JoinRequest, MembershipRequest, Reply};
use crate::peer::{Hello, Kind, Welcome, decode, decode_frame, encode, join_append};
use crate::store::{Id, Payload, Seat, VoteRecord, parse_image, write_record};
use crate::ticket::{MAX_PAYLOAD, OVERHEAD, Tickets};
use crate::users_file;

/// Longer inputs find nothing that shorter ones do not.
const INPUT: usize = 64 << 10;

#[test]
fn fuzz_link_frames() {
    fuzz("link_frames", Bounds::of(INPUT, 32), &[], |mut input| {
        let mut kinds = Vec::new();
        loop {
            let frame = match split(input) {
                Ok(Some(range)) => &input[range.clone()],
                Ok(None) => return (kinds, "more"),
                Err(_) => return (kinds, "length"),
            };
            input = &input[4 + frame.len()..];
            // What decodes is encoded and decodes to the same again.
            if let Ok(decoded) = ToNode::decode(frame) {
                let mut again = Vec::new();
                decoded.encode_frame(&mut again);
                assert_eq!(ToNode::decode(&again[4..]).as_ref(), Ok(&decoded));
            }
            if let Ok(decoded) = ToProxy::decode(frame) {
                let mut again = Vec::new();
                decoded.encode_frame(&mut again);
                assert_eq!(ToProxy::decode(&again[4..]).as_ref(), Ok(&decoded));
            }
            if kinds.len() < 3 {
                let (to_node, to_proxy) = (ToNode::decode(frame), ToProxy::decode(frame));
                kinds.push((frame[0], to_node.is_ok(), to_proxy.is_ok()));
            }
        }
    });
}

#[test]
fn fuzz_peer_frames() {
    fuzz("peer_frames", Bounds::of(INPUT, 64), &[], |input| {
        let mut buffer = BytesMut::from(input);
        let mut kinds = Vec::new();
        loop {
            match decode_frame(&mut buffer) {
                Ok(Some(frame)) => {
                    let whole = peer_body(frame.kind, &frame.body);
                    if kinds.len() < 3 {
                        kinds.push((frame.kind as u8, whole));
                    }
                }
                Ok(None) => return (kinds, "more"),
                Err(_) => return (kinds, "refused"),
            }
        }
    });
}

/// Decodes a frame's body as whoever receives it does.
fn peer_body(kind: Kind, body: &[u8]) -> bool {
    match kind {
        Kind::Hello => decode::<Hello>(body).is_ok(),
        Kind::Append => body
            .split_first_chunk::<8>()
            .is_some_and(|(_, body)| decode::<AppendRequest>(body).is_ok()),
        Kind::Heartbeat => decode::<AppendRequest>(body).is_ok(),
        Kind::Vote | Kind::PreVote => decode::<VoteRequest<Types>>(body).is_ok(),
        Kind::TransferLeader => decode::<TransferLeaderRequest<Types>>(body).is_ok(),
        Kind::Propose => Command::decode(body).is_ok(),
        Kind::SnapshotBegin => decode::<(Vote, SnapshotMeta, u64)>(body).is_ok(),
        Kind::SnapshotEnd => decode::<(u64, u32)>(body).is_ok(),
        Kind::Transactions => decode::<Vec<[u8; 32]>>(body).is_ok(),
        Kind::Join => decode::<JoinRequest>(body).is_ok(),
        Kind::Enrol => decode::<EnrolRequest>(body).is_ok(),
        Kind::Membership => decode::<MembershipRequest>(body).is_ok(),
        Kind::Done => {
            let answers = [
                decode::<Welcome>(body).is_ok(),
                decode::<AppendResult>(body).is_ok(),
                decode::<Forwarded<Outcome>>(body).is_ok(),
                decode::<Forwarded<u64>>(body).is_ok(),
                decode::<Reply<([u8; 16], NodeId)>>(body).is_ok(),
                decode::<Vec<Option<Vec<u8>>>>(body).is_ok(),
                decode::<LeaderStatus>(body).is_ok(),
            ];
            answers.contains(&true)
        }
        _ => true,
    }
}

#[test]
fn fuzz_commands() {
    fuzz("commands", Bounds::of(INPUT, 64), &[], |input| {
        let mut state = State::new();
        match Command::decode(input) {
            // Whatever it says, applying it is safe, and all members do the same.
            Ok(command) => {
                let outcome = state.apply(1, &command);
                assert_eq!(Command::decode(&command.encode()).as_ref(), Ok(&command));
                Some((kind(&command), kind(&outcome)))
            }
            Err(_) => None,
        }
    });
}

/// Keys of the tickets in the corpus.
fn identity() -> Identity {
    let mut state = State::new();
    let secret = |byte| crate::ledger::Secret([byte; 32]);
    let init = Command::Init {
        cluster: [7; 16],
        sid_key: secret(8),
        ticket_key: secret(9),
        time: 1_700_000_000,
    };
    state.apply(1, &init);
    state.identity().clone()
}

/// What the tickets in the corpus hold.
const SEALED: [&[u8]; 3] = [b"", b"what a session is", &[0xa5; 1_000]];

#[test]
fn fuzz_ticket() {
    let tickets = Tickets::new(&identity());
    fuzz("ticket", Bounds::of(MAX_PAYLOAD + OVERHEAD + 100, 4), &[], |input| {
        match tickets.open(input) {
            // Nobody makes one that opens but us.
            Ok(payload) => {
                assert!(SEALED.contains(&&*payload), "{payload:?} was never sealed");
                "opened"
            }
            Err(crate::ticket::TicketError::Forged) => "forged",
            Err(crate::ticket::TicketError::UnknownKey(_)) => "unknown key",
            Err(crate::ticket::TicketError::NewerVersion(_)) => "newer",
            Err(other) => panic!("{other}"),
        }
    });
}

#[test]
fn fuzz_users_json() {
    let words: [&[u8]; 8] =
        [b"\"username\":", b"\"password\":", b"\n", b"\\u0000", b"$argon2id$", b"{", b"}", b"\xff"];
    fuzz("users_json", Bounds::of(INPUT, 64), &words, |input| match users_file::parse(input) {
        Ok(users) => {
            assert!(users.iter().all(|user| check_name(&user.name).is_ok()));
            ("users", users.len().min(5))
        }
        Err(users_file::UsersFileError::TooLong(line)) => ("too long", line.min(3)),
        Err(users_file::UsersFileError::NotAUser { line, .. }) => ("no user", line.min(3)),
        Err(users_file::UsersFileError::BadName(line)) => ("name", line.min(3)),
        Err(users_file::UsersFileError::BadPassword(line)) => ("password", line.min(3)),
    });
}

#[test]
fn fuzz_snapshot() {
    // The remembered hashes have their tables from the beginning.
    let bounds = Bounds { memory: 16 << 20, ..Bounds::of(INPUT, 0) };
    fuzz("snapshot", bounds, &[], |input| {
        let read = |bytes: &[u8]| match State::read_from(&mut &*bytes) {
            Ok(state) => {
                let mut written = Vec::new();
                state.write_to(&mut written).unwrap();
                let again = State::read_from(&mut &*written).unwrap();
                assert_eq!(again.digest(), state.digest());
                "a state".to_owned()
            }
            Err(error) => error.to_string(),
        };
        // Most damage ends at a checksum; with right ones it goes further.
        (read(input), read(&resealed(input)))
    });
}

/// The snapshot with checksums that fit its sections.
fn resealed(snapshot: &[u8]) -> Vec<u8> {
    let mut bytes = snapshot.to_vec();
    let mut at = 9;
    while let Some(length) = bytes.get(at + 1..at + 5) {
        let length = u32::from_le_bytes(length.try_into().unwrap()) as usize;
        let end = at.saturating_add(5).saturating_add(length);
        let Some(section) = bytes.get(at..end) else { break };
        let sum = crc32c::crc32c(section).to_le_bytes();
        let Some(place) = bytes.get_mut(end..end + 4) else { break };
        place.copy_from_slice(&sum);
        at = end + 4;
    }
    bytes
}

#[test]
fn fuzz_stored_files() {
    fuzz("stored_files", Bounds::of(INPUT, 64), &[], |input| {
        let parsed = parse_image(Bytes::copy_from_slice(input));
        // Behind the checksum, and as if it fitted.
        let body = match &parsed {
            Ok((_, body)) => body.to_vec(),
            Err(_) => input.to_vec(),
        };
        let decoded = [
            postcard::from_bytes::<Seat>(&body).is_ok(),
            postcard::from_bytes::<SnapshotMeta>(&body).is_ok(),
            postcard::from_bytes::<crate::ledger::BlockFound>(&body).is_ok(),
            Id::decode(&*body).is_ok(),
            VoteRecord::decode(&*body).is_ok(),
        ];
        (parsed.err(), decoded, Payload::decode(&*body).map_err(|error| error.kind()).is_ok())
    });
}

/// Writes what of the corpus has to be made. It needs no new one unless a format changes.
#[test]
#[ignore = "writes fuzz/corpus"]
fn write_corpus() {
    let corpus = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let write = |target: &str, name: &str, bytes: &[u8]| {
        let dir = corpus.join(target);
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::write(dir.join(name), bytes).unwrap();
    };
    let tickets = Tickets::new(&identity());
    for (i, payload) in SEALED.iter().enumerate() {
        write("ticket", &format!("sealed-{i}"), &tickets.seal(payload).unwrap());
    }
    let fixture = |name: &str| {
        std::fs::read(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name))
            .unwrap()
    };
    write("snapshot", "format-1", &fixture("snapshot-1.bin"));
    let mut empty = Vec::new();
    State::new().write_to(&mut empty).unwrap();
    write("snapshot", "empty", &empty);
    let log = fixture("log-1.bin");
    let (mut rest, mut number) = (&*log, 0);
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (command, tail) = tail.split_at(u32::from_le_bytes(*length) as usize);
        write("commands", &format!("format-1-{number:02}"), command);
        (rest, number) = (tail, number + 1);
    }
    for (name, frame) in link_examples() {
        write("link_frames", name, &frame);
    }
    for (name, kind, body) in peer_examples() {
        let mut frame = (1 + 8 + body.len() as u32).to_le_bytes().to_vec();
        frame.push(kind as u8);
        frame.extend_from_slice(&7_u64.to_le_bytes());
        frame.extend_from_slice(&body);
        write("peer_frames", name, &frame);
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("record");
    let seat = Seat { cluster: [7; 16], name: "node-0".into(), id: 3 };
    write_record(&path, &seat).unwrap();
    write("stored_files", "seat", &std::fs::read(&path).unwrap());
    write("stored_files", "meta", &encode(&meta()));
    let payloads = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(Bytes::from_static(b"a command"))),
        EntryPayload::Membership(meta().last_membership.membership().clone()),
    ];
    for (i, payload) in payloads.into_iter().enumerate() {
        let mut bytes = Vec::new();
        Payload(payload).encode(&mut bytes).unwrap();
        write("stored_files", &format!("entry-{i}"), &bytes);
    }
}

fn meta() -> SnapshotMeta {
    let node = Node { name: "node-0".into(), address: "node-0.seam:7333".into() };
    restored_meta(1, node, 100)
}

fn link_examples() -> Vec<(&'static str, Vec<u8>)> {
    let opening = Opening {
        extranonce1: Extranonce1(7),
        resume: true,
        moved: true,
        peer: [10, 0, 0, 7].into(),
        version_mask: Some(0x1fff_e000),
        minimum_difficulty: Difficulty::new(0.5).ok(),
        extranonce_subscribed: true,
        ticket: Some(b"a ticket"),
    };
    let member = Member { name: "node-0".into(), address: "node-0:7333".into() };
    let state = NodeState {
        ready: true,
        draining: false,
        sid_key: Some(SidKey([7; 32])),
        members: vec![member; 3],
    };
    let hello = ProxyHello { versions: (1, 1), name: "proxy-0".into(), cluster: Some("ab".into()) };
    let welcome = NodeHello { version: 1, name: "node-0".into(), cluster: None };
    let to_node = [
        ("hello", ToNode::Hello(hello)),
        ("open", ToNode::Open { session: 1, opening }),
        ("lines", ToNode::Lines { session: 1, replay: true, bytes: b"{\"id\":1}\n" }),
        ("close", ToNode::Close { session: 1, why: ByProxy::Moved }),
        ("range-wanted", ToNode::RangeWanted),
        ("stats", ToNode::Stats { sessions: 300 }),
    ];
    let out = ToProxy::Out { session: 1, settled: 2, ticket: Some(b"a ticket"), bytes: b"{}\n" };
    let to_proxy = [
        ("welcome", ToProxy::Hello(welcome)),
        ("state", ToProxy::State(state)),
        ("out", out),
        ("notify", ToProxy::Notify { bytes: b"{\"method\":\"mining.notify\"}\n" }),
        ("wants", ToProxy::Wants { session: 1, on: true }),
        ("closed", ToProxy::Closed { session: 1, why: ByNode::Banned { seconds: 600 } }),
        ("range", ToProxy::Range { first: 4_096, count: 4_096 }),
        ("ping", ToProxy::Ping),
    ];
    let mut examples = Vec::new();
    for (name, frame) in to_node {
        let mut bytes = Vec::new();
        frame.encode_frame(&mut bytes);
        examples.push((name, bytes));
    }
    for (name, frame) in to_proxy {
        let mut bytes = Vec::new();
        frame.encode_frame(&mut bytes);
        examples.push((name, bytes));
    }
    examples
}

fn peer_examples() -> Vec<(&'static str, Kind, Vec<u8>)> {
    let id = meta().last_log_id;
    let vote = Vote::new_committed(3, 1);
    let entries = [
        EntryPayload::Blank,
        EntryPayload::Normal(Proposal(Command::SetFormat(1).encode().into())),
        EntryPayload::Membership(meta().last_membership.membership().clone()),
    ];
    let entries = entries.map(|payload| Entry { log_id: id.unwrap(), payload });
    let append =
        AppendRequest { vote, prev_log_id: id, entries: entries.to_vec(), leader_commit: id };
    let heartbeat = AppendRequest { entries: Vec::new(), ..append.clone() };
    let ask = VoteRequest::<Types>::new(vote, id);
    let transfer = TransferLeaderRequest::<Types>::new(vote, 2, id);
    let seat = Seat { cluster: [7; 16], name: "node-0".into(), id: 3 };
    let hello = Hello::new(Some(&seat), Some("node-1".into()), FORMAT);
    let join = JoinRequest { token: [4; 16], address: "node-2:7333".into() };
    let granted: Reply<([u8; 16], NodeId)> = Reply::Granted(([7; 16], 3));
    let outcome: Forwarded<Outcome> = Ok(Outcome::Lease(7));
    let transactions = vec![Some(vec![1; 100]), None];
    vec![
        ("hello", Kind::Hello, encode(&hello)),
        ("append", Kind::Append, join_append(9, &append)),
        ("heartbeat", Kind::Heartbeat, encode(&heartbeat)),
        ("vote", Kind::Vote, encode(&ask)),
        ("pre-vote", Kind::PreVote, encode(&ask)),
        ("transfer", Kind::TransferLeader, encode(&transfer)),
        ("propose", Kind::Propose, Command::SetFormat(1).encode()),
        ("snapshot-begin", Kind::SnapshotBegin, encode(&(vote, meta(), 1_000_000_u64))),
        ("snapshot-end", Kind::SnapshotEnd, encode(&(7_u64, 0xdead_beef_u32))),
        ("transactions", Kind::Transactions, encode(&vec![[5_u8; 32]; 3])),
        ("join", Kind::Join, encode(&join)),
        ("enrol", Kind::Enrol, encode(&EnrolRequest { address: "node-2:7333".into() })),
        ("remove", Kind::Membership, encode(&MembershipRequest::Remove("node-2".into()))),
        ("granted", Kind::Done, encode(&granted)),
        ("outcome", Kind::Done, encode(&outcome)),
        ("found", Kind::Done, encode(&transactions)),
        ("ping", Kind::Ping, Vec::new()),
    ]
}
